"""Node-link JSON, as networkx writes it."""

from __future__ import annotations

from typing import Any

import networkx as nx

from causalft.errors import CausalFTError
from causalft.runs.files import parse_json
from causalft.scm.formats.graph_format import Draft, GraphFormat
from causalft.scm.graph import ARROW, TAIL, edge_marks, latency, truth_value

__all__ = ["FORMAT", "parse_node_link"]


def parse_node_link(text: str, source: str) -> nx.DiGraph:
    """Parse the JSON of :func:`networkx.node_link_data`; edges may be called ``links`` or ``edges``.

    Raises
    ------
    CausalFTError
        If it is not JSON or has another shape, is undirected, or not a DAG.

    Examples
    --------
    >>> document = '{"nodes": [{"id": "U", "observed": "no"}, {"id": "X"}], "links": [{"source": "U", "target": "X"}]}'
    >>> graph = parse_node_link(document, "g.json")
    >>> list(graph.edges), graph.nodes["U"]["latent"]
    ([('U', 'X')], True)
    """
    document = parse_json(text, source, "fix it")
    shape = (
        f'{source} is not a node-link graph; write {{"nodes": [{{"id": "X"}}, ...], '
        '"links": [{"source": "X", "target": "Y"}, ...]}'
    )
    if not isinstance(document, dict):
        raise CausalFTError(shape)
    nodes, links = document.get("nodes"), document.get("links", document.get("edges"))
    if not isinstance(nodes, list) or not isinstance(links, list):
        raise CausalFTError(shape)
    directed = truth_value(document.get("directed", True), f"{source}: directed")
    draft = Draft(source)
    known: dict[Any, str] = {}
    for node in nodes:
        if not isinstance(node, dict) or not isinstance(node.get("id"), (str, int, float)):
            raise CausalFTError(shape)
        name = str(node["id"])
        if name in draft:
            raise CausalFTError(f"{source} has two nodes that are both written {name!r}; rename one")
        known[node["id"]] = name
        latent = latency(node, f"{source}: node {name}")
        draft.node(name, latent=latent, meaning=str(node.get("meaning") or ""))
    for link in links:
        if not isinstance(link, dict) or "source" not in link or "target" not in link:
            raise CausalFTError(shape)
        ends = [link["source"], link["target"]]
        for end in ends:
            if isinstance(end, (dict, list)) or end not in known:
                raise CausalFTError(f"{source} has a link to {end!r:.60}, which is the id of no node")
        left, right = (known[end] for end in ends)
        default = (TAIL, ARROW) if directed else (TAIL, TAIL)
        said = {key: value for key, value in link.items() if key not in ("source", "target")}
        marks = edge_marks(said, f"{source}: edge {left} -> {right}", default)
        if marks is not None:
            draft.edge(left, right, marks, "")
    return draft.graph()


FORMAT = GraphFormat(
    name="node-link",
    title="node-link JSON",
    endings=(".json",),
    opening=r"\s*(?:\[|\{\s*[\"}])",
    read=parse_node_link,
)
