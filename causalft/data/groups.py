"""Class groups, imbalance measures and per-class accuracies; every table has K rows, also for classes without a sample.

Data imbalance is read from training counts (D groups), parameter imbalance from an estimate of the pre-training label
prior (P groups): Chen et al., ICML 2025, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.errors import CausalFTError

__all__ = [
    "GROUPS",
    "UNKNOWN",
    "balancing_weights",
    "class_accuracy",
    "cross_groups",
    "data_groups",
    "gap",
    "gap_vectors",
    "group_accuracy",
    "imbalance_factor",
    "prior_groups",
]

GROUPS: tuple[str, str, str] = ("many", "medium", "few")

UNKNOWN = "unknown"
"""In place of the P group of a class whose prior is not known."""

_MANY_MORE_THAN = 100
_FEW_LESS_THAN = 20


def imbalance_factor(counts: ArrayLike) -> float:
    """Largest class count over the smallest one.

    Parameters
    ----------
    counts : (K,) array of non-negative numbers
        Samples per class, or a prior.

    Returns
    -------
    float
        At least 1; infinite if a class has none.

    Examples
    --------
    >>> imbalance_factor([200, 20, 2])
    100.0
    """
    values = _vector(counts, "counts")
    if values.min() < 0:
        raise CausalFTError(f"class {int(values.argmin())} has a negative count; counts must be 0 or more")
    if values.max() == 0:
        raise CausalFTError("every class count is 0; the imbalance factor needs at least one sample")
    return float("inf") if values.min() == 0 else float(values.max() / values.min())


def data_groups(counts: ArrayLike) -> NDArray[np.str_]:
    """D groups by training count: many (> 100), medium (20 to 100), few (< 20).

    Limits of OLTR (Liu et al., CVPR 2019).

    Parameters
    ----------
    counts : (K,) array of non-negative numbers

    Returns
    -------
    (K,) array of str

    Examples
    --------
    >>> data_groups([101, 100, 20, 19]).tolist()
    ['many', 'medium', 'medium', 'few']
    """
    values = _vector(counts, "counts")
    groups = np.full(len(values), "medium", dtype="<U6")
    groups[values > _MANY_MORE_THAN] = "many"
    groups[values < _FEW_LESS_THAN] = "few"
    return groups


def prior_groups(prior: ArrayLike) -> NDArray[np.str_]:
    """P groups by rank of the prior: top 30 % of the classes, next 30 %, last 40 %, rounded.

    The lower class index wins ties.

    Parameters
    ----------
    prior : (K,) array
        Label prior, or anything with its order. A class with NaN counts nowhere: its group is `UNKNOWN`.

    Returns
    -------
    (K,) array of str

    Examples
    --------
    >>> prior_groups([.05, .2, .1, .15, .05, .25, .05, .05, .05, .05]).tolist()
    ['medium', 'many', 'medium', 'many', 'medium', 'many', 'few', 'few', 'few', 'few']
    >>> prior_groups([.2, float("nan"), .7, .1]).tolist()
    ['medium', 'unknown', 'many', 'few']
    """
    values = _vector(prior, "prior", finite=False)
    known = ~np.isnan(values)
    if not known.all():
        if not known.any():
            raise CausalFTError("the prior of no class is known; P groups need one or more")
        groups = np.full(len(values), UNKNOWN, dtype="<U7")
        groups[known] = prior_groups(values[known])
        return groups
    n_classes = len(_vector(prior, "prior"))
    n_many = max(1, (3 * n_classes + 5) // 10)
    n_many_or_medium = max(n_many, (6 * n_classes + 5) // 10)
    order = np.argsort(-values, kind="stable")
    groups = np.full(n_classes, "few", dtype="<U7")
    groups[order[:n_many_or_medium]] = "medium"
    groups[order[:n_many]] = "many"
    return groups


def class_accuracy(correct: ArrayLike, labels: ArrayLike, n_classes: int) -> NDArray[np.float64]:
    """Fraction of correct samples of each class.

    Parameters
    ----------
    correct : (..., n) array of bool or of numbers in [0, 1]
        Leading axes (models, seeds) are kept.
    labels : (n,) array of int in [0, K)
    n_classes : int
        K, the length of the table.

    Returns
    -------
    (..., K) array
        NaN for a class without a sample.

    Examples
    --------
    >>> class_accuracy([1, 0, 1], [0, 0, 2], n_classes=3).tolist()
    [0.5, nan, 1.0]
    """
    y = _labels(labels, n_classes)
    hits = np.asarray(correct, dtype=float)
    if hits.shape[-1:] != y.shape:
        raise CausalFTError(f"'correct' has shape {hits.shape}, labels {y.shape}; their last axes must agree")
    totals = np.bincount(y, minlength=n_classes).astype(float)
    flat = hits.reshape(-1, len(y))
    sums = np.stack([np.bincount(y, weights=row, minlength=n_classes) for row in flat])
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = sums / totals
    return accuracy.reshape(*hits.shape[:-1], n_classes)


def balancing_weights(labels: ArrayLike, n_classes: int) -> NDArray[np.float64]:
    """Weights that give every class present the same total: ``n / (classes present * images of the class)``.

    A weighted mean over images is then the mean over classes, so an imbalanced set is scored like a balanced one.

    Parameters
    ----------
    labels : (n,) array of int in [0, K)
    n_classes : int
        K.

    Returns
    -------
    (n,) array
        Sum n; all 1 for a balanced set.

    Examples
    --------
    >>> balancing_weights([0, 0, 0, 2], n_classes=3).tolist()
    [0.6666666666666666, 0.6666666666666666, 0.6666666666666666, 2.0]
    """
    y = _labels(labels, n_classes)
    counts = np.bincount(y, minlength=n_classes)
    return len(y) / (max(1, np.count_nonzero(counts)) * counts[y].astype(float))


def group_accuracy(class_acc: ArrayLike, groups: Sequence[str] | NDArray[np.str_]) -> dict[str, float | None]:
    """Mean class accuracy of each group; None for a group without a tested class.

    Parameters
    ----------
    class_acc : (K,) array
        NaN, for a class without a test sample, is ignored.
    groups : (K,) sequence of "many" | "medium" | "few"

    Returns
    -------
    dict
        Keys `GROUPS`; fractions or None.

    Examples
    --------
    >>> group_accuracy([1.0, 0.5, 0.0], ["many", "few", "few"])
    {'many': 1.0, 'medium': None, 'few': 0.25}
    """
    accuracy = _vector(class_acc, "class_acc", finite=False)
    names = _groups(groups, len(accuracy))
    return {group: _mean(accuracy[names == group]) for group in GROUPS}


def cross_groups(
    class_acc: ArrayLike,
    d_groups: Sequence[str] | NDArray[np.str_],
    p_groups: Sequence[str] | NDArray[np.str_],
) -> dict[str, dict[str, float | None]]:
    """Mean class accuracy by D group (outer key) and P group (inner key).

    Parameters
    ----------
    class_acc : (K,) array
        NaN marks a class without a test sample.
    d_groups, p_groups : (K,) sequences of "many" | "medium" | "few"

    Returns
    -------
    dict of dict
        ``table[d][p]``; None for an empty cell.

    Examples
    --------
    >>> table = cross_groups([.9, .3], ["many", "few"], ["many", "few"])
    >>> table["few"]
    {'many': None, 'medium': None, 'few': 0.3}
    """
    accuracy = _vector(class_acc, "class_acc", finite=False)
    d_names, p_names = _groups(d_groups, len(accuracy)), _groups(p_groups, len(accuracy))
    return {d: {p: _mean(accuracy[(d_names == d) & (p_names == p)]) for p in GROUPS} for d in GROUPS}


def gap(groups: Mapping[str, float | None]) -> float | None:
    """Many minus few; None if either group is empty.

    Examples
    --------
    >>> gap({"many": 0.75, "medium": None, "few": 0.5})
    0.25
    """
    many, few = groups["many"], groups["few"]
    return None if many is None or few is None else many - few


def gap_vectors(priors: NDArray[np.float64], tested: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Vectors g_j such that ``class_accuracy @ g_j`` is the P gap (many minus few) by prior j.

    Parameters
    ----------
    priors : (M, K) array
        NaN where the prior of a class is not known: it is in no group.
    tested : (K,) array of bool
        Classes with a test image; the others get weight 0.

    Returns
    -------
    (M, K) array
        A row is NaN where many or few has no tested class.

    Examples
    --------
    >>> prior = np.array([[.4, .3, .1, .1, .1]])
    >>> gap_vectors(prior, np.ones(5, bool)).tolist()
    [[0.5, 0.5, 0.0, -0.5, -0.5]]
    """
    vectors = np.zeros(priors.shape)
    for row, prior in zip(vectors, priors):
        groups = prior_groups(prior)
        for name, sign in (("many", 1.0), ("few", -1.0)):
            chosen = (groups == name) & tested
            if not chosen.any():
                row[:] = np.nan
                break
            row[chosen] = sign / chosen.sum()
    return vectors


def _mean(values: NDArray[np.float64]) -> float | None:
    tested = values[~np.isnan(values)]
    return float(tested.mean()) if len(tested) else None


def _vector(values: ArrayLike, name: str, finite: bool = True) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or len(array) == 0:
        raise CausalFTError(f"{name} must be a vector with one entry per class, not of shape {array.shape}")
    if finite and not np.isfinite(array).all():
        raise CausalFTError(f"{name} of class {int(np.flatnonzero(~np.isfinite(array))[0])} is not finite")
    return array


def _groups(groups: Sequence[str] | NDArray[np.str_], n_classes: int) -> NDArray[np.str_]:
    names = np.asarray(groups, dtype=str)
    if names.shape != (n_classes,):
        raise CausalFTError(f"groups have shape {names.shape}, the accuracy table has {n_classes} classes")
    unknown = sorted(set(names.tolist()) - {*GROUPS, UNKNOWN})
    if unknown:
        raise CausalFTError(f"no group named '{unknown[0]}'; groups are {', '.join(GROUPS)}")
    return names


def _labels(labels: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    y = np.asarray(labels)
    if y.ndim != 1 or (len(y) and not np.issubdtype(y.dtype, np.integer)):
        raise CausalFTError(f"labels must be a vector of class indices, not {y.dtype} of shape {y.shape}")
    y = y.astype(np.int64)
    if len(y) and (y.min() < 0 or y.max() >= n_classes):
        wrong = y.min() if y.min() < 0 else y.max()
        raise CausalFTError(f"label {int(wrong)} lies outside the {n_classes} classes (0 to {n_classes - 1})")
    return y
