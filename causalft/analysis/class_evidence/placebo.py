"""Placebos of the slope: the same accuracies with counts that cannot matter."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, permutations

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.class_evidence.regression import PER_FACTOR, within
from causalft.runs.documents import Document

__all__ = ["Placebo", "exchanged_priors", "shuffled_classes", "swapped_models"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Placebo:
    """The slopes of permuted counts.

    Attributes
    ----------
    mean, low, high : float
        Mean, and the range of 95 % of them; fractions per factor 100.
    p : float
        Share of permuted slopes at least as large in absolute value as the one observed, which is counted as one.
    n : int
        Permutations.
    """

    mean: float
    low: float
    high: float
    p: float
    n: int

    @property
    def covers_zero(self) -> bool:
        """Whether 0 lies among the 95 %."""
        return self.low <= 0 <= self.high

    @classmethod
    def of(cls, observed: float, permuted: Floats) -> Placebo:
        """Summarise the permuted slopes."""
        low, high = np.quantile(permuted, (0.025, 0.975))
        larger = int((np.abs(permuted) >= abs(observed) - 1e-12).sum())
        return cls(
            float(permuted.mean()),
            float(low),
            float(high),
            (1 + larger) / (1 + len(permuted)),
            len(permuted),
        )

    def to_json(self) -> Document:
        """``{estimate, ci95, p, n, covers_zero}`` in points per factor 100."""
        return {
            "estimate": 100 * self.mean,
            "ci95": [100 * self.low, 100 * self.high],
            "p": self.p,
            "n": self.n,
            "covers_zero": self.covers_zero,
        }


def _slope(accuracy: Floats, x: Floats) -> float:
    return PER_FACTOR * float((accuracy * x).sum() / (x**2).sum())


def shuffled_classes(accuracy: Floats, log_counts: Floats, n: int, seed: int) -> Placebo:
    """Give every class the counts of another, the same one for all models.

    The accuracies, with their class effects, and the likeness of the priors stay as they are.

    Parameters
    ----------
    accuracy, log_counts : (M, K) arrays
        Fractions; log10 of the counts.
    n, seed : int
        Permutations.
    """
    y, x = within(accuracy), within(log_counts)
    rng = np.random.default_rng(seed)
    found = np.array([_slope(y, x[:, rng.permutation(x.shape[1])]) for _ in range(n)])
    return Placebo.of(_slope(y, x), found)


def swapped_models(accuracy: Floats, log_counts: Floats, n: int, seed: int) -> Placebo:
    """Deal the counts of each class anew to the models, at random and apart for each class.

    Each model's mean log count is taken out first, so that the sizes of the pre-training sets are not dealt with them.

    Parameters
    ----------
    accuracy, log_counts : (M, K) arrays
    n, seed : int
        Permutations.
    """
    y, x = within(accuracy), within(log_counts)
    centred = log_counts - log_counts.mean(axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    found = np.array([_slope(y, within(rng.permuted(centred, axis=0))) for _ in range(n)])
    return Placebo.of(_slope(y, x), found)


def exchanged_priors(accuracy: Floats, log_counts: Floats, most: int = 120) -> dict[tuple[int, ...], float]:
    """The slope when model m is given the whole prior of model order[m], for every order of the models.

    The mean over all orders, the true one included, is exactly 0: class effects take it out.

    Returns
    -------
    dict of tuple of int to float
        Order to slope (a fraction per factor 100), the true order first; at most ``most``.

    Examples
    --------
    >>> y, x = np.array([[0.5, 0.1], [0.2, 0.4]]), np.array([[2.0, 1.0], [1.0, 2.0]])
    >>> {order: round(slope, 6) for order, slope in exchanged_priors(y, x).items()}
    {(0, 1): 0.6, (1, 0): -0.6}
    """
    y, x = within(accuracy), within(log_counts)
    orders = islice(permutations(range(len(x))), most)
    return {order: _slope(y, x[list(order)]) for order in orders}
