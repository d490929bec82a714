"""The figures of class evidence: accuracy along the counts, the cross-table, the slope under checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.class_evidence.regression import within
from causalft.analysis.class_evidence.words import in_points, short_names
from causalft.analysis.diagnosis.figures import cross_gap_heat
from causalft.report.style import PALETTE, SERIES, new_axes, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["accuracy_along_counts", "cross_table_heat", "slopes_forest", "used_log_counts"]

Metrics = Mapping[str, Any]
Floats = NDArray[np.float64]

_BINS = 12


def cross_table_heat(metrics: Metrics) -> Axes:
    """P gap of each model (row) on the groups of each prior (column)."""
    names = short_names(list(metrics["cross_table"]))
    fractions = {
        names[model]: {
            names[prior]: {
                "estimate": cell["estimate"] / 100,
                "ci95": cell["ci95"] and [bound / 100 for bound in cell["ci95"]],
            }
            for prior, cell in row.items()
        }
        for model, row in metrics["cross_table"].items()
    }
    return cross_gap_heat({"cross_gap": fractions, "strata": [names[prior] for prior in metrics["strata"]]})


def accuracy_along_counts(metrics: Metrics) -> list[Axes]:
    """Accuracy against the count of a class: plain, by model, and beyond class and model effects, with the slope."""
    models = list(metrics["strata"])
    names = short_names(models)
    rows, x = used_log_counts(metrics)
    y = 100 * np.array([[row["accuracy"][m] for row in rows] for m in models])
    figure = new_figure(8.6, 3.6)
    plain, beyond = figure.subplots(1, 2)
    for m, model in enumerate(models):
        colour = SERIES[m % len(SERIES)]
        plain.plot(10 ** x[m], y[m], ".", color=colour, ms=2, alpha=0.25, zorder=1, rasterized=True)
        plain.plot(*_binned(x[m], y[m]), "o-", color=colour, ms=4, label=names[model], zorder=3)
    plain.set_xscale("log")
    plain.set_xlabel("count of the class in the model's own pre-training")
    plain.set_ylabel("class accuracy (%)")
    plain.set_title("Plain")
    rest_x, rest_y = within(x), within(y)
    if len(models) > 1:
        for m in range(len(models)):
            colour = SERIES[m % len(SERIES)]
            beyond.plot(
                10 ** rest_x[m], rest_y[m], ".", color=colour, ms=2, alpha=0.25, zorder=1, rasterized=True
            )
        edges = np.quantile(rest_x, [0.002, 0.998])
        slope = metrics["slope"]
        if slope["estimate"] is not None:
            label = f"{in_points(slope)} points per factor 100" if slope["claimed"] else "no slope is claimed"
            beyond.plot(10**edges, slope["estimate"] / 2 * edges, color=PALETTE["black"], lw=2, label=label)
        beyond.plot(*_binned(rest_x.ravel(), rest_y.ravel()), "o", color=PALETTE["black"], ms=5, zorder=3)
        beyond.set_xlim(*(10**edges))
        limit = float(np.quantile(np.abs(rest_y), 0.99))
        beyond.set_ylim(-limit, limit)
    beyond.axhline(0, color="#AAAAAA", lw=1, zorder=0)
    beyond.set_xscale("log")
    beyond.set_xlabel("count, over what class and model lead to expect")
    beyond.set_ylabel("accuracy beyond class\nand model effects (points)")
    beyond.set_title("Class and model effects taken out")
    figure.legend(loc="outside lower center", ncols=4)
    return [plain, beyond]


def used_log_counts(metrics: Metrics) -> tuple[list[Mapping[str, Any]], Floats]:
    """The classes used, and the log10 of their counts (M, K); a count of 0 is half the least positive one."""
    rows = [row for row in metrics["classes"] if row["used"]]
    counts = np.array([[row["count"][m] for row in rows] for m in metrics["strata"]])
    least = np.where(counts > 0, counts, np.inf).min(axis=1, keepdims=True)
    return rows, np.log10(np.where(counts > 0, counts, least / 2))


def _binned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Means of equally many points: 10**x and y."""
    n = max(2, min(_BINS, len(x) // 5))
    parts = np.array_split(np.argsort(x, kind="stable"), n)
    return 10 ** np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])


def slopes_forest(rows: Sequence[tuple[str, Mapping[str, Any], str]], unit: str = "") -> Axes:
    """Slopes with their intervals, one a row.

    Parameters
    ----------
    rows : sequence of (label, ``{estimate, ci95}`` in points, colour)
    unit : str
        Of the axis.
    """
    shown = [row for row in rows if row[1] is not None and row[1]["estimate"] is not None]
    axes = new_axes(7.6, 1.1 + 0.27 * len(shown))
    for y, (_, value, colour) in enumerate(shown):
        if value["ci95"] is not None:
            axes.plot(value["ci95"], [y, y], color=PALETTE[colour], lw=2.2, solid_capstyle="butt")
        axes.plot(value["estimate"], y, "o", color=PALETTE[colour], ms=5.5)
    axes.axvline(0, color="#AAAAAA", lw=1, zorder=0)
    axes.set_yticks(range(len(shown)), [label for label, *_ in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.set_xlabel(unit or "points of accuracy per factor 100 of the count (95 % interval)")
    return axes
