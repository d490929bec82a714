"""Methods side by side, to look at: tables and a figure of what ``compare_methods`` gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.diagnosis.conclusion import interval_text, p_text
from causalft.report.html import Table
from causalft.report.style import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["error_bars", "method_dots", "method_table", "paired_table"]


def method_table(methods: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row a method: accuracy with its interval, and D groups, in percent."""
    rows = []
    for name, of in methods.items():
        accuracy, *groups = of.values()
        bare = ["none" if value is None else f"{100 * value['estimate']:.1f}" for value in groups]
        rows.append([name, interval_text(accuracy), *bare])
    return Table(
        ["method", "accuracy", "D-many", "D-medium", "D-few"],
        rows,
        "Percent, 95 % intervals; single strata: their mean.",
    )


def paired_table(paired: Mapping[str, Any], comparisons: Mapping[str, tuple[str, str, str]]) -> Table:
    """One row a comparison: the difference in points, its interval and p."""
    rows = []
    for words, (one, other, measure) in comparisons.items():
        found = paired[words]
        p = p_text(None if found is None else found["p"])
        rows.append([f"{one} less {other} ({measure})", interval_text(found), p])
    return Table(["difference (points)", "95 % interval", "p"], rows)


def error_bars(values: Sequence[Mapping[str, Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimates (n,) in percent and the lengths (2, n) of their error bars; 0 where there is no interval.

    Examples
    --------
    >>> y, error = error_bars([{"estimate": 0.5, "ci95": [0.25, 1.0]}, {"estimate": 0.0, "ci95": None}])
    >>> y.tolist(), error.tolist()
    ([50.0, 0.0], [[25.0, 0.0], [50.0, 0.0]])
    """
    estimate = np.array([100 * value["estimate"] for value in values])
    bounds = [value["ci95"] or [value["estimate"]] * 2 for value in values]
    return estimate, np.abs(100 * np.array(bounds).T - estimate)


def method_dots(axes: Axes, methods: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the accuracy of each method, over all classes and on the D-few, the first method on top."""
    names = list(methods)[::-1]
    for measure, label, colour, marker in (
        ("accuracy", "all classes", "blue", "o"),
        ("few", "D-few", "orange", "s"),
    ):
        there = [(y, methods[name][measure]) for y, name in enumerate(names) if methods[name][measure]]
        if there:
            x, error = error_bars([found for _, found in there])
            y = [y for y, _ in there]
            axes.errorbar(x, y, xerr=error, color=PALETTE[colour], marker=marker, ls="", label=label)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("accuracy (%)")
    axes.grid(axis="x")
