"""The work of a training, counted before it runs: images through each part of a stratum, and what a member costs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from causalft.methods.adaptation.cost import StratumCost
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tune import fits_in_token_cache
from causalft.methods.estimators.stored_logits import stored_bytes
from causalft.methods.semi.settings import SemiSettings
from causalft.methods.semi.views import STRONG_VIEWS
from causalft.models.features.encoder import IN_MEMORY_BYTES, n_views
from causalft.models.tuning.train import n_batches

__all__ = ["MemberPlan", "Sizes", "TrainingWork", "labelled_work", "member_plan", "semi_work"]


@dataclass(frozen=True)
class Sizes:
    """Numbers of training, validation and test images, of classes, and of unlabelled images that are used."""

    train: int
    validation: int
    test: int
    classes: int
    unlabelled: int = 0


@dataclass(frozen=True)
class MemberPlan:
    """One member of the fusion or of its control, over all seeds.

    Attributes
    ----------
    name : str
        As ``clip``, ``clip@1`` (pre-trained again), ``clip#1`` (tuned again).
    weights : {"here", "to fetch", "missing"}
    architecture : str
    runs, finished : int
        Seeds, and those of them that the run folder has already.
    steps : int
        Training steps of the seeds that are left, for all learning rates.
    encoded : int
        Images that go through the frozen model, those of a training prefix included.
    flops : int, optional
        Of the seeds that are left; None where the member could not be measured, as the following.
    seconds : float, optional
    memory_bytes, device_bytes : int, optional
        Largest at a time, of the machine and of its GPU.
    cost : StratumCost, optional
        Per image.
    """

    name: str
    weights: str
    architecture: str
    runs: int
    finished: int
    steps: int = 0
    encoded: int = 0
    flops: int | None = None
    seconds: float | None = None
    memory_bytes: int | None = None
    device_bytes: int | None = None
    cost: StratumCost | None = None


@dataclass(frozen=True)
class TrainingWork:
    """The training of one stratum by one learning rate.

    Attributes
    ----------
    steps : int
    trained : int
        Images that go forward and backward through the trained part: labelled ones and strong views.
    looked : int
        Weak views that go through the tuned model without a gradient.
    prefixed : int
        Images that go through the frozen prefix for training.
    read_labelled, read_unlabelled : int
        Times that all images of a kind are read, where they do not stay in memory.
    together : int
        Images of a step that are kept for the backward pass.
    encoded : int
        Features that stay in memory.
    """

    steps: int
    trained: int
    looked: int
    prefixed: int
    read_labelled: int
    read_unlabelled: int
    together: int
    encoded: int


def labelled_work(n: int, tuning: Tuning, *, cached: bool = False) -> TrainingWork:
    """Count the work on n labelled images alone; ``cached`` as for :func:`semi_work`."""
    times = 1 if cached else tuning.epochs
    return TrainingWork(
        steps=n_batches(n, tuning.batch_size) * tuning.epochs,
        trained=n * tuning.epochs,
        looked=0,
        prefixed=n * times,
        read_labelled=times,
        read_unlabelled=0,
        together=-(-min(tuning.batch_size, n) // tuning.accumulation),
        encoded=0,
    )


def semi_work(
    n_labelled: int, n_unlabelled: int, tuning: Tuning, semi: SemiSettings, *, cached: bool = False
) -> TrainingWork:
    """Count the work of :func:`causalft.methods.semi.tune.tune_semi`; heads of the method cost next to nothing.

    Parameters
    ----------
    n_labelled, n_unlabelled : int
    tuning : Tuning
    semi : SemiSettings
        With a method that learns from unlabelled images.
    cached : bool
        Whether the frozen prefix of labelled images is computed once.

    Examples
    --------
    >>> tuning = Tuning(epochs=2, batch_size=8, accumulation=1, tuner="adaptformer")
    >>> found = semi_work(6, 20, tuning, SemiSettings(method="fixmatch", unlabeled_ratio=2))
    >>> found.steps, found.trained, found.looked, found.together
    (6, 60, 40, 12)
    """
    size = -(-min(tuning.batch_size, n_unlabelled) // tuning.accumulation)
    full, rest = divmod(n_unlabelled, size)
    beside = max(1, size // semi.unlabeled_ratio)
    shown = full * beside + (max(1, rest // semi.unlabeled_ratio) if rest else 0)
    steps = n_batches(n_unlabelled, tuning.batch_size) * tuning.epochs
    trained = (shown + n_unlabelled) * tuning.epochs
    if tuning.tuner == "linear-probe":  # features of every view are encoded once
        encoded = n_labelled + (1 + STRONG_VIEWS) * n_unlabelled
        return TrainingWork(steps, trained, 0, encoded, 1, 1, size + beside, encoded)
    labelled = n_labelled if cached else shown * tuning.epochs
    return TrainingWork(
        steps=steps,
        trained=trained,
        looked=n_unlabelled * tuning.epochs,
        prefixed=labelled + n_unlabelled * tuning.epochs,
        read_labelled=1 if cached else tuning.epochs,
        read_unlabelled=2 * tuning.epochs,
        together=size + beside,
        encoded=0,
    )


def member_plan(
    plan: MemberPlan,
    cost: StratumCost,
    sizes: Sizes,
    tuning: Tuning,
    *,
    rates: int = 1,
    gla: bool = False,
    has_text: bool = True,
    read_seconds: float = 0.0,
    before: int = 0,
    n_together: int = 1,
    semi: SemiSettings | None = None,
) -> MemberPlan:
    """Return a member's plan with its steps, operations, seconds and memory: arithmetic on its cost per image.

    Parameters
    ----------
    plan : MemberPlan
        With its name, runs and finished runs.
    cost : StratumCost
    sizes : Sizes
    tuning : Tuning
    rates : int
        Learning rates that are tried.
    gla, has_text : bool
    read_seconds : float
        Of one image, reading and cutting.
    before : int
        Bytes that the process holds without a model.
    n_together : int
        Members that are tuned together.
    semi : SemiSettings, optional
    """
    left = plan.runs - plan.finished
    trains = cost.n_tuned > 0 and not tuning.trains_nothing
    learns = (
        trains
        and semi is not None
        and semi.method is not None
        and semi.record.unlabelled
        and sizes.unlabelled
    )
    token_bytes = n_together * cost.token_bytes * (2 if learns else 1)
    cached = trains and tuning.augmentation == "none" and fits_in_token_cache(token_bytes, sizes.train)
    of_images = not has_text or tuning.head_start != "text"
    encoded = sizes.validation + sizes.test + sizes.train * of_images
    views = n_views(tuning.test_view)
    looks = tuning.epochs * rates if trains and tuning.patience is not None else 0
    predicted = (sizes.validation * (rates + looks + gla) + sizes.test + sizes.unlabelled) * views
    work = labelled_work(sizes.train, tuning, cached=cached)
    if learns and semi is not None:
        work = semi_work(sizes.train, sizes.unlabelled, tuning, semi, cached=cached)
    trainings = rates if trains else 0
    predicted += work.looked * trainings
    prefixed, trained, steps = work.prefixed * trainings, work.trained * trainings, work.steps * trainings
    # A prediction costs what the frozen model costs; with GLA-FT the frozen model runs beside the tuned one.
    doubled = (sizes.validation + sizes.test) * views * gla
    forward = encoded + predicted + doubled
    flops = forward * cost.encode_flops + prefixed * cost.prefix_flops + trained * cost.tune_flops

    def reads(n: int, times: int) -> int:
        kept = n * cost.image_size**2 * 3 <= IN_MEMORY_BYTES
        return n * (min(times, 1) if kept else times)

    read = (
        reads(sizes.train, of_images + work.read_labelled * trainings)
        + (reads(sizes.unlabelled, work.read_unlabelled * trainings + 1) if sizes.unlabelled else 0)
        + reads(sizes.validation, 1 + rates + looks + gla)
        + reads(sizes.test, 2)
    )
    seconds = (
        read * read_seconds
        + (encoded + doubled) * cost.encode_seconds
        + prefixed * cost.prefix_seconds
        + trained * cost.tune_seconds
        + predicted * cost.predict_seconds
    )
    crops = sum(
        n * cost.image_size**2 * 3
        for n in (sizes.train, sizes.validation, sizes.test, sizes.unlabelled)
        if n * cost.image_size**2 * 3 <= IN_MEMORY_BYTES
    )
    # As they are kept, and those of one set as the model gives them.
    logits = stored_bytes(sizes.validation, sizes.test, sizes.classes)
    logits += 4 * (max(sizes.validation, sizes.test) + sizes.unlabelled) * sizes.classes
    on_device = 4 * cost.n_parameters + 12 * cost.n_tuned + work.together * cost.kept_bytes
    on_device += 4 * cost.feature_dim * work.encoded
    on_device += sizes.train * cost.token_bytes * cached
    on_gpu = cost.device_bytes > 0
    memory = before + crops + logits + 4 * cost.n_parameters + (0 if on_gpu else on_device)
    return replace(
        plan,
        steps=steps * left,
        encoded=(forward + prefixed) * left,
        flops=int(flops) * left,
        seconds=seconds * left,
        memory_bytes=int(memory),
        device_bytes=int(max(on_device, cost.device_bytes)) if on_gpu else None,
        cost=cost,
    )
