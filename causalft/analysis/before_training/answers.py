"""Answers of zero-shot strata to the test images, as they are and after GLA-ZS: one pass over the logits, in blocks."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.diagnosis.answers import Answers
from causalft.data.image_set import decode_threads
from causalft.errors import CausalFTError
from causalft.methods.estimators.fusion import LOGIT, MIXTURE
from causalft.methods.estimators.probabilities import MemberRows, normalised
from causalft.methods.estimators.stored_logits import row_blocks

__all__ = ["Adjusted", "ZeroShotAnswers", "answer_zero_shot"]


@dataclass(frozen=True)
class Adjusted:
    """Predicted classes (n,) after GLA-ZS: of each stratum, and of the mean of their probabilities."""

    strata: dict[str, NDArray[np.int32]]
    fused: NDArray[np.int32]


@dataclass(frozen=True)
class ZeroShotAnswers:
    """Answers to n test images.

    Attributes
    ----------
    strata : dict of str to Answers
    fused, logit_mean : Answers
        Of the mean of the strata's probabilities, and of their log-probabilities.
    adjusted : tuple of Adjusted
        One for each set of priors that was taken out.
    """

    strata: dict[str, Answers]
    fused: Answers
    logit_mean: Answers
    adjusted: tuple[Adjusted, ...]


def answer_zero_shot(
    labels: NDArray[np.int64],
    n_classes: int,
    logits: Mapping[str, Any],
    *priors: Mapping[str, NDArray[np.float64]],
) -> ZeroShotAnswers:
    """Read the logits of M strata once, a block of rows at a time, and keep the answers.

    Parameters
    ----------
    labels : (n,) array of int in [0, K)
    n_classes : int
    logits : mapping of M names to (n, K) arrays
        May be mapped from a file.
    *priors : mappings of the M names to (K,) arrays of positive numbers
        What GLA-ZS takes out.

    Raises
    ------
    CausalFTError
        If the logits are not of these images and classes, or not finite.

    Examples
    --------
    >>> logits, q = np.log([[0.8, 0.2], [0.7, 0.3]]), np.array([0.75, 0.25])
    >>> found = answer_zero_shot(np.array([0, 1]), 2, {"clip": logits}, {"clip": q})
    >>> found.strata["clip"].predicted.tolist(), found.adjusted[0].fused.tolist()
    ([[0, 0]], [0, 1])
    """
    n, names = len(labels), list(logits)
    for name in names:
        if np.shape(logits[name]) != (n, n_classes):
            raise CausalFTError(
                f"logits of '{name}' have shape {np.shape(logits[name])}; the test images ask for ({n}, {n_classes})"
            )
    members = {name: MemberRows(logits[name], "logits", name) for name in names}
    weights = np.full(len(names), 1 / len(names))
    strata = {name: Answers.empty(1, n) for name in names}
    fused, logit_mean = Answers.empty(1, n), Answers.empty(1, n)
    log_q = [np.log(np.stack([of[name] for name in names]))[:, None] for of in priors]
    adjusted = [
        Adjusted({name: np.zeros(n, np.int32) for name in names}, np.zeros(n, np.int32)) for _ in priors
    ]

    def answer(rows: slice) -> None:
        log_p = np.stack([member[rows] for member in members.values()])
        for name, each in zip(names, log_p, strict=True):
            strata[name].put(0, rows, np.exp(each), labels)
        fused.put(0, rows, MIXTURE.fuse(log_p, weights), labels)
        logit_mean.put(0, rows, LOGIT.fuse(log_p, weights), labels)
        for taken, found in zip(log_q, adjusted, strict=True):
            debiased = log_p - taken
            for name, each in zip(names, debiased, strict=True):
                found.strata[name][rows] = each.argmax(axis=1)
            found.fused[rows] = MIXTURE.fuse(normalised(debiased), weights).argmax(axis=1)

    with ThreadPoolExecutor(decode_threads()) as pool:  # NumPy lets go of the lock within a block
        list(pool.map(answer, row_blocks(n, n_classes)))
    return ZeroShotAnswers(strata, fused, logit_mean, tuple(adjusted))
