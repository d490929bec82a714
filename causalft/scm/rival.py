"""Other graphs beside a graph: single changes that would explain a rejection, and random relabelings as a baseline."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from causalft.scm.graph import observed_nodes
from causalft.scm.separation import Independence, implied_independencies, separates

__all__ = ["Change", "Relabelings", "explain", "relabelings"]

#: How many changed graphs are tested on the data.
MAX_CHANGES = 60


@dataclass(frozen=True)
class Change:
    """One change of one link that explains every rejection.

    Attributes
    ----------
    words : str
        ``turn Z -> Y into Y -> Z``, ``add C -> Y`` or ``a hidden common cause of C and Y``.
    implies : int
        How many independencies the changed graph implies; none of them is rejected. The more, the more it risked.
    """

    words: str
    implies: int


@dataclass(frozen=True)
class Relabelings:
    """How well the graph does against itself with its observed nodes exchanged.

    Attributes
    ----------
    n : int
        Relabelings tried; the graph itself is not among them.
    as_good : int
        Those of which no larger share of the implied independencies is contradicted.
    equivalent : int
        Those that imply the same independencies as the graph: data cannot tell them from it.
    share : float
        The share of the graph's implied independencies that is contradicted, each at level alpha.
    all : bool
        Whether every relabeling was tried.
    """

    n: int
    as_good: int
    equivalent: int
    share: float
    all: bool


def explain(
    graph: nx.DiGraph, wrong: Sequence[Independence], rejected: Callable[[Sequence[Independence]], int]
) -> tuple[Change, ...]:
    """Return the single changes after which the graph implies neither a wrong claim nor another that is rejected.

    Parameters
    ----------
    wrong : sequence of Independence
        The claims that the data reject.
    rejected : callable
        Returns how many of several claims the data reject together.

    Returns
    -------
    tuple of Change
        Those that still imply most first; of equals, a turned arrow, an added one, a hidden common cause.
    """
    found = []
    silent = (
        (words, other)
        for words, other in _changes(graph)
        if not any(separates(other, claim) for claim in wrong)
    )
    for words, other in itertools.islice(silent, MAX_CHANGES):
        claims, _ = implied_independencies(other)
        if not rejected(claims):
            found.append(Change(words, len(claims)))
    return tuple(sorted(found, key=lambda change: -change.implies))


def _changes(graph: nx.DiGraph) -> Iterator[tuple[str, nx.DiGraph]]:
    nodes = observed_nodes(graph)
    for cause, effect in graph.edges:
        if cause in nodes and effect in nodes:
            other = graph.copy()
            other.remove_edge(cause, effect)
            if not nx.has_path(other, cause, effect):
                other.add_edge(effect, cause)
                yield f"turn {cause} -> {effect} into {effect} -> {cause}", other
    apart = [
        (x, y)
        for x, y in itertools.combinations(nodes, 2)
        if not graph.has_edge(x, y) and not graph.has_edge(y, x)
    ]
    for x, y in apart:
        for cause, effect in ((x, y), (y, x)):
            if not nx.has_path(graph, effect, cause):
                other = graph.copy()
                other.add_edge(cause, effect)
                yield f"add {cause} -> {effect}", other
    for x, y in apart:
        other = graph.copy()
        hidden = f"L({x},{y})"
        other.add_node(hidden, latent=True)
        other.add_edges_from([(hidden, x), (hidden, y)])
        yield f"a hidden common cause of {x} and {y}", other


def relabelings(
    graph: nx.DiGraph, contradicted: Callable[[Independence], bool], n: int, seed: int
) -> Relabelings | None:
    """Compare a graph with relabelings of its observed nodes (Eulig et al. 2023).

    DoWhy's ``gcm.falsify`` does this for graphs without latent nodes: it conditions on all parents and skips what has a
    latent one, which in the paper's graph is every test of X. Here every graph is tested as the first one was. For
    graphs without latent nodes, the tests compare the two.

    Parameters
    ----------
    contradicted : callable
        Whether the data contradict a claim.
    n : int
        How many, at random; every one if there are no more.
    seed : int

    Returns
    -------
    Relabelings
    """
    nodes = list(observed_nodes(graph))
    own, _ = implied_independencies(graph)
    share = _share(own, contradicted)
    everything = math.factorial(len(nodes)) - 1 <= n
    if everything:
        orders: Iterator[Sequence[str]] = itertools.islice(itertools.permutations(nodes), 1, None)
    else:
        orders = _random_orders(nodes, n, np.random.default_rng(seed))
    tried = as_good = equivalent = 0
    for order in orders:
        other = nx.relabel_nodes(graph, dict(zip(nodes, order)), copy=True)
        claims, _ = implied_independencies(other)
        tried += 1
        as_good += _share(claims, contradicted) <= share
        equivalent += all(separates(other, claim) for claim in own) and all(
            separates(graph, claim) for claim in claims
        )
    return Relabelings(tried, as_good, equivalent, share, everything)


def _share(claims: Sequence[Independence], contradicted: Callable[[Independence], bool]) -> float:
    return sum(map(contradicted, claims)) / max(len(claims), 1)


def _random_orders(nodes: list[str], n: int, rng: np.random.Generator) -> Iterator[list[str]]:
    while n:
        order = [nodes[i] for i in rng.permutation(len(nodes))]
        if order != nodes:
            n -= 1
            yield order
