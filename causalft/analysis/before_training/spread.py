"""Where class accuracies differ: difficulty that all strata share, along training counts, along a stratum's own prior.

With a_ik the accuracy of stratum i on class k,

    a_ik = mu_i + alpha_k + gamma_ik,

alpha_k is common to all strata (class difficulty) and gamma_ik belongs to one. Averaging M strata keeps alpha_k and 1/M
of the variance of gamma. Part of alpha follows the log training counts, part of gamma the log prior of the stratum. All
variances are over classes, net of the noise of few test images (unbiased moment estimators; Searle, Casella and
McCulloch, "Variance Components", 1992).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.diagnosis.intervals import Interval
from causalft.analysis.diagnosis.weights import image_covariance
from causalft.data.groups import class_accuracy
from causalft.runs.documents import Document

__all__ = ["Spread", "spread_of_accuracy"]

Floats = NDArray[np.float64]

_BLOCK = 4_000_000  # numbers of one block of draws

PARTS = ("difficulty", "data", "between", "own_prior", "neither")


@dataclass(frozen=True)
class Spread:
    """Variance of class accuracy within a stratum, and its parts, as shares of it with 95 % intervals over classes.

    Attributes
    ----------
    deviation : Interval
        Standard deviation of the accuracy of a class, mean over strata, as a fraction.
    difficulty : Interval
        Common to all strata; not known of one stratum alone.
    data : Interval
        Along the log training counts (part of ``difficulty``).
    between : Interval
        Differs between strata: what fusing them can average.
    own_prior : Interval
        Along the log prior of the stratum itself, class difficulty taken out (part of ``between``).
    neither : Interval
        The rest: 1 - ``data`` - ``own_prior``.
    """

    deviation: Interval
    difficulty: Interval
    data: Interval
    between: Interval
    own_prior: Interval
    neither: Interval

    def to_json(self) -> Document:
        """``deviation`` and the five shares; null, with a reason, for what is not known."""
        found: Document = {"deviation": self.deviation.to_json()}
        return found | {name: getattr(self, name).to_json() for name in PARTS}


def spread_of_accuracy(
    correct: ArrayLike,
    labels: ArrayLike,
    priors: ArrayLike,
    class_counts: ArrayLike | None = None,
    *,
    n_boot: int = 400,
    seed: int = 0,
) -> Spread:
    """Split the variance of class accuracy into its parts.

    Parameters
    ----------
    correct : (M, n) array of bool
        Right or wrong, of each stratum on each test image.
    labels : (n,) array of int in [0, K)
    priors : (M, K) array of positive numbers
        NaN where the prior of a class is not known: such a class is left out.
    class_counts : (K,) array of int, optional
        Training images; a class with none counts as one with half an image.
    n_boot, seed : int
        Draws of classes.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(np.arange(40), 200)
    >>> log_q = rng.normal(0, 1.2, (2, 40))                                    # each stratum favours other classes
    >>> accuracy = 0.5 + rng.normal(0, 0.12, 40) + 0.08 * log_q                # difficulty, and the priors
    >>> correct = rng.random((2, 8000)) < accuracy[:, labels]
    >>> found = spread_of_accuracy(correct, labels, np.exp(log_q))
    >>> bool(found.own_prior.low > 0.1), bool(found.difficulty.estimate > 0.4)
    (True, True)
    """
    hits, y, q = np.asarray(correct, dtype=float), np.asarray(labels), np.asarray(priors, dtype=float)
    n_strata, n_classes = q.shape
    counts = np.bincount(y, minlength=n_classes)
    tested = (counts > 0) & ~np.isnan(q).any(axis=0)
    noise = image_covariance(hits, y, n_classes)[tested] / counts[tested, None, None]
    x = np.log(q[:, tested])
    d = (
        None
        if class_counts is None
        else np.log(np.maximum(np.asarray(class_counts, dtype=float)[tested], 0.5))
    )
    table = _Classes(
        accuracy=class_accuracy(hits, y, n_classes)[:, tested],
        x=x,
        d=None if d is None or np.ptp(d) == 0 else d,
        noise_trace=np.trace(noise, axis1=1, axis2=2),
        noise_sum=noise.sum(axis=(1, 2)),
    )
    n = int(tested.sum())
    if n < _FEWEST:
        why = f"{n} classes with test images and priors are too few"
        return Spread(*(Interval.none(why) for _ in range(1 + len(PARTS))))
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // (n_strata * n))
    drawn = np.concatenate(
        [
            table.parts(rng.integers(n, size=(min(block, n_boot - start), n)))
            for start in range(0, n_boot, block)
        ]
    )
    seen = table.parts(np.arange(n)[None])[0]
    reasons = {
        "difficulty": _ONE,
        "between": _ONE,
        "own_prior": _ONE if n_strata == 1 else _ALIKE,
        "data": _NO_COUNTS,
        "neither": _ONE if n_strata == 1 else _ALIKE,
    }
    shares = {
        name: _share(seen[k], drawn[:, k], reasons[name]) for k, name in enumerate(("deviation", *PARTS)) if k
    }
    return Spread(deviation=_deviation(seen[0], drawn[:, 0]), **shares)


_FEWEST = 5
_ONE = "one stratum alone: its prior cannot be told from class difficulty"
_ALIKE = "the priors of the strata are equal"
_NO_COUNTS = "the training counts are equal or not known"


def _share(seen: float, drawn: Floats, why: str) -> Interval:
    if not np.isfinite(seen):
        return Interval.none(why)
    kept = drawn[np.isfinite(drawn)]
    if len(kept) < 0.9 * len(drawn):
        return Interval.none("class accuracies differ by no more than chance")
    low, high = np.clip(np.quantile(kept, (0.025, 0.975)), 0, 1)
    value = float(np.clip(seen, 0, 1))
    return Interval(value, float(min(low, value)), float(max(high, value)), float("nan"))


def _deviation(seen: float, drawn: Floats) -> Interval:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(float(seen), float(min(low, seen)), float(max(high, seen)), float("nan"))


@dataclass(frozen=True)
class _Classes:
    """What is known of K tested classes: accuracy, x (M, K); d, noise_trace, noise_sum (K,)."""

    accuracy: Floats
    x: Floats
    d: Floats | None
    noise_trace: Floats
    noise_sum: Floats

    def parts(self, chosen: NDArray[np.int64]) -> Floats:
        """The deviation and the shares, in the order of ``PARTS``, of B draws of classes (B, K): (B, 6)."""
        a = self.accuracy[:, chosen].swapaxes(0, 1)  # (B, M, K)
        n_strata, n = a.shape[1:]
        mean = a.mean(axis=1)
        own, x = _twice_centred(a), _twice_centred(self.x[:, chosen].swapaxes(0, 1))
        noise_mean = self.noise_sum[chosen].mean(axis=1) / n_strata**2
        common = mean.var(axis=1, ddof=1) - noise_mean
        if n_strata == 1:
            total = np.maximum(common, 0)
            unknown = np.full(len(a), np.nan)
            data = self._data(mean, chosen)
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.stack([np.sqrt(total), unknown, data / total, unknown, unknown, unknown], axis=1)
        freedom = (n_strata - 1) * (n - 1)
        noise = (self.noise_trace - self.noise_sum / n_strata)[chosen].mean(axis=1) / (n_strata - 1)
        between = np.maximum((own**2).sum(axis=(1, 2)) / freedom - noise, 0)
        common = np.maximum(common - between / n_strata, 0)
        total = common + between
        square = (x**2).sum(axis=(1, 2))
        x_spread = (self.x - self.x.mean(axis=1, keepdims=True)).var()
        with np.errstate(invalid="ignore", divide="ignore"):
            beta = (own * x).sum(axis=(1, 2)) / square
            of_class = (x * (own - beta[:, None, None] * x)).sum(axis=1)  # classes are the clusters
            error = (of_class**2).sum(axis=1) * n / (n - 1) / square**2
            along = np.maximum(beta**2 - error, 0) * square / freedom
            along = np.where(square > 1e-9 * max(x_spread, 1e-12) * n, along, np.nan)
            data = self._data(mean, chosen)
            rest = 1 - along / total - np.nan_to_num(data / total)
            shares = [common / total, data / total, between / total, along / total, rest]
        return np.stack([np.sqrt(total), *shares], axis=1)

    def _data(self, mean: Floats, chosen: NDArray[np.int64]) -> Floats:
        """Variance of the strata's mean accuracy (B, K) along the log training counts: (B,)."""
        if self.d is None:
            return np.full(len(mean), np.nan)
        n = mean.shape[1]
        d = self.d[chosen] - self.d[chosen].mean(axis=1, keepdims=True)
        rest = mean - mean.mean(axis=1, keepdims=True)
        square = (d**2).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = (rest * d).sum(axis=1) / square
            off = rest - slope[:, None] * d
            error = ((d * off) ** 2).sum(axis=1) * n / (n - 2) / square**2
            return np.maximum(slope**2 - error, 0) * square / (n - 1)


def _twice_centred(values: Floats) -> Floats:
    """(B, M, K) less the means of strata and of classes."""
    rows, columns = values.mean(axis=2, keepdims=True), values.mean(axis=1, keepdims=True)
    return values - rows - columns + values.mean(axis=(1, 2), keepdims=True)
