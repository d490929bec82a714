"""Long tails: class counts, orders of the classes, and the draw of training images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.data.image_set import ImageSet
from causalft.data.tails import ORDERS, PRIOR_ORDERS, PROFILES
from causalft.errors import CausalFTError, nearest
from causalft.runs.notebook import ShownAsTable

__all__ = [
    "Orders",
    "choose_orders",
    "order_against",
    "spearman",
    "Order",
    "benchmark_counts",
    "by_class",
    "class_order",
    "draw_longtail",
    "largest_head",
    "profile_counts",
    "tail_rows",
    "usable",
]

_SWEEPS = 4
_RESTARTS = 8
_MAX_SWAPS = 20_000
_LOW_ENOUGH = 0.01


def profile_counts(
    n_classes: int, n_max: int, imbalance_factor: float, profile: str = "exponential"
) -> NDArray[np.int64]:
    """Class counts of a long tail, (K,) int64, head first.

    Parameters
    ----------
    n_classes : int
        K, at least 2.
    n_max : int
        Count of the first class.
    imbalance_factor : float
        First over last count, at least 1. Counts are rounded to at least 1, so it is not reached if it exceeds
        ``n_max``.
    profile : str
        A name of `causalft.data.tails.PROFILES`.

    Examples
    --------
    >>> profile_counts(3, 100, 100, "pareto").tolist()
    [100, 7, 1]
    >>> profile_counts(3, 100, 100).tolist()
    [100, 10, 1]
    >>> profile_counts(4, 120, 4, "zipf").tolist()
    [120, 60, 40, 30]
    """
    if profile not in PROFILES:
        raise CausalFTError(f"no long-tail profile named '{profile}': {nearest(profile, PROFILES)}")
    if n_classes < 2:
        raise CausalFTError(f"a long tail needs at least 2 classes, not {n_classes}")
    if n_max < 1:
        raise CausalFTError(f"the largest class needs at least 1 sample, not {n_max}")
    if not imbalance_factor >= 1:
        raise CausalFTError(f"imbalance factor {imbalance_factor} is below 1; give largest / smallest count")
    shares = PROFILES[profile].shares(np.arange(n_classes), n_classes, float(imbalance_factor))
    return np.maximum(1, np.rint(n_max * shares)).astype(np.int64)


def benchmark_counts(n_classes: int, n_max: float, imbalance_factor: float) -> NDArray[np.int64]:
    """Class counts of CIFAR-LT, head first: exponential, rounded down (Cao et al., NeurIPS 2019).

    ``n_max`` is the number of images per class in the balanced set.

    Examples
    --------
    >>> int(benchmark_counts(10, 5000, 100).sum()), int(benchmark_counts(100, 500, 100).sum())
    (12406, 10847)
    """
    if not imbalance_factor >= 1:
        raise CausalFTError(f"imbalance factor {imbalance_factor} is below 1; give largest / smallest count")
    share = 1 / imbalance_factor
    return np.array([int(n_max * share ** (k / (n_classes - 1.0))) for k in range(n_classes)], dtype=np.int64)


Order = str | Sequence[str] | Sequence[int] | NDArray[np.int64]


def draw_longtail(
    images: ImageSet,
    *,
    imbalance_factor: float,
    seed: int,
    n_max: int | None = None,
    profile: str = "exponential",
    order: Order = "random",
    prior: ArrayLike | None = None,
    repeat: bool = False,
) -> ImageSet:
    """Draw a long-tailed part of a set, without replacement.

    Parameters and errors are those of `causalft.data.cut_splits`. With ``repeat`` a class with too few images gives
    them several times, about equally often: in another order, a long-tailed set would leave next to nothing.

    Examples
    --------
    >>> images = ImageSet.from_arrays(np.zeros((40, 2, 2, 3), np.uint8), np.arange(40) % 2, ["ant", "bee"])
    >>> draw_longtail(images, imbalance_factor=10, seed=0, order=["bee", "ant"]).class_counts.tolist()
    [2, 20]
    >>> images = images.subset([0, 1, 2, 3, 5, 7, 9])        # 2 ants, 5 bees
    >>> draw_longtail(images, imbalance_factor=5, n_max=5, seed=0, order=["ant", "bee"], repeat=True).class_counts
    array([5, 1])
    """
    images = usable(images, drop_empty_classes=False)
    rng = np.random.default_rng([seed, 1])
    rank = class_order(images, order, rng, prior)
    return images.subset(tail_rows(images, rank, imbalance_factor, n_max, profile, rng, repeat))


def class_order(
    images: ImageSet, order: Order, rng: np.random.Generator, prior: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Return (K,) class numbers, head first, from an order as in `causalft.data.cut_splits`; ``rng`` draws it."""
    n_classes = images.n_classes
    if prior is not None and not (isinstance(order, str) and order in PRIOR_ORDERS):
        raise CausalFTError(f"a prior goes with the orders {', '.join(PRIOR_ORDERS)}, not with '{order}'")
    if isinstance(order, str):
        if order in PRIOR_ORDERS:
            if prior is None:
                raise CausalFTError(
                    f"order '{order}' stands against a label prior; give prior=, one number per class"
                )
            if np.shape(prior) != (n_classes,):
                raise CausalFTError(f"the prior has shape {np.shape(prior)} for {n_classes} classes")
            return order_against(prior, order, int(rng.integers(2**31)))
        if order not in ORDERS:
            raise CausalFTError(f"no class order named '{order}': {nearest(order, ORDERS)}")
        rank = ORDERS[order].rank
        assert rank is not None
        return np.asarray(rank(images.class_counts, rng), dtype=np.int64)
    ranked = []
    place = {name: k for k, name in enumerate(images.class_names)}
    for item in order:
        if isinstance(item, str):
            if item not in place:
                raise CausalFTError(
                    f"class '{item}' in the order is not in {images.location}: {nearest(item, images.class_names)}"
                )
            ranked.append(place[item])
        else:
            ranked.append(int(item))
    if sorted(ranked) != list(range(n_classes)):
        there = set(ranked)
        missing = [name for k, name in enumerate(images.class_names) if k not in there]
        state = f"'{missing[0]}' is missing" if missing else "a class stands twice or does not exist"
        raise CausalFTError(f"the class order must list each of the {n_classes} classes once; {state}")
    return np.array(ranked, dtype=np.int64)


def tail_rows(
    images: ImageSet,
    rank: NDArray[np.int64],
    imbalance_factor: float,
    n_max: int | None,
    profile: str,
    rng: np.random.Generator,
    repeat: bool = False,
) -> NDArray[np.int64]:
    """Sorted rows of a long-tailed draw; class ``rank[r]`` gets the r-th count, with ``repeat`` of repeated images."""
    available = images.class_counts[rank]
    if n_max is None:
        n_max = largest_head(available, imbalance_factor, profile)
    counts = profile_counts(images.n_classes, n_max, imbalance_factor, profile)
    short = np.flatnonzero(counts > available)
    if len(short) and not repeat:
        r = int(short[0])
        raise CausalFTError(
            f"class '{images.class_names[rank[r]]}' has {available[r]} images left for training and place {r + 1} of "
            f"the long tail needs {counts[r]}; lower n_max to {largest_head(available, imbalance_factor, profile)}"
        )
    wanted = np.empty_like(counts)
    wanted[rank] = counts
    members = by_class(images, np.arange(len(images)))
    drawn = [np.resize(rng.permutation(rows), wanted[k]) for k, rows in enumerate(members)]
    return np.sort(np.concatenate(drawn))


def usable(images: ImageSet, drop_empty_classes: bool) -> ImageSet:
    """Refuse (or drop) empty classes, and fewer than two classes."""
    empty = np.flatnonzero(images.class_counts == 0)
    if len(empty) and drop_empty_classes:
        images = images.without_empty_classes()
    elif len(empty):
        name, found = images.class_names[empty[0]], images.n_classes - len(empty)
        raise CausalFTError(
            f"class '{name}' has no image in {images.location} (found {found} of {images.n_classes} classes); "
            "add images or drop empty classes"
        )
    if images.n_classes < 2:
        raise CausalFTError(f"{images.location} holds one class only; at least 2 classes are needed")
    return images


def by_class(images: ImageSet, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows of each of the K classes, in order."""
    labels = images.labels[rows]
    ends = np.cumsum(np.bincount(labels, minlength=images.n_classes))[:-1]
    return np.split(rows[np.argsort(labels, kind="stable")], ends)


def largest_head(available: NDArray[np.int64], imbalance_factor: float, profile: str) -> int:
    """Largest head count whose tail fits the available images."""
    low, high = 1, int(available[0])
    while low < high:
        middle = (low + high + 1) // 2
        if (profile_counts(len(available), middle, imbalance_factor, profile) <= available).all():
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(frozen=True, repr=False)
class Orders(ShownAsTable):
    """Chosen class orders.

    Attributes
    ----------
    orders : (n_orders, K) array of int64
        Permutations of the classes, head first.
    fixed : (n_fixed, K) array of int64
        Orders from which they had to differ.
    correlation : (n_orders + n_fixed, n_orders + n_fixed) array
        Spearman correlations, chosen orders first.
    """

    orders: NDArray[np.int64]
    fixed: NDArray[np.int64]
    correlation: NDArray[np.float64]

    @property
    def max_abs_correlation(self) -> float:
        """Largest |Spearman correlation| of a chosen order with any other."""
        off = np.abs(self.correlation - np.eye(len(self.correlation)))[: len(self.orders)]
        return float(off.max(initial=0.0))

    def __len__(self) -> int:
        return len(self.orders)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return iter(self.orders)

    def __getitem__(self, i: int) -> NDArray[np.int64]:
        return self.orders[i]

    def __repr__(self) -> str:
        n_classes = self.orders.shape[1]
        beside = f" beside {len(self.fixed)} fixed" if len(self.fixed) else ""
        largest = f"largest |Spearman| {self.max_abs_correlation:.2f}"
        return f"Orders({len(self)} of {n_classes} classes{beside}, {largest})"


def spearman(orders: ArrayLike) -> NDArray[np.float64]:
    """Spearman correlation, (m, m), of m class orders, (m, K), head first.

    Examples
    --------
    >>> spearman([[0, 1, 2], [2, 1, 0]]).round(6).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    return _correlation(_ranks(np.asarray(orders)))


def choose_orders(n_classes: int, n_orders: int, seed: int, fixed: Sequence[ArrayLike] = ()) -> Orders:
    """Choose class orders with low absolute Spearman correlation to each other and to the fixed ones.

    Random permutations of few classes correlate by chance (ten classes: standard deviation 1/3). From several random
    starts, swaps lower the sum of squared correlations until all are below 0.01; the smallest maximum wins.

    Parameters
    ----------
    n_classes : int
        K, at least 2.
    n_orders : int
        At least 1.
    seed : int
    fixed : sequence of (K,) permutations
        Given orders, such as that of the downstream set.

    Returns
    -------
    Orders
        With the correlations reached, which cannot be low for very few classes (K = 2: always 1).

    Raises
    ------
    CausalFTError
        For numbers out of range or a fixed order that is not a permutation.

    Examples
    --------
    >>> chosen = choose_orders(10, 3, seed=0, fixed=[range(10)])
    >>> chosen.max_abs_correlation < 0.1
    True
    """
    if n_classes < 2:
        raise CausalFTError(f"an order needs at least 2 classes, not {n_classes}")
    if n_orders < 1:
        raise CausalFTError(f"choose at least 1 order, not {n_orders}")
    given = np.array([_permutation(order, n_classes) for order in fixed], dtype=np.int64).reshape(
        -1, n_classes
    )
    rng = np.random.default_rng(seed)
    best: NDArray[np.int64] | None = None
    best_score = (np.inf, np.inf)
    for _ in range(_RESTARTS):
        ranks = np.stack([rng.permutation(n_classes) for _ in range(n_orders)])
        ranks = _descend(np.concatenate([ranks, _ranks(given)]), n_orders, rng)
        off = np.abs(_correlation(ranks) - np.eye(len(ranks)))[:n_orders]
        score = (round(float(off.max(initial=0.0)), 9), float((off**2).sum()))
        if score < best_score:
            best, best_score = ranks, score
        if best_score[0] < _LOW_ENOUGH:
            break
    assert best is not None
    return Orders(np.argsort(best[:n_orders], axis=1).astype(np.int64), given, _correlation(best))


def order_against(prior: ArrayLike, kind: str, seed: int) -> NDArray[np.int64]:
    """Order classes against a label prior (Chen et al., ICML 2025, Fig. 7 and Tab. 13).

    Parameters
    ----------
    prior : (K,) array of finite numbers
        Such as an estimate of P_P; only its order matters.
    kind : {"consistency", "reverse", "balance"}
        See `causalft.data.tails.ORDERS`. For "balance" `choose_orders` reaches |correlation| < 0.01 from about ten
        classes on.
    seed : int
        For "balance" and for ties.

    Returns
    -------
    (K,) array of int64
        Class numbers, head first.

    Raises
    ------
    CausalFTError
        For an unknown kind, or a prior that is not a vector of at least two finite numbers.

    Examples
    --------
    >>> order_against([0.2, 0.5, 0.3], "consistency", seed=0).tolist()
    [1, 2, 0]
    >>> order_against([0.2, 0.5, 0.3], "reverse", seed=0).tolist()
    [0, 2, 1]
    """
    if kind not in PRIOR_ORDERS:
        raise CausalFTError(f"no order against a prior named '{kind}': {nearest(kind, PRIOR_ORDERS)}")
    values = np.asarray(prior, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise CausalFTError(
            f"a prior must be a vector of finite numbers, one per class, not of shape {values.shape}"
        )
    ties = np.random.default_rng(seed).permutation(len(values))
    falling = ties[np.argsort(-values[ties], kind="stable")].astype(np.int64)
    correlation = ORDERS[kind].correlation
    return (
        falling[::correlation].copy()
        if correlation
        else choose_orders(len(values), 1, seed, fixed=[falling])[0]
    )


def _descend(ranks: NDArray[np.int64], n_free: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Swap two classes in a free row while that lowers the sum of squared correlations with the other rows."""
    n_classes = ranks.shape[1]
    centred = ranks - (n_classes - 1) / 2
    products = centred @ centred.T
    low_enough = _LOW_ENOUGH * products[0, 0]
    for _ in range(_SWEEPS):
        improved = False
        for row in range(n_free):
            others = np.arange(len(ranks)) != row
            for a, b in _pairs(n_classes, rng).tolist():
                if np.abs(products[row][others]).max(initial=0.0) < low_enough:
                    break
                # By how much swapping ranks a and b changes the products with the other rows.
                move = (centred[row, b] - centred[row, a]) * (centred[:, a] - centred[:, b])
                new = products[row] + move
                if (new[others] ** 2).sum() < (products[row][others] ** 2).sum() - 1e-9:
                    centred[row, [a, b]] = centred[row, [b, a]]
                    products[row, others] = products[others, row] = new[others]
                    improved = True
        if not improved:
            break
    return np.rint(centred + (n_classes - 1) / 2).astype(np.int64)


def _pairs(n_classes: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(p, 2) pairs of classes in random order: all, or a sample if there are very many."""
    if n_classes * (n_classes - 1) // 2 > _MAX_SWAPS:
        return rng.integers(0, n_classes, (_MAX_SWAPS, 2))
    return rng.permutation(np.stack(np.triu_indices(n_classes, 1), axis=1))


def _ranks(orders: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of each class in each order."""
    return np.argsort(orders, axis=1).astype(np.int64)


def _correlation(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return np.clip(unit @ unit.T, -1.0, 1.0)


def _permutation(order: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    array = np.asarray(order)
    if array.shape != (n_classes,) or sorted(array.tolist()) != list(range(n_classes)):
        raise CausalFTError(
            f"a fixed order must list each of the {n_classes} classes once (0 to {n_classes - 1})"
        )
    return array.astype(np.int64)
