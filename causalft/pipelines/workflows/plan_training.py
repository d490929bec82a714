"""The work of a training, counted before it runs: images through each part of a stratum."""

from __future__ import annotations

from dataclasses import dataclass

from causalft.methods.adaptation.settings import Tuning
from causalft.methods.semi.settings import SemiSettings
from causalft.methods.semi.views import STRONG_VIEWS
from causalft.models.tuning.train import n_batches

__all__ = ["TrainingWork", "labelled_work", "semi_work"]


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
