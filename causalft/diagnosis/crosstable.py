"""The cross-table "model i on the P groups of prior j": what tells parameter imbalance from class difficulty.

A class may be hard for every model. Only a class that is hard for the model whose pre-training lacked it, and not for
the others, shows parameter imbalance: own gap (model i on the groups of its own prior) minus the gap of the models
that do not own that prior, on the same groups.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from causalft.data.groups import GROUPS, prior_groups

__all__ = ["gap_vectors", "group_vectors", "members_mean_gap", "off_gap", "own_gap"]

Floats = NDArray[np.float64]


def gap_vectors(priors: Floats, tested: NDArray[np.bool_]) -> Floats:
    """Vectors g_j such that ``class_accuracy @ g_j`` is the P gap (many minus few) by prior j.

    Parameters
    ----------
    priors : (M, K) array
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


def group_vectors(groups: NDArray[np.str_], tested: NDArray[np.bool_]) -> Floats:
    """Vectors v_g such that ``class_accuracy @ v_g`` is the accuracy of group many, medium, few: (3, K).

    A row is NaN where the group has no tested class.

    Examples
    --------
    >>> group_vectors(np.array(["many", "few", "few"]), np.ones(3, bool)).tolist()
    [[1.0, 0.0, 0.0], [nan, nan, nan], [0.0, 0.5, 0.5]]
    """
    chosen = np.stack([(groups == name) & tested for name in GROUPS]).astype(float)
    with np.errstate(invalid="ignore"):
        return chosen / chosen.sum(axis=1, keepdims=True)


def own_gap(gap: Floats) -> Floats:
    """Diagonal of the gap table: model j on the groups of its own prior j, (..., M, M) to (..., M)."""
    return np.diagonal(gap, axis1=-2, axis2=-1)


def off_gap(gap: Floats) -> Floats:
    """Difficulty baseline of prior j: mean gap of the models i != j on its groups, (..., M, M) to (..., M).

    NaN for M = 1: with one model nothing separates its prior from class difficulty.

    Examples
    --------
    >>> off_gap(np.array([[9., 1.], [3., 9.]])).tolist()
    [3.0, 1.0]
    """
    n_models = gap.shape[-1]
    if n_models == 1:
        return np.full(gap.shape[:-1], np.nan)
    return (gap.sum(axis=-2) - own_gap(gap)) / (n_models - 1)


def members_mean_gap(gap: Floats) -> Floats:
    """Mean over the members i of their gaps on the groups of prior j, (..., M, M) to (..., M)."""
    return gap.mean(axis=-2)
