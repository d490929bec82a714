"""The work of ``causalft zoo check``: weights against their cards, and whether the logits carry the known prior."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from causalft.data.creatures import creatures_longtail
from causalft.data.groups import class_accuracy, group_accuracy, prior_groups
from causalft.errors import CausalFTError
from causalft.methods.priors import debias, estimate_prior, kl_divergence, rank_correlation
from causalft.models.strata.stratum import Stratum
from causalft.models.strata.zoo import MiniZoo
from causalft.pipelines.workflows.check_images import PromptCheck, check_prompts
from causalft.runs.progress import named
from synthetic.creatures import CLASS_NAMES
from synthetic.generate import open_source

__all__ = ["MemberCheck", "check_diffusion", "check_member", "check_zoo"]


@dataclass(frozen=True)
class MemberCheck:
    """What a mini does on balanced labelled pictures, before any tuning.

    Attributes
    ----------
    name, sha256 : str
    zero_shot_accuracy : float
    zero_shot_P : dict
        Accuracy on the many, medium and few classes of its TRUE prior.
    gla_spearman, gla_kl : float
        GLA's estimate against the true prior: rank correlation, and KL(true, estimate) in nats.
    gla_zero_shot_accuracy : float
        After subtracting the estimated log prior (on the half of the pictures that GLA did not see).
    true_prior_zero_shot_accuracy : float
        After subtracting the TRUE log prior: worse than before if the logits do not hold it.
    n : int
        Pictures.
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
    """Measure a mini on balanced pictures of its classes.

    Parameters
    ----------
    stratum : Stratum
        With a card.
    pixels : numpy.ndarray
        Shape (n, size, size, 3), uint8, at least two of each class.
    labels : numpy.ndarray
        Shape (n,), numbers into the card's class names.

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
    # Every second picture of a class estimates the prior; the others are scored with it.
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
    """Load every member and measure those of the part world; one document for each.

    Raises
    ------
    CausalFTError
        If the hash of a file is not that of its card, or the features of a member are not finite.
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
    """Check the hashes of a mini Stable Diffusion, draw pictures of every cell and judge them.

    Parameters
    ----------
    folder : str
        Of the pipeline, or ``mini`` for the embedded one.
    n_per_cell : int
        Pictures of each part of each class.

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
