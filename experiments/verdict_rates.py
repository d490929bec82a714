"""Error rates of the verdict: how often it is 'verified' where C confounds, and where it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from pathlib import Path

    from causalft.pipelines.workflows.verify_confounder import Plan
    from causalft.runs.folder import Run
    from experiments.frame.claims import Claim
    from experiments.frame.networks import NetworkPlan
    from synthetic.design import Design

__all__ = ["CASES", "EXPERIMENT", "tabulate"]

CASES: dict[str, tuple[str, float | None]] = {
    "confounded, strength 0.8": ("confounded", 0.8),
    "confounded, strength 0": ("confounded", 0.0),
    "null": ("null", None),
}
"""Words -> design, strength. Only in the first is there a confounder."""


def compute(create: Callable[..., Run], quick: bool, seeds: int) -> dict[str, Any]:
    """Make ``seeds`` runs of each case, at the size of ``verify-confounder --quick``."""
    from causalft.pipelines.workflows.trial import usual_jobs
    from causalft.pipelines.workflows.verdict_rates import verdict_rates
    from causalft.runs.folder import Run

    run = create()
    found: dict[str, dict[str, Any]] = {}
    for words, (design, size, place) in _cases(run.path, quick).items():
        folder = Run.create(
            place,
            kind="verdict-rates",
            config={
                "design": CASES[words][0],
                "strength": design.strength,
                "plan": vars(size),
                "replications": seeds,
            },
        )
        found[words] = verdict_rates(design, size, seeds, run=folder, n_jobs=usual_jobs(quick)).to_metrics()
    return {"cases": found, **tabulate(found)}


def _cases(folder: Path, quick: bool) -> dict[str, tuple[Design, Plan, Path]]:
    """Each case in words: its design, the size of its experiment, its run folder."""
    from causalft.pipelines.workflows.verify_confounder import plan_for
    from synthetic.designs import make_design

    found = {}
    for words, (name, strength) in CASES.items():
        design = make_design(name, None, None, strength=strength)
        size = plan_for(design, True)
        if quick:
            size = replace(size, n_per_class=20, passes=300, seeds=2)
        found[words] = design, size, folder / words.replace(", ", "-").replace(" ", "-")
    return found


def plan(out: Path, quick: bool, seeds: int) -> NetworkPlan:
    """The networks of each case; no verdict depends on the adjusted one."""
    from causalft.pipelines.workflows.trial import roles_of
    from experiments.frame.networks import plan_networks

    cases = _cases(out, quick)
    return plan_networks(cases, seeds, {words: roles_of(of[0], adjust=False) for words, of in cases.items()})


def tabulate(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Table and sentences; ``found`` maps the words of a case to its metrics."""
    columns = ["design", "verified", "inconclusive", "not detected", "runs apart", "drop", "deficit"]
    rows, conclusion = [], []
    for words, metrics in found.items():
        count = metrics["verdicts"]
        low, high = metrics["verified"]["ci95"]
        gaps = [
            f"{100 * metrics['gaps'][name]['mean']:.1f} ({100 * metrics['gaps'][name]['sd']:.1f})"
            for name in ("gap_B", "A_minus_B_on_A")
        ]
        apart = f"{metrics['verdicts_apart'].get('verified', 0)} of {metrics['runs_apart']}"
        rows.append(
            [
                words,
                f"{count.get('verified', 0)} of {metrics['runs']}",
                *(str(count.get(verdict, 0)) for verdict in ("inconclusive", "not detected")),
                f"{apart} ({100 * low:.0f} to {100 * high:.0f} %)",
                *gaps,
            ]
        )
        conclusion.append(
            f"{words}: {count.get('verified', 0)} of {metrics['runs']} runs say 'verified' "
            f"(95 % interval of the rate, from the runs apart: {100 * low:.0f} to {100 * high:.0f} %)."
        )
    caption = (
        "Run k is made of consecutive replications from the k-th on; runs apart share none: how many of them are "
        "'verified', and the 95 % interval of that rate. Drop from B to A and deficit on A in points, mean and "
        "standard deviation over replications."
    )
    return {"table": {"columns": columns, "rows": rows, "caption": caption}, "conclusion": conclusion}


def page(run: Run, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The shares of the verdicts."""
    import numpy as np

    from causalft.report.drawing import draw
    from causalft.report.html import Figure, Section, Table
    from causalft.report.style import PALETTE, figure_style, new_figure

    with figure_style():
        figure = new_figure(7.2, 2.4)
        axes = figure.add_subplot()
        names, start = list(metrics["cases"]), np.zeros(len(metrics["cases"]))
        colours = {"verified": "orange", "inconclusive": "grey", "not detected": "blue"}
        for verdict, colour in colours.items():
            share = [100 * m["verdicts"].get(verdict, 0) / m["runs"] for m in metrics["cases"].values()]
            axes.barh(names, share, 0.6, start, color=PALETTE[colour], label=verdict)
            start += share
        axes.invert_yaxis()
        axes.set_xlabel("runs (%)")
        figure.legend(loc="outside upper center", ncols=3)
        drawing = draw(figure, run.file("figures/verdict_rates.png"))
    caption = "Share of runs with each verdict."
    return {
        "title": "How often is the verdict wrong?",
        "verdict": "Runs that say 'verified': "
        + "; ".join(
            f"{m['verdicts'].get('verified', 0)} of {m['runs']} ({words})"
            for words, m in metrics["cases"].items()
        )
        + ".",
        "facts": {"runs a design": str(metrics["seeds"]), "pictures": "renderer"},
        "sections": [
            Section(
                "Verdicts",
                list(metrics["conclusion"]),
                [Table(**metrics["table"])],
                [Figure(drawing, caption, caption)],
            )
        ],
    }


def claims() -> tuple[Claim, ...]:
    """The verdict finds a confounder and seldom invents one."""
    from experiments.frame.claims import Claim

    there, none, null = (f"cases/{words}/verified" for words in CASES)
    finds = "Where the factor confounds, the verdict is 'verified' in at least two of three runs"
    invents = "{}, the verdict is 'verified' in at most one of three runs"
    return (
        Claim(finds, there, above=2 / 3, objection=1),
        Claim(invents.format("Where the factor is independent of the class"), none, below=1 / 3, objection=1),
        Claim(
            invents.format("Where the factor leaves no trace in the image"), null, below=1 / 3, objection=1
        ),
    )


EXPERIMENT = Experiment(
    name="verdict_rates",
    reproduces="Objection: an experiment that cannot say no proves nothing",
    claim="the verdict is 'verified' where C confounds; controls: strength 0 and the null design",
    scale="six drawn classes, 200 images of 12 px per class (verify-confounder --quick), ResNet-8, runs of 3 seeds",
    minutes=9,
    compute=compute,
    plans=plan,
    page=page,
    claims=claims,
    seeds=30,
    source="this project",
)
