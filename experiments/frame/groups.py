"""Accuracy of D x P groups: the 3 x 3 table of an arm with intervals, its tail-tail cell, its heat map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalft.data.groups import GROUPS, data_groups, prior_groups

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.frame.tested import Tested

__all__ = ["draw_groups", "group_metrics"]

Floats = NDArray[np.float64]


def group_metrics(found: Tested) -> dict[str, Any]:
    """Accuracy by D group and P group of each arm, with 95 % intervals over test images and seeds.

    The P groups are those of the estimated prior of each model's own stratum; cells are averaged over the models.

    Returns
    -------
    dict
        ``cells``: arm to D group to P group to ``{estimate, ci95, p}``, null for a cell without a class;
        ``tail_tail``: arm to D-few and P-few less the lowest of the other cells, whose choice biases it upwards;
        ``classes``: D group to P group to the mean number of classes.
    """
    from causalft.analysis.diagnosis.intervals import bootstrap

    vectors, classes = _cell_vectors(found)
    correct, rows = found.stacked
    n_priors = len(found.estimated)

    # A mean over the strata that have the cell: where it has no class, its product is 0.
    def statistics(products: Floats) -> dict[str, Floats]:
        result = {}
        for name, where in rows.items():
            of_priors = products[:, where].reshape(len(products), -1, n_priors, 9)
            cells = found.mean_of_own(np.where(classes > 0, of_priors, np.nan), name)
            result[name] = cells
            others = np.where(np.isnan(cells[:, :-1]), np.inf, cells[:, :-1])
            result[f"{name}\nfew"] = cells[:, -1] - others.min(axis=1)
        return result

    intervals = bootstrap(statistics, correct, found.labels, found.n_classes, vectors=vectors)
    return {
        "cells": {
            name: {
                d: {p: intervals[name][3 * i + j].to_json_or_null() for j, p in enumerate(GROUPS)}
                for i, d in enumerate(GROUPS)
            }
            for name in rows
        },
        "tail_tail": {name: intervals[f"{name}\nfew"].to_json_or_null() for name in rows},
        "classes": {
            d: {p: float(classes[:, 3 * i + j].mean()) for j, p in enumerate(GROUPS)}
            for i, d in enumerate(GROUPS)
        },
    }


def _cell_vectors(found: Tested) -> tuple[Floats, NDArray[np.int64]]:
    """Vectors (9 M, K) whose products with class accuracies are the cells, and the classes (M, 9) in each."""
    there = np.bincount(found.labels, minlength=found.n_classes) > 0
    by_count = data_groups(found.counts)
    chosen = np.stack(
        [
            (by_count == d) & (prior_groups(prior) == p) & there
            for prior in found.estimated
            for d in GROUPS
            for p in GROUPS
        ]
    )
    sizes = chosen.sum(axis=1)
    return chosen / np.maximum(sizes, 1)[:, None], sizes.reshape(len(found.estimated), 9)


def draw_groups(metrics: Mapping[str, Any]) -> list[Axes]:
    """Heat maps of the cells of every arm, accuracy in percent with its interval in each cell."""
    from causalft.report.style import ON_DARK, ON_LIGHT, new_figure

    cells = metrics["cells"]
    figure = new_figure(3.4 * len(cells) + 0.6, 3.3)
    axes = np.atleast_1d(figure.subplots(1, len(cells), sharey=True))
    for panel, (name, table) in zip(axes, cells.items(), strict=True):
        values = np.array(
            [[100 * table[d][p]["estimate"] if table[d][p] else np.nan for p in GROUPS] for d in GROUPS]
        )
        panel.imshow(values, vmin=0, vmax=100, cmap="Blues", aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            shown = "no class"
            if np.isfinite(value):
                bounds = table[GROUPS[row]][GROUPS[column]]["ci95"]
                shown = f"{value:.1f}" + (
                    f"\n{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}" if bounds else ""
                )
            colour = ON_DARK if value > 62 else ON_LIGHT
            panel.text(column, row, shown, ha="center", va="center", color=colour, fontsize=9)
        panel.set_title(name)
        panel.set_xticks(range(3), [f"P-{p}" for p in GROUPS])
        panel.set_yticks(range(3), [f"D-{d}" for d in GROUPS])
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    return list(axes)
