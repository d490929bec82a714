"""Measures of arms, all linear in class accuracies, with intervals that are paired over test images and seeds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.diagnosis.intervals import bootstrap
from causalft.analysis.diagnosis.parameter_imbalance import PriorSlope, group_vectors, off_gap
from causalft.data.groups import GROUPS, data_groups, gap_vectors, prior_groups
from causalft.errors import CausalFTError, nearest

__all__ = ["MEASURES", "Answered", "Contrast", "Measure", "check_contrasts", "compare_arms"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """A column of a table.

    Attributes
    ----------
    name : str
    label : str
        Heading.
    points : bool
        A difference, in points; otherwise an accuracy, in percent.
    """

    name: str
    label: str
    points: bool = False


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("accuracy", "accuracy"),
        Measure("class_mean", "mean class accuracy"),
        Measure("many", "D-many"),
        Measure("medium", "D-medium"),
        Measure("few", "D-few"),
        Measure("D_gap", "D gap", points=True),
        Measure("P_many", "P-many"),
        Measure("P_medium", "P-medium"),
        Measure("P_few", "P-few"),
        Measure("P_gap", "P gap", points=True),
        Measure("own_gap", "own P gap beyond difficulty", points=True),
        Measure("prior_slope", "slope along own P prior", points=True),
        Measure("tail_tail", "D-few and P-few"),
    )
}
"""By name. P measures are means over the priors of an arm's members; the own P gap is that of the arm less the mean gap
of the other strata on the same classes; the slope is per factor 100 of the prior, class difficulty taken out."""


@dataclass(frozen=True)
class Contrast:
    """A difference between arms: the measure of those in ``plus`` less that of those in ``minus``.

    Attributes
    ----------
    words : str
        What it is, in a table; its key in ``paired`` of the metrics.
    plus, minus : tuple of str
        Names of arms. Without ``minus``, the measure itself.
    measure : str
    """

    words: str
    plus: tuple[str, ...]
    minus: tuple[str, ...]
    measure: str = "accuracy"


def check_contrasts(contrasts: Iterable[Contrast], measures: Iterable[str], arms: Collection[str]) -> None:
    """Refuse unknown names before anything is trained.

    Raises
    ------
    CausalFTError
        For an unknown measure or arm.
    """
    contrasts = tuple(contrasts)
    for measure in (*measures, *(contrast.measure for contrast in contrasts)):
        if measure not in MEASURES:
            raise CausalFTError(f"no measure is named {measure!r}; {nearest(measure, MEASURES)}")
    for contrast in contrasts:
        for name in (*contrast.plus, *contrast.minus):
            if name not in arms:
                raise CausalFTError(
                    f"contrast {contrast.words!r} names no arm {name!r}; {nearest(name, arms)}"
                )


@dataclass(frozen=True)
class Answered:
    """Answers of an arm.

    Attributes
    ----------
    correct : (R, S, n) array of bool
        R models, S seeds, n test images.
    owned : sequence of R sequences of int
        For each model, the strata whose label prior its members have. With none the measures along priors do not exist.
    """

    correct: NDArray[np.bool_]
    owned: Sequence[Sequence[int]]


class _Columns:
    """The vectors whose products with class accuracies are all that the measures depend on."""

    def __init__(self, priors: Floats, labels: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        n_classes = len(counts)
        shares = np.bincount(labels, minlength=n_classes) / len(labels)
        tested = shares > 0
        few = data_groups(counts) == "few"
        self.slope, self.n = PriorSlope(priors, tested), len(priors)
        groups = [prior_groups(prior) for prior in priors]
        tails = np.where(np.stack([few & (of == "few") for of in groups]), "few", "")
        parts = {
            "share": np.stack([shares, tested / tested.sum()]),
            "D": group_vectors(data_groups(counts), tested),
            "gap": gap_vectors(priors, tested),
            "P": np.concatenate([group_vectors(of, tested) for of in groups]),
            "tail": np.stack([group_vectors(tail, tested)[2] for tail in tails]),
            "slope": self.slope.vectors,
        }
        self.vectors = np.concatenate(list(parts.values()))
        ends = np.cumsum([0, *map(len, parts.values())])
        self.place = {name: slice(a, b) for name, a, b in zip(parts, ends, ends[1:])}

    def of(self, products: Floats, name: str) -> Floats:
        return products[..., self.place[name]]


def compare_arms(
    labels: NDArray[np.int64],
    class_counts: NDArray[np.int64],
    priors: Floats,
    baseline: NDArray[np.bool_],
    arms: Mapping[str, Answered],
    measures: Sequence[str],
    contrasts: Sequence[Contrast],
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Measure arms on the same test images, with 95 % intervals, and compare them.

    Parameters
    ----------
    labels : (n,) array of int in [0, K)
    class_counts : (K,) array of int
        Training images.
    priors : (M, K) array
        Label priors of the strata, estimated or known.
    baseline : (M, S, n) array of bool
        Right answers of the single strata, which give the difficulty of the classes.
    arms : mapping of name to Answered
    measures : sequence of str
    contrasts : sequence of Contrast

    Returns
    -------
    methods : dict of arm to dict of measure to Interval
    paired : dict of words to Interval

    Raises
    ------
    CausalFTError
        For an unknown measure or arm.
    """
    check_contrasts(contrasts, measures, arms)
    columns = _Columns(priors, labels, class_counts)
    correct = np.concatenate([baseline, *(arm.correct for arm in arms.values())])
    ends = np.cumsum([len(baseline), *(len(arm.correct) for arm in arms.values())])
    rows = {name: slice(a, b) for name, a, b in zip(arms, ends, ends[1:])}
    asked = list(dict.fromkeys([*measures, *(contrast.measure for contrast in contrasts)]))

    def statistics(products: Floats) -> dict[str, Floats]:
        strata = products[:, : columns.n]
        found = {
            name: {m: _measure(m, columns, products[:, rows[name]], strata, arm.owned) for m in asked}
            for name, arm in arms.items()
        }
        result = {f"{name}\n{m}": found[name][m] for name in arms for m in measures}
        for contrast in contrasts:
            values = [found[name][contrast.measure] for name in contrast.plus]
            values += [-found[name][contrast.measure] for name in contrast.minus]
            result[f"\n{contrast.words}"] = np.sum(values, axis=0)
        return result

    intervals = bootstrap(statistics, correct, labels, len(class_counts), vectors=columns.vectors)
    methods = {name: {m: intervals[f"{name}\n{m}"] for m in measures} for name in arms}
    return methods, {contrast.words: intervals[f"\n{contrast.words}"] for contrast in contrasts}


def _measure(
    name: str, columns: _Columns, arm: Floats, strata: Floats, owned: Sequence[Sequence[int]]
) -> Floats:
    """A measure of an arm, (b,), from products (b, R, P) of its models and (b, M, P) of the strata."""
    if name in ("accuracy", "class_mean"):
        return columns.of(arm, "share")[..., ("accuracy", "class_mean").index(name)].mean(axis=1)
    by_count = columns.of(arm, "D").mean(axis=1)
    if name in GROUPS:
        return by_count[:, GROUPS.index(name)]
    if name == "D_gap":
        return by_count[:, 0] - by_count[:, 2]
    if name in ("P_many", "P_medium", "P_few"):
        groups = columns.of(arm, "P").reshape(*arm.shape[:2], columns.n, 3)
        return _of_own(groups[..., GROUPS.index(name[2:])], owned)
    if name == "tail_tail":
        return _of_own(columns.of(arm, "tail"), owned)
    if name == "prior_slope":
        products = columns.of(strata, "slope")
        slopes = [
            columns.slope.of_model_from(columns.of(arm, "slope")[:, row], products)
            for row in range(arm.shape[1])
        ]
        return _of_own(np.stack(slopes, axis=1), owned)
    gap = columns.of(arm, "gap")
    if name == "own_gap":
        gap = gap - off_gap(columns.of(strata, "gap"))[:, None]
    return _of_own(gap, owned)


def _of_own(values: Floats, owned: Sequence[Sequence[int]]) -> Floats:
    """Mean over the models, (b, R, M) to (b,), of the mean over the priors that each owns; NaN if one owns none."""
    if not all(owned):
        return np.full(len(values), np.nan)
    return np.mean([values[:, row, list(own)].mean(axis=1) for row, own in enumerate(owned)], axis=0)
