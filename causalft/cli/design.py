"""``causalft graph design``: prints the tables of an A/B design and its exact truth, and draws its graph."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalft.cli.options import FILE, NAMES, PATH, Number, console, print_json
from causalft.runs import limits

if TYPE_CHECKING:
    from synthetic.design import Design

__all__ = ["command"]


@click.command("design")
@click.argument("name", type=FILE, metavar="paper|confounded|selection|null|label-noise|FILE")
@click.option("--classes", type=NAMES, metavar="A,B,...", help="At least two class names  [default: all six]")
@click.option(
    "--strength",
    type=Number(limits.STRENGTH),
    help="How closely C is tied to Y in B, 0 to 1.  [default: 0.8]",
)
@click.option(
    "--set", "which", type=click.Choice(["A", "B"]), default="B", show_default=True, help="Which of its sets."
)
@click.option(
    "--out",
    type=PATH,
    metavar="FILE",
    help="Where to draw its graph.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(
    name: str,
    classes: tuple[str, ...] | None,
    strength: float | None,
    which: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Print the law of an A/B design: its tables, what they imply, and the exact P(Y|X) and P(Y|do(X)).

    NAME is a built-in design, or a YAML file with tables of your own.
    """
    from causalft.scm.draw import save_graph
    from synthetic.designs import make_design

    design = make_design(name, classes, strength=strength)
    document = _document(design, which)
    if out is not None:
        save_graph(design.scm(which).graph, out, treatment="X", outcome="Y")
    if as_json:
        print_json(document)
        return
    _show(design, document)
    if out is not None:
        click.echo(f"wrote {out}")


def _document(design: Design, which: str) -> dict[str, Any]:
    from causalft.analysis.confounding.curve import truth
    from causalft.scm.exact import PositivityError
    from synthetic.design import design_tables

    model = design.scm(which)
    try:
        exact, why_not = truth(model, selected="S" in model.graph).to_metrics(), None
    except PositivityError as error:
        exact, why_not = None, str(error)
    return {
        "design": design.name,
        "meaning": design.meaning,
        "set": which,
        "classes": list(design.classes),
        "strength": design.strength,
        "edges": [list(edge) for edge in model.graph.edges],
        "tables": design_tables(design, which),
        "p_c_given_y": design.law(which).tolist(),
        "mutual_information_nats": design.dependence(which),
        "best_accuracy": design.best_accuracy(),
        "truth": exact,
        "no_truth": why_not,
    }


def _show(design: Design, document: dict[str, Any]) -> None:
    from rich.table import Table

    out = console()
    which = document["set"]
    out.print(f"design {design.name}, set {which}: {design.meaning}", style="bold")
    out.print("graph: " + ", ".join(f"{cause} -> {effect}" for cause, effect in document["edges"]))
    for node, rows in groupby(document["tables"], key=lambda row: row["node"]):
        listed = list(rows)
        causes = ", ".join(listed[0]["given"])
        out.print(f"\nP({node}{' | ' * bool(causes)}{causes}): {listed[0]['meaning']}", style="bold")
        for row in listed:
            given = ", ".join(row["given"].values())
            p = ", ".join(f"{value} {number:.4g}" for value, number in row["p"].items())
            out.print(f"  {given}{': ' * bool(given)}{p}", soft_wrap=True)
    kept = " among the rows that are kept" if "S" in design.scm(which).graph else ""
    out.print(f"\nP(C | Y){kept}", style="bold")
    for label, row in zip(design.classes, document["p_c_given_y"]):
        out.print(f"  {label}: C=0 {row[0]:.4g}, C=1 {row[1]:.4g}")
    out.print(f"mutual information of C and Y: {document['mutual_information_nats']:.4f} nats")
    exact = document["truth"]
    if exact is None:
        out.print(f"\nno truth: {document['no_truth']}", soft_wrap=True)
    else:
        out.print("\nwhat is seen, and what setting the picture would do", style="bold")
        table = Table("X", box=None, pad_edge=False, header_style="bold")
        for title in ("P(x)", "P(Y=class drawn | x)", "... | do(x))", "TV"):
            table.add_column(title, justify="right")
        for i, code in enumerate(exact["codes"]):
            seen, done = exact["p_y_given_x"][i][i // 2], exact["p_y_do_x"][i][i // 2]
            numbers = (exact["p_x"][i], seen, done, exact["tv_per_code"][i])
            table.add_row(code, *(f"{number:.4f}" for number in numbers))
        out.print(table)
        kl = "infinite" if exact["kl"] is None else f"{exact['kl']:.4f} nats"
        out.print(f"P(Y | X) is {100 * exact['tv']:.1f} points of total variation from P(Y | do(X)); KL {kl}")
    best = ", ".join(f"{cell} {100 * value:.1f} %" for cell, value in document["best_accuracy"].items())
    out.print(f"best accuracy of any classifier (trained->tested): {best}", soft_wrap=True)
