"""The section of a page on unlabelled images: their law, and the pseudo-labels epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalft.methods.semi.choices import METHODS
from causalft.report.drawing import draw as drawn
from causalft.report.html import Figure, Section, Table
from causalft.report.style import PALETTE, figure_style, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_confidence", "draw_law", "draw_pseudo_labels", "semi_section", "semi_sentences"]

Metrics = Mapping[str, Any]
_COLOURS = {"all": "black", "many": "blue", "medium": "green", "few": "vermillion"}


def semi_sentences(semi: Metrics) -> list[str]:
    """Say what was learnt from how many images, of which law, and what went wrong.

    Examples
    --------
    >>> semi = {"method": "lp", "unlabelled": None, "pseudo_labels": [], "reading": []}
    >>> semi_sentences(semi)
    ['Method lp: linear probe on the labelled images alone.']
    """
    said = [f"Method {semi['method']}: {METHODS[semi['method']].help}."]
    law = semi["unlabelled"]
    if law is not None:
        said.append(f"{law['n']:,} unlabelled images; their label law is {_SETTINGS[law['setting']]}.")
    last = semi["pseudo_labels"][-1]["epoch"] if semi["pseudo_labels"] else 0
    whole = [row for row in semi["pseudo_labels"] if row["epoch"] == last and row["group"] == "all"]
    for row in whole:
        right = "" if row["precision"] is None else f", {100 * row['precision']:.1f} % of them right"
        apart = len(semi["strata"]) > 1 and not semi["settings"]["shared"]
        of = f" by {len(semi['strata'])} strata" if apart else ""
        said.append(f"In the last epoch {row['n']:,} pseudo-labels were learnt from{of}{right}.")
    return [*said, *(f"{each[0].upper()}{each[1:]}." for each in semi["reading"])]


_SETTINGS = {
    "consistent": "that of the labelled images",
    "uniform": "uniform",
    "reversed": "the reverse of that of the labelled images",
    "middle": "largest in the middle classes",
    "head-tail": "largest at both ends",
    "other": "neither that of the labelled images nor uniform nor its reverse",
}


def semi_section(semi: Metrics, counts: Mapping[str, int], folder: Path) -> Section:
    """The section on a semi-supervised training.

    Parameters
    ----------
    semi : mapping
        Entry ``semi`` of ``metrics.json``.
    counts : mapping of str to int
        Labelled images of each class.
    folder : Path
        Of the figures.
    """
    figures, rows = [], list(semi["pseudo_labels"])
    with figure_style():
        if any(row["n"] for row in rows):
            caption = (
                "Pseudo-labels that were learnt from in each epoch, by the group of the class that they name."
            )
            axes = draw_pseudo_labels(rows, "n")
            figures.append(_figure(axes, Path(folder) / "pseudo-labels.png", caption))
        if any(row["precision"] is not None for row in rows):
            caption = "How many of them are right; only the report knows the hidden labels."
            axes = draw_pseudo_labels(rows, "precision")
            figures.append(_figure(axes, Path(folder) / "precision.png", caption))
        if semi.get("confidence"):
            caption = (
                "Probability of the most probable class of the weak views, in the first and the last epoch."
            )
            axes = draw_confidence(semi["confidence"])
            figures.append(_figure(axes, Path(folder) / "confidence.png", caption))
        if semi["unlabelled"] is not None:
            caption = (
                "The label law of the unlabelled images by EM with 95 % intervals, beside that of the labelled ones; "
                "classes by labelled images."
            )
            axes = draw_law(semi["unlabelled"], list(counts.values()))
            figures.append(_figure(axes, Path(folder) / "law.png", caption))
    return Section("Unlabelled images", semi_sentences(semi), [_table(rows)] if rows else [], figures)


def draw_pseudo_labels(rows: Sequence[Metrics], what: str) -> Axes:
    """Number (``n``) or ``precision`` of the pseudo-labels per epoch, a line per group."""
    from matplotlib.ticker import MaxNLocator

    axes = new_axes(5.6, 3.2)
    for group, colour in _COLOURS.items():
        chosen = [row for row in rows if row["group"] == group and row[what] is not None]
        if chosen and any(row["n"] for row in chosen):
            values = [row[what] if what == "n" else 100 * row[what] for row in chosen]
            axes.plot(
                [row["epoch"] for row in chosen], values, "-o", ms=3.5, color=PALETTE[colour], label=group
            )
    axes.set_xlabel("epoch")
    axes.set_ylabel("pseudo-labels" if what == "n" else "right (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    axes.legend()
    return axes


def draw_confidence(confidence: Sequence[Sequence[float]]) -> Axes:
    """Histograms of the first and the last epoch, as shares."""
    axes = new_axes(5.6, 3.2)
    n_bins = len(confidence[0])
    centres = (np.arange(n_bins) + 0.5) / n_bins
    for name, counts, colour in (
        ("first epoch", confidence[0], "sky"),
        ("last epoch", confidence[-1], "blue"),
    ):
        share = np.asarray(counts) / max(sum(counts), 1)
        axes.step(centres, 100 * share, where="mid", color=PALETTE[colour], label=name)
    axes.set_xlabel("probability of the most probable class")
    axes.set_ylabel("weak views (%)")
    axes.legend()
    axes.grid(axis="y")
    return axes


def draw_law(law: Metrics, counts: Sequence[int]) -> Axes:
    """The estimated law of the unlabelled images and that of the labelled ones, classes by labelled images."""
    axes = new_axes(5.6, 3.2)
    order = np.argsort(-np.asarray(counts), kind="stable")
    labelled = np.asarray(counts, dtype=float)[order] / max(sum(counts), 1)
    found, ci95 = np.asarray(law["law"])[order], np.asarray(law["law_ci95"])[order]
    places = np.arange(len(order))
    axes.fill_between(places, 100 * ci95[:, 0], 100 * ci95[:, 1], color=PALETTE["blue"], alpha=0.25, lw=0)
    axes.plot(places, 100 * found, color=PALETTE["blue"], label="unlabelled")
    axes.plot(places, 100 * labelled, color=PALETTE["grey"], label="labelled")
    axes.set_xlabel("class, from the most to the fewest labelled images")
    axes.set_ylabel("share (%)")
    axes.set_ylim(bottom=0)
    axes.legend()
    axes.grid(axis="y")
    return axes


def _figure(axes: Axes, path: Path, caption: str) -> Figure:
    return Figure(drawn(axes.figure, path), caption, caption)  # type: ignore[arg-type]


def _table(rows: Sequence[Metrics]) -> Table:
    there = {row["group"] for row in rows if row["n"]}
    ends = {rows[0]["epoch"], rows[-1]["epoch"]}
    shown = [
        [
            str(row["epoch"]),
            row["group"],
            f"{row['n']:,}",
            "" if row["precision"] is None else f"{100 * row['precision']:.1f} %",
        ]
        for row in rows
        if row["group"] in there and row["epoch"] in ends
    ]
    caption = "Pseudo-labels of the first and the last epoch, by D group; all epochs are in metrics.json."
    return Table(["epoch", "group", "pseudo-labels", "right"], shown, caption)
