"""``causalft graph``: draw a causal graph, identify effects, test its implications, print a design."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalft.cli.options import (
    ANY_TEXT,
    FILE,
    NAMES,
    PATH,
    SEED,
    TEXT,
    Number,
    VerbGroup,
    console,
    print_json,
)
from causalft.errors import CausalFTError
from causalft.runs import limits

if TYPE_CHECKING:
    import networkx as nx

    from causalft.scm.falsification import Falsification, Line
    from synthetic.design import Design

__all__ = ["command", "print_falsification"]


_UNITS = {
    "CMI": "conditional mutual information in nats, less what chance gives",
    "partial correlation": "partial correlation; the interval holds for all components of the test at once",
}


def print_falsification(found: Falsification, title: str, latent: Sequence[str]) -> None:
    """Print the table of a falsification and its conclusion.

    Parameters
    ----------
    found : Falsification
    title : str
    latent : sequence of str
        Latent nodes of the graph.
    """
    from rich.table import Table

    from causalft.runs.intervals import p_words
    from causalft.scm.independence import POWER

    out = console()
    out.print(title, style="bold")
    out.print(f"{found.n} rows; {', '.join(map(str, found.variables))}")
    if measured := [each.name for each in found.variables if each.name in latent]:
        out.print(
            f"latent in the graph, but the table has a column, so taken as observed: {', '.join(measured)}"
        )
    if found.lines:
        table = Table("independence", box=None, pad_edge=False, collapse_padding=True, header_style="bold")
        for name in ("n", "estimate", "95 %", "p", "Holm p", "detects"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("verdict")
        for line in found.lines:
            test, (low, high) = line.test, line.test.ci95
            empty = math.isinf(test.detectable)
            numbers = (
                ("-",) * 5
                if empty
                else (
                    f"{test.estimate:.3f}",
                    f"[{low:.3f}, {high:.3f}]",
                    p_words(test.p),
                    p_words(line.p_holm),
                    f"{test.detectable:.3f}",
                )
            )
            table.add_row(str(line.claim), str(test.n), *numbers, line.verdict)
        out.print()
        out.print(table)
        out.print()
        for (method, quantity), lines in _by_method(found.lines).items():
            out.print(
                f"{method}: {'; '.join(map(_claim, lines))}. Estimate = {_UNITS[quantity]}.", style="dim"
            )
        out.print(
            f"n = rows where both vary; detects = the smallest estimate found with probability {POWER:g}. "
            + _assumes(found),
            style="dim",
        )
    out.print()
    first, *rest = found.words()
    out.print(first, style="bold")
    for sentence in rest:
        out.print(sentence)


def _by_method(lines: Sequence[Line]) -> dict[tuple[str, str], list[Line]]:
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.test.method, line.test.quantity), []).append(line)
    return groups


def _claim(line: Line) -> str:
    """Return a claim with the columns of its correlation: X _||_ Y (X=1 with spread of Y)."""
    return f"{line.claim} ({line.test.component})" if line.test.component else str(line.claim)


def _assumes(found: Falsification) -> str:
    """State the assumptions of the tests."""
    if any(line.test.method == "residual correlation" for line in found.lines):
        return "Assumed: independent rows, and means given continuous variables that polynomials can follow."
    return "Assumed: independent rows."


@click.group(name="graph", cls=VerbGroup)
def command() -> None:
    """Draw a causal graph, identify its effects, and test it on data.

    The verbs take the paper's graph (X <- C -> Y, U -> X, D -> C, X -> B, B -> Y) unless --graph names a file: an edge
    list (lines such as `X <- C -> Y`; `latent: U`; `X <-> Y` for a hidden common cause), DOT, GML, DAGitty code, a
    Mermaid flowchart, or node-link JSON. Latency and direction in a file are kept, or refused by name.
    """


_graph_option = click.option(
    "--graph",
    "file",
    type=FILE,
    metavar="FILE",
    help="Edge list, DOT, GML, DAGitty code, Mermaid or node-link JSON; the paper's graph if not given.",
)


def _graph_options(function: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        _graph_option,
        click.option("--treatment", type=TEXT, metavar="NODE", help="The cause in question.  [default: X]"),
        click.option("--outcome", type=TEXT, metavar="NODE", help="The effect in question.  [default: Y]"),
    )
    for option in reversed(options):
        function = option(function)
    return function


@command.command()
@_graph_options
@click.option("--out", type=PATH, metavar="FILE", help="Where to write the picture.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["png", "svg", "dot", "dagitty", "mermaid"]),
    help="Told from the ending of --out if not given.",
)
def show(
    file: str | None, treatment: str | None, outcome: str | None, out: Path | None, kind: str | None
) -> None:
    """Draw the graph: PNG, SVG, DOT, DAGitty code or Mermaid. Latent nodes are dashed, the adjustment set green.

    Text formats go to standard output if there is no --out.
    """
    from causalft.scm.draw import save_graph
    from causalft.scm.formats import WRITERS
    from causalft.scm.graph import asked_nodes

    if out is None and kind not in WRITERS:
        raise CausalFTError(f"nowhere to draw: give --out graph.{kind or 'png'}")
    graph = _open(file)
    treatment, outcome = asked_nodes(graph, treatment, outcome)
    adjustment: tuple[str, ...] = ()
    if treatment is not None and outcome is not None:
        from causalft.scm.identify import identify

        adjustment = identify(graph, treatment, outcome).adjustment_set or ()
    if out is None:
        text = WRITERS[str(kind)](graph, treatment=treatment, outcome=outcome, adjustment=adjustment)
        click.echo(text, nl=False)
        return
    save_graph(graph, out, format=kind, treatment=treatment, outcome=outcome, adjustment=adjustment)
    click.echo(f"wrote {out}")


@command.command(name="identify")
@_graph_options
@click.option(
    "--adjust", type=ANY_TEXT, metavar="NODES", help="Check this adjustment set instead (comma-separated)."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def identify_command(
    file: str | None, treatment: str | None, outcome: str | None, adjust: str | None, as_json: bool
) -> None:
    """Identify the effect of treatment on outcome.

    Lists all minimal backdoor and front-door sets; without one, the formula of the general ID algorithm or the proof
    that none exists; and instruments, also conditional ones.
    """
    from causalft.scm.graph import asked_nodes, latent_nodes, own_name
    from causalft.scm.identify import check_adjustment_set, identify

    graph = _open(file)
    treatment, outcome = asked_nodes(graph, treatment, outcome)
    for role, node, default in (("treatment", treatment, "X"), ("outcome", outcome, "Y")):
        if node is None:
            nodes = ", ".join(list(graph)[:20])
            raise CausalFTError(f"{file} has no node {default}; give --{role} (nodes: {nodes})")
    assert treatment is not None and outcome is not None
    if adjust is not None:
        names = [own_name(graph, name.strip()) for name in adjust.split(",") if name.strip()]
        estimand = check_adjustment_set(graph, treatment, outcome, names)
        if as_json:
            print_json(
                {"treatment": treatment, "outcome": outcome, "valid": True, "estimand": estimand.to_dict()}
            )
        else:
            click.echo(f"{{{', '.join(estimand.variables)}}} is a valid adjustment set.\n")
            _print_estimand(estimand)
        return
    found = identify(graph, treatment, outcome)
    if as_json:
        document = {"graph": "paper" if file is None else file, "edges": [list(edge) for edge in graph.edges]}
        print_json({**document, "latent": list(latent_nodes(graph)), **found.to_dict()})
        return
    out = console()
    name = f"the graph of {file}" if file else "the paper's graph"
    out.print(f"Effect of {treatment} on {outcome} in {name}", style="bold", markup=False)
    out.print(f"observed: {', '.join(n for n in graph if n not in latent_nodes(graph))}", markup=False)
    out.print(f"latent:   {', '.join(latent_nodes(graph)) or 'none'}\n", markup=False)
    if not found.has_effect:
        click.echo(f"No directed path leads from {treatment} to {outcome}: the effect is zero.\n")
    for estimand in found.estimands:
        _print_estimand(estimand)
    if found.open_path:
        click.echo(f"No backdoor set: no observed variables close the path {found.open_path}.\n")
    if not found.complete:
        click.echo("The graph has too many candidate sets to try them all: more minimal sets may exist.\n")
    if not found.instruments_complete:
        click.echo("Nor were all sets for conditional instruments tried: more of them may exist.\n")
    if not found.identified:
        click.echo(f"The effect is not identified: {found.why_not}. Observe a node of {found.open_path}.")


def _open(file: str | None) -> nx.DiGraph:
    from causalft.scm.formats import read_graph
    from causalft.scm.graph import causal_graph

    return causal_graph() if file is None else read_graph(file)


def _print_estimand(estimand: Any) -> None:
    latent = "" if estimand.observed else ", latent"
    click.echo(f"{estimand.title.replace('{}', '{empty set}')}{latent}")
    click.echo(click.wrap_text(estimand.words, width=96, initial_indent="  ", subsequent_indent="  "))
    click.echo(f"  {estimand.formula}")
    click.echo(f"  LaTeX: {estimand.latex}\n")


@command.command()
@click.option(
    "--data",
    type=FILE,
    required=True,
    metavar="FILE",
    help="CSV (any separator), TSV or Parquet table, one column per node.",
)
@_graph_option
@click.option(
    "--columns", type=TEXT, metavar="X=COL,...", help="Columns of nodes that have another name in the table."
)
@click.option("--discrete", type=TEXT, metavar="NODES", help="Nodes whose numbers are names of categories.")
@click.option("--continuous", type=TEXT, metavar="NODES", help="Nodes whose whole numbers are quantities.")
@click.option(
    "--alpha",
    type=Number(limits.ERROR_RATE),
    default=0.05,
    show_default=True,
    help="Familywise error rate, 0.001 to 0.5.",
)
@click.option(
    "--permutations",
    type=Number(limits.PERMUTATIONS),
    default=0,
    show_default=True,
    metavar="N",
    help="Compare with N relabelings of the graph; all of them if there are no more.",
)
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="Of Monte Carlo tables and relabelings."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def falsify(
    data: str,
    file: str | None,
    columns: str | None,
    discrete: str | None,
    continuous: str | None,
    alpha: float,
    permutations: int,
    seed: int,
    as_json: bool,
) -> None:
    """Test the conditional independencies implied by the graph on a table.

    Tests one independence per pair of observed nodes without an arrow, given the smallest separating set. Latent nodes
    need no column. A rejection contradicts the graph; no rejection proves nothing. The exit code is 0 either way.
    """
    from causalft.scm.falsification import falsify as test_graph
    from causalft.scm.graph import latent_nodes
    from causalft.scm.table import read_table

    pairs = [pair.partition("=") for pair in _names(columns)]
    for node, equals, column in pairs:
        if not (node.strip() and equals and column.strip()):
            raise CausalFTError(f"--columns has {node + equals + column!r}; write NODE=COLUMN,NODE=COLUMN")
    graph = _open(file)
    found = test_graph(
        graph,
        read_table(data),
        alpha=alpha,
        columns={node.strip(): column.strip() for node, _, column in pairs},
        discrete=_names(discrete),
        continuous=_names(continuous),
        permutations=permutations,
        seed=seed,
        source=data,
    )
    if as_json:
        document = {
            "graph": "paper" if file is None else file,
            "data": data,
            "edges": [list(edge) for edge in graph.edges],
        }
        print_json({**document, "latent": list(latent_nodes(graph)), "seed": seed, **found.to_dict()})
        return
    name = f"the graph of {file}" if file else "the paper's graph"
    print_falsification(found, f"What {data} says against {name}", latent_nodes(graph))


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


@command.command("design")
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
def design_command(
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
    document = _design_document(design, which)
    if out is not None:
        save_graph(design.scm(which).graph, out, treatment="X", outcome="Y")
    if as_json:
        print_json(document)
        return
    _show_design(design, document)
    if out is not None:
        click.echo(f"wrote {out}")


def _design_document(design: Design, which: str) -> dict[str, Any]:
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


def _show_design(design: Design, document: dict[str, Any]) -> None:
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
