"""Figure 12: networks trained and tested on balanced (A) and unbalanced (B) sets, for three designs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from causalft.runs.folder import Run

__all__ = ["EXPERIMENT", "tabulate"]

DESIGNS = ("paper", "confounded", "null")


def compute(create: Callable[..., Run], quick: bool, seeds: int) -> dict[str, Any]:
    """Run the A/B experiment on each design, then gather the cells in one table."""
    from causalft.pipelines.workflows.verify_confounder import run_designs

    command = f"causalft verify-confounder --seeds {seeds}{' --quick' if quick else ''}"
    found = run_designs(create().path, DESIGNS, command=command, seeds=seeds, quick=quick)
    return {"designs": found, **tabulate(found)}


def page(run: Run, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of every design, in a table and in figures."""
    from causalft.analysis.confounding.figures import draw_cells
    from causalft.report.drawing import draw
    from causalft.report.html import Figure, Section, Table
    from causalft.report.style import figure_style

    found = metrics["designs"]
    with figure_style():
        figures = [
            Figure(
                draw(draw_cells(found[design]["cells"]), run.file(f"figures/{design}.png")),
                f"{design}: {found[design]['design_meaning']}.",
                f"Bars of the four accuracies of design {design}.",
            )
            for design in DESIGNS
        ]
    return {
        "title": "Figure 12: does the factor confound?",
        "verdict": "; ".join(f"{design}: {of_design['verdict']}" for design, of_design in found.items())
        + ".",
        "details": metrics["conclusion"],
        "facts": {
            "network": found["paper"]["backbone"],
            "seeds": str(metrics["seeds"]),
            "quick": "yes" if metrics["quick"] else "no",
        },
        "sections": [Section("Accuracy by design", tables=[Table(**metrics["table"])], figures=figures)],
    }


def tabulate(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One row a design: its cells, its drop and its verdict; and the conclusion in sentences.

    Parameters
    ----------
    found : design name -> metrics.json of its run.
    """
    from causalft.analysis.confounding.statistics import CELLS
    from causalft.pipelines.pages.confounder import interval

    rows = []
    for design, metrics in found.items():
        cells = [interval(metrics["cells"][name]["mean"], metrics["cells"][name]["ci95"]) for name in CELLS]
        drop = metrics["tests"]["gap_B"]
        rows.append([design, *cells, interval(drop["estimate"], drop["ci95"]), metrics["verdict"]])
    conclusion = [
        f"{design}: {metrics['verdict']} ({metrics['reason']})." for design, metrics in found.items()
    ]
    conclusion.append(
        "In 'paper' the factor is independent of the class, so its drop shows the harm of a shift of the factor; "
        "confounding in the strict sense is what 'confounded' tests, and 'null' is the control."
    )
    columns = ["design", *CELLS, "drop of B-trained", "verdict"]
    caption = "Accuracy in percent (trained on -> tested on) and the drop B->B minus B->A in points [95 %]."
    return {"table": {"columns": columns, "rows": rows, "caption": caption}, "conclusion": conclusion}


EXPERIMENT = Experiment(
    name="fig12",
    reproduces="Fig. 12",
    claim="the B-trained network drops on A, the A-trained one does not; control: a design without a confounder",
    scale="six drawn classes, 24 px; paper: 100 images per class and set, ResNet-32; the others: 600, ResNet-8",
    minutes=12,
    compute=compute,
    page=page,
    seeds=5,
)
