"""Prediction sets that hold the true class as often as asked, in every group of classes: Mondrian conformal prediction.

The library crepes turns validation images into p-values by group; here the groups are made, too small ones are merged,
and p-values become one threshold per class, so that a set costs one comparison per class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.data.groups import GROUPS, UNKNOWN, data_groups, prior_groups
from causalft.errors import CausalFTError
from causalft.methods.estimators.fusion import check_pair
from causalft.methods.estimators.probabilities import MemberRows
from causalft.methods.estimators.stored_logits import row_blocks
from causalft.runs.documents import Document
from causalft.runs.intervals import share_interval
from causalft.runs.notebook import ShownAsTable

__all__ = [
    "LEAST_IMAGES",
    "Cell",
    "PredictionSets",
    "coverage_law",
    "coverage_of_groups",
    "describe_sets",
    "fit_sets",
    "make_cells",
    "pooled_prior",
    "sets_of_labels",
]

LEAST_IMAGES = 50
"""Validation images below which a group is merged. The coverage of a group of n is at most 1 / (n + 1) above what is
asked for."""

_ORDER = (*GROUPS, UNKNOWN)


@dataclass(frozen=True)
class Cell:
    """Classes with one threshold.

    Attributes
    ----------
    groups : tuple of (str, str)
        D group and P group; more than one pair if small groups were merged.
    n_images : int
        Validation images.
    n_classes : int
    """

    groups: tuple[tuple[str, str], ...]
    n_images: int
    n_classes: int

    @property
    def words(self) -> str:
        """The groups in words.

        Examples
        --------
        >>> Cell((("few", "many"), ("few", "medium")), 60, 6).words
        'D-few x P-many, D-few x P-medium'
        """
        return ", ".join(f"D-{d} x P-{p}" for d, p in self.groups)


@dataclass(frozen=True, eq=False, repr=False)
class PredictionSets(ShownAsTable):
    """Sets of classes that hold the true one with the coverage asked for, in each cell of classes.

    Attributes
    ----------
    coverage : float
        Asked for, in (0, 1).
    cells : tuple of Cell
    cell_of_class : (K,) array of int
    threshold : (K,) array
        A class is in the set of an image if its probability is at least this; 0 if the cell has too few validation
        images for the coverage, so that the class is in every set.
    notes : tuple of str
        Which groups were merged, and which cells are too small for the coverage.
    """

    coverage: float
    cells: tuple[Cell, ...]
    cell_of_class: NDArray[np.int64]
    threshold: NDArray[np.float64]
    notes: tuple[str, ...]

    def contains(self, probs: ArrayLike) -> NDArray[np.bool_]:
        """Which classes are in the sets of images with probabilities (..., K)."""
        return np.asarray(probs) >= self.threshold

    def to_metrics(self) -> Document:
        """A JSON document."""
        first = [int(np.flatnonzero(self.cell_of_class == c)[0]) for c in range(len(self.cells))]
        cells = [
            {
                "groups": [{"D": d, "P": p} for d, p in cell.groups],
                "n_validation": cell.n_images,
                "n_classes": cell.n_classes,
                "threshold": float(self.threshold[k]),
                **coverage_law(cell.n_images, self.coverage),
            }
            for cell, k in zip(self.cells, first, strict=True)
        ]
        return {"coverage": self.coverage, "cells": cells, "notes": list(self.notes)}

    def _table(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        rows = [
            (c["words"], c["n_classes"], c["n_validation"], c["threshold"])
            for c in (
                {**made, "words": cell.words}
                for made, cell in zip(self.to_metrics()["cells"], self.cells, strict=True)
            )
        ]
        return ("groups", "classes", "validation images", "threshold"), rows

    def __repr__(self) -> str:
        return f"PredictionSets({100 * self.coverage:g} % in each of {len(self.cells)} groups of classes)"


def pooled_prior(priors: Sequence[ArrayLike], weights: Sequence[float] | None = None) -> NDArray[np.float64]:
    """The label prior of several strata together: the geometric mean, (K,), NaN where one of them is not known.

    Parameters
    ----------
    priors : sequence of M (K,) arrays
    weights : sequence of M floats, optional
        P(c). Default: uniform.

    Examples
    --------
    >>> pooled_prior([[.8, .2], [.2, .8]]).tolist()
    [0.5, 0.5]
    """
    logs = np.log(np.asarray(priors, dtype=float))
    mean = np.average(logs, axis=0, weights=weights)
    found = np.exp(mean - np.nanmax(mean))
    return found / np.nansum(found)


def make_cells(
    n_images: ArrayLike, class_counts: ArrayLike, prior: ArrayLike, least: int = LEAST_IMAGES
) -> tuple[tuple[Cell, ...], NDArray[np.int64], tuple[str, ...]]:
    """Cross the D groups and the P groups of the classes, and merge cells with too few validation images.

    The smallest cell joins its nearest neighbour, of the same D group if there is one, until each has ``least`` images.

    Parameters
    ----------
    n_images : (K,) array of int
        Validation images of each class.
    class_counts : (K,) array of int
        Training images.
    prior : (K,) array
        Label prior, NaN where not known.
    least : int

    Returns
    -------
    cells : tuple of Cell
    cell_of_class : (K,) array of int
    notes : tuple of str
        What was merged.

    Examples
    --------
    >>> cells, of_class, notes = make_cells([60, 30, 40], [200, 5, 5], [.2, .5, .3])
    >>> of_class.tolist(), notes[0].partition(':')[0]
    ([0, 1, 1], 'D-few x P-many (30), D-few x P-medium (40) share a threshold')
    """
    images = np.asarray(n_images, dtype=np.int64)
    pairs = list(zip(data_groups(class_counts).tolist(), prior_groups(prior).tolist(), strict=True))
    if len(pairs) != len(images):
        raise CausalFTError(f"{len(images)} numbers of images for {len(pairs)} classes; give one for each")
    own = {pair: int(images[[each == pair for each in pairs]].sum()) for pair in set(pairs)}
    members = [[pair] for pair in sorted(own, key=_place)]

    def size(cell: list[tuple[str, str]]) -> int:
        return sum(own[pair] for pair in cell)

    while len(members) > 1 and size(small := min(members, key=size)) < least:
        members.remove(small)
        nearest = min(members, key=lambda other: (_distance(small, other), size(other)))
        nearest.extend(small)
    members = sorted((sorted(cell, key=_place) for cell in members), key=lambda cell: _place(cell[0]))
    number = {pair: c for c, cell in enumerate(members) for pair in cell}
    cells = tuple(Cell(tuple(cell), size(cell), sum(pair in cell for pair in pairs)) for cell in members)
    notes = []
    for cell in members:
        if len(cell) > 1:
            n_small = sum(own[pair] < least for pair in cell)
            who = "each has" if n_small == len(cell) else "one has" if n_small == 1 else f"{n_small} have"
            named = ", ".join(f"D-{d} x P-{p} ({own[d, p]})" for d, p in cell)
            notes.append(
                f"{named} share a threshold: {who} fewer than {least} validation images (in brackets)"
            )
    return cells, np.array([number[pair] for pair in pairs]), tuple(notes)


def _place(pair: tuple[str, str]) -> tuple[int, int]:
    return _ORDER.index(pair[0]), _ORDER.index(pair[1])


def _distance(cell: Sequence[tuple[str, str]], other: Sequence[tuple[str, str]]) -> int:
    """Steps between the nearest groups; one of D counts more than all of P."""
    places = [(_place(a), _place(b)) for a in cell for b in other]
    return min(len(_ORDER) * abs(d - e) + abs(p - q) for (d, p), (e, q) in places)


def fit_sets(
    probs: ArrayLike,
    labels: ArrayLike,
    class_counts: ArrayLike,
    prior: ArrayLike,
    coverage: float = 0.9,
    *,
    least: int = LEAST_IMAGES,
    kind: str | None = "probabilities",
) -> PredictionSets:
    """Find the thresholds of prediction sets on validation images.

    The non-conformity of an image is 1 less the probability of its class. A class is in the set of a new image if its
    p-value among the n validation images of its cell is at least 1 - coverage. Given the class's cell, the set then
    holds the true class with a probability from ``coverage`` to ``coverage + 1 / (n + 1)``, if validation and new
    images of the cell are exchangeable (Vovk, Gammerman and Shafer 2005).

    Parameters
    ----------
    probs : (n, K) array
        Of validation images, as ``kind`` says.
    labels : (n,) array of int
    class_counts : (K,) array of int
        Training images.
    prior : (K,) array
        Label prior of the strata (:func:`pooled_prior`).
    coverage : float
        In (0, 1).
    least : int
        As in :func:`make_cells`.
    kind : str, optional
        As in :func:`causalft.methods.estimators.fusion.log_probabilities`.

    Raises
    ------
    CausalFTError
        Without an image, or if shapes do not agree.

    References
    ----------
    Bostrom, "Conformal prediction in Python with crepes", COPA 2024.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels, noise = np.arange(400) % 4, rng.normal(size=(400, 4))
    >>> logits = 2 * np.eye(4)[labels] + noise
    >>> fit_sets(logits, labels, [200, 200, 5, 5], [.4, .3, .2, .1], kind="logits")
    PredictionSets(90 % in each of 3 groups of classes)
    """
    y, rows = np.asarray(labels), MemberRows(probs, kind)
    check_pair(rows.shape, y)
    of_label = np.empty(len(y))
    for block in row_blocks(rows.n, rows.n_classes):
        log_p = rows[block]
        of_label[block] = np.exp(log_p[np.arange(len(log_p)), y[block]])
    return sets_of_labels(of_label, y, class_counts, prior, coverage, least=least)


def sets_of_labels(
    of_label: NDArray[np.float64],
    labels: NDArray[np.int64],
    class_counts: ArrayLike,
    prior: ArrayLike,
    coverage: float,
    *,
    least: int = LEAST_IMAGES,
) -> PredictionSets:
    """:func:`fit_sets` from the probabilities (n,) of the labels alone."""
    from crepes import ConformalClassifier

    if not len(labels):
        raise CausalFTError("prediction sets need labelled validation images; give some")
    if not 0 < coverage < 1:
        raise CausalFTError(f"coverage {coverage} is not between 0 and 1; give 0.9, say")
    n_images = np.bincount(labels, minlength=len(np.asarray(class_counts)))
    cells, of_class, notes = make_cells(n_images, class_counts, prior, least)
    bins = of_class[labels]
    # The p-value of a class falls with its probability, in steps at those of the validation images: the smallest that
    # is still in the set is the threshold. 1 - P would lose the digits of a small P, its negative does not.
    fitted = ConformalClassifier().fit(-of_label, bins=bins)
    inside = fitted.predict_set(-of_label, bins=bins, confidence=coverage, smoothing=False)
    threshold = np.zeros(len(cells))
    said = list(notes)
    for number, cell in enumerate(cells):
        if 1 / (cell.n_images + 1) >= 1 - coverage:
            needed = int(1 / (1 - coverage) + 1e-9)
            said.append(
                f"{cell.words}: {cell.n_images} validation images are too few for {100 * coverage:g} % coverage, so "
                f"its {cell.n_classes} classes are in every set; give {needed} or more"
            )
        else:
            threshold[number] = of_label[(bins == number) & (inside == 1)].min()
    return PredictionSets(coverage, cells, of_class, threshold[of_class], tuple(said))


def coverage_law(n: int, coverage: float) -> Document:
    """What the coverage of a group with n validation images is: its mean over validation sets, and where it falls.

    Given the validation images the coverage follows Beta(n + 1 - l, l), where l of the n + 1 ranks that a new image can
    take lie below the threshold (Vovk 2012); if probabilities have no ties.

    Parameters
    ----------
    n : int
    coverage : float
        Asked for.

    Returns
    -------
    dict
        ``expected``, and ``range95``: where 95 % of validation sets put the coverage.

    Examples
    --------
    >>> found = coverage_law(99, 0.9)
    >>> found["expected"], [round(limit, 2) for limit in found["range95"]]
    (0.91, [0.85, 0.96])
    """
    from scipy.stats import beta

    left_out = int(np.ceil((n + 1) * (1 - coverage) - 1e-9)) - 1
    if left_out == 0:
        return {"expected": 1.0, "range95": [1.0, 1.0]}
    law = beta(n + 1 - left_out, left_out)
    return {"expected": float(law.mean()), "range95": [float(limit) for limit in law.ppf([0.025, 0.975])]}


def describe_sets(
    sets: PredictionSets,
    size: NDArray[np.int64],
    covered: NDArray[np.bool_] | None,
    labels: NDArray[np.int64] | None,
    groups: Mapping[str, NDArray[np.str_]],
) -> Document:
    """Prediction sets and what became of them on images, as ``sets`` of a metrics document.

    Parameters
    ----------
    sets : PredictionSets
    size : (n,) array of int
    covered, labels, groups
        As in :func:`coverage_of_groups`; without labels ``covered`` is left out.
    """
    found = {**sets.to_metrics(), "mean_size": float(size.mean()), "empty": float((size == 0).mean())}
    if covered is not None and labels is not None:
        found["covered"] = coverage_of_groups(covered, size, labels, groups)
    return found


def coverage_of_groups(
    covered: ArrayLike,
    size: ArrayLike,
    labels: ArrayLike,
    groups: Mapping[str, Sequence[str] | NDArray[np.str_]],
) -> Document:
    """Coverage and size of the sets, overall and by group of the true class.

    Parameters
    ----------
    covered : (n,) array of bool
        Whether the set of each image holds its class.
    size : (n,) array of int
        Classes in it.
    labels : (n,) array of int
    groups : mapping of str to (K,) arrays
        Groups of the classes, such as ``{"D": ...}``.

    Returns
    -------
    dict
        ``all``, and for each kind of groups a mapping of group to ``{estimate, ci95, n, mean_size, empty}``: share of
        the images whose set holds their class, with a 95 % interval, mean size of the sets, and share of empty ones.
        None for a group without an image.
    """
    hit, n_classes, y = np.asarray(covered, dtype=bool), np.asarray(size), np.asarray(labels)

    def summary(chosen: NDArray[np.bool_]) -> Document | None:
        n = int(chosen.sum())
        if not n:
            return None
        share = float(hit[chosen].mean())
        low, high = share_interval(share, n)
        return {
            "estimate": share,
            "ci95": [float(low), float(high)],
            "n": n,
            "mean_size": float(n_classes[chosen].mean()),
            "empty": float((n_classes[chosen] == 0).mean()),
        }

    found: Document = {"all": summary(np.ones(len(y), dtype=bool))}
    for kind, of_class in groups.items():
        names = np.asarray(of_class)
        found[kind] = {group: summary(names[y] == group) for group in GROUPS}
    return found
