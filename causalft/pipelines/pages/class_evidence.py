"""The page of ``diagnose --class-accuracy``: is there parameter imbalance in the tables, and does it stand?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from causalft.analysis.class_evidence.figures import (
    accuracy_along_counts,
    cross_table_heat,
    slopes_forest,
    used_log_counts,
)
from causalft.analysis.class_evidence.words import in_points, short_names
from causalft.data.groups import GROUPS
from causalft.report.drawing import draw
from causalft.report.html import Figure, Section, Table, made_line, render_report
from causalft.report.style import figure_style
from causalft.runs.folder import Run
from causalft.runs.progress import named

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure as Plot

__all__ = [
    "checks_table",
    "cross_table",
    "evidence_sections",
    "likeness_table",
    "models_table",
    "slope_rows",
    "write_evidence_page",
]

Metrics = Mapping[str, Any]

_SHOWN_CLASSES = 15


def models_table(metrics: Metrics) -> Table:
    """Accuracy of each model, overall and by its own P groups."""
    names = short_names(list(metrics["cross_table"]))
    rows = []
    for name, found in metrics["strata"].items():
        rho = found["rank_correlation"]
        correlation = "" if rho["estimate"] is None else f"{rho['estimate']:.2f}"
        if rho["ci95"]:
            correlation += f" [{rho['ci95'][0]:.2f}, {rho['ci95'][1]:.2f}]"
        groups = ("" if found["P"][g] is None else f"{100 * found['P'][g]:.1f}" for g in GROUPS)
        rows.append(
            [
                names[name],
                f"{100 * found['mean_accuracy']:.1f}",
                *groups,
                in_points(found["P_gap"], sign=True),
                correlation,
            ]
        )
    for name, found in metrics["outside_models"].items():
        rows.append([names[name], f"{100 * found['mean_accuracy']:.1f}", "", "", "", "", ""])
    caption = (
        "Mean class accuracy in percent, also on the 30 % of the classes with the highest counts of the model's own "
        "pre-training (P-many), the next 30 %, and the last 40 % (P-few). Last column: Spearman's correlation of class "
        "accuracy with the counts."
    )
    header = ["model", "all", *(f"P-{group}" for group in GROUPS), "many minus few", "rank correlation"]
    return Table(header, rows, caption)


def cross_table(metrics: Metrics) -> Table:
    """P gap of each model by each prior, as text."""
    names = short_names(list(metrics["cross_table"]))
    rows = [
        [names[model], *(in_points(cell, sign=True) for cell in row.values())]
        for model, row in metrics["cross_table"].items()
    ]
    return Table(
        ["model", *(f"by {names[prior]}" for prior in metrics["strata"])],
        rows,
        "P-many minus P-few in points: model by prior.",
    )


def slope_rows(metrics: Metrics) -> list[tuple[str, Mapping[str, Any], str]]:
    """Rows of the forest: the slope, its variants, the placebos, the checks."""
    partial, placebo = metrics["variants"]["partial"], metrics["placebo"]
    rows = [
        ("slope", metrics["slope"], "black"),
        ("binomial model, at the mean", metrics["variants"]["logit"]["points"], "blue"),
        ("own count, beside the others'", partial["own"], "blue"),
        ("the others' count, beside own", partial["others"], "grey"),
        ("placebo: shuffled between classes", placebo["shuffled_classes"], "orange"),
        ("placebo: dealt anew to the models", placebo["swapped_models"], "orange"),
    ]
    rows += [
        (_LABELS.get(name, name), check, "green")
        for name, check in metrics["checks"].items()
        if name != "bend"
    ]
    return [row for row in rows if row[1] is not None]


_LABELS = {
    "no_ceiling": "classes of 20 to 80 % accuracy",
    "one_word": "names of one word",
    "several_words": "names of several words",
    "not_generic": "without the most frequent tenth",
    "rare": "rarest third of the classes",
    "middle": "middle third",
    "common": "most frequent third",
    "no_outliers": "without the twentieth that differs most",
    "difficulty_by_model": "difficulty weighs by model",
    "popularity_by_model": "mean count weighs by model",
    "first_half": "first half of the list",
    "second_half": "second half of the list",
    "neighbours": "interval over blocks of neighbours",
    "bend": "change where counts are a factor 100 higher",
    "with_alike": "with the alike sets too",
    "counted_above_zero": "without classes counted 0 times",
}


def checks_table(metrics: Metrics, *, brief: bool = False) -> Table:
    """The slope under every check, in words; ``brief`` for a terminal."""
    rows = [
        [
            _LABELS.get(name, name) if brief else check["words"],
            in_points(check),
            _images(check),
            f"{check['n_classes']:,}",
            str(check["n_models"]),
        ]
        for name, check in metrics["checks"].items()
    ]
    header = ["check", "slope, 95 % over classes", "over test images", "classes", "models"]
    return Table(header, rows, "Points of accuracy per factor 100 of the count.")


def _images(value: Mapping[str, Any]) -> str:
    return (
        ""
        if not value.get("ci95_images")
        else in_points({**value, "ci95": value["ci95_images"]}).partition(" ")[2]
    )


def likeness_table(metrics: Metrics) -> Table:
    """How alike the priors are."""
    alike, names = metrics["likeness"], short_names(list(metrics["strata"]))

    def pairs(key: str) -> str:
        return ", ".join(
            f"{names[p['models'][0]]} and {names[p['models'][1]]} {p['spearman']:.2f}" for p in alike[key]
        )

    condition, detectable = alike["condition_number"], alike["detectable_slope"]
    rows = [
        ["rank correlation of the counts", pairs("rank_correlation")],
        ["the same, class and model effects taken out", pairs("left_rank_correlation")],
        [
            "variance of the log counts that class and model effects leave",
            f"{100 * alike['variance_left']:.2g} %",
        ],
        ["condition number of the log counts", "infinite" if condition is None else f"{condition:.1f}"],
        [
            "slope that is found with 80 % power",
            "none" if detectable is None else f"{detectable:.1f} points per factor 100",
        ],
    ]
    return Table(["measure", "value"], rows)


def evidence_sections(run: Run, metrics: Metrics, prefix: str = "") -> list[Section]:
    """The sections of one family of models; figures go into the run as ``figures/PREFIX...``."""

    def figure(name: str, plot: Any, caption: str) -> Figure:
        return Figure(draw(plot, run.file(f"figures/{prefix}{name}.png")), caption, caption)

    several, claimed = metrics["own_minus_off"] is not None, bool(metrics["slope"].get("claimed"))
    with figure_style():
        panels = accuracy_along_counts(metrics)
        along: Plot = panels[0].figure  # type: ignore[assignment]
        right = "Right: the same beyond what class and model lead to expect." if len(panels) > 1 else ""
        counts = figure(
            "counts",
            along,
            f"{'Left: a' if right else 'A'}ccuracy of each class against its count in the model's own "
            "pre-training; lines "
            f"join means of equally many classes. {right}".strip(),
        )
        gaps = forest = None
        if several:
            gaps = figure(
                "cross_table",
                cross_table_heat(metrics).figure,
                "P-many minus P-few accuracy of each model (row) by each prior (column). A column that is high for "
                "every model is class difficulty; a diagonal that stands out is parameter imbalance.",
            )
        if claimed:
            forest = figure(
                "slopes",
                slopes_forest(slope_rows(metrics)).figure,
                "The slope, its variants, two placebos that must lie around 0, and the slope under each check.",
            )
    sections = [
        Section("Along the counts", list(metrics["conclusion"][1:]), [models_table(metrics)], [counts])
    ]
    if gaps is not None:
        sections.append(Section("Every model by every prior", figures=[gaps]))
    if forest is not None:
        sections.append(Section("Does it withstand checks?", [_BEND], [checks_table(metrics)], [forest]))
    if several:
        sections.append(Section("Are the priors different enough?", tables=[likeness_table(metrics)]))
        sections.append(Section("Classes whose counts differ most", tables=[_class_table(metrics)]))
    return sections


_BEND = (
    "Intervals over classes hold for other classes of the kind and contain the noise of the test images; those "
    "over test "
    "images are for these very classes."
)


def _class_table(metrics: Metrics) -> Table:
    """The classes with the largest differences of count between the models."""
    import numpy as np

    models = list(metrics["strata"])
    names = short_names(models)
    rows, x = used_log_counts(metrics)
    x = x - x.mean(axis=1, keepdims=True)
    order = np.argsort(-np.ptp(x, axis=0), kind="stable")[:_SHOWN_CLASSES]
    cells = []
    for k in order:
        row = rows[k]
        cells.append(
            [
                row["class"],
                *(_count(row["count"][m]) for m in models),
                *(f"{100 * row['accuracy'][m]:.0f}" for m in models),
            ]
        )
    header = ["class", *(f"n, {names[m]}" for m in models), *(f"%, {names[m]}" for m in models)]
    return Table(header, cells, "Counts n, and accuracy in percent. All classes are in metrics.json.")


def _count(value: float) -> str:
    """A count, or a share of one."""
    return f"{value:,.0f}" if value >= 1 or value == 0 else f"{value:.2g}"


@named("writing the report")
def write_evidence_page(run: Run, metrics: Metrics, command: str) -> Path:
    """Write ``report.html`` and its figures; return the path of the page."""
    names = short_names(list(metrics["strata"]))
    left = metrics["left_out"]
    page = render_report(
        title=f"Class accuracy and pre-training counts: {', '.join(names.values())}",
        verdict=metrics["conclusion"][0],
        made=made_line(metrics),
        facts={
            "models": ", ".join(found["model"] for found in metrics["strata"].values()),
            "further models": ", ".join(found["model"] for found in metrics["outside_models"].values()),
            "classes": f"{metrics['n_classes']:,}" + (f", {len(left):,} left out" if left else ""),
            "counts": ", ".join(f"{names[m]} {p['sha256'][:12]}" for m, p in metrics["priors"].items()),
        },
        sections=[*evidence_sections(run, metrics), Section("What was read", list(metrics["notes"]))],
        command=command,
    )
    return run.write_page(page)
