"""What all graph formats share: the record, the draft that a reader fills, and the colours of roles."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import networkx as nx

from causalft.errors import CausalFTError, short
from causalft.scm.graph import ARROW, CIRCLE, TAIL, add_common_cause, as_dag, require_node

__all__ = ["COMMENTS", "FILL", "LINE", "Draft", "GraphFormat", "node_roles", "quoted"]


@dataclass(frozen=True)
class GraphFormat:
    """One text format for causal graphs.

    Attributes
    ----------
    name : str
        Its name on the command line.
    title : str
        Its name in a sentence.
    endings : tuple of str
        Endings of its files, lower case.
    opening : str or None
        Regular expression for how such a text begins, whatever the file is called.
    read : callable
        ``read(text, source) -> DiGraph``; raises CausalFTError, which names the source and the line.
    write : callable, optional
        ``write(graph, *, treatment, outcome, adjustment) -> str``.
    """

    name: str
    title: str
    endings: tuple[str, ...]
    opening: str | None
    read: Callable[[str, str], nx.DiGraph]
    write: Callable[..., str] | None = None


#: Comments before the first word of a DOT, DAGitty or GML text.
COMMENTS = r"(?:\s++|//[^\n]*+|/\*.*?\*/|\#[^\n]*+)*+"

#: Letters; a longer name means that the file is of another kind.
MAX_NAME = 200


class Draft:
    """Nodes and edges as a file states them, in its order; what no DAG can hold is refused by name.

    Parameters
    ----------
    source : str
        The file's name, for error messages.

    Examples
    --------
    >>> draft = Draft("mine.txt")
    >>> draft.edge("X", "Y", (">", ">"), "line 1")
    >>> list(draft.graph().edges)
    [('L(X,Y)', 'X'), ('L(X,Y)', 'Y')]
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.other_names: dict[str, str] = {}
        self.exposures: list[str] = []
        self.outcomes: list[str] = []
        self._graph: nx.DiGraph = nx.DiGraph()
        self._both: list[tuple[str, str]] = []

    def node(self, name: str, *, latent: bool | None = None, meaning: str = "") -> None:
        """State a node; None and empty change nothing."""
        if len(name) > MAX_NAME:
            raise CausalFTError(
                f"{self.source} has a node called '{short(name)}', {len(name)} letters long; {MAX_NAME} is the limit"
            )
        self._graph.add_node(name)
        if latent is not None:
            self._graph.nodes[name]["latent"] = latent
        if meaning:
            self._graph.nodes[name]["meaning"] = meaning

    def edge(self, left: str, right: str, marks: tuple[str, str], where: str) -> None:
        """State an edge by the marks at its ends: ("-", ">") is left -> right.

        Two heads become a latent common cause.

        Raises
        ------
        CausalFTError
            If the edge is undirected or ends in a circle (the mark of a PAG).
        """
        self.node(left)
        self.node(right)
        between = f"{self.source}{' ' if where else ''}{where}: the edge between {left} and {right}"
        if CIRCLE in marks:
            raise CausalFTError(
                f"{between} ends in a circle, the mark of a PAG, which leaves its direction open; a causal graph needs "
                "every edge decided: write -> or <->"
            )
        if marks == (TAIL, TAIL):
            raise CausalFTError(f"{between} is undirected; give it a direction (cause -> effect)")
        if marks == (TAIL, ARROW):
            self._graph.add_edge(left, right)
        elif marks == (ARROW, TAIL):
            self._graph.add_edge(right, left)
        elif left == right:
            raise CausalFTError(f"{between} joins a node with itself; remove it")
        elif (left, right) not in self._both and (right, left) not in self._both:
            self._both.append((left, right))

    def known(self, name: str) -> str:
        """Return a name if a node has it; the error offers the nearest names."""
        return require_node(self._graph, name, source=self.source)

    def __contains__(self, name: object) -> bool:
        return name in self._graph

    def graph(self) -> nx.DiGraph:
        """Return the validated DAG, with a latent node L(left,right) for each two-headed edge.

        Raises
        ------
        CausalFTError
            If it has no edge, a loop or a cycle (named).
        """
        graph = self._graph.copy()
        for left, right in self._both:
            add_common_cause(graph, left, right)
        for key in ("other_names", "exposures", "outcomes"):
            if said := getattr(self, key):
                graph.graph[key] = said
        return as_dag(graph, source=self.source)


# Okabe-Ito, colour-blind safe: fill and outline of each role.
FILL = {"treatment": "#cfe6f5", "outcome": "#fbe3b5", "adjustment": "#c9ebdf", "": "#f4f4f4"}
LINE = {"treatment": "#0072b2", "outcome": "#b07a00", "adjustment": "#00795a", "": "#444444"}


def node_roles(
    graph: nx.DiGraph, treatment: str | None, outcome: str | None, adjustment: Iterable[str]
) -> dict[str, str]:
    """Return the role of each node that has one: treatment, outcome or adjustment."""
    roles = {require_node(graph, name, "adjustment"): "adjustment" for name in adjustment}
    if treatment is not None:
        roles[require_node(graph, treatment, "treatment")] = "treatment"
    if outcome is not None:
        roles[require_node(graph, outcome, "outcome")] = "outcome"
    return roles


def quoted(text: str) -> str:
    """Return a text in double quotes, as in DOT and DAGitty."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
