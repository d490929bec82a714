"""DAGitty code, ``dag { U [latent] X [exposure] U -> X <-> Y }``, as its web page, R package and pgmpy write it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import networkx as nx

from causalft.errors import CausalFTError
from causalft.scm.formats.dot import DotNode, parse_dot_text
from causalft.scm.formats.graph_format import COMMENTS, Draft, GraphFormat, node_roles, quoted
from causalft.scm.graph import ARROW, CIRCLE, TAIL, edge_marks, latency, latent_nodes

__all__ = ["FORMAT", "parse_dagitty", "to_dagitty"]

_MARKS = {
    "->": (TAIL, ARROW),
    "<-": (ARROW, TAIL),
    "<->": (ARROW, ARROW),
    "--": (TAIL, TAIL),
    "@->": (CIRCLE, ARROW),
    "<-@": (ARROW, CIRCLE),
    "@-@": (CIRCLE, CIRCLE),
    "@--": (CIRCLE, TAIL),
    "--@": (TAIL, CIRCLE),
}
_KINDS = dict.fromkeys(("dag", "pdag", "mag", "pag", "digraph", "graph"), tuple(_MARKS))
_REFUSED = {
    "pdag": "a PDAG stands for several DAGs",
    "mag": "the edges of a MAG do not mean direct causes",
    "pag": "a PAG stands for several graphs",
    "graph": "an undirected graph has no causes",
}
_LATENT = ("latent", "latents", "unobserved", "u", "l")
_ROLES = {"exposure": "exposures", "exposures": "exposures", "e": "exposures"}
_ROLES |= {"outcome": "outcomes", "outcomes": "outcomes", "o": "outcomes"}
_SELECTED = ("selected", "s")
#: Marks that choose an analysis, not a graph.
_NO_STATEMENT = ("adjusted", "a", "source", "target")


def parse_dagitty(text: str, source: str) -> nx.DiGraph:
    """Parse DAGitty code. Exposure and outcome become the treatment and outcome if no others are named.

    ``adjusted`` is a choice of analysis and is not kept; positions and coefficients are not read.

    Raises
    ------
    CausalFTError
        If it is not valid, is a pdag, mag or pag, is not a DAG, or a node is ``selected`` (not represented here).

    Examples
    --------
    >>> graph = parse_dagitty('dag { X [exposure,pos="0,1"] U [latent] {U X} -> Y <- X; U -> X }', "g.txt")
    >>> sorted(graph.edges), graph.nodes["U"]["latent"], graph.graph["exposures"]
    ([('U', 'X'), ('U', 'Y'), ('X', 'Y')], True, ['X'])
    """
    if wrapped := re.fullmatch(
        r"\s*(?:\w+\s*<-\s*)?dagitty\(\s*(['\"])(.*)\1\s*\)\s*", text, flags=re.DOTALL
    ):
        text = wrapped.group(2)
    read = parse_dot_text(text, source, _KINDS)
    if read.kind in _REFUSED:
        raise CausalFTError(
            f"{source} is a {read.kind}, not a dag: {_REFUSED[read.kind]}; give a dag, every edge decided"
        )
    draft = Draft(source)
    for node in read.nodes.values():
        draft.node(node.name, latent=_latent(node, draft, f"{source} line {node.line}: node {node.name}"))
    for edge in read.edges:
        where = f"line {edge.line}"
        between = f"{source} {where}: edge {edge.left} {edge.op} {edge.right}"
        marks = edge_marks(edge.attributes, between, _MARKS[edge.op])
        if marks is not None:
            draft.edge(edge.left, edge.right, marks, where)
    return draft.graph()


def _latent(node: DotNode, draft: Draft, where: str) -> bool | None:
    """Note a node's roles, and return whether it is latent."""
    said = dict(node.attributes)
    for key, value in node.attributes.items():
        if value != "true":
            continue
        if key in _LATENT:
            del said[key]
            said["latent"] = "true"
        elif key in _ROLES:
            getattr(draft, _ROLES[key]).append(node.name)
        elif key in _SELECTED:
            raise CausalFTError(
                f"{where} is selected: data taken by its value obey another graph, which is not represented here; "
                "leave the mark out if all of the population is seen"
            )
        elif key not in _NO_STATEMENT and key not in ("observed", "measured", "hidden", "unmeasured"):
            raise CausalFTError(
                f"{where} has the mark {key!r}, which is not known; known: latent, exposure, outcome, adjusted"
            )
    return latency(said, where)


def to_dagitty(
    graph: nx.DiGraph,
    *,
    treatment: str | None = None,
    outcome: str | None = None,
    adjustment: Iterable[str] = (),
) -> str:
    """Return the graph as DAGitty code, for dagitty.net, its R package, pgmpy and DoWhy.

    Examples
    --------
    >>> print(to_dagitty(nx.DiGraph([("X", "Y")]), treatment="X"))
    dag {
      "X" [exposure]
      "Y"
      "X" -> "Y"
    }
    <BLANKLINE>
    """
    words = {"treatment": "exposure", "outcome": "outcome", "adjustment": "adjusted"}
    roles = node_roles(graph, treatment, outcome, adjustment)
    latent = latent_nodes(graph)
    lines = ["dag {"]
    for name in graph.nodes:
        marks = (["latent"] if name in latent else []) + ([words[roles[name]]] if name in roles else [])
        lines.append(f"  {quoted(name)}{' [' + ','.join(marks) + ']' if marks else ''}")
    lines += [f"  {quoted(cause)} -> {quoted(effect)}" for cause, effect in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


FORMAT = GraphFormat(
    name="dagitty",
    title="DAGitty code",
    endings=(".dagitty",),
    opening=COMMENTS
    + r"(?:[\w.]+\s*<-\s*)?(?:dagitty\s*\(\s*['\"]\s*)?p?(?:dag|mag|ag)\b\s*(?:\"[^\"]*\"\s*)?\{",
    read=parse_dagitty,
    write=to_dagitty,
)
