"""The page of ``probe``: accuracies of neighbours and heads on the frozen features of each stratum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from causalft.analysis.diagnosis.no_conclusion import grouped
from causalft.data.groups import GROUPS
from causalft.report.drawing import draw
from causalft.report.html import Figure, Section, Table, made_line, place_name, render_report
from causalft.report.style import SERIES, figure_style, new_figure
from causalft.runs.folder import Run
from causalft.runs.intervals import interval_text
from causalft.runs.progress import named

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

__all__ = [
    "COLUMNS",
    "best_head",
    "best_neighbours",
    "draw_probe",
    "probe_cells",
    "probe_rows",
    "probe_sentences",
    "write_probe_report",
]

Metrics = Mapping[str, Any]

COLUMNS = ("features of", "classifier", "lr", "all", "95 %", *(f"D-{group}" for group in GROUPS))


def best_neighbours(document: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the stratum with the best neighbours on validation images, and their scores."""
    strata = document["strata"]
    name = max(strata, key=lambda name: strata[name]["knn"]["validation_accuracy"])
    return name, strata[name]["knn"]


def best_head(document: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Return the stratum with the best head on validation images, and its scores; None without heads."""
    rows = {
        name: max(found["heads"], key=lambda row: row["validation_accuracy"])
        for name, found in document["strata"].items()
        if found["chosen_head"]
    }
    if not rows:
        return None
    name = max(rows, key=lambda name: rows[name]["validation_accuracy"])
    return name, rows[name]


def probe_rows(metrics: Metrics) -> list[tuple[str, str, str, Metrics]]:
    """One row per classifier: stratum, name (* chosen on validation images), learning rate, test scores."""
    rows: list[tuple[str, str, str, Metrics]] = []
    for name, found in metrics["strata"].items():
        if found["zero_shot"] is not None:
            rows.append((name, "zero-shot", "", found["zero_shot"]))
        rows.append((name, f"kNN, k = {found['knn']['k']}", "", found["knn"]))
        several = len({row["head"] for row in found["heads"]}) > 1
        for row in found["heads"]:
            chosen = found["chosen_head"] == {key: row[key] for key in ("head", "loss", "lr")}
            words = f"{row['head']}, {row['loss']}" if several else f"head, {row['loss']}"
            rows.append((name, words + (" *" if chosen else ""), f"{row['lr']:g}", row))
    return rows


def probe_cells(row: tuple[str, str, str, Metrics]) -> list[str]:
    """A row as text, in percent."""
    name, what, lr, scores = row
    accuracy, _, interval = interval_text(scores["accuracy"], scores["ci95"]).partition(" ")
    groups = ("-" if scores["D"][g] is None else f"{100 * scores['D'][g]:.1f}" for g in GROUPS)
    return [name, what, lr, accuracy, interval.strip("[]").replace(", ", "-"), *groups]


def probe_sentences(metrics: Metrics) -> list[str]:
    """Sentences on the choices, and on reading the tables."""
    best, knn = best_neighbours(metrics)
    lines = [
        _no_conclusion("neighbours", knn)
        or f"Best neighbours by validation: {best} with k = {knn['k']}, {_right(knn)} of the test images."
    ]
    if (chosen := best_head(metrics)) is not None:
        best, row = chosen
        lines.append(
            _no_conclusion("heads", row)
            or f"Best head by validation: {best} with {row['loss']} ({row['head']}, lr {row['lr']:g}), "
            f"{_right(row)} of the test images."
        )
        lines.append(
            "All of a stratum see the same features: what a loss changes here, it changes in the head. Neighbours lean "
            "to frequent classes as well, which have more of them."
        )
    return lines


def _right(scores: Metrics) -> str:
    return interval_text(scores["accuracy"], scores["ci95"], scores.get("reason", ""), unit=" %")


def _no_conclusion(what: str, scores: Metrics) -> str:
    reasons = scores.get("no_conclusion")
    return f"Which {what} are best: no conclusion, for {'; '.join(grouped(reasons))}." if reasons else ""


def draw_probe(metrics: Metrics) -> list[Axes]:
    """Draw the accuracy of every classifier with its interval, overall and by D group."""
    rows = probe_rows(metrics)
    names = list(metrics["strata"])
    figure = new_figure(9.0, 1.3 + 0.3 * len(rows))
    grid = figure.subplots(1, 4, sharey=True, sharex=True)
    for axes, group in zip(grid, (None, *GROUPS)):
        for y, (name, _, _, scores) in enumerate(rows):
            value = scores["accuracy"] if group is None else scores["D"][group]
            bounds = scores["ci95"] if group is None else scores["D_ci95"][group]
            if value is None or bounds is None:
                continue
            colour = SERIES[names.index(name) % len(SERIES)]
            axes.plot([100 * bound for bound in bounds], [y, y], color=colour, lw=2.0, solid_capstyle="butt")
            axes.plot(100 * value, y, "o", color=colour, ms=5)
        axes.set_title("all" if group is None else f"D-{group}")
        axes.set_xlabel("accuracy (%)")
        axes.grid(axis="x")
    grid[0].set_yticks(range(len(rows)), [f"{name}: {what}" for name, what, _, _ in rows])
    grid[0].set_ylim(len(rows) - 0.5, -0.5)
    return list(grid)


@named("writing the report")
def write_probe_report(run: Run, metrics: Metrics, command: str) -> Path:
    """Write ``report.html`` and its figure, and return the page's path."""
    with figure_style():
        figure = draw(draw_probe(metrics)[0].figure, run.file("figures/probe.png"))  # type: ignore[arg-type]
    first, *rest = probe_sentences(metrics)
    rows = probe_rows(metrics)
    tried = [
        [name, *(f"{100 * accuracy:.1f}" for accuracy in found["knn"]["tried"].values())]
        for name, found in metrics["strata"].items()
    ]
    numbers = next(iter(metrics["strata"].values()))["knn"]["tried"]
    data = metrics["data"]
    page = render_report(
        title=f"Frozen features of {', '.join(metrics['strata'])} on {place_name(data['name'])}",
        verdict=first,
        made=made_line(metrics),
        facts={
            "data": str(data["name"]),
            "images": f"{data['n_train']} train, {data['n_validation']} validation, {data['n_test']} test",
            "zoo": str(metrics["zoo"]),
            "weights": ", ".join(f"{name} {sha[:12]}" for name, sha in metrics["weights"].items()),
            "seeds of the heads": ", ".join(map(str, metrics["seeds"])),
            "notes": "; ".join(data["notes"]),
        },
        sections=[
            Section(
                "On the test images",
                [*rest, "D groups: by training images of the class (over 100, 20 to 100, under 20)."],
                [
                    Table(
                        COLUMNS,
                        [probe_cells(row) for row in rows],
                        "Accuracy in percent; * chosen on validation.",
                    )
                ],
                [
                    Figure(
                        figure,
                        "Accuracy with 95 % intervals over test images and seeds.",
                        "Dots with intervals: zero-shot, neighbours and heads of every stratum, overall and by D group",
                    )
                ],
            ),
            Section(
                "On the validation images",
                tables=[
                    Table(
                        ["features of", *(f"k = {k}" for k in numbers)],
                        tried,
                        "Mean class accuracy of neighbours in percent.",
                    )
                ],
            ),
        ],
        command=command,
    )
    return run.write_page(page)
