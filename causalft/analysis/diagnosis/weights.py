"""The weights of a statistic of class accuracies, found by evaluating it, and the variance that follows.

Almost every statistic of a diagnosis (accuracy, group accuracy, gap, slope, paired difference) is linear: ``base +
sum_rk w_rk a_rk``. Its value where one accuracy is 1 and all others are 0 gives one weight. With the weights, the
variance over test images is exact; a bootstrap would add noise and, for a class of n images, lack the factor n / (n -
1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Statistics", "Weighed", "image_covariance", "weigh"]

Floats = NDArray[np.float64]
Statistics = Callable[[Floats], Mapping[str, Floats]]

# Floats of one block of class accuracies: 160 MB.
BLOCK = 20_000_000


@dataclass(frozen=True)
class Weighed:
    """Facts of the T numbers of a statistic, (T,) arrays; where ``linear`` is False the others are meaningless.

    Attributes
    ----------
    linear : bool
        Linear in the class accuracies.
    share : bool
        A mean of accuracies: base 0, weights that are not negative and sum to 1.
    even : bool
        Every image counts alike, so that a fixed number of images per class can only lower the variance.
    low, high : float
        Least and largest possible value.
    variance : float
        Over test images, hits averaged over the seeds; unbiased within each class.
    of_coins : float
        ``variance`` if each model were right on each image by the toss of a coin.
    n_images : float
        Number of equally weighted images that would tell as much.
    df : float
        Degrees of freedom of ``variance`` (Satterthwaite 1946).
    """

    linear: NDArray[np.bool_]
    share: NDArray[np.bool_]
    even: NDArray[np.bool_]
    low: Floats
    high: Floats
    variance: Floats
    of_coins: Floats
    n_images: Floats
    df: Floats


def image_covariance(hits: Floats, labels: NDArray[np.int64], n_classes: int) -> Floats:
    """Unbiased covariance over the images of a class of the hits of R models: (K, R, R).

    Classes with one image have no spread of their own: their spread about their common mean serves each of them
    (collapsed strata: rather too large where such classes differ). A single such class gets the covariance of
    independent coins, the largest possible.

    Parameters
    ----------
    hits : (R, n) array of numbers in [0, 1]
        Right or wrong, averaged over the seeds.
    labels : (n,) array of int in [0, K)
    n_classes : int

    References
    ----------
    Wolter, "Introduction to Variance Estimation", 2007, section 2.5.

    Examples
    --------
    >>> image_covariance(np.array([[1.0, 0.0, 1.0]]), np.array([0, 0, 1]), 2).ravel().tolist()
    [0.5, 0.25]
    """
    found = np.zeros((n_classes, len(hits), len(hits)))
    members = [np.flatnonzero(labels == k) for k in range(n_classes)]
    for k, rows in enumerate(members):
        if len(rows) > 1:
            of_class = hits[:, rows]
            off = of_class - of_class.mean(axis=1, keepdims=True)
            found[k] = off @ off.T / (len(rows) - 1)
    alone = np.array([k for k, rows in enumerate(members) if len(rows) == 1], dtype=int)
    if len(alone) == 1:
        found[alone] = np.eye(len(hits)) / 4
    elif len(alone):
        off = hits[:, [members[k][0] for k in alone]]
        off = off - off.mean(axis=1, keepdims=True)
        found[alone] = off @ off.T / (len(alone) - 1)
    return found


def weigh(
    statistics: Statistics,
    accuracy: Floats,
    covariance: Floats,
    counts: NDArray[np.int64],
    vectors: Floats | None = None,
) -> dict[str, Weighed]:
    """Find the weights of statistics, and what follows from them.

    Parameters
    ----------
    statistics : callable
        Maps class accuracies (b, R, K) to named arrays (b, ...).
    accuracy : (R, K) array
        Averaged over the seeds; NaN for a class without a test image.
    covariance : (K, R, R) array
        Of :func:`image_covariance`.
    counts : (K,) array of int
        Test images.
    vectors : (P, K) array, optional
        Then ``statistics`` maps ``class accuracies @ vectors.T``, (b, R, P).

    Returns
    -------
    dict of str to Weighed
        The axes of a statistic are flattened.

    Examples
    --------
    >>> seen, counts = np.array([[1.0, 0.5]]), np.array([2, 2])
    >>> found = weigh(lambda a: {"gap": a[:, 0, 0] - a[:, 0, 1]}, seen, np.array([[[0.0]], [[0.5]]]), counts)["gap"]
    >>> found.variance.tolist(), found.of_coins.tolist(), found.n_images.tolist(), found.share.tolist()
    ([0.25], [0.25], [4.0], [False])
    """
    n_models, n_classes = accuracy.shape
    tested = np.flatnonzero(counts)
    # Where a statistic is looked at besides: at 0, at what was seen, and at a point that no accident makes right.
    points = np.zeros((3, n_models, n_classes))
    points[1] = np.where(np.isnan(accuracy), 0.0, accuracy)
    points[2][:, tested] = np.random.default_rng(0).random((n_models, len(tested)))
    at_points = _values(statistics, points if vectors is None else points @ vectors.T)
    sums = {name: _Sums(value.shape[1]) for name, value in at_points.items()}
    if vectors is None:
        probed = _probe_classes(statistics, at_points, n_models, n_classes, tested)
    else:
        probed = _probe_products(statistics, n_models, tested, vectors)
    for classes, of_classes in probed:
        for name, weights in of_classes.items():
            sums[name].add(weights, points[1:][:, :, classes], covariance[classes], counts[classes])
    return {name: sums[name].weighed(at_points[name]) for name in sums}


def _probe_classes(
    statistics: Statistics,
    at_points: Mapping[str, Floats],
    n_models: int,
    n_classes: int,
    tested: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], dict[str, Floats]]]:
    """Yield classes and their weights (k, R, T), from the values where one accuracy is 1 and all others are 0."""
    block = max(1, BLOCK // (2 * n_models**2 * n_classes))
    for start in range(0, len(tested), block):
        classes = tested[start : start + block]
        probes = np.zeros((len(classes), n_models, n_models, n_classes))
        index = np.arange(len(classes))[:, None]
        probes[index, np.arange(n_models), np.arange(n_models), classes[:, None]] = 1.0
        values = _values(statistics, probes.reshape(-1, n_models, n_classes))
        yield (
            classes,
            {
                name: (value - at_points[name][0]).reshape(len(classes), n_models, -1)
                for name, value in values.items()
            },
        )


def _probe_products(
    statistics: Statistics,
    n_models: int,
    tested: NDArray[np.int64],
    vectors: Floats,
) -> Iterator[tuple[NDArray[np.int64], dict[str, Floats]]]:
    """The same by the chain rule: from the values where one product is 1 and all others are 0."""
    n_products = len(vectors)
    probes = np.eye(n_models * n_products).reshape(-1, n_models, n_products)
    zero = _values(statistics, np.zeros((1, n_models, n_products)))
    slopes = {
        name: (value - zero[name]).reshape(n_models, n_products, -1)
        for name, value in _values(statistics, probes).items()
    }
    known = np.nan_to_num(vectors)  # a statistic of a vector that does not exist is NaN at the points
    block = max(1, BLOCK // (20 * n_models * max(1, sum(value.shape[-1] for value in slopes.values()))))
    for start in range(0, len(tested), block):
        classes = tested[start : start + block]
        yield (
            classes,
            {
                name: np.einsum("pk,rpt->krt", known[:, classes], value, optimize=True)
                for name, value in slopes.items()
            },
        )


def _values(statistics: Statistics, accuracies: Floats) -> dict[str, Floats]:
    with np.errstate(all="ignore"):  # a ratio does not exist at 0, and need not
        found = statistics(accuracies)
    return {
        name: np.asarray(value, dtype=float).reshape(len(value), -1 if np.size(value) else 0)
        for name, value in found.items()
    }


class _Sums:
    """Sums over the classes, for T numbers at once."""

    def __init__(self, size: int) -> None:
        self.at_points = np.zeros((2, size))
        self.positive, self.negative, self.variance = np.zeros((3, size))
        self.part, self.part_square, self.length, self.alone = np.zeros((4, size))
        self.n_alone = 0
        self.heaviest, self.lightest = np.zeros(size), np.full(size, np.inf)

    def add(self, weights: Floats, points: Floats, covariance: Floats, counts: NDArray[np.int64]) -> None:
        """Add classes: weights (k, R, T), points (2, R, k), covariance (k, R, R), counts (k,)."""
        n = counts[:, None].astype(float)
        self.at_points += np.einsum("krt,prk->pt", weights, points)
        self.positive += np.maximum(weights, 0).sum(axis=(0, 1))
        self.negative += np.minimum(weights, 0).sum(axis=(0, 1))
        spread = np.matmul(covariance / n[:, :, None], weights)
        self.variance += np.einsum("krt,krt->t", weights, spread)
        square = (weights**2).sum(axis=1)  # (k, T)
        single = counts == 1
        self.length += np.sqrt(square).sum(axis=0)
        self.part += (square / n).sum(axis=0)
        self.part_square += ((square / n) ** 2 / np.maximum(n - 1, 1))[~single].sum(axis=0)
        self.alone += square[single].sum(axis=0)
        self.n_alone += int(single.sum())
        of_image = np.sqrt(square) / n
        self.heaviest = np.maximum(self.heaviest, of_image.max(axis=0))
        seen = np.where(of_image > 1e-12, of_image, np.inf)
        self.lightest = np.minimum(self.lightest, seen.min(axis=0))

    def weighed(self, at_points: Floats) -> Weighed:
        """The facts that follow from the sums; ``at_points`` (3, T) are the values at 0 and at the points."""
        base = at_points[0]
        size = self.positive - self.negative
        with np.errstate(invalid="ignore", divide="ignore"):
            off = np.abs(base + self.at_points - at_points[1:])
            linear = (off <= 1e-8 * (1 + size)).all(axis=0)
            square = self.part_square + (self.alone**2 / (self.n_alone - 1) if self.n_alone > 1 else 0.0)
            return Weighed(
                linear=linear,
                share=(np.abs(base) < 1e-12) & (self.negative > -1e-12) & (np.abs(self.positive - 1) < 1e-9),
                even=self.heaviest <= self.lightest * (1 + 1e-9),
                low=base + self.negative,
                high=base + self.positive,
                variance=self.variance,
                of_coins=self.part / 4,
                n_images=self.length**2 / self.part,
                df=np.where(square > 0, self.part**2 / square, np.inf),
            )
