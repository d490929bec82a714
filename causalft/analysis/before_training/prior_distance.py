"""How far apart the priors of strata are, and how much of a prior's effect averaging the strata can take out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.methods.priors import kl_divergence, rank_correlation
from causalft.runs.documents import Document

__all__ = ["PriorDistance", "PriorPair", "prior_distance"]


@dataclass(frozen=True)
class PriorPair:
    """Two priors: Spearman correlation, and the two KL divergences in nats."""

    one: str
    other: str
    spearman: float
    kl: float
    kl_back: float

    def to_json(self) -> Document:
        """``{strata, spearman, kl, kl_back}``; ``kl`` is KL(first || second)."""
        return {
            "strata": [self.one, self.other],
            "spearman": self.spearman,
            "kl": self.kl,
            "kl_back": self.kl_back,
        }


@dataclass(frozen=True)
class PriorDistance:
    """How far apart the priors of M strata are.

    Attributes
    ----------
    pairs : tuple of PriorPair
    averaged : float
        Share of the slope of accuracy on a stratum's log prior that the mean of the strata would lose, if accuracy
        followed the log priors alone: 1 - mean over i, j of cov(log q_i, log q_j) / var(log q_i). 0 for equal priors,
        1 - 1/M for uncorrelated ones; NaN for a uniform prior.
    """

    pairs: tuple[PriorPair, ...]
    averaged: float

    def to_json(self) -> Document:
        """``{pairs, averaged}``."""
        return {"pairs": [pair.to_json() for pair in self.pairs], "averaged": self.averaged}


def prior_distance(priors: Mapping[str, ArrayLike]) -> PriorDistance:
    """Compare every two priors.

    Parameters
    ----------
    priors : mapping of M names to (K,) arrays of positive numbers that sum to 1
        NaN where the prior of a class is not known: a comparison leaves it out.

    Examples
    --------
    >>> found = prior_distance({"a": [.7, .2, .1], "b": [.7, .2, .1], "c": [.1, .2, .7]})
    >>> [(pair.one, pair.other, pair.spearman) for pair in found.pairs]
    [('a', 'b', 1.0), ('a', 'c', -1.0), ('b', 'c', -1.0)]
    >>> prior_distance({"a": [.7, .2, .1], "b": [.7, .2, .1]}).averaged
    0.0
    """
    names = list(priors)
    q = {name: np.asarray(priors[name], dtype=float) for name in names}
    pairs = tuple(
        _pair(one, other, q[one], q[other]) for place, one in enumerate(names) for other in names[place + 1 :]
    )
    x = np.log(np.stack(list(q.values())))
    x = x[:, ~np.isnan(x).any(axis=0)]
    x = x - x.mean(axis=1, keepdims=True) if x.size else x
    together = x @ x.T
    with np.errstate(invalid="ignore", divide="ignore"):
        kept = (together / np.diag(together)[:, None]).mean()
    return PriorDistance(pairs, float(np.round(1 - kept, 12)))


def _pair(one: str, other: str, p: NDArray[np.float64], q: NDArray[np.float64]) -> PriorPair:
    both = ~np.isnan(p) & ~np.isnan(q)
    if both.sum() < 2:
        return PriorPair(one, other, float("nan"), float("nan"), float("nan"))
    p, q = p[both] / p[both].sum(), q[both] / q[both].sum()
    return PriorPair(one, other, rank_correlation(p, q), kl_divergence(p, q), kl_divergence(q, p))
