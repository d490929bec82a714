"""What a graph implies that data can contradict: for each pair without an arrow, a smallest separating set."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import networkx as nx

from causalft.scm.graph import latent_nodes, observed_nodes

__all__ = ["Independence", "implied_independencies", "separates"]

#: How many candidate sets are tried for one pair before a minimal set is taken instead of a smallest one.
MAX_CHECKS = 5_000

#: And how many nodes and edges all these checks may visit: what is left is shared among the pairs that are left.
MAX_VISITS = 3_000_000


@dataclass(frozen=True)
class Independence:
    """The claim that x and y are independent given some nodes: X _||_ Y | Z."""

    x: str
    y: str
    given: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.x} _||_ {self.y}" + (f" | {', '.join(self.given)}" if self.given else "")

    @property
    def key(self) -> tuple[frozenset[str], frozenset[str]]:
        """The claim whatever the order of its nodes: ({x, y}, given)."""
        return frozenset((self.x, self.y)), frozenset(self.given)


def separates(graph: nx.DiGraph, claim: Independence) -> bool:
    """Return whether the graph implies a claim (d-separation, Pearl 2009, section 1.2.3)."""
    return bool(nx.is_d_separator(graph, claim.x, claim.y, set(claim.given)))


def implied_independencies(
    graph: nx.DiGraph,
) -> tuple[tuple[Independence, ...], tuple[tuple[str, str, tuple[str, ...]], ...]]:
    """Return one implied independence for each pair of observed nodes without an arrow, and the pairs that have none.

    Parameters
    ----------
    graph : networkx.DiGraph
        A DAG as :func:`causalft.scm.as_dag` returns it; a separating set holds no node with ``latent=True``.

    Returns
    -------
    claims : tuple of Independence
        The separating set is as small as possible; of equals, the first in the order of the graph. In a graph that is
        too large to try all sets, it may only be minimal: no part of it separates.
    untestable : tuple of (x, y, latent)
        Pairs that no observed set separates, and the latent nodes of a set that does.

    Examples
    --------
    >>> from causalft.scm import causal_graph
    >>> claims, untestable = implied_independencies(causal_graph())
    >>> [str(claim) for claim in claims], untestable
    (['C _||_ B | X', 'X _||_ Y | C, B'], ())
    """
    nodes = observed_nodes(graph)
    observed, latent = set(nodes), set(latent_nodes(graph))
    claims, untestable = [], []
    pairs = [
        (x, y)
        for x, y in itertools.combinations(nodes, 2)
        if not (graph.has_edge(x, y) or graph.has_edge(y, x))
    ]
    checks = MAX_VISITS // max(graph.number_of_nodes() + graph.number_of_edges(), 1)
    for place, (x, y) in enumerate(pairs):
        minimal = nx.find_minimal_d_separator(graph, x, y, restricted=observed - {x, y})
        if minimal is None:
            hidden = (nx.find_minimal_d_separator(graph, x, y) or set()) & latent
            untestable.append((x, y, tuple(name for name in graph if name in hidden)))
            continue
        claim, tries = _smallest(graph, x, y, set(minimal), min(MAX_CHECKS, checks // (len(pairs) - place)))
        claims.append(claim)
        checks -= tries
    return tuple(claims), tuple(untestable)


def _smallest(graph: nx.DiGraph, x: str, y: str, minimal: set[str], checks: int) -> tuple[Independence, int]:
    """Return a claim with a smallest set, and how many sets were tried.

    Tried are the sets that are smaller than a minimal one: a smallest separator lies among the ancestors of the two.
    """
    around = (nx.ancestors(graph, x) | nx.ancestors(graph, y)) & set(observed_nodes(graph)) - {x, y}
    candidates = [name for name in graph if name in around]
    tries = 0
    for size in range(len(minimal) + 1):
        for given in itertools.combinations(candidates, size):
            if tries >= checks:
                return Independence(x, y, tuple(name for name in graph if name in minimal)), tries
            tries += 1
            if separates(graph, claim := Independence(x, y, given)):
                return claim, tries
    return Independence(x, y, tuple(name for name in graph if name in minimal)), tries
