"""Reading a causal graph from a file (edge list, GML, DOT), with errors that name file, line and way out."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx

from causalft.errors import CausalFTError, nearest
from causalft.scm.graph import as_dag

__all__ = ["parse_edge_list", "read_graph"]

_FORMATS = {".gml": "gml", ".dot": "dot", ".gv": "dot"}
_HEADERS = {("source", "target"), ("from", "to"), ("cause", "effect")}
_ARROW = re.compile(r"\s*(<->|->|<-)\s*")


def read_graph(path: str | os.PathLike[str]) -> nx.DiGraph:
    """Read a causal DAG from ``.gml``, ``.dot``/``.gv``, or an edge list (any other ending).

    Nodes are latent where GML says ``latent 1``, where DOT says ``latent=true`` or ``style=dashed``, and where an edge
    list has the line ``latent: U, D``. A two-headed edge (``A <-> B``, in DOT ``dir=both``) stands for a latent common
    cause and becomes a latent node of its own.

    Parameters
    ----------
    path : path-like
        See :func:`parse_edge_list` for the lines of an edge list.

    Returns
    -------
    networkx.DiGraph
        Validated: directed, acyclic, every node named and marked ``latent`` or not.

    Raises
    ------
    CausalFTError
        If the file is missing, unreadable, or is not a DAG; the message names the file, and the line or the cycle.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "graph.txt"
    >>> _ = file.write_text("X <- C -> Y\\nX -> Y\\n")
    >>> sorted(read_graph(file).edges)
    [('C', 'X'), ('C', 'Y'), ('X', 'Y')]
    """
    file = Path(path)
    text = _text(file)
    kind = _FORMATS.get(file.suffix.lower(), "edge list")
    if not text.strip():
        raise CausalFTError(f"{file} is empty; write one edge a line, for example X -> Y")
    if kind == "gml":
        return as_dag(_parse_gml(text, str(file)), source=str(file))
    if kind == "dot":
        return as_dag(_parse_dot(text, str(file)), source=str(file))
    return parse_edge_list(text, source=str(file))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        siblings = [item.name for item in file.parent.iterdir()] if file.parent.is_dir() else []
        hint = nearest(file.name, siblings) if siblings else "check the path"
        raise CausalFTError(
            f"{file}: no such graph file; {hint if hint.startswith('did') else 'check the path'}"
        ) from None
    except IsADirectoryError:
        raise CausalFTError(f"{file} is a folder; give a graph file (edge list, .gml or .dot)") from None
    except UnicodeDecodeError:
        raise CausalFTError(f"{file} is not text (UTF-8); give an edge list, .gml or .dot file") from None
    except OSError as error:
        raise CausalFTError(
            f"{file}: cannot be read ({error.strerror}); give a graph file you can read"
        ) from None


def parse_edge_list(text: str, *, source: str = "edge list") -> nx.DiGraph:
    """Parse an edge list: on each line ``A -> B``, a chain ``X <- C -> Y``, ``A,B``, or ``A B``.

    ``#`` opens a comment, ``latent: U, D`` marks latent nodes, ``A <-> B`` is a latent common cause of A and B, and a
    first line ``source,target`` (or ``from,to``; ``cause,effect``) is a header.

    Raises
    ------
    CausalFTError
        If a line is none of these (the line is named), or the graph is not a DAG.

    Examples
    --------
    >>> graph = parse_edge_list("latent: U\\nU -> X; X -> Y")
    >>> list(graph.edges), graph.nodes["U"]["latent"]
    ([('U', 'X'), ('X', 'Y')], True)
    """
    graph = nx.DiGraph()
    latent: list[str] = []
    first = True
    for number, line in enumerate(text.splitlines(), start=1):
        for statement in line.split("#", 1)[0].split(";"):
            statement = statement.strip()
            if not statement:
                continue
            where = f"{source} line {number}"
            if statement.lower().startswith("latent:"):
                latent += [name.strip() for name in statement[len("latent:") :].split(",") if name.strip()]
            elif _ARROW.search(statement):
                _add_chain(graph, statement, where)
            elif not (first and _fields(statement, where, lower=True) in _HEADERS):
                graph.add_edge(*_fields(statement, where))
            first = False
    return as_dag(graph, latent=latent, source=source)


def _fields(statement: str, where: str, *, lower: bool = False) -> tuple[str, str]:
    parts = [
        part.strip().strip('"') for part in (statement.split(",") if "," in statement else statement.split())
    ]
    if len(parts) != 2 or not all(parts):
        raise CausalFTError(f"{where}: {statement!r} is not an edge; write A -> B, A,B or A B")
    return (parts[0].lower(), parts[1].lower()) if lower else (parts[0], parts[1])


def _add_chain(graph: nx.DiGraph, statement: str, where: str) -> None:
    pieces = _ARROW.split(statement)
    names, arrows = [piece.strip().strip('"') for piece in pieces[::2]], pieces[1::2]
    if not all(names):
        raise CausalFTError(f"{where}: {statement!r} has an arrow with no node beside it; write A -> B")
    for left, arrow, right in zip(names, arrows, names[1:]):
        if arrow == "<->":
            _add_common_cause(graph, left, right)
        elif arrow == "->":
            graph.add_edge(left, right)
        else:
            graph.add_edge(right, left)


def _add_common_cause(graph: nx.DiGraph, left: str, right: str) -> None:
    name = f"L({left},{right})"
    graph.add_node(name, latent=True, meaning="common cause")
    graph.add_edges_from([(name, left), (name, right)])


def _parse_gml(text: str, source: str) -> nx.DiGraph:
    # GML is ASCII by definition and networkx insists; other characters travel as the entities GML has for them.
    ascii_text = text.encode("ascii", "xmlcharrefreplace").decode("ascii")
    label = "label" if re.search(r"\blabel\b", text) else "id"
    try:
        graph = nx.parse_gml(ascii_text, label=label)
    except (nx.NetworkXError, ValueError, KeyError, TypeError) as error:
        raise CausalFTError(
            f"{source} is not valid GML ({error}); mend it, or write an edge list (A -> B)"
        ) from None
    return graph


def _parse_dot(text: str, source: str) -> nx.DiGraph:
    import pydot

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        parsed = pydot.graph_from_dot_data(text)
    if not parsed:
        place = re.search(r"line:\s*(\d+)", said.getvalue())
        line = f" (line {place.group(1)})" if place else ""
        raise CausalFTError(f"{source} is not valid DOT{line}; mend it, or write an edge list (A -> B)")
    if parsed[0].get_type() != "digraph":
        raise CausalFTError(f"{source} is an undirected DOT graph; write digraph and A -> B")
    graph = nx.DiGraph()
    for part in _subgraphs(parsed[0]):
        for node in part.get_nodes():
            _add_dot_node(graph, node.get_name(), node.get_attributes())
        for edge in part.get_edges():
            both = str(edge.get_attributes().get("dir", "")).strip('"') == "both"
            for cause in _endpoints(edge.get_source()):
                for effect in _endpoints(edge.get_destination()):
                    _add_common_cause(graph, cause, effect) if both else graph.add_edge(cause, effect)
    return graph


def _add_dot_node(graph: nx.DiGraph, raw_name: str, attributes: dict[str, Any]) -> None:
    if raw_name in ("node", "edge", "graph") or raw_name.strip('"\\n') == "":
        return  # defaults for drawing, and the empty node pydot sees after a trailing newline
    plain = {key: str(value).strip('"').lower() for key, value in attributes.items()}
    latent = plain.get("latent") in ("true", "1", "yes") or "dashed" in plain.get("style", "")
    meaning = str(attributes.get("meaning", "")).strip('"')
    graph.add_node(_dot_name(raw_name), latent=latent, meaning=meaning)


def _subgraphs(graph: Any) -> Iterator[Any]:
    yield graph
    for child in graph.get_subgraphs():
        yield from _subgraphs(child)


def _endpoints(end: Any) -> list[str]:
    """Return the node names at one end of a DOT edge: one node, or all nodes of ``{B; C}``."""
    if isinstance(end, str):
        return [_dot_name(end)]
    names = [_dot_name(name) for name in end.get("nodes", {})]
    for children in end.get("subgraphs", {}).values():
        for child in children:
            names += _endpoints(child)
    return names


def _dot_name(raw: str) -> str:
    """Unquote a DOT identifier; an unquoted one may carry a port (``A:left``), which is no part of the name."""
    if raw.startswith('"'):
        closing = raw.rfind('"')
        return raw[1:closing].replace('\\"', '"')
    return raw.split(":", 1)[0]
