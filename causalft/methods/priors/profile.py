"""How unequal a label prior is, from a noisy estimate: the profile that would look like it under the noise.

The largest of K noisy numbers over the smallest overstates: with 20 labelled images in each of 100 classes and a true
imbalance of 100, the estimate's own ratio is about 360. What is estimated here is the *profile*, the sorted log prior
as a function of the rank: a sum of monotone curves (straight, as an exponential long tail; steep at either end, as
Zipf's law; a step) with weights that are not negative, such that its order statistics, pulled and blurred as those of
the estimate were, match the estimate's. No class is told from another, so K noisy classes pin down the few weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import ndtr
from scipy.stats import t as student

__all__ = ["Imbalance", "imbalance_of"]

_NODES = 50  # ranks at which a profile is matched
_GRID = 120  # points of a distribution function
_ROUNDS = 5
_DEGREES = (
    10  # of freedom of the interval: the noise is itself estimated, from few images (chosen by coverage)
)
_LEAST_KEPT = 0.2  # of log q that a pull leaves; below it, the labelled images say next to nothing

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Imbalance:
    """Largest over smallest prior, corrected for the noise of the estimate.

    Attributes
    ----------
    value : float
        1 or larger.
    low, high : float
        Interval.
    """

    value: float
    low: float
    high: float


def imbalance_of(
    log_q: Vector,
    draws: Vector,
    deviation: float,
    *,
    n_per_class: float = np.inf,
    level: float = 0.95,
    seed: int = 0,
    n_boot: int = 60,
) -> Imbalance | None:
    """Estimate the imbalance behind a pulled, noisy estimate of a log prior.

    Parameters
    ----------
    log_q : (K,) array
        The estimate, under a pull towards uniform.
    draws : (K, B) array
        The same estimate on resampled images.
    deviation : float
        Standard deviation of log q that the pull believes; ``inf`` for no pull.
    n_per_class : float
        Images that each class's noise was told from: the fewer, the less sure is the noise, and the wider the interval.
    level : float
    seed, n_boot : int
        Of the simulations that give the interval.

    Returns
    -------
    Imbalance or None
        None where the images say too little: the pull alone decides.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = np.linspace(0, np.log(100), 100)
    >>> estimate = truth + rng.normal(0, .5, 100)
    >>> found = imbalance_of(estimate, estimate[:, None] + rng.normal(0, .5, (100, 200)), np.inf)
    >>> bool(np.exp(np.ptp(estimate)) > 200), bool(60 < found.value < 200), bool(found.low < 100 < found.high)
    (True, True, True)
    """
    order = np.argsort(log_q)
    ranks = np.arange(len(log_q))
    noise = draws[order].var(axis=1, ddof=1)
    noise = np.maximum(
        np.polyval(np.polyfit(ranks, noise, 1), ranks), noise.mean() / 4
    )  # smooth along the ranks
    # A pull keeps the share w of log q, and the noise of what it keeps is w (1 - w) deviation^2.
    inside = 1 - 4 * noise / deviation**2
    kept = (1 + np.sqrt(np.maximum(inside, 0))) / 2
    if (inside < 0).mean() > 0.5 or kept.mean() < _LEAST_KEPT:
        return None
    match = _Match(kept, np.sqrt(noise))
    rng = np.random.default_rng(seed)
    profile = match.profiles(np.sort(log_q)[None])[0]
    own = float(np.ptp(profile))
    doubt = np.sqrt((n_per_class + 1) / max(n_per_class - 1, 0.5)) if np.isfinite(n_per_class) else 1.0

    def spreads(centres: Vector) -> Vector:
        again = centres + doubt * np.sqrt(noise) * rng.normal(size=(n_boot, len(ranks)))
        return np.ptp(match.profiles(np.sort(again, axis=1)), axis=1)

    wider = student.ppf((1 + level) / 2, _DEGREES)
    reach = wider * float(np.sqrt(((spreads(profile * kept) - own) ** 2).mean()))
    of_equals = spreads(np.zeros(len(ranks)))  # what equal priors would show
    low = own - reach if own > wider * np.sqrt((of_equals**2).mean()) else 0.0
    return Imbalance(*(float(np.exp(max(value, 0))) for value in (own, low, own + reach)))


class _Match:
    """Profiles whose pulled and blurred order statistics match observed ones."""

    def __init__(self, kept: Vector, noise: Vector) -> None:
        self.n = n = len(kept)
        self.at = np.unique(np.rint(np.linspace(0, n - 1, min(n, _NODES))).astype(int))
        ends = np.concatenate([[-0.5], (self.at[1:] + self.at[:-1]) / 2, [n - 0.5]])
        self.mass = np.diff(ends) / n
        self.kept, self.noise = kept[self.at], noise[self.at]
        self.level = (self.at + 0.56) / (n + 0.12)
        u = np.arange(n) / max(n - 1, 1)
        steep = -np.log1p(-u * n / (n + 1)) / np.log(n + 1)
        curves = np.stack([u, 3 * u**2 - 2 * u**3, (u >= 0.5) * 1.0, steep, 1 - steep[::-1]], axis=1)
        self.curves = curves - curves.mean(axis=0)

    def profiles(self, observed: Vector) -> Vector:
        """Match sorted estimates (B, K): (B, K)."""
        centred = observed - observed.mean(axis=1, keepdims=True)
        nodes = centred[:, self.at]
        true = nodes / self.kept
        columns = self.curves[self.at]
        root = np.sqrt(self.mass)
        weights = np.zeros((len(observed), columns.shape[1]))
        for _ in range(_ROUNDS):
            missed = (nodes - self._order_statistics(true)) / self.kept
            weights = np.stack([nnls(columns * root[:, None], row * root)[0] for row in true + missed])
            true = weights @ columns.T
        return weights @ self.curves.T

    def _order_statistics(self, profiles: Vector) -> Vector:
        """Quantiles of the mixture of all blurred classes: (B, nodes)."""
        centres = profiles * self.kept
        low, high = centres.min(axis=1) - 4 * self.noise.max(), centres.max(axis=1) + 4 * self.noise.max()
        grid = np.linspace(low, high, _GRID, axis=1)
        found = np.empty_like(centres)
        for row, (points, centre) in enumerate(zip(grid, centres, strict=True)):
            mixture = ndtr((points[:, None] - centre) / self.noise) @ self.mass
            found[row] = np.interp(self.level, mixture, points)
        return found
