"""What stays uncertain about a set of predictions, as a document: shares with intervals, by class and by group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.uncertainty.simplex import NONE, Sensitivity
from causalft.data.groups import GROUPS
from causalft.runs.documents import Document
from causalft.runs.intervals import mean_interval, share_interval

__all__ = ["RADII", "STRENGTHS", "describe_sensitivity", "difference_of_shares", "paired_difference", "share"]

RADII = (0.01, 0.05, 0.1, 0.2, 0.3)
"""Changes of P(c), in total variation, up to which the predictions that change are counted."""

STRENGTHS = (1.1, 1.25, 1.5, 2.0, 3.0)
"""Strengths of an unobserved U up to which predictions could change."""

Bools = NDArray[np.bool_]


def share(hits: ArrayLike) -> Document | None:
    """Share of True with a 95 % interval, ``{estimate, ci95, n}``; None of nothing.

    Examples
    --------
    >>> share([True, True, False, True])["estimate"]
    0.75
    """
    values = np.asarray(hits, dtype=bool)
    if not values.size:
        return None
    low, high = share_interval(values.mean(), values.size)
    return {"estimate": float(values.mean()), "ci95": [float(low), float(high)], "n": int(values.size)}


def difference_of_shares(first: ArrayLike, second: ArrayLike) -> Document | None:
    """Share in one group less that in another, ``{estimate, ci95}``, by Newcombe's combination of their intervals.

    Examples
    --------
    >>> found = difference_of_shares([True] * 40, [True] * 20 + [False] * 20)
    >>> found["estimate"], found["ci95"][0] > 0.3
    (0.5, True)
    """
    one, other = share(first), share(second)
    if one is None or other is None:
        return None
    p, q = one["estimate"], other["estimate"]
    (a, b), (c, d) = one["ci95"], other["ci95"]
    low, high = p - q - np.hypot(p - a, d - q), p - q + np.hypot(b - p, q - c)
    return {"estimate": p - q, "ci95": [float(low), float(high)]}


def paired_difference(first: ArrayLike, second: ArrayLike) -> Document:
    """Mean of the first less that of the second on the same images, ``{estimate, ci95}``; no interval if all are equal.

    Examples
    --------
    >>> paired_difference([True, False], [True, False])
    {'estimate': 0.0, 'ci95': None}
    """
    difference = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    mean, low, high = mean_interval(difference)
    return {"estimate": mean, "ci95": [low, high] if isfinite(low) else None}


def describe_sensitivity(
    found: Sensitivity,
    classes: Sequence[str],
    groups: Mapping[str, NDArray[np.str_]],
    labels: NDArray[np.int64] | None = None,
) -> Document:
    """Describe the sensitivity of predictions.

    Parameters
    ----------
    found : Sensitivity
    classes : sequence of K str
    groups : mapping of str to (K,) arrays
        Groups of the classes, such as ``{"D": ..., "P": ...}``.
    labels : (n,) array of int, optional
        With them groups are those of the true class, and the accuracy is given; without, groups are of the predicted
        class.

    Returns
    -------
    dict
        ``certain``: share of predictions that hold for every P(c), ``{estimate, ci95, n}``; ``changed_within``: share
        that some P(c) within this total variation changes; ``flips``: by predicted class, ``{predicted, certain,
        flips_to}`` with the class that draws level first and how often; ``groups``; ``unobserved``; with labels
        ``accuracy`` of the certain and the other predictions, and their difference.
    """
    certain, y = found.certain, found.prediction if labels is None else labels
    document: Document = {"certain": share(certain)}
    if found.possible:
        document["possible_classes"] = float(np.mean([len(part) for part in found.possible]))
    document["changed_within"] = {f"{r:g}": share(found.radius <= r) for r in RADII}
    document["flips"] = _flips(found, classes)
    document["groups"] = {
        "of": "prediction" if labels is None else "label",
        **{
            kind: {group: share(certain[np.asarray(of_class)[y] == group]) for group in GROUPS}
            for kind, of_class in groups.items()
        },
    }
    finite = found.e_value[np.isfinite(found.e_value)]
    document["unobserved"] = {
        "median_e_value": float(np.median(found.e_value)) if len(finite) > len(found.e_value) / 2 else None,
        "changeable_up_to": {f"{g:g}": share(found.e_value <= g) for g in STRENGTHS},
    }
    if labels is not None:
        right = found.prediction == labels
        document["accuracy"] = {
            "certain": share(right[certain]),
            "uncertain": share(right[~certain]),
            "difference": difference_of_shares(right[certain], right[~certain]),
        }
    return document


def _flips(found: Sensitivity, classes: Sequence[str]) -> Document:
    """By predicted class: how many predictions, how many are certain, and what the others change to."""
    document: Document = {}
    for k in np.unique(found.prediction):
        own = found.prediction == k
        to = Counter(found.flips_to[own & ~found.certain].tolist())
        document[classes[k]] = {
            "predicted": int(own.sum()),
            "certain": int((own & found.certain).sum()),
            "flips_to": {classes[other]: n for other, n in to.most_common() if other != NONE},
        }
    return document
