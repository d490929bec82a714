"""The page of ``causalft sensitivity``: what P(c), an unobserved confounder and the sample leave uncertain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalft.analysis.uncertainty.simplex import Sensitivity
from causalft.data.groups import GROUPS
from causalft.report.drawing import draw
from causalft.report.html import Figure, Section, Table, made_line, place_name, render_report
from causalft.report.style import PALETTE, SERIES, figure_style, new_figure
from causalft.runs.folder import Run
from causalft.runs.intervals import interval_text
from causalft.runs.progress import named

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "coverage_table",
    "draw_coverage",
    "draw_radius",
    "flips_table",
    "group_table",
    "sentences",
    "unobserved_table",
    "write_sensitivity_page",
]

Metrics = Mapping[str, Any]

_MOST_ROWS = 200


def _words(value: Mapping[str, Any] | None) -> str:
    return "-" if value is None else interval_text(value["estimate"], value["ci95"])


def _on_grid(step: float) -> str:
    words = f"P(c) ran over a grid in steps of {step:.2g}"
    return f"{words}: a class that leads only between its points is missed."


def _how(metrics: Metrics) -> str:
    """How certain predictions, and the distance at which the others change, were found."""
    step = metrics["resolution"]
    if step is None:
        return (
            "A prediction is certain if its class leads in every stratum. The others change where enough of P(c) is "
            "moved; the distance is exact."
        )
    return (
        "A prediction is certain if no other class leads at any P(c) that was tried; the distance of the others is "
        f"that of the nearest P(c) at which one does. {_on_grid(step)}"
    )


def sentences(metrics: Metrics) -> list[str]:
    """The conclusions, the most important one first."""
    certain, alone = metrics["certain"], len(metrics["stratum_prior"]) == 1
    if alone:
        lines = ["The run has one stratum: P(c) is 1, and there is nothing to vary."]
    else:
        lines = [f"{_words(certain)} % of {certain['n']} predictions are the same for every P(c)."]
    accuracy = metrics.get("accuracy")
    if accuracy is not None and accuracy["difference"] is not None:
        lines.append(
            f"Of these {_words(accuracy['certain'])} % are right, of the others {_words(accuracy['uncertain'])} %."
        )
    if metrics["resolution"] is not None:
        lines.append(_on_grid(metrics["resolution"]))
    within = metrics.get("within_interval")
    if within is not None and not alone:
        limits = ", ".join(f"{name} {_words(of)} %" for name, of in within["stratum_prior"].items())
        lines.append(
            f"{_words(within['certain'])} % hold for every P(c) in the 95 % interval of its estimate ({limits})."
        )
    opinion = metrics.get("second_opinion")
    if opinion is not None and not alone:
        line = f"The front door through B predicts another class for {_words(opinion['disagree'])} % of the images"
        difference = opinion.get("accuracy_difference")
        if difference is not None:
            line += f"; its accuracy is {_words(difference)} points from that of the run"
        lines.append(f"{line}.")
    unobserved = metrics["unobserved"]["changeable_up_to"]["1.5"]
    lines.append(
        f"An unobserved confounder of strength 1.5 could change at most {_words(unobserved)} % of the predictions."
    )
    sets = metrics.get("sets")
    if sets is not None:
        line = (
            f"Sets for {100 * sets['coverage']:g} % coverage hold {sets['mean_size']:.1f} classes on average"
        )
        covered = sets.get("covered")
        lines.append(
            f"{line} and the true class in {_words(covered['all'])} % of the images."
            if covered
            else f"{line}."
        )
    return lines


def group_table(metrics: Metrics) -> Table:
    """Share of certain predictions by D and P group."""
    groups = {kind: of for kind, of in metrics["groups"].items() if kind != "of"}
    rows = [["all", "", _words(metrics["certain"]), str(metrics["certain"]["n"])]]
    for kind, of in groups.items():
        for group in GROUPS:
            value = of[group]
            rows.append([kind, group, _words(value), "0" if value is None else str(value["n"])])
    caption = (
        f"Predictions that hold for every P(c), percent [95 %], by group of the {metrics['groups']['of']}. P: by the "
        "pooled prior of the strata."
    )
    return Table(["groups", "group", "certain", "images"], rows, caption)


def flips_table(metrics: Metrics, most: int = _MOST_ROWS) -> Table:
    """By predicted class: certain predictions, and what the others change to; most uncertain ones first."""
    order = sorted(
        metrics["flips"].items(), key=lambda item: (item[1]["certain"] - item[1]["predicted"], item[0])
    )
    rows = []
    for name, of in order[:most]:
        to = [f"{other} {n}" for other, n in of["flips_to"].items()]
        more = f", {len(to) - 4} more" if len(to) > 4 else ""
        rows.append(
            [name, str(of["predicted"]), str(of["predicted"] - of["certain"]), ", ".join(to[:4]) + more]
        )
    left = f" The {most} with most of {len(order)}." if len(order) > most else ""
    caption = f"Predictions by class: which change for some P(c), and to which class first.{left}"
    return Table(["predicted class", "images", "uncertain", "changes to"], rows, caption)


def unobserved_table(metrics: Metrics) -> Table:
    """Share of predictions that a confounder of each strength could change."""
    rows = [
        [strength, _words(value)] for strength, value in metrics["unobserved"]["changeable_up_to"].items()
    ]
    caption = (
        "Predictions that an unobserved confounder could change if its association with both X and Y, beyond C, is at "
        "most this ratio; percent [95 %]. It changes none of the others."
    )
    return Table(["strength", "predictions"], rows, caption)


def coverage_table(metrics: Metrics, images: str = "the test images") -> Table:
    """Coverage and size of the prediction sets on some images by D and P group."""
    sets = metrics["sets"]
    rows = []
    for kind, of in sets["covered"].items():
        groups = {"": of} if kind == "all" else {group: of[group] for group in GROUPS}
        for group, value in groups.items():
            if value is not None:
                numbers = [f"{value['mean_size']:.1f}", f"{100 * value['empty']:.1f}", str(value["n"])]
                rows.append([kind, group, _words(value), *numbers])
    caption = (
        f"Prediction sets for {100 * sets['coverage']:g} % coverage on {images}: share that holds the true "
        "class [95 %], mean size, empty sets (%)."
    )
    return Table(["groups", "group", "covered", "size", "empty", "images"], rows, caption)


def _cells_table(metrics: Metrics) -> Table:
    rows = [
        [
            ", ".join(f"D-{pair['D']} x P-{pair['P']}" for pair in cell["groups"]),
            str(cell["n_classes"]),
            str(cell["n_validation"]),
            f"{100 * cell['threshold']:.2g}",
            "{:.0f} to {:.0f}".format(*(100 * limit for limit in cell["range95"])),
        ]
        for cell in metrics["sets"]["cells"]
    ]
    caption = (
        "Groups of classes with a threshold of their own: a class is in a set from this probability on (percent). So "
        "many validation images put the coverage of the group into this range, 95 times of 100."
    )
    return Table(["groups", "classes", "validation images", "threshold", "coverage"], rows, caption)


def draw_radius(found: Sensitivity, metrics: Metrics) -> Axes:
    """Draw the share of predictions that change against how far P(c) moves; dots mark the shares with intervals."""
    axes = new_figure(6.4, 3.4).add_subplot()
    radius = np.sort(found.radius)
    finite = radius[np.isfinite(radius)]
    x = np.r_[0.0, finite, 1.0]
    y = 100 * np.r_[0.0, np.arange(1, len(finite) + 1), len(finite)] / max(1, len(radius))
    axes.step(x, y, where="post", color=PALETTE["blue"])
    for moved, value in metrics["changed_within"].items():
        middle = 100 * value["estimate"]
        low, high = (100 * limit for limit in value["ci95"])
        axes.errorbar(
            float(moved),
            middle,
            yerr=[[max(0.0, middle - low)], [max(0.0, high - middle)]],
            marker="o",
            color=PALETTE["orange"],
        )
    axes.set_xlabel("total variation from the P(c) of the run")
    axes.set_ylabel("predictions that change (%)")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    return axes


def draw_coverage(metrics: Metrics) -> Axes:
    """Draw the coverage of the prediction sets in each group, with intervals, beside what was asked for."""
    sets = metrics["sets"]
    kinds = {kind: of for kind, of in sets["covered"].items() if kind != "all"}
    rows = [("all", sets["covered"]["all"], 0)]
    for number, (kind, of) in enumerate(kinds.items(), 1):
        rows += [(f"{kind}: {group}", of[group], number) for group in GROUPS if of[group] is not None]
    axes = new_figure(6.4, 0.9 + 0.24 * len(rows)).add_subplot()
    for y, (_, value, number) in enumerate(rows):
        middle = 100 * value["estimate"]
        low, high = (100 * limit for limit in value["ci95"])
        colour = PALETTE["black"] if number == 0 else SERIES[(number - 1) % len(SERIES)]
        axes.errorbar(
            middle, y, xerr=[[max(0.0, middle - low)], [max(0.0, high - middle)]], marker="o", color=colour
        )
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.invert_yaxis()
    axes.axvline(100 * sets["coverage"], color="#AAAAAA", lw=1)
    axes.set_xlabel("images whose set holds their class (%)")
    axes.grid(axis="x")
    return axes


@named("writing the report")
def write_sensitivity_page(run: Run, metrics: Metrics, found: Sensitivity, command: str) -> Path:
    """Write ``report.html`` and its figures, and return the page's path."""
    first, *rest = sentences(metrics)
    alt = "Line of the share of predictions that change against the total variation from the P(c) of the run"
    with figure_style():
        radius = draw(draw_radius(found, metrics).figure, run.file("figures/radius.png"))  # type: ignore[arg-type]
        coverage = None
        if "covered" in metrics.get("sets", {}):
            coverage = draw(draw_coverage(metrics).figure, run.file("figures/coverage.png"))  # type: ignore[arg-type]
    sections = [
        Section(
            "P(c)",
            [_how(metrics)],
            [group_table(metrics), flips_table(metrics)],
            [Figure(radius, "Share of the predictions that change if P(c) moves this far at worst.", alt)],
        ),
        Section("An unobserved confounder", tables=[unobserved_table(metrics)]),
    ]
    if "sets" in metrics:
        figures = []
        if coverage is not None:
            words = "Coverage by group with 95 % intervals; the line is what was asked for."
            figures.append(Figure(coverage, words, "Coverage of the prediction sets in each D and P group"))
        tables = [*([coverage_table(metrics)] if coverage is not None else []), _cells_table(metrics)]
        sections.append(Section("Prediction sets", list(metrics["notes"]), tables, figures))
    elif metrics["notes"]:
        sections.append(Section("Prediction sets", list(metrics["notes"])))
    return run.write_page(
        render_report(
            title=f"What stays uncertain: {place_name(metrics['run'])}",
            verdict=first,
            details=rest,
            facts={
                "run": metrics["run"],
                "data": str(metrics["data"] or ""),
                "images": f"{metrics['n']}, {metrics['of']}",
                "fusion": metrics["fusion"],
                "P(c)": ", ".join(
                    f"{name} {weight:.2f}" for name, weight in metrics["stratum_prior"].items()
                ),
            },
            sections=sections,
            command=command,
            made=made_line(metrics),
        )
    )
