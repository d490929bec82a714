"""A causal graph in the making: a reader states nodes and edges, and what no DAG can hold is refused by name."""

from __future__ import annotations

import networkx as nx

from causalft.errors import CausalFTError, short
from causalft.scm.graph import ARROW, CIRCLE, TAIL, add_common_cause, as_dag, require_node

__all__ = ["Draft"]

#: The longest name of a node, in letters: what is longer is not a name but a file of another kind.
MAX_NAME = 200


class Draft:
    """Nodes and edges as a file states them, in its order.

    Parameters
    ----------
    source : str
        The file's name; it opens every error message.

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
        """State a node; what is None or empty is left as it was."""
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
        """State an edge by the marks at its two ends: ("-", ">") is left -> right.

        Two heads stand for a latent common cause, which becomes a node of its own.

        Raises
        ------
        CausalFTError
            If the edge has no head (undirected), or a circle (the mark of a PAG): no DAG says that.
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
        """Return the validated DAG: each two-headed edge has become a latent node L(left,right).

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
