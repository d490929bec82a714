"""A study: arms, measures and contrasts, from members to metrics, tables and page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.frame.arms import Arm, Model, members_of, singles
from experiments.frame.measures import MEASURES, Answered, Contrast, compare_arms

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalft.report.html import Section, Table
    from causalft.runs.folder import Run
    from experiments.frame.lab import Lab
    from experiments.frame.members import Member
    from experiments.frame.scales import Roles

__all__ = ["BASELINE", "Study", "answers_of", "owned_by", "study_metrics", "study_page"]

BASELINE = "single strata, LA"


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
        ``measure(lab) -> dict``: further metrics, of what is not an arm.
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
    measure: Callable[[Lab], Mapping[str, Any]] | None = None
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
    found: dict[str, Any] = {}
    lacking = {arm.name: arm.lacks for arm in study.arms if not arm.models}
    arms = [arm for arm in study.arms if arm.models]
    names = {arm.name for arm in arms}
    contrasts = [c for c in study.contrasts if {*c.plus, *c.minus} <= names]
    if arms:
        found |= _measured(study, lab, arms, contrasts)
    if study.measure is not None:
        found |= study.measure(lab)
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


def _measured(study: Study, lab: Lab, arms: Sequence[Arm], contrasts: Sequence[Contrast]) -> dict[str, Any]:
    """Metrics of the arms."""
    from causalft.scm.falsification import holm

    roles = lab.world.roles
    baseline = singles(BASELINE, roles)
    correct = answers_of([baseline, *arms], lab)
    splits = lab.world.splits(0)
    priors = _priors(study, lab, baseline)

    methods, paired = compare_arms(
        splits.test.labels,
        splits.train.class_counts,
        priors,
        correct[BASELINE],
        {
            arm.name: Answered(correct[arm.name], [owned_by(model, roles) for model in arm.models])
            for arm in arms
        },
        study.measures,
        contrasts,
    )
    differences = {words: value.to_json_or_null() for words, value in paired.items()}
    tested = {words: value["p"] for words, value in differences.items() if value and value["p"] is not None}
    for words, p in zip(tested, holm(list(tested.values())), strict=True):
        differences[words]["p_holm"] = float(p)
    table = _table(methods, study.measures)
    return {
        "strata": list(roles.strata),
        "seeds_of_one": list(roles.seeds),
        "methods": {
            name: {m: value.to_json_or_null() for m, value in of.items()} for name, of in methods.items()
        },
        "paired": differences,
        "contrasts": {c.words: {"plus": c.plus, "minus": c.minus, "measure": c.measure} for c in contrasts},
        "n_test": len(splits.test),
        "table": vars(table),
    }


def owned_by(model: Model, roles: Roles) -> list[int]:
    """Indices of the strata whose label prior a model has.

    None where one member is chosen, by seed: the mean over the priors of all would look like a small gap of its own.
    """
    from causalft.models.strata.cards import MemberName
    from experiments.frame.answers import CHOOSE

    if model.rule in CHOOSE and len(model.members) > 1:
        return []
    of = {MemberName.parse(member.name).stratum.removesuffix("-wide") for member in model.members}
    return [index for index, name in enumerate(roles.strata) if name in of]


def _priors(study: Study, lab: Lab, baseline: Arm) -> np.ndarray:
    """Label priors of the strata, (M, K)."""
    found = [lab.prediction(model.members[0], 0) for model in baseline.models]
    known = [p.true_prior for p in found if p.true_prior is not None]
    if study.known_priors and len(known) == len(found):
        return np.stack(known)
    return np.stack([p.label_prior for p in found])


def answers_of(arms: Sequence[Arm], lab: Lab) -> dict[str, np.ndarray]:
    """Right answers of each arm, (R models, S seeds, n test images) of bool; each member is read once per seed."""
    from causalft.runs.progress import steps
    from experiments.frame.answers import answer, seen
    from experiments.frame.further import JOINT, NEIGHBOURS, joint, neighbours

    models = list(dict.fromkeys(model for arm in arms for model in arm.models))
    recipe = lab.world.settings.tuning
    right: dict[Model, list[np.ndarray]] = {model: [] for model in models}
    work = [(seed, member) for seed in range(lab.seeds) for member in members_of(arms)]
    predictions: dict[Any, Any] = {}
    current = 0
    labels = lab.world.splits(0).test.labels

    def seen_of(model: Model, member: Member, seed: int, counts: Any) -> Any:
        if model.view == NEIGHBOURS:
            return neighbours(lab, member, seed)
        return seen(predictions[member], model.view, member.tuning(recipe, seed), counts)

    def classes_of(model: Model, seed: int) -> Any:
        if model.rule in JOINT:
            return joint(lab, model.members, JOINT[model.rule], seed).argmax(axis=1)
        splits = lab.world.splits(seed, model.members[0].draw)
        views = [seen_of(model, member, seed, splits.train.class_counts) for member in model.members]
        return answer(views, model.rule, model.stratum_prior, splits, seed)

    def finish(seed: int) -> None:
        for model in models:
            right[model].append(classes_of(model, seed) == labels)
        predictions.clear()

    # Draws of one seed follow one another, so that each is drawn once.
    work.sort(key=lambda item: (item[0], str(item[1].draw)))
    for seed, member in steps(work, "members", len(work)):
        if seed != current:
            finish(current)
            current = seed
        predictions[member] = lab.prediction(member, seed)
    finish(current)
    return {arm.name: np.stack([np.stack(right[model]) for model in arm.models]) for arm in arms}


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
    """Arguments of :func:`causalft.report.html.render_report`; writes figures, ``table.csv`` and ``table.tex``."""
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
        run.file("table.csv").write_text(table.to_csv(), encoding="utf-8")
        run.file("table.tex").write_text(table.to_latex(), encoding="utf-8")
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
        panel.set_xlabel(MEASURES[measure].label + (" (points)" if MEASURES[measure].points else " (%)"))
        panel.grid(axis="x")
        if MEASURES[measure].points:
            panel.axvline(0, color="#AAAAAA", lw=1)
    axes[0].set_yticks(range(len(names)), names)
    return list(axes)
