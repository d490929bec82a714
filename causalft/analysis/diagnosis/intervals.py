"""Intervals of statistics of class accuracies: over test images within their class, and over seeds.

A linear statistic (accuracy, group accuracy, gap, slope, difference) has a closed form. V is its unbiased variance over
test images, V0 that of coin tosses (`weights.py`), N the number of images behind it, S the number of seeds.

- A share (a mean of accuracies) p has the mid-p interval of an effective number of images N / D, with D = (N^2 V + 2) /
  (N p (1 - p) + 2), at most 1 where images count alike; Student's t widens it where D is below 1. At 0 and 1 it is the
  exact interval of N images.
- A difference has Student's t with the variance w^2 V + (1 - w^2) V0, w = N / (N + 2): as if two more images had been
  judged by coins. So its width is never zero, and the correction vanishes with many images.
- Seeds add V_seed = (variance of the S values) / S, with Satterthwaite's degrees of freedom.

Other statistics (ratios) are resampled: images within class, seeds as a whole, with deviations stretched by sqrt(n / (n
- 1)) to make their variance unbiased. For seeds, each statistic is drawn twice on the same images, with the S seeds as
they are (V_images) and with seeds resampled (V_total), and its percentile interval is stretched around the estimate.

Coverage is measured by ``bench/coverage.py``; docs/intervals.md has the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.diagnosis.weights import BLOCK, Weighed, image_covariance, weigh
from causalft.data.groups import class_accuracy
from causalft.errors import CausalFTError
from causalft.runs.documents import Document
from causalft.runs.intervals import Z95, interval_text, share_interval
from causalft.runs.notebook import ShownAsTable

__all__ = ["Interval", "bootstrap", "points", "resampled_accuracies"]

Floats = NDArray[np.float64]

_BOUNDS = (0.025, 0.975)

_COINS = 2.0
"""Images that are added, judged by coins. Chosen by simulation: with 1, gaps over two classes of three images cover
79 % where accuracies are extreme, with 2 they cover 94 and more, with 4 many differences cover 98 to 100 %."""

_BLOCK = BLOCK


@dataclass(frozen=True, repr=False)
class Interval(ShownAsTable):
    """An estimate with its 95 % interval, as fractions unless stated otherwise.

    Attributes
    ----------
    estimate, low, high : float
        NaN where the quantity does not exist (an empty group); only the limits where there is no interval.
    p : float
        Two-sided p-value of zero: below 0.05 where the interval excludes 0.
    reason : str
        Why there is no interval, if there is none.
    """

    estimate: float
    low: float
    high: float
    p: float
    reason: str = ""

    @classmethod
    def none(cls, reason: str, estimate: float = float("nan")) -> Interval:
        """An estimate without an interval, and why.

        Examples
        --------
        >>> Interval.none("no class of this group has a test image").to_json()["reason"]
        'no class of this group has a test image'
        """
        nan = float("nan")
        return cls(float(estimate), nan, nan, nan, reason)

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
            Only test images resampled. Needed with several seeds.
        n_seeds : int
        """
        drawn = np.asarray(samples, dtype=float)
        fixed = drawn if fixed_seeds is None else np.asarray(fixed_seeds, dtype=float)
        if not np.isfinite(estimate):
            return cls.none("it does not exist here", estimate)
        if not np.isfinite(drawn).all() or not np.isfinite(fixed).all():
            return cls.none("its denominator can be 0", estimate)
        if np.ptp(drawn) <= 1e-12 * abs(estimate):
            return cls.none("too few test images for it to vary", estimate)
        low, high = np.quantile(drawn, _BOUNDS)
        tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
        p = float(min(1.0, 2 * (tail + 1) / (len(drawn) + 1)))
        if n_seeds > 1:
            stretch, critical = _few_seeds(drawn, fixed, n_seeds)
            low, high = estimate + stretch * (low - estimate), estimate + stretch * (high - estimate)
            towards_zero = estimate - low if estimate > 0 else high - estimate
            if towards_zero > 0:
                p = float(2 * scipy.stats.t.sf(abs(estimate) / towards_zero * critical[0], critical[1]))
        return cls(float(estimate), float(low), float(high), p)

    @property
    def exists(self) -> bool:
        """Whether there is an estimate at all."""
        return bool(np.isfinite(self.estimate))

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return bool(self.exists and self.low <= self.high)

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return bool(self.low > 0 or self.high < 0)

    @property
    def ci95(self) -> list[float] | None:
        """``[low, high]``; None where there is no interval."""
        return [self.low, self.high] if self.bounded else None

    def to_json(self) -> Document:
        """``{estimate, ci95: [low, high], p}``; without an interval the last two are null, with a ``reason``."""
        if self.bounded:
            return {"estimate": self.estimate, "ci95": self.ci95, "p": self.p}
        return {"estimate": self.estimate, "ci95": None, "p": None, "reason": self.reason}

    def to_json_or_null(self) -> Document | None:
        """As `to_json`; None where the quantity does not exist."""
        return self.to_json() if self.exists else None

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Interval:
        """Read what `to_json` wrote; null becomes NaN."""
        if value is None:
            return cls.none("")
        parts = (value["estimate"], *(value["ci95"] or (None, None)), value.get("p"))
        estimate, low, high, p = (float("nan") if part is None else float(part) for part in parts)
        return cls(estimate, low, high, p, value.get("reason") or "")

    def __repr__(self) -> str:
        if not self.bounded:
            return f"{100 * self.estimate:.1f} % [no interval: {self.reason or 'not measured'}]"
        return f"{100 * self.estimate:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}] %"


def points(value: Interval, sign: bool = False, missing: str = "not measurable") -> str:
    """An interval of fractions as percentage points: ``12.3 [11.0, 13.6]``, or why it has no bounds.

    Examples
    --------
    >>> points(Interval(.123, .11, .136, .001))
    '12.3 [11.0, 13.6]'
    """
    return interval_text(value.estimate, value.ci95, value.reason, sign=sign, missing=missing)


def _few_seeds(
    drawn: NDArray[np.float64], fixed: NDArray[np.float64], n_seeds: int
) -> tuple[float, tuple[float, float]]:
    """Return the factor that widens the interval for S seeds, and (t, df); see the head of this file."""
    # A ratio whose denominator comes near 0 has no variance: the tails are cut to the interval.
    bounds = np.quantile(drawn, _BOUNDS)
    whole, still = np.clip(drawn, *bounds), np.clip(fixed, *bounds)
    total, images = whole.var(), still.var()
    of_seeds = ((whole - still) ** 2).mean() * n_seeds / (n_seeds - 1)
    df = (images + of_seeds) ** 2 / of_seeds**2 * (n_seeds - 1) if of_seeds > 0 else float("inf")
    critical = float(scipy.stats.t.ppf(_BOUNDS[1], df))
    wider = np.sqrt((images + of_seeds) / total) if total > 0 else 1.0
    return float(critical / scipy.stats.norm.ppf(_BOUNDS[1]) * wider), (critical, df)


def resampled_accuracies(
    correct: NDArray[np.bool_], labels: ArrayLike, n_classes: int, n_boot: int, seed: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield blocks of bootstrapped class accuracies.

    One draw resamples the test images of each class and, if there are several, the seeds; both are the same for every
    model (paired). Classes are fixed. The deviation of a class of n images is stretched by sqrt(n / (n - 1)) to make
    its variance unbiased, so a draw may leave [0, 1]. A class with one image takes the deviation of another such class
    from their mean, or plus or minus a half if it is the only one.

    Parameters
    ----------
    correct : (R, S, n) array of bool
        R models, S seeds, n test images.
    labels : (n,) array of int in [0, K)
    n_classes : int
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
    alone = np.array([rows[0] for rows in members if len(rows) == 1], dtype=int)
    of_alone = correct[:, :, alone].astype(float)
    of_alone -= of_alone.mean(axis=2, keepdims=True) if len(alone) else 0.0
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
            if len(rows) == 0:
                continue
            seen = correct[:, :, rows].mean(axis=2)
            if len(rows) == 1:
                off = _of_another(of_alone, size, rng)
            else:
                n = len(rows)
                taken = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
                drawn = np.bincount(taken.ravel(), minlength=size * n).reshape(size, n)
                off = (drawn.astype(np.float32) @ hits[k]).reshape(size, n_models, n_seeds) / n - seen
                off *= np.sqrt(n / (n - 1))
            of_seed = seen + off
            accuracy[:, :, k] = np.einsum("brs,bs->br", of_seed, seed_weights)
            fixed[:, :, k] = of_seed.mean(axis=2)
        yield accuracy, fixed


def _of_another(of_alone: Floats, size: int, rng: np.random.Generator) -> Floats:
    """Deviations (size, R, S) for a class with one image, from all such classes (R, S, m)."""
    n_models, n_seeds, m = of_alone.shape
    if m == 1:
        return np.repeat(rng.integers(2, size=(size, n_models, 1)) - 0.5, n_seeds, axis=2)
    return np.sqrt(m / (m - 1)) * np.moveaxis(of_alone[:, :, rng.integers(m, size=size)], 2, 0)


def bootstrap(
    statistics: Callable[[Floats], Mapping[str, Floats]],
    correct: ArrayLike,
    labels: ArrayLike,
    n_classes: int,
    *,
    vectors: Floats | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Estimate statistics of class accuracies with 95 % intervals, paired over models and stratified by class.

    Parameters
    ----------
    statistics : callable
        Maps class accuracies (b, R, K) to named arrays (b, ...). Linear ones have a closed form, others are resampled.
    correct : (R, S, n) array of bool
    labels : (n,) array of int in [0, K)
    n_classes : int
    vectors : (P, K) array, optional
        Then ``statistics`` maps ``class accuracies @ vectors.T``, (b, R, P), where classes without a test image count
        as 0. With many classes this is far less work.
    n_boot : int
        Draws, at least 100.
    seed : int

    Returns
    -------
    dict
        Name to `Interval`, or to an object array of intervals for a statistic with further axes.

    Notes
    -----
    With one seed the intervals cover other test images, not other training runs. With several, they are widened by
    Student's t with Satterthwaite's degrees of freedom; two or three seeds that differ much give wide intervals.

    References
    ----------
    Agresti and Caffo, The American Statistician 2000, and Agresti and Min, Statistics in Medicine 2005 (added images);
    Korn and Graubard, Survey Methodology 1998 (effective numbers); Satterthwaite, Biometrics Bulletin 1946; Rao and Wu,
    JASA 1988 (stretched resampling).

    Examples
    --------
    >>> right = np.random.default_rng(0).random((1, 1, 400)) < .75
    >>> bootstrap(lambda a: {"mean": a.mean((1, 2))}, right, np.zeros(400, int), 1)["mean"]
    70.8 [66.0, 75.2] %
    >>> bootstrap(lambda a: {"mean": a.mean((1, 2))}, np.ones((1, 1, 8), bool), np.zeros(8, int), 1)["mean"]
    100.0 [67.7, 100.0] %
    """
    hits = np.asarray(correct, dtype=bool)
    if hits.ndim != 3:
        raise CausalFTError(f"'correct' must be (models, seeds, images), not of shape {hits.shape}")
    if n_boot < 100:
        raise CausalFTError(f"n_boot={n_boot} is too few for a 95 % interval; use at least 100")
    y = np.asarray(labels)
    by_seed = class_accuracy(hits, y, n_classes)
    n_seeds, accuracy = hits.shape[1], by_seed.mean(axis=1)
    observed = statistics(_products(accuracy[None], vectors))
    of_seeds = statistics(_products(by_seed.swapaxes(0, 1), vectors)) if n_seeds > 1 else observed
    covariance = image_covariance(hits.mean(axis=1), y, n_classes)
    weighed = weigh(statistics, accuracy, covariance, np.bincount(y, minlength=n_classes), vectors)
    curved = [
        name for name, value in observed.items() if (np.isfinite(value).ravel() & ~weighed[name].linear).any()
    ]
    drawn = _draw(statistics, curved, hits, y, n_classes, n_boot, seed, vectors) if curved else {}
    intervals: dict[str, Any] = {}
    for name, value in observed.items():
        shape, found = np.shape(value)[1:], np.ravel(value)
        seeds = np.asarray(of_seeds[name], dtype=float).reshape(n_seeds if n_seeds > 1 else 1, -1)
        cells = _closed(found, weighed[name], seeds)
        if name in drawn:
            for i in np.flatnonzero(~weighed[name].linear):
                cells[i] = Interval.of(found[i], drawn[name][0][:, i], drawn[name][1][:, i], n_seeds)
        if shape:
            table = np.empty(len(cells), dtype=object)
            table[:] = cells
            intervals[name] = table.reshape(shape)
        else:
            intervals[name] = cells[0]
    return intervals


def _products(accuracy: Floats, vectors: Floats | None) -> Floats:
    """What the statistics are functions of."""
    return accuracy if vectors is None else np.nan_to_num(accuracy) @ vectors.T


def _closed(found: Floats, weighed: Weighed, of_seeds: Floats) -> list[Interval]:
    """Intervals of the linear numbers among ``found`` (T,); ``of_seeds`` (S, T) are their values by seed."""
    n_seeds = len(of_seeds)
    exists = np.isfinite(found) & weighed.linear & (weighed.n_images > 0)
    n = np.where(exists, weighed.n_images, 1.0)
    variance = np.where(exists, weighed.variance, 0.0)
    spread = of_seeds.var(axis=0, ddof=1) / n_seeds if n_seeds > 1 else np.zeros(len(found))
    spread = np.where(exists, spread, 0.0)

    share = exists & weighed.share
    p = np.where(share, np.clip(found, 0, 1), 0.5)
    design = (n**2 * variance + _COINS) / (n * p * (1 - p) + _COINS)
    design = np.where(weighed.even, np.minimum(design, 1.0), design)
    of_images = design * (n * p + 1) * (n * (1 - p) + 1) / (n + 2) ** 2 / n  # in the form that seeds add to
    df = _degrees(of_images, spread, weighed.df + _COINS, n_seeds)
    critical = np.where((design < 1) | (spread > 0), scipy.stats.t.ppf(_BOUNDS[1], df), Z95)
    effective = n / design / (1 + spread / of_images) * (Z95 / critical) ** 2
    share_low, share_high = share_interval(p, effective)

    weight = (n / (n + _COINS)) ** 2
    of_images = np.where(exists, weight * variance + (1 - weight) * weighed.of_coins, 1.0)
    df = _degrees(of_images, spread, weighed.df + _COINS, n_seeds)
    error = np.sqrt(of_images + spread)
    half = scipy.stats.t.ppf(_BOUNDS[1], df) * error
    low = np.where(share, share_low, np.maximum(found - half, weighed.low))
    high = np.where(share, share_high, np.minimum(found + half, weighed.high))
    p_value = np.where(share, np.where(found > 0, 0.0, 1.0), 2 * scipy.stats.t.sf(np.abs(found) / error, df))
    return [
        Interval(float(found[i]), float(low[i]), float(high[i]), float(p_value[i]))
        if exists[i]
        else Interval.none(
            _CONSTANT if np.isfinite(found[i]) and weighed.low[i] == weighed.high[i] else _WHY_NOT, found[i]
        )
        for i in range(len(found))
    ]


_WHY_NOT = "no test image bears on it"
_CONSTANT = "it does not depend on the predictions"


def _degrees(of_images: Floats, of_seeds: Floats, df: Floats, n_seeds: int) -> Floats:
    """Satterthwaite's degrees of freedom of the sum of two variances."""
    square = of_images**2 / df + (of_seeds**2 / (n_seeds - 1) if n_seeds > 1 else 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(square > 0, (of_images + of_seeds) ** 2 / square, np.inf)


def _draw(
    statistics: Callable[[Floats], Mapping[str, Floats]],
    names: list[str],
    hits: NDArray[np.bool_],
    labels: NDArray[np.int64],
    n_classes: int,
    n_boot: int,
    seed: int,
    vectors: Floats | None,
) -> dict[str, tuple[Floats, Floats]]:
    """Draws (n_boot, T) of the named statistics, with seeds resampled and with the seeds as they are."""
    several = hits.shape[1] > 1
    blocks: dict[str, list[Floats]] = {name: [] for name in names}
    fixed_blocks: dict[str, list[Floats]] = {name: [] for name in names}
    for resampled, fixed in resampled_accuracies(hits, labels, n_classes, n_boot, seed):
        for target, accuracy in ((blocks, resampled), (fixed_blocks, fixed)):
            if target is blocks or several:
                values = statistics(_products(accuracy, vectors))
                for name in names:
                    target[name].append(np.asarray(values[name]).reshape(len(accuracy), -1))
    found = {name: np.concatenate(blocks[name]) for name in names}
    return {
        name: (value, np.concatenate(fixed_blocks[name]) if several else value)
        for name, value in found.items()
    }
