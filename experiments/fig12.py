"""Figure 12: networks trained and tested on balanced (A) and unbalanced (B) sets, for three designs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from pathlib import Path

    from causalft.runs.folder import Run
    from experiments.frame.claims import Claim
    from experiments.frame.networks import NetworkPlan

__all__ = ["EXPERIMENT", "tabulate"]

DESIGNS = ("paper", "confounded", "null")


def compute(create: Callable[..., Run], quick: bool, seeds: int) -> dict[str, Any]:
    """Run the A/B experiment on each design, then gather the cells in one table."""
    from causalft.pipelines.workflows.trial import usual_jobs
    from causalft.pipelines.workflows.verify_confounder import run_designs

    command = f"causalft verify-confounder --seeds {seeds}{' --quick' if quick else ''}"
    found = run_designs(
        create().path, DESIGNS, command=command, seeds=seeds, quick=quick, jobs=usual_jobs(quick)
    )
    return {"designs": found, "exact": against_truth(quick), **tabulate(found)}


def plan(out: Path, quick: bool, seeds: int) -> NetworkPlan:
    """The networks of each design."""
    from causalft.pipelines.workflows.trial import roles_of
    from causalft.pipelines.workflows.verify_confounder import plan_for
    from experiments.frame.networks import plan_networks
    from synthetic.designs import make_design

    designs = {name: make_design(name, None, None) for name in DESIGNS}
    cases = {name: (design, plan_for(design, quick), out / name) for name, design in designs.items()}
    return plan_networks(cases, seeds, {name: roles_of(design) for name, design in designs.items()})


def against_truth(quick: bool) -> dict[str, Any]:
    """Estimators beside the exact P(Y = look | do(X)) of the strict design, on tables of rows drawn from its law.

    Returns
    -------
    dict
        ``rows`` and ``repetitions``; estimator to ``bias`` and ``coverage`` of nominal 95 % intervals, each
        ``{estimate, ci95}``; ``seeing_less_doing``: what the naive bias tends to, exactly.
    """
    from causalft.analysis.confounding.curve import curve
    from synthetic.designs import make_design

    rows, repetitions = (3000, 50) if quick else (20_000, 200)
    found = curve(
        make_design("confounded", None, None), (rows,), repetitions, estimators=("naive", "backdoor")
    )
    result: dict[str, Any] = {
        point.estimator: {
            "bias": {"estimate": point.bias, "ci95": list(point.bias_ci95)},
            "coverage": {"estimate": point.coverage, "ci95": list(point.coverage_ci95)},
        }
        for point in found.points
    }
    return {**result, "rows": rows, "repetitions": repetitions, "seeing_less_doing": found.difference}


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


def claims() -> tuple[Claim, ...]:
    """What Figure 12 claims, and the answers to objections 1, 2 and 3."""
    from experiments.frame.claims import Claim

    paper, strict, null = ("designs/" + name + "/tests/" for name in DESIGNS)
    drops = "A network trained on the unbalanced set B drops on the balanced set A"
    same = "A network trained on A scores alike on both (within 5 points)"
    beats = "On A, the network trained on A beats the one trained on B"
    shows = "In the strict design, where the factor depends on the class, the B-trained network drops on A"
    no = (
        "Where the factor leaves no trace in the image, the B-trained network does not drop (within 5 points)"
    )
    naive = "P(Y|X) misses the exact P(Y|do(X)) by more than 5 points"
    near = "The backdoor estimate agrees with the exact P(Y|do(X)) within 1 point"
    covers = "Its 95 % intervals hold the exact value at least 90 % of the time"
    return (
        Claim(drops, f"{paper}gap_B", above=0.0, section="Fig. 12"),
        Claim(same, f"{paper}gap_A", within=0.05, section="Fig. 12"),
        Claim(beats, f"{paper}A_minus_B_on_A", above=0.0, section="Fig. 12"),
        Claim(shows, f"{strict}gap_B", above=0.0, objection=1),
        Claim(no, f"{null}gap_B", within=0.05, objection=1),
        Claim(naive, "exact/naive/bias", above=0.05, objection=2),
        Claim(near, "exact/backdoor/bias", within=0.01, objection=2),
        Claim(covers, "exact/backdoor/coverage", above=0.9, objection=2),
        Claim(
            "The factor leaves a trace in the image, given the class",
            f"{strict}c_to_x",
            above=0.0,
            objection=3,
        ),
        Claim("The factor goes with the class, given the image", f"{strict}c_to_y", above=0.0, objection=3),
    )


EXPERIMENT = Experiment(
    name="fig12",
    reproduces="Fig. 12",
    claim="the B-trained network drops on A, the A-trained one does not; control: a design without a confounder",
    scale="six drawn classes, 24 px; paper: 100 images per class and set, ResNet-32; the others: 600, ResNet-8",
    minutes=8,
    compute=compute,
    plans=plan,
    page=page,
    claims=claims,
)
