"""The figures of a diagnosis: parameter imbalance before and after fusion, its cross-table, classes and groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from causalft.analysis.diagnosis.intervals import Interval, points
from causalft.report.style import (
    ON_DARK,
    ON_LIGHT,
    PALETTE,
    SERIES,
    new_axes,
    new_figure,
    plain_log_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "MANY_POINTS",
    "class_profiles",
    "cross_gap_heat",
    "data_group_bars",
    "group_heat_tables",
    "imbalance_before_after",
    "prior_group_bars",
    "prior_words",
    "slope_plot",
]

MANY_POINTS = 1000
"""More classes than this are drawn as the means of bins of equally many."""

_N_BINS = 50

Metrics = Mapping[str, Any]
_GROUPS = ("many", "medium", "few")
_FUSED = PALETTE["black"]


def imbalance_before_after(metrics: Metrics) -> Axes:
    """The headline: gap beyond class difficulty before and after fusion, strata above and controls below.

    Parameters
    ----------
    metrics : mapping
        Of ``fit``. A control without the measure is left out.
    """
    rows = [("strata:\n" + "\n".join(metrics["strata"]), metrics["own_minus_off_gap"])]
    for name, control in metrics["controls"].items():
        if "own_minus_off_gap" in control:
            rows.append((f"control {name}:\n" + "\n".join(control["members"]), control["own_minus_off_gap"]))
    rows = [(label, measure) for label, measure in rows if measure["before"] is not None]
    axes = new_axes(7.2, 1.4 + 0.85 * len(rows))
    for y, (_, measure) in enumerate(rows):
        before, after = measure["before"]["estimate"], measure["after"]["estimate"]
        arrow = {"arrowstyle": "-|>", "color": "#999999", "lw": 1.3, "shrinkA": 6, "shrinkB": 6}
        axes.annotate("", (100 * after, y + 0.14), (100 * before, y - 0.14), arrowprops=arrow)
        for when, offset, colour, marker in (("before", -0.14, SERIES[0], "o"), ("after", 0.14, _FUSED, "D")):
            value = measure[when]["estimate"]
            low, high = measure[when]["ci95"] or (value, value)
            axes.plot([100 * low, 100 * high], [y + offset] * 2, color=colour, lw=2.2, solid_capstyle="butt")
            axes.plot(
                100 * value, y + offset, marker, color=colour, ms=7, label=_WHEN[when] if y == 0 else None
            )
    axes.axvline(0, color="#AAAAAA", lw=1)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_xlabel("own P-many minus P-few beyond class difficulty (points, 95 % interval)")
    axes.set_title("Parameter imbalance before and after fusion")
    _legend_below(axes)
    return axes


_WHEN = {"before": "single models", "after": "fused"}


def cross_gap_heat(metrics: Metrics) -> Axes:
    """P gap of each model (row) on the groups of each prior (column); the diagonal is a model's own prior."""
    gap = metrics["cross_gap"]
    models, priors = list(gap), list(metrics["strata"])
    values = np.array([[_points(gap[m][p]) for p in priors] for m in models])
    axes = new_axes(2.2 + 1.25 * len(priors), 1.5 + 0.55 * len(models))
    limit = max(1.0, float(np.nanmax(np.abs(values)))) if np.isfinite(values).any() else 1.0
    axes.imshow(values, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
    for i, model in enumerate(models):
        for j, prior in enumerate(priors):
            colour = ON_DARK if abs(values[i, j]) > 0.65 * limit else ON_LIGHT
            if gap[model][prior] is None:
                text, colour = "no class", "black"
            else:
                text = f"{values[i, j]:+.1f}"
                if gap[model][prior]["ci95"]:
                    low, high = (100 * bound for bound in gap[model][prior]["ci95"])
                    text += f"\n[{low:.0f}, {high:.0f}]"
            weight = "bold" if model == prior else "normal"
            axes.text(j, i, text, ha="center", va="center", fontsize=8.5, color=colour, weight=weight)
    axes.axhline(len(priors) - 0.5, color=ON_LIGHT, lw=1.2)
    axes.set_xticks(range(len(priors)), priors)
    axes.set_yticks(range(len(models)), models)
    axes.set_xlabel("P groups by the prior of")
    axes.set_ylabel("model")
    axes.set_title("P gap in points: many minus few")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return axes


def data_group_bars(metrics: Metrics) -> Axes:
    """Accuracy by training count (D groups), one bar per stratum and one for the fusion."""
    models = {name: metrics["strata"][name] for name in metrics["strata"]} | {"fused": metrics["fused"]}
    axes = new_axes(6.4, 3.1)
    width = 0.8 / len(models)
    for index, (name, scores) in enumerate(models.items()):
        x = np.arange(3) + (index - (len(models) - 1) / 2) * width
        _bars(axes, x, width, scores["D"], scores["D_ci95"], _colour(name, index), name)
    given = metrics["class_counts"]
    counts = list(given.values()) if isinstance(given, Mapping) else list(given)
    sizes = [sum(c > 100 for c in counts), sum(20 <= c <= 100 for c in counts), sum(c < 20 for c in counts)]
    limits = ("> 100", "20 to 100", "< 20")
    axes.set_xticks(range(3), [f"D-{g}\n{n} classes\n{m} images" for g, m, n in zip(_GROUPS, limits, sizes)])
    _percent_axis(axes)
    axes.set_title("Accuracy by downstream training count")
    _legend_below(axes)
    return axes


def prior_group_bars(metrics: Metrics) -> Axes:
    """Accuracy by estimated prior (P groups): each stratum alone on its own groups, and the fusion on them.

    Returns the first of one panel per stratum.
    """
    names = list(metrics["strata"])
    figure = new_figure(1.6 + 2.3 * len(names), 3.1)
    grid = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for index, (axes, name) in enumerate(zip(grid, names)):
        x = np.arange(3)
        stratum, fused = metrics["strata"][name], metrics["fused"]
        _bars(axes, x - 0.2, 0.38, stratum["P"], stratum["P_ci95"], _colour(name, index), "alone")
        _bars(axes, x + 0.2, 0.38, fused["P"][name], fused["P_ci95"][name], _FUSED, "fused")
        axes.set_xticks(x, [f"P-{g}" for g in _GROUPS])
        _percent_axis(axes)
        axes.set_ylabel("accuracy (%)" if index == 0 else "")
        axes.set_title(f"{name}: by its prior")
    handles = [
        *(axes.get_legend_handles_labels()[0][0] for axes in grid),
        grid[0].get_legend_handles_labels()[0][1],
    ]
    figure.legend(
        handles, [*(f"{name} alone" for name in names), "fused"], loc="outside lower center", ncols=4
    )
    return grid[0]


def group_heat_tables(metrics: Metrics) -> list[Axes]:
    """D x P accuracy tables: each stratum alone (above) and the fusion by the same prior (below)."""
    names = list(metrics["strata"])
    figure = new_figure(1.6 + 2.3 * len(names), 4.6)
    grid = figure.subplots(2, len(names), squeeze=False, sharex=True, sharey=True)
    tables = [
        *(metrics["strata"][name]["DxP"] for name in names),
        *(metrics["fused"]["DxP"][name] for name in names),
    ]
    values = [np.array([[_percent(t[d][p]) for p in _GROUPS] for d in _GROUPS]) for t in tables]
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    titles = [f"{name} alone" for name in names] + ["fused"] * len(names)
    for axes, table, title in zip(grid.ravel(), values, titles):
        _heat(axes, table, low, high)
        axes.set_title(title)
    for axes, name in zip(grid[1], names):
        axes.set_xlabel(f"P group by {name}")
    for axes in grid[:, 0]:
        axes.set_ylabel("D group")
    figure.suptitle("Accuracy (%) by training count and by prior", x=0.01, ha="left", weight="bold")
    return list(grid.ravel())


def class_profiles(metrics: Metrics) -> list[Axes]:
    """Class accuracy along the classes sorted by each prior: the stratum alone (before) and the fusion (after).

    A point is one class, or the mean of a fiftieth of more than :data:`MANY_POINTS` classes.
    """
    names = list(metrics["strata"])
    figure = new_figure(1.2 + 2.7 * len(names), 3.1)
    grid = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for index, (axes, name) in enumerate(zip(grid, names)):
        prior = _prior(metrics, name)
        order = np.argsort(-prior, kind="stable")[: np.count_nonzero(~np.isnan(prior))]
        rank = np.arange(1, len(order) + 1)
        for model, colour, label in ((name, _colour(name, index), "alone"), ("fused", _FUSED, "fused")):
            accuracy = np.array([_percent(v) for v in metrics["class_accuracy"][model]])[order]
            x, y = _points_of(rank, accuracy)
            axes.plot(x, y, ".", color=colour, ms=4, alpha=0.45)
            axes.plot(x, _running_mean(y), color=colour, label=label)
        axes.set_title(name)
        axes.set_xlabel(f"classes by the prior of {name},\ncommon to rare")
        axes.set_ylim(0, 100)
        axes.grid(axis="y")
        axes.legend(loc="lower left")
    grid[0].set_ylabel("class accuracy (%)")
    return list(grid)


def slope_plot(metrics: Metrics) -> list[Axes]:
    """Class accuracy less class difficulty against the prior, before and after fusion.

    A point is one class under one stratum's prior, or the mean of a fiftieth of more than :data:`MANY_POINTS` classes;
    the line has the fitted slope. Empty where the slope does not exist.
    """
    names = list(metrics["strata"])
    figure = new_figure(7.2, 3.2)
    grid = figure.subplots(1, 2, sharex=True, sharey=True)
    difficulty = np.array([_percent(v) for v in metrics["class_difficulty"]])
    for axes, when in zip(grid, ("before", "after")):
        spread = []
        for index, name in enumerate(names):
            x = 100 * _prior(metrics, name)
            model = name if when == "before" else "fused"
            rest = np.array([_percent(v) for v in metrics["class_accuracy"][model]]) - difficulty
            rest = rest - (np.nanmean(rest) if np.isfinite(rest).any() else 0.0)
            log_x, y = _points_of(np.log(x), rest)
            axes.plot(
                np.exp(log_x),
                y,
                "o",
                color=_colour(name, index),
                ms=3.5,
                alpha=0.65,
                label=f"prior of {name}",
            )
            spread.append(np.log(x))
        measure = metrics["prior_slope"][when]
        if measure is not None:
            ends = np.array([np.nanmin(spread), np.nanmax(spread)])
            centre = np.nanmean(np.concatenate(spread))
            axes.plot(
                np.exp(ends), 100 * measure["estimate"] * (ends - centre) / np.log(100), color=_FUSED, lw=2.2
            )
            slope = f"{points(Interval.from_json(measure))} points per factor 100"
            axes.text(0.98, 0.03, slope, transform=axes.transAxes, fontsize=8.5, ha="right")
        axes.axhline(0, color="#AAAAAA", lw=1, zorder=0)
        plain_log_axis(axes.xaxis)
        axes.set_xlabel(f"{prior_words(metrics)} pre-training prior (%)")
        axes.set_title("Single models" if when == "before" else "Fused")
    grid[0].margins(y=0.22)  # room for the legend above the points, and for the slope below them
    grid[0].set_ylabel("accuracy beyond class\ndifficulty (points)")
    grid[1].legend(loc="upper left", handletextpad=0.1)
    return list(grid)


def prior_words(metrics: Metrics) -> str:
    """Where the priors come from: ``estimated``, ``known``, or ``known or estimated``.

    Examples
    --------
    >>> prior_words({"strata": {"clip": {"prior_from": "known"}, "openclip": {}}})
    'known or estimated'
    """
    found = {scores.get("prior_from", "estimated") for scores in metrics["strata"].values()}
    return " or ".join(sorted(found, reverse=True))


def _prior(metrics: Metrics, name: str) -> np.ndarray:
    """The label prior of a stratum, (K,); NaN where it is not known."""
    return np.asarray(metrics["strata"][name]["label_prior"], dtype=float)


def _bars(
    axes: Axes,
    x: np.ndarray,
    width: float,
    groups: Mapping[str, float | None],
    bounds: Mapping[str, Sequence[float] | None],
    colour: str,
    label: str | None,
) -> None:
    height = np.array([_percent(groups[g]) for g in _GROUPS])
    axes.bar(x, np.nan_to_num(height), width * 0.94, color=colour, label=label)
    for position, value, group in zip(x, height, _GROUPS):
        bound = bounds[group]
        if bound is not None:
            error = [[value - 100 * bound[0]], [100 * bound[1] - value]]
            axes.errorbar(position, value, np.maximum(0, error), color="#666666", lw=1.2)
        else:
            axes.text(position, 1, "none", rotation=90, ha="center", va="bottom", fontsize=8, color="#666666")


def _heat(axes: Axes, values: np.ndarray, low: float, high: float) -> None:
    axes.imshow(values, cmap="cividis", vmin=low, vmax=max(high, low + 1), aspect="auto")
    for i in range(3):
        for j in range(3):
            value = values[i, j]
            text = "none" if np.isnan(value) else f"{value:.0f}"
            colour = ON_DARK if value < (low + high) / 2 else ON_LIGHT
            axes.text(j, i, text, ha="center", va="center", color="black" if np.isnan(value) else colour)
    axes.set_xticks(range(3), _GROUPS)
    axes.set_yticks(range(3), _GROUPS)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _legend_below(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def _percent_axis(axes: Axes) -> None:
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, None)
    axes.grid(axis="y")
    axes.tick_params(axis="x", length=0)


def _points_of(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points (n,) to draw: all, or of more than :data:`MANY_POINTS` the means of bins of equally many along x."""
    if len(x) <= MANY_POINTS:
        return x, y
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    bins = [each for each in np.array_split(known[np.argsort(x[known], kind="stable")], _N_BINS) if len(each)]
    return np.array([x[each].mean() for each in bins]), np.array([y[each].mean() for each in bins])


def _running_mean(values: np.ndarray) -> np.ndarray:
    """A centred mean over about a fifth of the classes, shorter at the ends."""
    half = max(1, len(values) // 10)
    windows = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return np.array([np.nanmean(w) if np.isfinite(w).any() else np.nan for w in windows])


def _colour(name: str, index: int) -> str:
    return _FUSED if name == "fused" else SERIES[index % len(SERIES)]


def _percent(value: float | None) -> float:
    return float("nan") if value is None else 100 * value


def _points(value: Mapping[str, Any] | None) -> float:
    return float("nan") if value is None else 100 * value["estimate"]
