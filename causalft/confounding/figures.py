"""Figures of the A/B experiment: accuracies, sample pictures, truth beside estimates; nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from causalft.report.drawing import Drawing, draw
from causalft.report.style import ON_LIGHT, PALETTE, figure_style, new_figure
from causalft.scm.draw import draw_graph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from causalft.confounding.verification import Verification
    from synthetic.designs import Design

__all__ = ["draw_cells", "draw_estimates", "draw_samples", "write_figures"]

PER_CLASS = 10
"""Pictures of each class on the sheet of samples."""

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
    """Bars of the accuracies with 95 % intervals and one dot a seed (after the paper's Fig. 12).

    Parameters
    ----------
    cells : ``"A->B"`` (trained on -> tested on) -> {mean, ci95, per_seed}; the adjusted model is drawn if it is there.
    best : the highest accuracy that is possible in each cell, drawn as a line.
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
    """Ten pictures of each label in the proportions of A and of B; the frame's colour is C.

    Parameters
    ----------
    samples : set name -> pictures with labels and factors.
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
    """Each estimator's total variation to P(Y|do(X)), with its interval over seeds; the line is P(Y|X)'s own
    distance."""
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
            from causalft.confounding.curve_figure import draw_curve

            drawn["curve"] = draw(draw_curve(result.curve), folder / "curve.png")
        drawn["graph"] = draw(
            _graph(result.design), folder / "graph.png", narrow=_graph(result.design, compact=True)
        )
    return drawn


def _graph(design: Design, compact: bool = False) -> Figure:
    """The causal graph of a design, with what closes its backdoor path."""
    from causalft.confounding.verdict import blocks_backdoor

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
