"""GML, as networkx, DoWhy and yEd write it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import networkx as nx

from causalft.errors import CausalFTError
from causalft.scm.formats.graph_format import COMMENTS, Draft, GraphFormat
from causalft.scm.graph import ARROW, TAIL, edge_marks, latency

__all__ = ["FORMAT", "parse_gml"]


def parse_gml(text: str, source: str) -> nx.DiGraph:
    """Parse GML: ``latent`` or ``observed`` of nodes, ``dir`` of edges, arrows in ``graphics``.

    A node is named by its ``label``, or by its ``id`` without one. A repeated edge counts once.

    Raises
    ------
    CausalFTError
        If it is not valid GML, is undirected, or not a DAG.

    Examples
    --------
    >>> nodes = 'node [ id 0 label "U" observed "no" ] node [ id 1 label "X" ]'
    >>> graph = parse_gml(f"graph [ directed 1 {nodes} edge [ source 0 target 1 ] ]", "g.gml")
    >>> list(graph.edges), graph.nodes["U"]["latent"]
    ([('U', 'X')], True)
    """
    # GML is ASCII; networkx reads other characters as entities.
    ascii_text = text.encode("ascii", "xmlcharrefreplace").decode("ascii")
    # Editors write `directed "1"`; networkx reads 1 alone.
    ascii_text = re.sub(r'\b(directed|multigraph)(\s+)"([01])"', r"\1\2\3", ascii_text)
    if not re.search(r"\bmultigraph\s+[01]", ascii_text):
        # An edge stated twice is an error to networkx unless the file says that it is a multigraph.
        ascii_text = re.sub(r"\bgraph\s*\[", "graph [ multigraph 1\n", ascii_text, count=1)
    label = "label" if re.search(r"\blabel\b", text) else "id"
    try:
        graph = nx.parse_gml(ascii_text, label=label)
    except RecursionError:
        raise CausalFTError(f"{source} is not valid GML: its brackets are nested too deep") from None
    except (nx.NetworkXError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CausalFTError(
            f"{source} is not valid GML ({_one_line(error)}); fix it, or write an edge list (A -> B)"
        ) from None
    draft = Draft(source)
    names = {node: str(node).strip() for node in graph}
    for node, attributes in graph.nodes(data=True):
        latent = latency(attributes, f"{source}: node {names[node]}")
        draft.node(names[node], latent=latent, meaning=str(attributes.get("meaning", "")))
    default = (TAIL, ARROW) if graph.is_directed() else (TAIL, TAIL)
    for left, right, attributes in graph.edges(data=True):
        marks = edge_marks(_flat(attributes), f"{source}: edge {names[left]} -> {names[right]}", default)
        if marks is not None:
            draft.edge(names[left], names[right], marks, "")
    return draft.graph()


def _flat(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Map what an editor writes into ``graphics`` to Graphviz's names."""
    plain = {key: value for key, value in attributes.items() if not isinstance(value, (dict, list))}
    graphics = attributes.get("graphics")
    if not isinstance(graphics, dict):
        return plain
    if "arrow" in graphics:  # Himsolt's GML: first, last, both, none
        plain.setdefault("dir", graphics["arrow"])
    elif "sourceArrow" in graphics:  # yEd
        back, forward = (
            str(graphics.get(key, "none")).lower() != "none" for key in ("sourceArrow", "targetArrow")
        )
        said = {(False, False): "none", (False, True): "forward", (True, False): "back", (True, True): "both"}
        plain.setdefault("dir", said[back, forward])
    return plain


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


FORMAT = GraphFormat(
    name="gml",
    title="GML",
    endings=(".gml",),
    opening=COMMENTS + r"(?:Creator\s+\"[^\"]*\"\s*|Version\s+\S+\s*)*graph\s*\[",
    read=parse_gml,
)
