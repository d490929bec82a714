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
    both = metrics["slope"]["estimate"] is not None
    figure = new_figure(8.6 if both else 4.8, 3.6)
    panels = list(figure.subplots(1, 2 if both else 1, squeeze=False)[0])
    plain = panels[0]
    for m, model in enumerate(models):
        colour = SERIES[m % len(SERIES)]
        plain.plot(10 ** x[m], y[m], ".", color=colour, **_points(x))
        plain.plot(*_binned(x[m], y[m]), "o-", color=colour, ms=4, label=names[model], zorder=3)
    plain.set_xscale("log")
    plain.set_xlabel("count of the class in the model's own pre-training")
    plain.set_ylabel("class accuracy (%)")
    plain.set_title("Plain")
    if both:
        _beyond_effects(panels[1], within(x), within(y), metrics["slope"])
    figure.legend(loc="outside lower center", ncols=4)
    return panels


def _beyond_effects(axes: Axes, x: Floats, y: Floats, slope: Mapping[str, Any]) -> None:
    """Accuracy against log count, both without class and model effects, and the slope."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for m in range(len(x)):
        colour = SERIES[m % len(SERIES)]
        axes.plot(10 ** x[m], y[m], ".", color=colour, **_points(x))
    edges = np.quantile(x, [0.002, 0.998])
    label = f"{in_points(slope)} points per factor 100" if slope["claimed"] else "no slope is claimed"
    axes.plot(10**edges, slope["estimate"] / 2 * edges, color=PALETTE["black"], lw=2, label=label)
    axes.plot(*_binned(x.ravel(), y.ravel()), "o", color=PALETTE["black"], ms=5, zorder=3)
    axes.axhline(0, color="#AAAAAA", lw=1, zorder=0)
    axes.set_xscale("log")
    axes.set_xlim(*(10**edges))
    axes.xaxis.set_major_locator(LogLocator(subs=_ticks(float(np.ptp(edges)))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    limit = float(np.quantile(np.abs(y), 0.99)) or 1.0
    axes.set_ylim(-limit, limit)
    axes.set_xlabel("times the count that class and model lead to expect")
    axes.set_ylabel("accuracy beyond class\nand model effects (points)")
    axes.set_title("Class and model effects taken out")


def _points(x: Floats) -> dict[str, Any]:
    """The look of the points of single classes: fainter where they are many."""
    many = x.shape[1] > 300
    return {"ms": 2 if many else 4, "alpha": 0.25 if many else 0.5, "zorder": 1, "rasterized": many}


def _ticks(decades: float) -> tuple[float, ...]:
    """Digits of the ticks of an axis of that many decades, few enough to stand apart on a phone."""
    if decades > 2.5:
        return (1.0,)
    return (1.0, 2.0, 5.0) if decades > 0.7 else tuple(range(1, 10))


def _binned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Means of equally many points: 10**x and y."""
    n = max(2, min(_BINS, len(x) // 5))
    parts = np.array_split(np.argsort(x, kind="stable"), n)
    return 10 ** np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])


def used_log_counts(metrics: Metrics) -> tuple[list[Mapping[str, Any]], Floats]:
    """The classes used, and the log10 of their counts (M, K); a count of 0 is half the least positive one."""
    rows = [row for row in metrics["classes"] if row["used"]]
    counts = np.array([[row["count"][m] for row in rows] for m in metrics["strata"]])
    least = np.where(counts > 0, counts, np.inf).min(axis=1, keepdims=True)
    return rows, np.log10(np.where(counts > 0, counts, least / 2))


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
