"""Check a mini against its card: the weights, and whether its logits carry the prior it was pre-trained with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from causalft.data.groups import class_accuracy, group_accuracy, prior_groups
from causalft.errors import CausalFTError
from causalft.methods.priors import debias, estimate_prior, kl_divergence, rank_correlation
from causalft.models.strata.stratum import Stratum
from causalft.runs.progress import named

__all__ = ["MemberCheck", "check_member"]


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
