"""Bounds for an unobserved U against the truth, and the front door as its detector, in random discrete worlds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from causalft.runs.folder import Run
    from experiments.frame.claims import Claim

GRAPHS = {
    "U beside C": [("C", "X"), ("C", "Y"), ("U", "X"), ("U", "Y"), ("X", "B"), ("B", "Y")],
    "U caused by C": [("C", "U"), ("C", "X"), ("C", "Y"), ("U", "X"), ("U", "Y"), ("X", "B"), ("B", "Y")],
    "no U to Y (control)": [("C", "X"), ("C", "Y"), ("U", "X"), ("X", "B"), ("B", "Y")],
}
_CONTROL = "no U to Y (control)"


def compute(create: Callable[..., Run], quick: bool, seeds: int) -> dict[str, Any]:
    """Random tables on each graph; ``seeds`` worlds of two, three and four states."""
    from experiments.frame.worlds import world_metrics

    create()
    return tabulate({name: world_metrics(edges, seeds, quick) for name, edges in GRAPHS.items()})


def tabulate(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Table and sentences; ``found`` maps the words of a graph to its metrics."""
    from causalft.runs.intervals import interval_text

    def words(value: Mapping[str, Any]) -> str:
        return interval_text(value["estimate"], value["ci95"])

    rows = [
        [
            name,
            f"{of['held']['hits']} of {of['held']['n']}",
            f"{100 * of['width']:.1f}",
            f"{100 * of['gap']:.1f}",
            f"{of['reversed']['needed']} of {of['reversed']['n']}",
            words(of["doors_apart"]),
        ]
        for name, of in found.items()
    ]
    columns = [
        "graph",
        "bounds hold",
        "width",
        "bias",
        "reversed decisions with U above E-value",
        "doors apart (%)",
    ]
    caption = (
        "Bounds of P(y | do(x)) at the strength that U has: cells (x, y) in which they hold, mean width, and mean "
        "distance of the truth from the estimate adjusted for C alone, in points. Doors apart: worlds in which back "
        "door and front door differ with p < 0.05 in a table of rows [95 %]."
    )
    confounded = [of for name, of in found.items() if name != _CONTROL]
    conclusion = [
        f"The bounds hold in {sum(of['held']['hits'] for of in found.values())} of "
        f"{sum(of['held']['n'] for of in found.values())} cells, and "
        f"{sum(of['reversed']['needed'] for of in found.values())} of "
        f"{sum(of['reversed']['n'] for of in found.values())} decisions that U reverses have a U of their E-value "
        "or more.",
        f"The doors disagree in {words(confounded[0]['doors_apart'])} % of the worlds with a hidden U beside C, and in "
        f"{words(found[_CONTROL]['doors_apart'])} % of those in which U has no effect on Y.",
    ]
    return {
        "graphs": found,
        "table": {"columns": columns, "rows": rows, "caption": caption},
        "conclusion": conclusion,
    }


def page(run: Run, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Worlds in which the doors are apart, by graph."""
    from causalft.report.drawing import draw
    from causalft.report.html import Figure, Section, Table
    from causalft.report.style import PALETTE, figure_style, new_axes

    with figure_style():
        axes = new_axes(6.4, 2.2)
        for y, (name, of) in enumerate(metrics["graphs"].items()):
            value, (low, high) = 100 * of["doors_apart"]["estimate"], of["doors_apart"]["ci95"]
            colour = PALETTE["grey" if name == _CONTROL else "blue"]
            axes.errorbar(
                value, y, xerr=[[value - 100 * low], [100 * high - value]], marker="o", color=colour
            )
        axes.set_yticks(range(len(metrics["graphs"])), list(metrics["graphs"]))
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("worlds in which back door and front door disagree (%)")
        drawing = draw(axes.figure, run.file("figures/doors.png"))  # type: ignore[arg-type]
    words = "Share of random worlds in which the two doors differ with p < 0.05."
    return {
        "title": "An unobserved confounder: bounds and a detector",
        "verdict": metrics["conclusion"][0],
        "facts": {"worlds per graph": str(metrics["graphs"][_CONTROL]["worlds"])},
        "sections": [
            Section(
                "Random worlds",
                list(metrics["conclusion"]),
                [Table(**metrics["table"])],
                [Figure(drawing, words, words)],
            )
        ],
    }


def claims() -> tuple[Claim, ...]:
    """The bounds hold where the truth is known, and the front door tells a hidden U."""
    from experiments.frame.claims import Claim

    graphs, section = [f"graphs/{name}" for name in GRAPHS], "What stays uncertain"
    return (
        Claim(
            "Bounds for an unobserved U beside C hold in more than 99 % of the cells",
            f"{graphs[0]}/held",
            above=0.99,
            objection=2,
        ),
        Claim(
            "Bounds for an unobserved U that C causes hold in more than 99 % of the cells",
            f"{graphs[1]}/held",
            above=0.99,
            objection=2,
        ),
        Claim(
            "Back door and front door disagree in most worlds with a hidden U",
            f"{graphs[0]}/doors_apart",
            above=0.5,
            section=section,
        ),
        Claim(
            "Where U has no effect on Y, they disagree in at most 10 % of the worlds",
            f"{graphs[2]}/doors_apart",
            below=0.1,
            section=section,
        ),
    )


EXPERIMENT = Experiment(
    name="unobserved",
    reproduces="Objection 2: bounds for an unobserved U",
    claim="bounds and E-values hold in every world; the doors disagree where U confounds; control: no U to Y",
    scale="random tables on three graphs, 2 to 4 states, 20,000 rows per world",
    minutes=2,
    compute=compute,
    page=page,
    claims=claims,
    seeds=200,
    source="Ding and VanderWeele, Epidemiology 2016; VanderWeele and Ding, Annals of Internal Medicine 2017",
)
