"""Intervals of anything computed from class accuracies: test images are resampled within class, seeds as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.errors import CausalFTError
from causalft.imbalance import class_accuracy

__all__ = ["Interval", "bootstrap", "resampled_accuracies"]

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
        Two-sided bootstrap p-value of "it is 0".
    """

    estimate: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, estimate: float, samples: ArrayLike) -> Interval:
        """Percentile interval and p-value from bootstrap samples (n_boot,) of a statistic."""
        drawn = np.asarray(samples, dtype=float)
        if not np.isfinite(estimate) or not np.isfinite(drawn).all():
            return cls(float(estimate), float("nan"), float("nan"), float("nan"))
        low, high = np.quantile(drawn, [0.025, 0.975])
        tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
        return cls(
            float(estimate), float(low), float(high), float(min(1.0, 2 * (tail + 1) / (len(drawn) + 1)))
        )

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

    def __repr__(self) -> str:
        return f"{100 * self.estimate:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}] %"


def resampled_accuracies(
    correct: NDArray[np.bool_], labels: ArrayLike, n_classes: int, n_boot: int, seed: int
) -> Iterator[NDArray[np.float64]]:
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
    (b, R, K) array
        Averaged over seeds; NaN for a class without a test image. The blocks' lengths b sum to n_boot.
    """
    y = np.asarray(labels)
    n_models, n_seeds, _ = correct.shape
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(y == k) for k in range(n_classes)]
    hits = [
        correct[:, :, rows].reshape(n_models * n_seeds, len(rows)).T.astype(np.float32) for rows in members
    ]
    block = max(1, min(n_boot, _BLOCK // (n_models * n_classes)))
    for start in range(0, n_boot, block):
        size = min(block, n_boot - start)
        seed_weights = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=size) / n_seeds
        accuracy = np.full((size, n_models, n_classes), np.nan)
        for k, rows in enumerate(members):
            if len(rows):
                drawn = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=size)
                of_seed = (drawn.astype(np.float32) @ hits[k]).reshape(size, n_models, n_seeds) / len(rows)
                accuracy[:, :, k] = np.einsum("brs,bs->br", of_seed, seed_weights)
        yield accuracy


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
    run would. Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.

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
    blocks = [statistics(a) for a in resampled_accuracies(hits, labels, n_classes, n_boot, seed)]
    intervals: dict[str, Any] = {}
    for name, value in observed.items():
        drawn = np.concatenate([block[name] for block in blocks])
        shape = drawn.shape[1:]
        flat = drawn.reshape(n_boot, -1)
        cells = [Interval.of(v, flat[:, i]) for i, v in enumerate(np.ravel(value))]
        if shape:
            table = np.empty(len(cells), dtype=object)
            table[:] = cells
            intervals[name] = table.reshape(shape)
        else:
            intervals[name] = cells[0]
    return intervals
