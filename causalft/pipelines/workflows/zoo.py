"""The work of ``causalft zoo``: check members against their cards, pre-train minis and a mini Stable Diffusion."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from causalft.data.creatures import creatures_longtail
from causalft.data.groups import class_accuracy, group_accuracy, prior_groups
from causalft.data.opening import open_images
from causalft.errors import CausalFTError, nearest
from causalft.methods.priors import debias, estimate_prior, kl_divergence, rank_correlation
from causalft.models.pretraining.leakage import write_manifest
from causalft.models.pretraining.photo_zoo import (
    PhotoZoo,
    estimate_seconds,
    plan_photo_zoo,
    pretrain_photo_member,
)
from causalft.models.pretraining.pretrain import MEMBERS, PRETRAINING, pretrain_member
from causalft.models.pretraining.settings import DiffusionSettings, PhotoZooSettings, PretrainSettings
from causalft.models.strata.cards import ModelCard
from causalft.models.strata.stratum import Stratum
from causalft.models.strata.zoo import MiniZoo
from causalft.pipelines.workflows.check_images import PromptCheck, check_prompts
from causalft.runs.lifecycle import NewRun, new_run
from causalft.runs.progress import named
from causalft.runs.side_by_side import Task, side_by_side
from synthetic.creatures import CLASS_NAMES
from synthetic.generate import open_source

__all__ = [
    "MemberCheck",
    "check_diffusion",
    "check_member",
    "check_zoo",
    "pretrain_creatures",
    "pretrain_diffusion",
    "pretrain_photos",
]


@dataclass(frozen=True)
class MemberCheck:
    """Zero-shot scores of a mini on balanced labelled images.

    Attributes
    ----------
    name, sha256 : str
    zero_shot_accuracy : float
    zero_shot_P : dict
        Accuracy on the many, medium and few classes of its true prior.
    gla_spearman, gla_kl : float
        Estimated against true prior: rank correlation, and KL(true, estimate) in nats.
    gla_zero_shot_accuracy : float
        After subtracting the estimated log prior, on images not used for the estimate.
    true_prior_zero_shot_accuracy : float
        After subtracting the true log prior; lower if the logits do not contain it.
    n : int
        Number of images.
    """

    name: str
    sha256: str
    zero_shot_accuracy: float
    zero_shot_P: dict[str, float | None]
    gla_spearman: float
    gla_kl: float
    gla_zero_shot_accuracy: float
    true_prior_zero_shot_accuracy: float
    n: int

    @property
    def gap(self) -> float:
        """Zero-shot accuracy on P-many minus P-few classes, a fraction."""
        many, few = self.zero_shot_P["many"], self.zero_shot_P["few"]
        return float("nan") if many is None or few is None else many - few


@named("checking a member")
def check_member(stratum: Stratum, pixels: np.ndarray, labels: np.ndarray) -> MemberCheck:
    """Measure a mini on balanced images of its classes.

    Parameters
    ----------
    stratum : Stratum
        With a card.
    pixels : numpy.ndarray
        Shape (n, size, size, 3), uint8, at least two of each class.
    labels : numpy.ndarray
        Shape (n,), indices into the card's class names.

    Raises
    ------
    CausalFTError
        If the stratum has no card, or its features are not finite.
    """
    if stratum.card is None:
        raise CausalFTError(f"{stratum.name!r} has no card, so its prior is not known")
    text = stratum.text_features(stratum.card.class_names)
    images = stratum.image_features(torch.from_numpy(pixels))
    logits = (stratum.logit_scale * images @ text.cpu().T).double().numpy()
    if not np.isfinite(logits).all():
        raise CausalFTError(
            f"{stratum.name}: its features are not finite; make it again with `causalft zoo pretrain`"
        )
    truth = np.array(stratum.card.prior)
    right = logits.argmax(1) == labels
    by_class = class_accuracy(right, labels, len(truth))
    # every second image of a class estimates the prior, the others are scored
    position = np.zeros(len(labels), dtype=int)
    for k in range(len(truth)):
        position[labels == k] = np.arange((labels == k).sum())
    fitted = position % 2 == 0
    estimate = estimate_prior(logits[fitted], labels[fitted])
    debiased = debias(logits, estimate.prior).argmax(1) == labels
    return MemberCheck(
        name=stratum.name,
        sha256=stratum.sha256,
        zero_shot_accuracy=float(right.mean()),
        zero_shot_P=group_accuracy(by_class, prior_groups(truth)),
        gla_spearman=rank_correlation(estimate.prior, truth),
        gla_kl=kl_divergence(truth, estimate.prior),
        gla_zero_shot_accuracy=float(debiased[~fitted].mean()),
        true_prior_zero_shot_accuracy=float((debias(logits, truth).argmax(1) == labels).mean()),
        n=len(labels),
    )


def check_zoo(zoo: MiniZoo) -> list[dict[str, Any]]:
    """Load every member and measure those of the part world; return one document per member.

    Raises
    ------
    CausalFTError
        If a hash differs from the card, or features are not finite.
    """
    cards = {name: zoo.card(name) for name in zoo.expected()}
    part_world = {name for name, card in cards.items() if tuple(card.class_names) == CLASS_NAMES}
    test = None
    if part_world:
        test = creatures_longtail(n_max=1, imbalance_factor=1, n_validation=1, n_test=40).test
    rows: list[dict[str, Any]] = []
    for name, card in cards.items():
        stratum = zoo.load(name)  # refuses a file whose hash is not the card's
        if name in part_world and test is not None and test.pixels is not None:
            measured = check_member(stratum, test.pixels, test.labels)
            rows.append({**asdict(measured), "loss": card.loss, "gap": measured.gap})
            continue
        text = stratum.text_features(card.class_names)
        picture = stratum.image_features(
            torch.zeros(1, stratum.image_size, stratum.image_size, 3, dtype=torch.uint8)
        )
        if not (torch.isfinite(text).all() and torch.isfinite(picture).all()):
            raise CausalFTError(f"{name}: its features are not finite; make it again")
        rows.append({"name": name, "sha256": stratum.sha256, "loss": card.loss})
    return rows


def check_diffusion(folder: str, *, n_per_cell: int) -> tuple[dict[str, Any], PromptCheck]:
    """Check the hashes of a mini Stable Diffusion, and judge images of every class and part.

    Parameters
    ----------
    folder : str
        Folder of the pipeline, or ``mini`` for the embedded one.
    n_per_cell : int
        Images per class and part.

    Returns
    -------
    dict
        Hash and provenance.
    PromptCheck
    """
    from causalft.models.pretraining import diffusion_zoo

    path = diffusion_zoo.MINI_DIFFUSION if folder == "mini" else Path(folder)
    card = diffusion_zoo.check_files(path)
    source = open_source(
        "stable-diffusion", model=folder if folder == "mini" else str(path), negative_prompt=""
    )
    return {"sha256": card["sha256"], **source.provenance()}, check_prompts(source, n_per_cell=n_per_cell)


Say = Callable[[str], None]
Tasks = dict[str, Task]
"""Member -> what makes it."""


def pretrain_creatures(out: Path, settings: PretrainSettings, *, jobs: int, say: Say) -> dict[str, Any]:
    """Pre-train members of the embedded zoo on the part world; return the metrics document."""
    names = list(settings.members) or list(MEMBERS)
    for name in names:
        if name not in MEMBERS:
            raise CausalFTError(f"the embedded zoo has no member {name!r}; {nearest(name, MEMBERS)}")
    epochs, n_images = settings.photos.epochs or PRETRAINING.epochs, settings.n_images
    with new_run(out, "zoo") as new:
        new.create({"data": None, "n_images": n_images, "epochs": epochs, "members": names})
        say(f"pre-training {len(names)} minis on the part world, {n_images} pictures each, into {out}")
        tasks: Tasks = {
            name: partial(pretrain_member, name, new.run.path, n_images=n_images, epochs=epochs)
            for name in names
            if not new.run.has(f"{name}.json")
        }
        return _make_members(new, names, tasks, jobs, say)


def pretrain_photos(
    out: Path,
    data: str,
    views: dict[str, str],
    *,
    jobs: int,
    say: Say,
    settings: PhotoZooSettings,
) -> dict[str, Any]:
    """Pre-train minis on the user's images; return the metrics document."""
    with new_run(out, "zoo") as new:
        images = open_images(data)
        for note in images.notes:
            say(f"note: {note}")
        # the fingerprint keeps a run on changed images from being resumed
        config = {
            "data": os.path.abspath(data),
            "data_fingerprint": images.fingerprint,
            "views": views,
            **asdict(settings),
        }
        say(
            f"{images.name}: {len(images)} images of {images.n_classes} classes\n"
            "looking for duplicates and choosing splits and priors ..."
        )
        zoo = plan_photo_zoo(images, views, settings)
        new.create(config, defaults={"wide": False})  # of runs that an older version began
        if not new.run.has("zoo.json"):
            write_manifest(new.run, images, zoo)
        _say_plan(say, images, zoo)
        names = [member.name for member in zoo.members]
        tasks: Tasks = {
            name: partial(_pretrain_photo, data, name, zoo, new.run.path)
            for name in names
            if not new.run.has(f"{name}.json")
        }
        if tasks:
            minutes = estimate_seconds(images, zoo, jobs) * len(tasks) / len(names) / 60
            say(f"about {max(minutes, 0.1):.1f} minutes for {_minis(len(tasks))}, {jobs} at a time")
        return _make_members(new, names, tasks, jobs, say)


def _minis(n: int) -> str:
    return "1 mini" if n == 1 else f"{n} minis"


def _pretrain_photo(
    data: str, name: str, zoo: PhotoZoo, folder: Path, *, progress: bool | None = None
) -> None:
    """Open the images in a worker process and pre-train one member."""
    member = next(member for member in zoo.members if member.name == name)
    pretrain_photo_member(open_images(data), member, zoo, folder, progress=progress)


def _say_plan(say: Say, images: Any, zoo: PhotoZoo) -> None:
    parts = ", ".join(f"{len(rows)} {name}" for name, rows in zoo.parts.items())
    say(f"splits: {parts}; duplicates: {zoo.duplicates}")
    for line in _uncertain(images, zoo):
        say(f"note: {line}")
    largest = max(abs(float(zoo.correlation[i, j])) for i in range(len(zoo.correlation)) for j in range(i))
    say(f"rank correlation of the priors with each other and the downstream order: at most {largest:.2f}")
    for member in zoo.members:
        head, tail = images.class_names[member.order[0]], images.class_names[member.order[-1]]
        say(f"  {member.name}: view {member.view}, most frequent {head}, rarest {tail}")


def _uncertain(images: Any, zoo: PhotoZoo) -> list[str]:
    """Consequences of the sizes: repeated images, classes without test images, precision of an accuracy."""
    from causalft.data.splits import Splits
    from causalft.data.summary import plan_of

    parts = {name: images.subset(rows) for name, rows in zoo.parts.items()}
    lines = list(plan_of(Splits(parts["downstream"], parts["validation"], parts["test"])).sentences)
    if zoo.settings["repeats"]:
        lines.insert(
            0,
            f"the pre-training pool is long-tailed ({parts['pool'].class_counts.max()} to "
            f"{parts['pool'].class_counts.min()} images per class): images of its rare classes are repeated where a "
            "prior makes them frequent",
        )
    return lines


def _make_members(new: NewRun, names: Sequence[str], tasks: Tasks, jobs: int, say: Say) -> dict[str, Any]:
    """Run the tasks, ``jobs`` at a time, and finish; other members come from an interrupted call."""
    side_by_side(list(tasks.values()), jobs, "pre-training minis", "mini")
    cards = [ModelCard.read(new.run.path / f"{name}.json") for name in names]
    earlier = [card.measured.get("seconds", 0.0) for card in cards if card.name not in tasks]
    new.seconds_before = sum(earlier) / max(1, min(jobs, len(earlier)))
    members = {card.name: {"sha256": card.sha256, "loss": card.recipe["losses"][-1]} for card in cards}
    metrics = new.finish({"members": members}, stamp=("seconds",))
    minutes = max(metrics["seconds"] / 60, 0.1)
    say(f"{_minis(len(cards))} in {new.run.path} after {minutes:.1f} minutes")
    return metrics


def pretrain_diffusion(
    out: Path,
    *,
    say: Say,
    settings: DiffusionSettings,
) -> dict[str, Any]:
    """Train a mini Stable Diffusion on renders; return the metrics document."""
    from causalft.models.pretraining import diffusion_zoo as zoo
    from causalft.models.pretraining.mini_diffusion import DiffusionConfig, import_diffusion

    import_diffusion()
    config = DiffusionConfig(image_size=settings.size)
    usual = {
        "steps_vae": zoo.STEPS_VAE,
        "steps_decoder": zoo.STEPS_DECODER,
        "steps_unet": zoo.STEPS_UNET,
        "n_per_cell": zoo.N_PER_CELL,
    }
    chosen = {**asdict(settings), **{name: usual[name] for name in usual if getattr(settings, name) is None}}
    plan = {name: chosen[name] for name in usual if name != "n_per_cell"}
    seed, n_per_cell = settings.seed, chosen["n_per_cell"]
    zoo.check_plan(seed, n_per_cell, *plan.values())
    with new_run(out, "zoo-diffusion") as new:
        new.create(chosen)
        say(
            f"a mini Stable Diffusion of {settings.size} pixels into {out}: {plan['steps_vae']} steps of the "
            "autoencoder, "
            f"{plan['steps_decoder']} of its decoder, {plan['steps_unet']} of text encoder and U-Net"
        )
        minutes = zoo.estimate_seconds(config, **plan) / 60
        say(f"about {max(minutes, 0.1):.1f} minutes on one core from the start, less what is already done")
        card = zoo.pretrain_diffusion(new.run.path, seed=seed, config=config, n_per_cell=n_per_cell, **plan)
        recipe = card["recipe"]
        metrics: dict[str, Any] = {
            "sha256": card["sha256"],
            "parameters": card["parameters"],
            "losses": {stage: recipe[stage]["losses"][-1] for stage in ("vae", "decoder", "unet")},
            "seconds": sum(recipe[stage]["seconds"] for stage in ("vae", "decoder", "unet")),
        }
        return new.finish(metrics, stamp=())
