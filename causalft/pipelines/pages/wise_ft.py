"""The page of ``wise-ft``: accuracy against alpha, and the alpha chosen on validation images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from causalft.analysis.diagnosis.conclusion import points
from causalft.analysis.diagnosis.intervals import Interval
from causalft.analysis.diagnosis.no_conclusion import grouped
from causalft.data.groups import GROUPS
from causalft.report.drawing import draw
from causalft.report.html import Figure, Section, Table, made_line, render_report
from causalft.report.style import PALETTE, SERIES, figure_style, new_figure
from causalft.runs.folder import Run
from causalft.runs.progress import named

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

__all__ = [
    "CHOICES",
    "choice_rows",
    "curves",
    "draw_wise_ft",
    "wise_ft_rows",
    "wise_ft_sentences",
    "write_wise_ft_report",
]

Metrics = Mapping[str, Any]

CHOICES = ("model", "alpha", "tuned", "at alpha", *(f"D-{group}" for group in GROUPS), "gain (points)")


def curves(metrics: Metrics) -> dict[str, Metrics]:
    """The strata, then the fusion."""
    return {**metrics["strata"], "fused": metrics["fused"]}


def wise_ft_rows(metrics: Metrics) -> list[list[str]]:
    """One row per alpha: validation and test accuracy of every model in percent; * chosen on validation images."""
    rows = []
    for number, alpha in enumerate(metrics["alphas"]):
        row = [f"{alpha:g}"]
        for found in curves(metrics).values():
            point = found["curve"][number]
            star = " *" if found["chosen"] == alpha else ""
            row += [f"{100 * point['validation_accuracy']:.1f}{star}", f"{100 * point['accuracy']:.1f}"]
        rows.append(row)
    return rows


def choice_rows(metrics: Metrics) -> list[list[str]]:
    """One row per model: the chosen alpha and its gain over the tuned weights on test images."""
    rows = []
    for name, found in curves(metrics).items():
        chosen = next(point for point in found["curve"] if point["alpha"] == found["chosen"])
        rows.append(
            [
                name,
                f"{found['chosen']:g}",
                f"{100 * found['curve'][-1]['accuracy']:.1f}",
                f"{100 * chosen['accuracy']:.1f}",
                *("-" if chosen["D"][g] is None else f"{100 * chosen['D'][g]:.1f}" for g in GROUPS),
                points(Interval.from_json(found["chosen_minus_tuned"])) if found["chosen"] != 1 else "-",
            ]
        )
    return rows


def wise_ft_sentences(metrics: Metrics) -> list[str]:
    """Sentences on the choice, its gain, and the curve."""
    fused = metrics["fused"]
    gain = Interval.from_json(fused["chosen_minus_tuned"])
    if metrics.get("no_conclusion"):
        first = (
            f"Validation chooses alpha {fused['chosen']:g} for the fusion. Whether it is better: no conclusion, for "
            f"{'; '.join(grouped(metrics['no_conclusion']))}."
        )
    elif fused["chosen"] == 1:
        first = "Validation chooses the tuned weights for the fusion: no point of the line is better."
    else:
        worth = "a difference beyond chance" if gain.excludes_zero else "which chance explains as well"
        first = (
            f"Validation chooses alpha {fused['chosen']:g} for the fusion: {points(gain)} points on the test images "
            f"against the tuned weights, {worth}."
        )
    lines = [first]
    own = metrics["fused_at_own_alphas"]
    if len(set(own["alphas"].values())) > 1:
        each = ", ".join(f"{name} {alpha:g}" for name, alpha in own["alphas"].items())
        lines.append(
            f"With each stratum at its own alpha ({each}) the fusion reaches {100 * own['accuracy']:.1f} %."
        )
    for name, found in metrics["strata"].items():
        for end, key in (("start", "start_difference"), ("tuned weights", "end_difference")):
            if found[key] is not None and found[key] > 0.01:
                lines.append(
                    f"The {end} of {name} gives probabilities that differ by up to {found[key]:.2g} from those the run "
                    "wrote: it was fitted with another precision or device."
                )
    if "lora" in metrics["tuner"]:
        lines.append(
            "Of LoRA both factors are interpolated, so the line between the weights they make is bent."
        )
    return lines


def draw_wise_ft(metrics: Metrics) -> list[Axes]:
    """Draw accuracy against alpha on validation (left) and test images (right); diamonds mark the choice."""
    figure = new_figure(8.4, 3.6)
    grid = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, key, title in zip(grid, ("validation_accuracy", "accuracy"), ("Validation", "Test")):
        for index, (name, found) in enumerate(curves(metrics).items()):
            colour = PALETTE["black"] if name == "fused" else SERIES[index % len(SERIES)]
            value = [100 * point[key] for point in found["curve"]]
            axes.plot(metrics["alphas"], value, "-o", ms=3, color=colour, label=name)
            axes.plot(
                found["chosen"], value[metrics["alphas"].index(found["chosen"])], "D", color=colour, ms=7
            )
        axes.set_title(title)
        axes.set_xlabel("alpha: 0 where training started, 1 tuned")
        axes.grid(axis="y")
    low, high = grid[1].get_ylim()
    for point in metrics["fused"]["curve"]:
        grid[1].plot(
            [point["alpha"]] * 2,
            [100 * bound for bound in point["ci95"]],
            color=PALETTE["black"],
            lw=0.9,
            zorder=1.8,
        )
    grid[1].set_ylim(min(low, grid[1].get_ylim()[0]), max(high, grid[1].get_ylim()[1]))
    grid[0].set_ylabel("accuracy (%)")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return list(grid)


@named("writing the report")
def write_wise_ft_report(run: Run, metrics: Metrics, command: str) -> Path:
    """Write ``report.html`` and its figure, and return the page's path."""
    with figure_style():
        figure = draw(draw_wise_ft(metrics)[0].figure, run.file("figures/wise_ft.png"))  # type: ignore[arg-type]
    first, *rest = wise_ft_sentences(metrics)
    columns = ["alpha"]
    for name in curves(metrics):
        columns += [f"{name}, validation", f"{name}, test"]
    page = render_report(
        title=f"From the start to the tuned weights: {', '.join(metrics['strata'])}",
        verdict=f"Validation chooses alpha {metrics['fused']['chosen']:g} for the fusion.",
        details=[first],
        made=made_line(metrics),
        facts={
            "run": metrics["run"],
            "data": str(metrics["data"]["name"]),
            "images": f"{metrics['data']['n_validation']} validation, {metrics['data']['n_test']} test",
            "zoo": str(metrics["zoo"]),
            "tuner": metrics["tuner"],
        },
        sections=[
            Section(
                "The line",
                rest,
                [Table(columns, wise_ft_rows(metrics), "Accuracy in percent; * chosen on validation.")],
                [
                    Figure(
                        figure,
                        "Accuracy along the line. Validation chooses (diamonds); thin bars are 95 % intervals of the "
                        "fusion over test images.",
                        "Two panels of accuracy against alpha for every stratum and their fusion",
                    )
                ],
            ),
            Section(
                "What is chosen",
                tables=[Table(CHOICES, choice_rows(metrics), "On the test images, percent.")],
            ),
        ],
        command=command,
    )
    return run.write_page(page)
