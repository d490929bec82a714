"""What GLA's estimate is, by pre-training loss, and when it is NOT the pre-training prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from causalft.errors import CausalFTError, nearest

if TYPE_CHECKING:
    from causalft.methods.priors.bootstrap import PriorIntervals

__all__ = ["PRETRAINING_LOSSES", "few_images_caveat", "prior_caveat", "prior_caveats"]

_SURE = 0.5  # probability of its P group below which a class's group means nothing

_CONTRASTIVE = (
    "A contrastive loss with in-batch negatives has its optimum at log p(y|x) - log p(y) + const: the class prior "
    "cancels in the logits, and the estimate q is NOT the class frequency of the pre-training data. "
)
_IS = (
    "It is the offset -log q that calibrates the zero-shot classifier on the labelled images: how its logits lean, "
    "for these captions."
)

PRETRAINING_LOSSES: dict[str, str] = {
    "caption-bank": "The pre-training loss normalised over all class captions, which leaves the class prior in the "
    "logits: q estimates the pre-training prior P_P(Y), but only as well as the model has converged and the number of "
    "labelled images allows.",
    "in-batch contrastive": _CONTRASTIVE + _IS,
    "no captions": "This backbone was pre-trained without captions, and the means of the training images of each class "
    "stand in for them: the estimate q is NOT a pre-training prior. It is the offset -log q that calibrates this "
    "nearest-mean classifier on the labelled images.",
    "unknown": "Whether the estimate q is the pre-training prior depends on the pre-training loss, which is not "
    "known here. CLIP, OpenCLIP and MetaCLIP (InfoNCE) and SigLIP (sigmoid) were trained against in-batch negatives, "
    "which cancel the class prior in the logits: for them q is NOT the class frequency of the pre-training data. "
    + _IS,
}
"""What an estimate is, by pre-training loss; the source of :func:`prior_caveat`."""

_ALIASES = {"in-batch": "in-batch contrastive"}  # as the cards of a zoo write it


def prior_caveat(loss: str = "unknown") -> str:
    """Say what GLA's estimate is for a model that was pre-trained with this loss.

    Parameters
    ----------
    loss : {"caption-bank", "in-batch contrastive", "no captions", "unknown"}
        ``in-batch contrastive`` (or ``in-batch``) for every CLIP-like model: the sigmoid loss, like InfoNCE, has its
        optimum at the pointwise mutual information plus a constant.

    Returns
    -------
    str
        One to three sentences.

    Examples
    --------
    >>> "NOT the class frequency" in prior_caveat("in-batch contrastive")
    True
    >>> "NOT" in prior_caveat("caption-bank")
    False
    """
    name = _ALIASES.get(loss, loss)
    if name not in PRETRAINING_LOSSES:
        raise CausalFTError(f"no pre-training loss named {loss!r}; {nearest(loss, PRETRAINING_LOSSES)}")
    return PRETRAINING_LOSSES[name]


def prior_caveats(losses: Mapping[str, str]) -> list[str]:
    """`prior_caveat` of several models, once per loss.

    Parameters
    ----------
    losses : mapping
        Model to its pre-training loss.

    Examples
    --------
    >>> for line in prior_caveats({"a": "caption-bank", "b": "unknown", "c": "caption-bank"}):
    ...     print(line[:34])
    a, c: The pre-training loss normal
    b: Whether the estimate q is the p
    >>> prior_caveats({"a": "caption-bank", "b": "caption-bank"})[0][:34]
    'The pre-training loss normalised o'
    """
    names: dict[str, list[str]] = {}
    for name, loss in losses.items():
        names.setdefault(loss, []).append(name)
    if len(names) == 1:
        return [prior_caveat(loss) for loss in names]
    return [f"{', '.join(models)}: {prior_caveat(loss)}" for loss, models in names.items()]


def few_images_caveat(found: PriorIntervals) -> str | None:
    """Say that the labelled images do not settle which classes have a high prior; None if they do.

    They do not if half the classes or more have a P group of less than 50 % probability, or if the interval of the
    imbalance reaches 1.

    Examples
    --------
    >>> from causalft.methods.priors import bootstrap_prior
    >>> print(few_images_caveat(bootstrap_prior(np.zeros((2, 2)), [0, 1], n_boot=20)))
    The 2 labelled images (median 1 per class) do not show that the classes differ in their prior at all: the order of
    the classes, and the P groups, are mostly chance.
    """
    unsure = found.group_confidence < _SURE
    images = f"The {found.estimate.n:,} labelled images (median {np.median(found.n_labelled):g} per class) do not show"
    if not found.imbalance[0] > 1:  # NaN too
        return (
            f"{images} that the classes differ in their prior at all: the order of the classes, and the P groups, are "
            "mostly chance."
        )
    if unsure.mean() >= 0.5:
        return (
            f"{images} which P group most classes belong to: {int(unsure.sum())} of {len(unsure)} are in a group of "
            "less than 50 % probability."
        )
    return None
