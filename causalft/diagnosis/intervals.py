"""Intervals of anything computed from class accuracies: test images are resampled within class, seeds as a whole.

Resampling S seeds shows (S-1)/S of their variance, with the tails of a normal law: too narrow for the few seeds that
one trains. So each statistic is drawn twice on the same images, with the S seeds as they are (variance V_images) and
with seeds resampled (V_total). Then

    V_seed = (V_total - V_images) S / (S - 1)         (the difference: mean square of what the seeds change in a draw)
    df     = (V_images + V_seed)^2 / (V_seed^2 / (S - 1))                              (Satterthwaite 1946)

and the percentile interval is stretched around the estimate by t(df) / z * sqrt((V_images + V_seed) / V_total).
Errors that a seed shares with no other seed enter both variances: there the interval is rather too wide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, t

from causalft.errors import CausalFTError
from causalft.imbalance import class_accuracy

__all__ = ["Interval", "bootstrap", "resampled_accuracies"]

_BOUNDS = (0.025, 0.975)

# Floats of one block of resampled class accuracies: 160 MB.
_BLOCK = 20_000_000


@dataclass(frozen=True, repr=False)
class Interval:
    """An estimate with its 95 % percentile interval, as fractions unless its user says otherwise.

    Attributes
    ----------
    estimate, low, high : float
        NaN where the quantity does not exist (an empty group).
    p : float
        Two-sided p-value of "it is 0": below 0.05 where the interval excludes 0. By the share of draws beyond 0 with
        one seed; with several by Student's t, whose scale is that of the side of the interval that faces 0.
    """

    estimate: float
    low: float
    high: float
    p: float

    @classmethod
    def of(
        cls, estimate: float, samples: ArrayLike, fixed_seeds: ArrayLike | None = None, n_seeds: int = 1
    ) -> Interval:
        """Interval and p-value from bootstrap samples of a statistic.

        Parameters
        ----------
        estimate : float
        samples : (n_boot,) array
            Test images and seeds resampled.
        fixed_seeds : (n_boot,) array, optional
            Test images resampled only. Needed with several seeds.
        n_seeds : int
            S.
        """
        drawn = np.asarray(samples, dtype=float)
        fixed = drawn if fixed_seeds is None else np.asarray(fixed_seeds, dtype=float)
        if not np.isfinite(estimate) or not np.isfinite(drawn).all() or not np.isfinite(fixed).all():
            return cls(float(estimate), float("nan"), float("nan"), float("nan"))
        low, high = np.quantile(drawn, _BOUNDS)
        tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
        p = float(min(1.0, 2 * (tail + 1) / (len(drawn) + 1)))
        if n_seeds > 1:
            stretch, critical = _few_seeds(drawn, fixed, n_seeds)
            low, high = estimate + stretch * (low - estimate), estimate + stretch * (high - estimate)
            towards_zero = estimate - low if estimate > 0 else high - estimate
            if towards_zero > 0:
                p = float(2 * t.sf(abs(estimate) / towards_zero * critical[0], critical[1]))
        return cls(float(estimate), float(low), float(high), p)

    @property
    def exists(self) -> bool:
        """Whether there is an estimate at all."""
        return bool(np.isfinite(self.estimate))

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return bool(self.low > 0 or self.high < 0)

    def to_json(self) -> dict[str, Any]:
        """``{estimate, ci95: [low, high], p}``."""
        return {"estimate": self.estimate, "ci95": [self.low, self.high], "p": self.p}

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Interval:
        """Read what `to_json` wrote; null, whole or in part, is NaN."""
        if value is None:
            return cls(*[float("nan")] * 4)
        parts = (value["estimate"], *value["ci95"], value.get("p"))
        return cls(*(float("nan") if part is None else float(part) for part in parts))

    def __repr__(self) -> str:
        return f"{100 * self.estimate:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}] %"


def _few_seeds(
    drawn: NDArray[np.float64], fixed: NDArray[np.float64], n_seeds: int
) -> tuple[float, tuple[float, float]]:
    """Return the factor that widens the interval for S seeds, and (t, df): see the head of this file."""
    # A ratio whose denominator comes near 0 has no variance: the tails are cut to the interval.
    bounds = np.quantile(drawn, _BOUNDS)
    whole, still = np.clip(drawn, *bounds), np.clip(fixed, *bounds)
    total, images = whole.var(), still.var()
    of_seeds = ((whole - still) ** 2).mean() * n_seeds / (n_seeds - 1)
    df = (images + of_seeds) ** 2 / of_seeds**2 * (n_seeds - 1) if of_seeds > 0 else float("inf")
    critical = float(t.ppf(_BOUNDS[1], df))
    wider = np.sqrt((images + of_seeds) / total) if total > 0 else 1.0
    return float(critical / norm.ppf(_BOUNDS[1]) * wider), (critical, df)


def resampled_accuracies(
    correct: NDArray[np.bool_], labels: ArrayLike, n_classes: int, n_boot: int, seed: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield blocks of bootstrapped class accuracies.

    One draw resamples the test images of each class (the same images for every model: paired) and, where there are
    several, the seeds (the same seeds for every model). Classes are fixed.

    Parameters
    ----------
    correct : (R, S, n) array of bool
        R models, S seeds, n test images.
    labels : (n,) array of int in [0, K)
    n_classes : int
        K.
    n_boot, seed : int

    Yields
    ------
    resampled, fixed_seeds : (b, R, K) arrays
        Averaged over the resampled seeds, and of the same images over the S seeds as they are. NaN for a class without
        a test image. The blocks' lengths b sum to n_boot.
    """
    y = np.asarray(labels)
    n_models, n_seeds, _ = correct.shape
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(y == k) for k in range(n_classes)]
    hits = [
        correct[:, :, rows].reshape(n_models * n_seeds, len(rows)).T.astype(np.float32) for rows in members
    ]
    block = max(1, min(n_boot, _BLOCK // (2 * n_models * n_classes)))
    for start in range(0, n_boot, block):
        size = min(block, n_boot - start)
        seed_weights = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=size) / n_seeds
        accuracy = np.full((size, n_models, n_classes), np.nan)
        fixed = accuracy.copy()
        for k, rows in enumerate(members):
            if len(rows):
                drawn = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=size)
                of_seed = (drawn.astype(np.float32) @ hits[k]).reshape(size, n_models, n_seeds) / len(rows)
                accuracy[:, :, k] = np.einsum("brs,bs->br", of_seed, seed_weights)
                fixed[:, :, k] = of_seed.mean(axis=2)
        yield accuracy, fixed


def bootstrap(
    statistics: Callable[[NDArray[np.float64]], Mapping[str, NDArray[np.float64]]],
    correct: ArrayLike,
    labels: ArrayLike,
    n_classes: int,
    *,
    n_boot: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Estimate statistics of class accuracies with paired, class-stratified bootstrap intervals.

    Parameters
    ----------
    statistics : callable
        Maps class accuracies (b, R, K) to named arrays (b, ...).
    correct : (R, S, n) array of bool
    labels : (n,) array of int in [0, K)
    n_classes : int
        K.
    n_boot : int
        At least 100.
    seed : int

    Returns
    -------
    dict
        Name to `Interval`, or to an object array of intervals for a statistic with further axes.

    Notes
    -----
    With one seed the intervals tell how far other test images would move the numbers, not how far another training
    run would. With several they are widened to what so few seeds can tell, by Student's t with Satterthwaite's degrees
    of freedom; two or three seeds that differ much give wide intervals. Efron & Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapter 13; Satterthwaite, Biometrics Bulletin 2, 1946.

    Examples
    --------
    >>> right = np.random.default_rng(0).random((1, 1, 400)) < .75
    >>> found = bootstrap(lambda a: {"mean": a.mean((1, 2))}, right, np.zeros(400, int), 1)
    >>> found["mean"].low < .75 < found["mean"].high
    True
    """
    hits = np.asarray(correct, dtype=bool)
    if hits.ndim != 3:
        raise CausalFTError(f"'correct' must be (models, seeds, images), not of shape {hits.shape}")
    if n_boot < 100:
        raise CausalFTError(f"n_boot={n_boot} is too few for a 95 % interval; use at least 100")
    observed = statistics(class_accuracy(hits, labels, n_classes).mean(axis=1)[None])
    n_seeds = hits.shape[1]
    blocks, fixed_blocks = [], []
    for resampled, fixed in resampled_accuracies(hits, labels, n_classes, n_boot, seed):
        blocks.append(statistics(resampled))
        if n_seeds > 1:
            fixed_blocks.append(statistics(fixed))
    intervals: dict[str, Any] = {}
    for name, value in observed.items():
        drawn = np.concatenate([block[name] for block in blocks])
        shape = drawn.shape[1:]
        flat = drawn.reshape(n_boot, -1)
        still = flat
        if n_seeds > 1:
            still = np.concatenate([block[name] for block in fixed_blocks]).reshape(n_boot, -1)
        cells = [Interval.of(v, flat[:, i], still[:, i], n_seeds) for i, v in enumerate(np.ravel(value))]
        if shape:
            table = np.empty(len(cells), dtype=object)
            table[:] = cells
            intervals[name] = table.reshape(shape)
        else:
            intervals[name] = cells[0]
    return intervals
