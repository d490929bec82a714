"""Figures of a diagnosis before training: parts of the variance of class accuracy, and priors with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from causalft.report.style import PALETTE, SERIES, new_axes, new_figure, plain_log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["prior_profiles", "spread_dots"]

Metrics = Mapping[str, Any]

_PARTS = {
    "difficulty": "common to all strata",
    "data": "along the training counts",
    "between": "differs between strata",
    "own_prior": "along the stratum's own prior",
    "neither": "along neither",
}
_MOST_BARS = 200
"""Classes up to which each interval is drawn; of more, a band."""


def spread_dots(spread: Metrics) -> Axes:
    """Shares of the variance of class accuracy with their intervals; what is not known is left out."""
    rows = [(words, spread[name]) for name, words in _PARTS.items() if spread[name]["estimate"] is not None]
    rows = [(words, value) for words, value in rows if np.isfinite(value["estimate"])]
    axes = new_axes(6.6, 1.0 + 0.36 * max(1, len(rows)))
    for y, (_, value) in enumerate(rows):
        low, high = value["ci95"] or [value["estimate"]] * 2
        axes.plot([100 * low, 100 * high], [y, y], color=SERIES[0], lw=2.2, solid_capstyle="butt")
        axes.plot(100 * value["estimate"], y, "o", color=SERIES[0], ms=7)
    axes.set_yticks(range(len(rows)), [words for words, _ in rows])
    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("share of the variance of class accuracy (%, 95 % interval)")
    axes.grid(axis="x")
    axes.set_title("Where class accuracies differ")
    return axes


def prior_profiles(priors: Mapping[str, Metrics]) -> list[Axes]:
    """Estimated prior of each class with its interval, classes sorted by it, one panel per stratum.

    Parameters
    ----------
    priors : mapping of str to mapping
        Stratum to the document of :func:`causalft.pipelines.workflows.prior.describe_prior`.
    """
    figure = new_figure(1.2 + 2.7 * len(priors), 3.1)
    grid = figure.subplots(1, len(priors), squeeze=False, sharey=True)[0]
    for index, (axes, (name, document)) in enumerate(zip(grid, priors.items())):
        rows = sorted(document["classes"], key=lambda row: -row["prior"])
        rank = np.arange(1, len(rows) + 1)
        prior = 100 * np.array([row["prior"] for row in rows])
        low, high = 100 * np.array([row["ci95"] for row in rows]).T
        colour = SERIES[index % len(SERIES)]
        if len(rows) <= _MOST_BARS:
            axes.vlines(rank, low, high, color=colour, lw=1.2, alpha=0.5)
            axes.plot(rank, prior, "o", color=colour, ms=3.5, label="estimate, 95 %")
        else:
            axes.fill_between(rank, low, high, color=colour, alpha=0.3, lw=0)
            axes.plot(rank, prior, color=colour, label="estimate, 95 %")
        known = np.array([row.get("true_prior") or np.nan for row in rows], dtype=float)
        if np.isfinite(known).any():
            axes.plot(rank, 100 * known, "_", color=PALETTE["black"], ms=5, label="known")
        plain_log_axis(axes.yaxis)
        axes.set_title(name)
        axes.set_xlabel("classes by estimated prior")
        axes.grid(axis="y")
        axes.legend(loc="lower left", handletextpad=0.2)
    grid[0].set_ylabel("share of the class (%)")
    return list(grid)
