"""Long tails: profiles of class counts, and the draw of training images that follows one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.data.image_set import ImageSet
from causalft.data.orders import PRIOR_ORDERS, order_against
from causalft.errors import CausalFTError, nearest

__all__ = [
    "Order",
    "PARETO_POWER",
    "PROFILES",
    "benchmark_counts",
    "by_class",
    "class_order",
    "draw_longtail",
    "largest_head",
    "profile_counts",
    "tail_rows",
    "usable",
]


#: Names that `profile_counts` knows.
PROFILES = ("exponential", "zipf", "pareto")

#: The power of the Pareto distribution that ImageNet-LT names (Liu et al., CVPR 2019).
PARETO_POWER = 6.0


def profile_counts(
    n_classes: int, n_max: int, imbalance_factor: float, profile: str = "exponential"
) -> NDArray[np.int64]:
    """Class counts of a long tail, head first.

    "exponential" is ``n_max * IF ** (-k / (K - 1))``, "zipf" is ``n_max * (k + 1) ** (-ln IF / ln K)``. "pareto" is the
    density of a Pareto distribution of the second kind (Lomax) with power 6, which ImageNet-LT names, read at evenly
    spaced classes and stretched until the last count is ``n_max / imbalance_factor``:
    ``n_max * (1 + (IF ** (1 / 7) - 1) * k / (K - 1)) ** -7``. Beside the exponential profile it falls
    faster at the head and slower in the tail.

    Parameters
    ----------
    n_classes : int
        K, at least 2.
    n_max : int
        Count of the first class.
    imbalance_factor : float
        First count over last count, at least 1. Counts are rounded and never fall below 1, so the factor reached is
        smaller where ``n_max < imbalance_factor``.
    profile : {"exponential", "zipf", "pareto"}

    Returns
    -------
    (K,) array of int64, never increasing

    Raises
    ------
    CausalFTError
        For an unknown profile or numbers out of range.

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
    k, factor = np.arange(n_classes), float(imbalance_factor)
    if profile == "exponential":
        shares = factor ** (-k / (n_classes - 1))
    elif profile == "zipf":
        shares = (k + 1.0) ** (-np.log(factor) / np.log(n_classes))
    else:
        stretch = factor ** (1 / (PARETO_POWER + 1)) - 1
        shares = (1 + stretch * k / (n_classes - 1)) ** -(PARETO_POWER + 1)
    return np.maximum(1, np.rint(n_max * shares)).astype(np.int64)


def benchmark_counts(n_classes: int, n_max: float, imbalance_factor: float) -> NDArray[np.int64]:
    """Class counts of CIFAR-LT, head first: exponential, rounded down (Cao et al., NeurIPS 2019).

    Parameters
    ----------
    n_classes : int
    n_max : float
        Images of each class in the balanced set.
    imbalance_factor : float
        At least 1.

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

    Parameters and errors are those of `causalft.data.cut_splits`. With ``repeat`` a class that has fewer images
    than its place in the tail asks for gives some of them more than once, all about as often: for a set that is itself
    long-tailed, of which any other order would leave next to nothing.

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
    """Turn an order in words, names or numbers into class numbers, head first.

    Parameters
    ----------
    images : ImageSet
    order, prior
        As in `causalft.data.cut_splits`.
    rng : numpy.random.Generator
        For "random" and "balance".

    Returns
    -------
    (K,) array of int64

    Raises
    ------
    CausalFTError
        For an unknown word, or a list that does not name each class once.
    """
    n_classes = images.n_classes
    if prior is not None and not (isinstance(order, str) and order in PRIOR_ORDERS):
        raise CausalFTError(f"a prior goes with the orders {', '.join(PRIOR_ORDERS)}, not with '{order}'")
    if isinstance(order, str):
        if order in PRIOR_ORDERS:
            if prior is None:
                raise CausalFTError(
                    f"order '{order}' stands against a label prior; give prior=, one number a class"
                )
            if np.shape(prior) != (n_classes,):
                raise CausalFTError(f"the prior has shape {np.shape(prior)} for {n_classes} classes")
            return order_against(prior, order, int(rng.integers(2**31)))
        if order == "random":
            return rng.permutation(n_classes).astype(np.int64)
        if order == "class":
            return np.arange(n_classes, dtype=np.int64)
        if order == "size":
            return np.argsort(-images.class_counts, kind="stable").astype(np.int64)
        known = ["random", "class", "size", *PRIOR_ORDERS]
        raise CausalFTError(f"no class order named '{order}': {nearest(order, known)}")
    ranked = []
    for item in order:
        if isinstance(item, str):
            if item not in images.class_names:
                raise CausalFTError(
                    f"class '{item}' in the order is not in {images.location}: {nearest(item, images.class_names)}"
                )
            ranked.append(images.class_names.index(item))
        else:
            ranked.append(int(item))
    if sorted(ranked) != list(range(n_classes)):
        missing = [name for k, name in enumerate(images.class_names) if k not in ranked]
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
    """Sorted rows of a long-tailed draw; class ``rank[r]`` gets the r-th count, if need be of repeated images."""
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
    """The rows of each of the K classes, in their order; one sort, also for thousands of classes."""
    labels = images.labels[rows]
    ends = np.cumsum(np.bincount(labels, minlength=images.n_classes))[:-1]
    return np.split(rows[np.argsort(labels, kind="stable")], ends)


def largest_head(available: NDArray[np.int64], imbalance_factor: float, profile: str) -> int:
    """Largest head count whose whole tail fits the images at hand (counts rise with the head count)."""
    low, high = 1, int(available[0])
    while low < high:
        middle = (low + high + 1) // 2
        if (profile_counts(len(available), middle, imbalance_factor, profile) <= available).all():
            low = middle
        else:
            high = middle - 1
    return low
