"""Classifiers adjusted for a confounder by strata, with scikit-learn's interface; the record of each fusion rule.

Imports neither NumPy nor PyTorch: a wrong name is refused before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from causalft.runs.records import Records

__all__ = ["FUSIONS", "FusionRule"]


@dataclass(frozen=True)
class FusionRule:
    """One way to fuse P(Y|b,c) of the strata into P(Y|do(x)).

    Attributes
    ----------
    name, help : str
        ``help`` completes "NAME is ...".
    formula : str
        TeX.
    fuse : callable
        ``fuse(log_p (M, ..., K), P(C) (M,)) -> (..., K)`` of normalised log-probabilities; rows sum to 1. A rule that
        adjusts takes P(C | Y) (M, K), too.
    fuse_logits : callable
        ``fuse_logits(logits (M, n, K), P(C) (M,)) -> (n, K)`` on PyTorch tensors: logits whose softmax is ``fuse`` of
        the strata's softmax. Strata that are tuned together are trained through it.
    source : str
    decides_by : {"probabilities", "log-probabilities", ""}
        What of the strata is averaged over P(C), or P(C | Y): the class with the largest mean is predicted. Empty for a
        rule that does not decide by such a mean, whose sensitivity to P(C) is then not computed.
    adjusts : bool
        Whether it needs class weights and offsets that are fitted on validation images.
    """

    name: str
    help: str
    formula: str
    fuse: Callable[..., Any]
    fuse_logits: Callable[..., Any]
    source: str
    decides_by: str = ""
    adjusts: bool = False


FUSIONS: Records[FusionRule] = Records("causalft.methods.estimators.fusion", FusionRule, "fusion")
"""Fusion rules by name."""
