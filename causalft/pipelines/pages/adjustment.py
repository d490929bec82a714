"""The section of a page on the adjusted fusion: gap against accuracy at every strength, and the one in use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.report.drawing import draw as drawn
from causalft.report.html import Figure, Section, Table
from causalft.report.style import PALETTE, figure_style, new_axes
from causalft.runs.intervals import interval_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["adjustment_line", "adjustment_section", "draw_frontier"]

Metrics = Mapping[str, Any]


def adjustment_line(found: Metrics) -> str:
    """One line on what was chosen.

    Examples
    --------
    >>> guard = {"decision": "kept"}
    >>> found = {"strength": 0.2, "ci95": [0.1, 0.3], "guard": guard, "n_images": 600, "chosen_on": "validation"}
    >>> adjustment_line(found)
    'strength 0.20 [0.10, 0.30] of the label priors, by 600 validation images; guard: kept'
    """
    low, high = found["ci95"]
    return (
        f"strength {found['strength']:.2f} [{low:.2f}, {high:.2f}] of the label priors, by {found['n_images']} "
        f"{found['chosen_on']} images; guard: {found['guard']['decision']}"
    )


def draw_frontier(found: Metrics) -> Axes:
    """Accuracy against the own P gap on validation images: a point per strength, a diamond for the one in use."""
    axes = new_axes(5.6, 3.6)
    points = [(100 * p["gap"], 100 * p["accuracy"], p["strength"]) for p in found["frontier"]]
    axes.plot([x for x, _, _ in points], [y for _, y, _ in points], "-o", ms=3.5, color=PALETTE["blue"])
    for x, y, strength in points[::2]:
        axes.annotate(f"{strength:g}", (x, y), xytext=(0, 6), textcoords="offset points", ha="center")
    chosen = found["validation"]
    axes.plot(100 * chosen["gap"], 100 * chosen["accuracy"], "D", ms=8, color=PALETTE["black"])
    axes.axvline(0, color="#AAAAAA", lw=1)
    axes.set_xlabel("own P gap beyond class difficulty (points)")
    axes.set_ylabel("accuracy (%)")
    axes.grid(axis="y")
    return axes


def adjustment_section(metrics: Metrics, folder: Path) -> list[Section]:
    """The section; none for a run whose fusion is not adjusted.

    Parameters
    ----------
    metrics : mapping
        Content of ``metrics.json``.
    folder : Path
        Of the figure.
    """
    found = metrics.get("adjustment")
    if not found:
        return []
    figures = []
    if found["validation"]["gap"] is not None:
        with figure_style():
            drawing = drawn(draw_frontier(found).figure, Path(folder) / "frontier.png")  # type: ignore[arg-type]
        caption = (
            "The whole frontier on validation images, each scored by what the others chose; the numbers are strengths, "
            "the diamond the strength in use. Accuracy: classes alike, or by the target law."
        )
        figures.append(Figure(drawing, caption, caption))
    guard, pool = found["guard"], found["pool"]
    labels = "not defined for one stratum" if found["by_labels"] is None else f"{found['by_labels']:.2f}"
    rows = [
        ["strength a, share of the log priors taken out", f"{found['strength']:.2f}", _range(found["ci95"])],
        ["the strength that labels alone would choose", labels, ""],
        ["w, weight of what a stratum has seen", f"{pool['expertise']:.2f}", ""],
        ["d, share of the training prior taken out, per stratum", f"{pool['train_share']:.2f}", ""],
    ]
    for what, name in (
        ("accuracy at the strength less at 0 (points)", "difference"),
        ("adjusted less product (points)", "over_product"),
        ("adjusted less mixture (points)", "over_mixture"),
    ):
        estimate, _, interval = interval_text(guard[name]["estimate"], guard[name]["ci95"]).partition(" ")
        rows.append([what, estimate, interval])
    words = [
        f"Chosen for equal recall of P-many and P-few classes: {adjustment_line(found)}. Test images chose nothing.",
        *(f"{note[0].upper()}{note[1:]}." for note in found["notes"]),
    ]
    caption = f"Validation images, cross-fitted; tolerance of the guard {100 * guard['tolerance']:g} points."
    table = Table(["what", "value", "95 % interval"], rows, caption)
    return [Section("The adjustment: gap against accuracy", words, [table], figures)]


def _range(ci95: list[float]) -> str:
    return f"[{ci95[0]:.2f}, {ci95[1]:.2f}]"
