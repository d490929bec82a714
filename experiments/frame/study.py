"""A study: arms, measures and contrasts, from members to metrics, tables and page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.frame.arms import Arm, members_of
from experiments.frame.measures import MEASURES, Contrast, compare_arms

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalft.report.html import Section, Table
    from causalft.runs.folder import Run
    from experiments.frame.lab import Lab
    from experiments.frame.members import Member
    from experiments.frame.tested import Tested

__all__ = ["Study", "study_metrics", "study_page"]


@dataclass(frozen=True)
class Study:
    """What an experiment of arms declares.

    Attributes
    ----------
    title : str
        Heading of the page.
    arms : sequence of Arm
        Those that lack something are left out, and named in the metrics.
    measures : sequence of str
        Columns, of :data:`experiments.frame.measures.MEASURES`.
    contrasts : sequence of Contrast
        Corrected together by Holm's method. One that names a missing arm is left out.
    conclude : callable
        ``conclude(shown) -> sentences``; ``shown(words)`` is a contrast with its interval, in words.
    measure : callable, optional
        ``measure(lab, tested) -> dict``: further metrics; ``tested`` holds the answers of the arms, None without arms.
    draw : callable, optional
        ``draw(metrics) -> list of Axes``; default: the arms by their first three measures.
    sections : callable, optional
        ``sections(metrics) -> list of Section``: further sections of the page.
    caption : str
        Of the figure.
    known_priors : bool
        Measure along the known priors in place of the estimated ones, where they are known.
    """

    title: str
    arms: Sequence[Arm] = ()
    measures: Sequence[str] = ("accuracy", "many", "medium", "few", "own_gap")
    contrasts: Sequence[Contrast] = ()
    conclude: Callable[[Callable[[str], str]], Sequence[str]] = lambda shown: ()
    measure: Callable[[Lab, Tested | None], Mapping[str, Any]] | None = None
    draw: Callable[[Mapping[str, Any]], list[Axes]] | None = None
    sections: Callable[[Mapping[str, Any]], list[Section]] | None = None
    caption: str = "Bars: 95 % intervals."
    known_priors: bool = False

    @property
    def members(self) -> list[Member]:
        """What is tuned for each seed; the others are read."""
        return members_of(self.arms)


def study_metrics(study: Study, lab: Lab) -> dict[str, Any]:
    """Tune what is missing, answer the test images, and measure."""
    from experiments.frame.measures import check_contrasts
    from experiments.frame.tested import tested

    found: dict[str, Any] = {}
    check_contrasts(study.contrasts, study.measures, [arm.name for arm in study.arms])
    lacking = {arm.name: arm.lacks for arm in study.arms if not arm.models}
    arms = [arm for arm in study.arms if arm.models]
    names = {arm.name for arm in arms}
    contrasts = [c for c in study.contrasts if {*c.plus, *c.minus} <= names]
    answered = tested(lab, arms) if arms else None
    if answered is not None:
        roles = lab.world.roles
        found |= {"strata": list(roles.strata), "seeds_of_one": list(roles.seeds)}
        found |= _measured(study, answered, contrasts)
    if study.measure is not None:
        found |= study.measure(lab, answered)
    if lacking:
        found["left_out"] = lacking
    found |= {"weights": lab.weights, "facts": lab.facts}
    if "conclusion" not in found:
        paired = found.get("paired", {})
        found["conclusion"] = [
            *_concluded(study, paired),
            *(f"Left out: {name}, for {why}." for name, why in lacking.items()),
        ]
    return found


def _concluded(study: Study, paired: Mapping[str, Any]) -> list[str]:
    """The sentences whose numbers are there."""
    from causalft.runs.intervals import interval_text

    def shown(words: str) -> str:
        value = paired.get(words)
        if value is None:
            return "not measured"
        return interval_text(value["estimate"], value["ci95"])

    return list(study.conclude(shown))


def _measured(study: Study, found: Tested, contrasts: Sequence[Contrast]) -> dict[str, Any]:
    """Metrics of the arms."""
    from causalft.scm.falsification import holm

    known = found.known if study.known_priors else None
    methods, paired = compare_arms(
        found.labels,
        found.counts,
        found.estimated if known is None else known,
        found.baseline,
        found.arms,
        study.measures,
        contrasts,
    )
    differences = {words: value.to_json_or_null() for words, value in paired.items()}
    tested = {words: value["p"] for words, value in differences.items() if value and value["p"] is not None}
    for words, p in zip(tested, holm(list(tested.values())), strict=True):
        differences[words]["p_holm"] = float(p)
    table = _table(methods, study.measures)
    return {
        "methods": {
            name: {m: value.to_json_or_null() for m, value in of.items()} for name, of in methods.items()
        },
        "paired": differences,
        "contrasts": {c.words: {"plus": c.plus, "minus": c.minus, "measure": c.measure} for c in contrasts},
        "n_test": len(found.labels),
        "table": vars(table),
    }


def _table(methods: Mapping[str, Mapping[str, Any]], measures: Sequence[str]) -> Table:
    from causalft.analysis.diagnosis.conclusion import interval_text
    from causalft.report.html import Table

    rows = []
    for name, of in methods.items():
        values = [of[m].to_json_or_null() for m in measures]
        rows.append([name, *("none" if value is None else interval_text(value) for value in values)])
    columns = ["arm", *(MEASURES[m].label for m in measures)]
    caption = "Accuracy in percent, gaps in points, 95 % intervals; an arm of several models is their mean."
    return Table(columns, rows, caption)


def _paired_table(metrics: Mapping[str, Any]) -> Table:
    from causalft.analysis.diagnosis.conclusion import interval_text, p_text
    from causalft.report.html import Table

    rows = []
    for words, value in metrics["paired"].items():
        contrast = metrics["contrasts"][words]
        arms = " + ".join(contrast["plus"]) + "".join(f" - {name}" for name in contrast["minus"])
        label = MEASURES[contrast["measure"]].label
        shown = ["none", "", ""]
        if value is not None:
            shown = [interval_text(value), p_text(value["p"]), p_text(value.get("p_holm"))]
        rows.append([words, *shown, f"{label}: {arms}"])
    columns = ["difference (points)", "95 % interval", "p", "p, Holm", "of"]
    return Table(columns, rows, "On the same test images and seeds.")


def study_page(study: Study, run: Run, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of :func:`causalft.report.html.render_report`; writes the figures."""
    from causalft.report.drawing import draw as drawn
    from causalft.report.html import Figure, Section, Table
    from causalft.report.style import figure_style

    sections: list[Section] = []
    figures: list[Figure] = []
    draw = study.draw or (draw_arms if "methods" in metrics else None)
    if draw is not None:
        with figure_style():
            drawing = drawn(draw(metrics)[0].figure, run.file("figures/figure.png"))  # type: ignore[arg-type]
        figures.append(Figure(drawing, study.caption, f"Figure of {study.title}."))
    if "table" in metrics:
        table = Table(**metrics["table"])
        sections.append(Section("Result", list(metrics["conclusion"]), [table], figures))
    elif figures:
        sections.append(Section("Result", list(metrics["conclusion"]), [], figures))
    if metrics.get("paired"):
        words = "Differences on the same test images and seeds; the last p-values are corrected for all rows."
        sections.append(Section("Comparisons", [words], [_paired_table(metrics)]))
    if study.sections is not None:
        sections += study.sections(metrics)
    return {
        "title": study.title,
        "verdict": metrics["conclusion"][0] if metrics["conclusion"] else "",
        "facts": metrics["facts"],
        "sections": sections,
    }


def draw_arms(metrics: Mapping[str, Any], most: int = 3) -> list[Axes]:
    """Each arm by accuracy, D-few and the own P gap, or by the first measures there are."""
    from causalft.pipelines.pages.diagnosis import error_bars
    from causalft.report.style import SERIES, new_figure

    methods = metrics["methods"]
    names = list(methods)[::-1]
    there = [m for m in next(iter(methods.values())) if any(methods[name][m] for name in names)]
    usual = [m for m in ("accuracy", "few", "own_gap") if m in there]
    shown = (usual + [m for m in there if m not in usual])[:most]
    figure = new_figure(2.6 * len(shown) + 1.6, 0.9 + 0.26 * len(names))
    axes = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
    for panel, measure, colour in zip(axes, shown, SERIES, strict=False):
        rows = [(y, methods[name][measure]) for y, name in enumerate(names) if methods[name][measure]]
        x, error = error_bars([value for _, value in rows])
        panel.errorbar(x, [y for y, _ in rows], xerr=error, ls="", marker="o", color=colour)
        unit = "points" if MEASURES[measure].points else "%"
        panel.set_xlabel(fill(f"{MEASURES[measure].label} ({unit})", 24))
        panel.grid(axis="x")
        if MEASURES[measure].points:
            panel.axvline(0, color="#AAAAAA", lw=1)
    axes[0].set_yticks(range(len(names)), names)
    return list(axes)
