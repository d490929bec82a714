"""Figures of the A/B experiment: accuracies, sample images, estimates beside the truth, bias curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from causalft.analysis.confounding.curve import Curve
from causalft.report.drawing import Drawing, draw
from causalft.report.style import ON_LIGHT, PALETTE, figure_style, new_figure
from causalft.scm.draw import draw_graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from causalft.analysis.confounding.result import Verification
    from synthetic.design import Design

__all__ = ["draw_cells", "draw_curve", "draw_estimates", "draw_samples", "write_figures"]


_LOOK = {
    "naive": ("naive P(y | x)", PALETTE["vermillion"], "o", "-"),
    "backdoor": ("backdoor over C", PALETTE["blue"], "s", "-"),
    "ipw": ("IPW (the same estimate)", PALETTE["sky"], "D", "--"),
    "frontdoor": ("front-door over B", PALETTE["green"], "^", "-"),
}
"""Name of each estimator -> legend, colour, marker, line. IPW lies on backdoor, so it is dashed, and light."""


def draw_curve(curve: Curve) -> Figure:
    """Draw bias (left) and coverage (right) against the number of rows, on a logarithmic axis.

    The truth is the line at 0, the exact difference between seeing and doing the dotted line. Bars are 95 % intervals,
    Monte-Carlo for bias and binomial for coverage. A hollow marker: some codes had no estimate, for lack of overlap.

    Parameters
    ----------
    curve : Curve

    Examples
    --------
    >>> from causalft.analysis.confounding.curve import curve
    >>> from causalft.scm import DiscreteSCM
    >>> scm = DiscreteSCM(
    ...     [("C", "X"), ("X", "B"), ("B", "Y")],
    ...     {name: "01" for name in "CXBY"},
    ...     {"C": [0.5, 0.5], **{name: [[0.8, 0.2], [0.2, 0.8]] for name in "XBY"}},
    ... )
    >>> len(draw_curve(curve(scm, ns=[100, 200], repetitions=20, progress=False)).axes)
    2
    """
    from matplotlib.lines import Line2D

    with figure_style():
        figure = new_figure(9.2, 3.9)
        left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.25, 1]})
        left.axhline(0, color="black", lw=1.0)
        right.axhspan(93, 97, color="#EEEEEE", lw=0)
        right.axhline(95, color="#999999", lw=0.8)
        for position, name in enumerate(curve.estimators):
            _draw_estimator(curve, name, 1.09 ** (position - (len(curve.estimators) - 1) / 2), left, right)
        exact = 100 * curve.difference
        left.axhline(exact, color=PALETTE["vermillion"], lw=1.0, ls=":")
        left.annotate(
            f"exact P(look | x) - P(look | do(x)) = {exact:.1f}",
            (1, exact),
            xycoords=("axes fraction", "data"),
            xytext=(0, 5 if exact >= 0 else -5),
            textcoords="offset points",
            ha="right",
            va="bottom" if exact >= 0 else "top",
            fontsize=8.5,
            color=PALETTE["vermillion"],
        )
        left.annotate(
            "truth",
            (1, 0),
            xycoords=("axes fraction", "data"),
            xytext=(0, -4),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=8.5,
        )
        low, high = left.get_ylim()
        left.set_ylim(min(low, -1.0), max(high, exact + 2.5, 1.5))
        left.set_title("Bias of P(Y = class drawn | do(X))")
        left.set_ylabel("bias (percentage points)")
        right.set_ylim(-3, 103)
        right.set_title("Coverage of nominal 95 % intervals")
        right.set_ylabel("intervals that hold the truth (%)")
        right.text(curve.ns[0], 91.5, "93 to 97 %", fontsize=8, color="#777777", va="top", ha="left")
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_xticks(curve.ns, [f"{n:,}" for n in curve.ns], rotation=35, ha="right")
            axes.minorticks_off()
            axes.set_xlabel(f"rows ({curve.repetitions} repetitions each)")
            axes.margins(x=0.08)
        handles, labels = left.get_legend_handles_labels()
        if any(0.005 < point.undefined and not np.isnan(point.bias) for point in curve.points):
            handles.append(
                Line2D([], [], color=PALETTE["grey"], ls="", marker="o", ms=5, markerfacecolor="white")
            )
            labels.append("hollow: some x lack overlap")
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), columnspacing=1.4)
    return figure


def _draw_estimator(curve: Curve, name: str, nudge: float, left: Axes, right: Axes) -> None:
    """Draw one estimator into both panels; ``nudge`` keeps markers of one n apart."""
    label, colour, marker, line = _LOOK.get(name, (name, PALETTE["grey"], "o", "-"))
    points = [curve.point(name, n) for n in curve.ns]
    drawn = [point for point in points if not np.isnan(point.bias)]
    x = np.array([point.n for point in drawn]) * nudge
    for axes, values, limits in (
        (left, [p.bias for p in drawn], [p.bias_ci95 for p in drawn]),
        (right, [p.coverage for p in drawn], [p.coverage_ci95 for p in drawn]),
    ):
        y = 100 * np.array(values, dtype=float)
        bars = (
            100 * np.abs(np.array(limits, dtype=float).reshape(-1, 2).T - np.array(values)) if drawn else None
        )
        axes.errorbar(
            x,
            y,
            yerr=bars,
            color=colour,
            ls=line,
            lw=1.3,
            elinewidth=1.1,
            label=label if axes is left else None,
        )
        for position, height, point in zip(x, y, drawn):
            hollow = point.undefined > 0.005
            axes.plot(
                position,
                height,
                marker,
                ms=5,
                color=colour,
                markerfacecolor="white" if hollow else colour,
                zorder=4,
            )


PER_CLASS = 10
"""Images of each class on the sheet of samples."""

_MODELS = {
    "A": ("trained on A", PALETTE["blue"]),
    "B": ("trained on B", PALETTE["orange"]),
    "adjusted": ("trained on B, adjusted for C", PALETTE["green"]),
}

_ESTIMATORS = {
    "naive": ("naive: P(Y|X)", PALETTE["orange"]),
    "backdoor": ("backdoor (Eq. 7)", PALETTE["green"]),
    "ipw": ("inverse probability weights", PALETTE["sky"]),
    "frontdoor": ("front-door through B", PALETTE["purple"]),
}


class Pictures(Protocol):
    """What a sheet of samples needs of an image set."""

    @property
    def pixels(self) -> np.ndarray: ...

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def factors(self) -> np.ndarray: ...


def draw_cells(cells: Mapping[str, Mapping[str, Any]], best: Mapping[str, float] | None = None) -> Figure:
    """Bars of the accuracies with 95 % intervals and one dot per seed (after the paper's Fig. 12).

    Parameters
    ----------
    cells : ``"A->B"`` (trained on -> tested on) -> {mean, ci95, per_seed}; the adjusted model is drawn if present.
    best : the highest accuracy possible in each cell, drawn as a line.
    """
    models = [name for name in _MODELS if f"{name}->A" in cells]
    width = 0.8 / len(models)
    figure = new_figure(4.0 + 0.9 * len(models), 3.5)
    axes = figure.add_subplot()
    for number, name in enumerate(models):
        label, colour = _MODELS[name]
        for position, tested in enumerate("AB"):
            cell = cells[f"{name}->{tested}"]
            x = position + (number - (len(models) - 1) / 2) * width
            mean = 100 * cell["mean"]
            low, high = (100 * value for value in cell["ci95"])
            axes.bar(x, mean, 0.9 * width, color=colour, alpha=0.75, label=label if position == 0 else None)
            axes.errorbar(
                x, mean, yerr=[[max(0.0, mean - low)], [max(0.0, high - mean)]], color="black", lw=1.2
            )
            seeds = [100 * value for value in cell["per_seed"]]
            spread = np.linspace(-0.22, 0.22, len(seeds)) * width if len(seeds) > 1 else [0.0]
            axes.plot(x + np.asarray(spread), seeds, "o", ms=3, color="#222222", alpha=0.6)
            axes.text(x, 2, f"{mean:.1f}", ha="center", va="bottom", fontsize=8.5, color=ON_LIGHT)
    if best is not None and best["A->A"] < 0.995:
        for position, tested in enumerate("AB"):
            top = 100 * best[f"{tested}->{tested}"]
            axes.plot([position - 0.42, position + 0.42], [top, top], ":", color="#444444", lw=1.3)
        axes.plot([], [], ":", color="#444444", lw=1.3, label="best possible on that set")
    axes.set_xticks([0, 1], ["tested on A", "tested on B"])
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 104)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def draw_samples(samples: Mapping[str, Pictures], classes: list[str]) -> Figure:
    """Ten images of each label in the proportions of A and of B; the frame's colour is C.

    Parameters
    ----------
    samples : set name -> images with labels and factors.
    classes : class names.
    """
    colours = [tuple(int(PALETTE[name][k : k + 2], 16) for k in (1, 3, 5)) for name in ("blue", "vermillion")]
    figure = new_figure(9.8, 0.43 * len(classes) + 0.4)
    for axes, (name, pictures) in zip(figure.subplots(1, len(samples)), samples.items()):
        size = pictures.pixels.shape[1]
        border = max(2, size // 20)
        side = size + 4 * border
        rows = []
        for k in range(len(classes)):
            mine = np.flatnonzero(pictures.labels == k)
            chosen = mine[np.linspace(0, len(mine) - 1, PER_CLASS).round().astype(int)] if len(mine) else []
            strip = np.full((side, side * PER_CLASS, 3), 255, np.uint8)
            for place, index in enumerate(chosen):
                at = place * side
                strip[border:-border, at + border : at + side - border] = colours[
                    int(pictures.factors[index])
                ]
                strip[2 * border : -2 * border, at + 2 * border : at + side - 2 * border] = pictures.pixels[
                    index
                ]
            rows.append(strip)
        axes.imshow(np.concatenate(rows), interpolation="lanczos", aspect="equal")
        axes.set_title(f"{name} train: blue C=0, red C=1")
        axes.set_xticks([])
        axes.set_yticks((np.arange(len(classes)) + 0.5) * side, [f"filed as {k}" for k in classes])
        axes.tick_params(length=0)
        for edge in axes.spines.values():
            edge.set_visible(False)
    return figure


def draw_estimates(estimates: Mapping[str, Mapping[str, Any]], truth: Mapping[str, Any]) -> Figure:
    """Each estimator's total variation to P(Y|do(X)), with its interval over seeds; the line is that of P(Y|X)."""
    figure = new_figure(6.4, 0.45 * len(estimates) + 1.3)
    axes = figure.add_subplot()
    names = [name for name in _ESTIMATORS if name in estimates]
    for place, name in enumerate(reversed(names)):
        label, colour = _ESTIMATORS[name]
        found = estimates[name]
        value = 100 * found["tv_to_truth"]
        axes.barh(place, value, 0.6, color=colour, alpha=0.75)
        ends = [limit for limit in found["ci95"] if limit is not None and np.isfinite(limit)]
        if len(ends) == 2:
            low, high = (100 * limit for limit in ends)
            axes.errorbar(
                value, place, xerr=[[max(0.0, value - low)], [max(0.0, high - value)]], color="black", lw=1.2
            )
        seeds = [100 * v for v in found["per_seed"]]
        axes.plot(seeds, [place] * len(seeds), "o", ms=3, color="#222222", alpha=0.6)
    axes.axvline(100 * truth["tv"], ls="--", color="#444444", lw=1.2)
    axes.set_yticks(range(len(names)), [_ESTIMATORS[name][0] for name in reversed(names)])
    axes.set_xlabel(f"points from P(Y|do(X)); dashed: the exact P(Y|X), {100 * truth['tv']:.1f}")
    axes.set_xlim(left=0)
    return figure


def write_figures(
    folder: Path, result: Verification, metrics: Mapping[str, Any], samples: Mapping[str, Pictures]
) -> dict[str, Drawing]:
    """Draw all figures of a run into ``folder``; returns them by name."""
    drawn = {}
    with figure_style():
        drawn["cells"] = draw(draw_cells(metrics["cells"], metrics["best_accuracy"]), folder / "cells.png")
        drawn["samples"] = draw(draw_samples(samples, list(metrics["classes"])), folder / "samples.png")
        if metrics["estimates"]:
            drawn["estimates"] = draw(
                draw_estimates(metrics["estimates"], metrics["truth"]), folder / "estimates.png"
            )
        if result.curve is not None:
            drawn["curve"] = draw(draw_curve(result.curve), folder / "curve.png")
        drawn["graph"] = draw(
            _graph(result.design), folder / "graph.png", narrow=_graph(result.design, compact=True)
        )
    return drawn


def _graph(design: Design, compact: bool = False) -> Figure:
    """The causal graph of a design, with what closes its backdoor path."""
    from causalft.analysis.confounding.verdict import blocks_backdoor

    figure = new_figure(1, 1)
    figure.set_layout_engine("none")
    draw_graph(
        design.graph,
        figure.add_axes((0, 0, 1, 1)),
        treatment="X",
        outcome="Y",
        adjustment=("C",) if blocks_backdoor(design) else (),
        compact=compact,
    )
    return figure
