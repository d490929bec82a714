"""DOT, as Graphviz, networkx, DoWhy, causal-learn and this project write it."""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx

from causalft.errors import CausalFTError
from causalft.scm.formats.dot_grammar import DotGraph, parse_dot_text
from causalft.scm.formats.draft import Draft
from causalft.scm.marks import ARROW, TAIL, edge_marks, latency

__all__ = ["parse_dot"]

_KINDS = {"digraph": ("->",), "graph": ("--",)}


def parse_dot(text: str, source: str) -> nx.DiGraph:
    """Parse DOT: ``observed``, ``latent``, ``style=dashed`` of nodes, ``dir`` and arrow heads of edges, defaults.

    A node is named by its identifier; a ``label`` is another name for it on the command line.

    Raises
    ------
    CausalFTError
        If it is not valid DOT, an edge has no direction, or the graph is not a DAG; the line is named.

    Examples
    --------
    >>> graph = parse_dot("digraph { node [observed=no] U; node [observed=yes] X -> U [dir=back] }", "g.dot")
    >>> list(graph.edges), graph.nodes["U"]["latent"]
    ([('U', 'X')], True)
    """
    read = parse_dot_text(text, source, _KINDS)
    draft = Draft(source)
    names = _causal_learn_names(read)
    invisible = set()
    for node in read.nodes.values():
        where = f"{source} line {node.line}: node {node.name}"
        if "invis" in node.attributes.get("style", "").lower():
            invisible.add(node.name)
            continue
        latent = latency(node.attributes, where)
        if names and latent is None and node.attributes.get("shape") == "square":
            latent = True
        draft.node(names.get(node.name, node.name), latent=latent, meaning=node.attributes.get("meaning", ""))
        label = node.attributes.get("label", "")
        if label and not names and not label.startswith("<"):
            draft.other_names[label] = node.name
    default = (TAIL, ARROW) if read.kind == "digraph" else (TAIL, TAIL)
    for edge in read.edges:
        where = f"line {edge.line}"
        between = f"{source} {where}: edge {edge.left} {edge.op} {edge.right}"
        marks = edge_marks(edge.attributes, between, default)
        if marks is None:
            continue
        if hidden := invisible & {edge.left, edge.right}:
            raise CausalFTError(
                f"{between}: {hidden.pop()} is invisible (style=invis); show it, or remove the edge"
            )
        draft.edge(names.get(edge.left, edge.left), names.get(edge.right, edge.right), marks, where)
    return draft.graph()


def _causal_learn_names(read: DotGraph) -> Mapping[str, str]:
    """Return the labels of a graph as causal-learn writes it: numbered nodes, and both ends of every edge described.

    There, and only there, a square is a latent node: in path diagrams squares are what is observed.
    """
    labels = {node.name: node.attributes.get("label", "") for node in read.nodes.values()}
    numbered = all(name.isdigit() and label for name, label in labels.items())
    described = all({"arrowhead", "arrowtail"} <= set(edge.attributes) for edge in read.edges)
    return labels if numbered and described and len(set(labels.values())) == len(labels) else {}
