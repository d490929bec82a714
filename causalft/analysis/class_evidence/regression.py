"""Least squares of class accuracies with class and model effects, and its bootstrap over classes.

    accuracy_mk = class_k + model_m + sum_p beta_p x_pmk + error_mk

Class effects take out what makes a class hard for every model, model effects what makes a model better on every class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.diagnosis.intervals import Interval
from causalft.runs.documents import Document
from causalft.runs.intervals import Z95

__all__ = ["Draws", "Estimate", "PER_FACTOR", "Regression", "image_variance", "within"]

Floats = NDArray[np.float64]

PER_FACTOR = 2.0
"""log10 of the factor that a slope refers to: a class seen a hundred times as often."""

_AT_ONCE = 4_000_000
"""Weights of classes that are held at once."""


def within(values: Floats) -> Floats:
    """Return (..., M, K) values less their class and model means.

    Examples
    --------
    >>> within(np.array([[1.0, 2.0], [3.0, 8.0]])).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    of_class = values - values.mean(axis=-2, keepdims=True)
    return of_class - of_class.mean(axis=-1, keepdims=True)


def image_variance(accuracy: Floats, n_test: Floats) -> Floats:
    """Variance of each accuracy over test images, (M, K), with one hit and one miss added so that it is never 0."""
    share = (accuracy * n_test + 1) / (n_test + 2)
    return share * (1 - share) / n_test


@dataclass(frozen=True)
class Estimate:
    """A statistic of class accuracies with two 95 % intervals.

    Attributes
    ----------
    classes : Interval
        Over classes, drawn with their test images: what other classes of the kind would show.
    images : Interval
        The same classes, other test images; not bounded without test counts.
    """

    classes: Interval
    images: Interval

    @property
    def value(self) -> float:
        """The estimate."""
        return self.classes.estimate

    def to_json(self) -> Document:
        """``{estimate, ci95, p, ci95_images}`` in points (hundred times the fractions inside), with reasons."""
        found: Document = {
            "estimate": 100 * self.value if self.classes.exists else None,
            "ci95": _points(self.classes),
            "p": self.classes.p if self.classes.bounded else None,
            "ci95_images": _points(self.images),
        }
        reasons = [each.reason for each in (self.classes, self.images) if not each.bounded and each.reason]
        return {**found, "reason": reasons[0]} if reasons else found


def _points(value: Interval) -> list[float] | None:
    return [100 * value.low, 100 * value.high] if value.bounded else None


class Draws:
    """Bootstrap draws of classes, the same for every statistic.

    The percentile interval is stretched around the estimate by sqrt(n / (n - 1)) and Student's t with n - 1 degrees of
    freedom, for n classes or blocks (Hesterberg, The American Statistician 2015), so that it holds for few as well.

    Parameters
    ----------
    n_classes, n_boot, seed : int
    block : int
        Classes that are drawn together: neighbours in the list, which goes on at its start (the circular block
        bootstrap of Politis and Romano, 1992). For lists in which neighbours are akin.
    """

    def __init__(self, n_classes: int, n_boot: int, seed: int, block: int = 1) -> None:
        self.n_classes, self.n_boot, self.seed, self.block = n_classes, n_boot, seed, block
        self.n_units = -(-n_classes // block)

    def weights(self) -> Iterator[NDArray[np.float32]]:
        """Yield how often each class is drawn, (b, K): the same parts of the n_boot draws at every call."""
        rng, n = np.random.default_rng(self.seed), self.n_classes
        size = max(1, _AT_ONCE // n)
        for start in range(0, self.n_boot, size):
            rows = min(size, self.n_boot - start)
            starts = rng.integers(n, size=(rows, self.n_units))
            drawn = (starts[:, :, None] + np.arange(self.block)).reshape(rows, -1)[:, :n] % n
            drawn += n * np.arange(rows)[:, None]
            yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float32)

    def sample(self, statistic: Callable[[NDArray[np.float32]], Floats]) -> Floats:
        """The values of ``statistic``, which maps (b, K) weights to (b, ...), on all draws: (n_boot, ...)."""
        return np.concatenate([statistic(weights) for weights in self.weights()])

    def interval(self, estimate: float, samples: Floats) -> Interval:
        """95 % interval of a statistic from its values on the draws."""
        from scipy.stats import t

        plain = Interval.of(estimate, samples)
        if not plain.bounded:
            return plain
        n = self.n_units
        stretch = (n / (n - 1)) ** 0.5 * float(t.ppf(0.975, n - 1)) / Z95
        low, high = (estimate + stretch * (bound - estimate) for bound in (plain.low, plain.high))
        return Interval(plain.estimate, low, high, plain.p)


class Regression:
    """The least-squares coefficients, for any weights of the classes.

    Parameters
    ----------
    accuracy : (M, K) array
        Fractions.
    regressors : sequence of (M, K) arrays
    class_effects : bool
        Without them the regressors also compare classes with each other.

    Attributes
    ----------
    identified : bool
        False where class and model effects leave (nearly) nothing of a regressor, or of one given the others.

    Examples
    --------
    >>> x = np.array([[0.0, 1.0, 2.0], [0.0, 2.0, 0.0]])
    >>> accuracy = 0.3 + 0.1 * x + np.array([0.0, 0.2, -0.1]) + np.array([[0.0], [0.05]])
    >>> Regression(accuracy, [x]).estimate().round(6).tolist()
    [0.1]
    """

    def __init__(self, accuracy: Floats, regressors: Sequence[Floats], *, class_effects: bool = True) -> None:
        x, y = np.stack(regressors), accuracy
        self.class_effects = class_effects
        if class_effects:
            self.x, self.y = x - x.mean(axis=-2, keepdims=True), y - y.mean(axis=-2, keepdims=True)
        else:
            # Centred: the moments below are differences of sums.
            self.x, self.y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
        ones = np.ones((1, accuracy.shape[1]))
        square, _ = self._moments(ones)
        raw = ((x - x.mean(axis=-1, keepdims=True)) ** 2).sum(axis=(-2, -1))
        scale = np.sqrt(np.outer(raw, raw))
        self._whole = np.diagonal(square[0])
        self.identified = bool(
            (raw > 0).all()
            and accuracy.shape[1] > 2
            and np.linalg.eigvalsh(square[0] / np.where(scale > 0, scale, 1.0)).min() > 1e-9
        )

    def _moments(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weighted cross products after model means are taken out: (B, P, P) and (B, P)."""
        x, y = self.x, self.y
        p, m, k = x.shape
        total = weights.sum(axis=1)
        products = np.einsum("pmk,qmk->kpq", x, x).reshape(k, p * p)
        with_y = np.einsum("pmk,mk->kp", x, y)
        sums = (weights @ x.reshape(p * m, k).T).reshape(-1, p, m)
        of_y = weights @ y.T
        square = (weights @ products).reshape(-1, p, p)
        square = square - np.einsum("bpm,bqm->bpq", sums, sums) / total[:, None, None]
        cross = weights @ with_y - np.einsum("bpm,bm->bp", sums, of_y) / total[:, None]
        return square, cross

    def on(self, weights: ArrayLike) -> Floats:
        """Coefficients (B, P) for (B, K) weights of the classes; NaN where they are not identified."""
        n, times = self.x.shape[0], np.asarray(weights, dtype=float)
        if not self.identified:
            return np.full((len(times), n), np.nan)
        square, cross = self._moments(times)
        variation = np.einsum("bpp->bp", square)
        # A draw of one class again and again leaves rounding errors, some of them below 0.
        good = (variation > 1e-12 * self._whole).all(axis=1)
        diagonal = np.sqrt(np.where(good[:, None], variation, 1.0))
        scaled = square / (diagonal[:, :, None] * diagonal[:, None, :])
        good[good] = np.linalg.eigvalsh(scaled[good]).min(axis=1) > 1e-9
        found = np.full((len(times), n), np.nan)
        found[good] = np.linalg.solve(square[good], cross[good][:, :, None])[:, :, 0]
        return found

    def estimate(self) -> Floats:
        """Coefficients (P,) with every class counted once."""
        return self.on(np.ones((1, self.x.shape[2])))[0]

    def linear_map(self) -> Floats:
        """(P, M, K): each coefficient is the sum of its map times the accuracies."""
        x = self.x - self.x.mean(axis=-1, keepdims=True)
        square = np.einsum("pmk,qmk->pq", x, x)
        return np.einsum("pq,qmk->pmk", np.linalg.inv(square), x)

    def estimates(
        self, draws: Draws, variance: Floats | None = None, unit: float = PER_FACTOR
    ) -> list[Estimate]:
        """Coefficients times ``unit`` with both intervals.

        Parameters
        ----------
        draws : Draws
        variance : (M, K) array, optional
            Of :func:`image_variance`.
        unit : float
        """
        if not self.identified:
            none = Interval.none("the counts of the models do not differ beyond a constant factor")
            return [Estimate(none, none)] * self.x.shape[0]
        found, sampled = unit * self.estimate(), unit * draws.sample(self.on)
        maps = unit * self.linear_map() if variance is not None else None
        return [
            Estimate(
                draws.interval(float(value), sampled[:, p]),
                over_images(float(value), None if maps is None else maps[p], variance),
            )
            for p, value in enumerate(found)
        ]


def over_images(value: float, linear: Floats | None, variance: Floats | None) -> Interval:
    """Interval of a linear statistic over test images, in closed form."""
    from scipy.stats import norm

    if linear is None or variance is None:
        return Interval.none("no counts of test images; the intervals are over classes only", value)
    error = float(np.sqrt((linear**2 * variance).sum()))
    p = float(2 * norm.sf(abs(value) / error)) if error > 0 else float("nan")
    return Interval(value, value - Z95 * error, value + Z95 * error, p)
