"""d-separation: what a graph implies that data can contradict, which variants of it do better, instruments."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from causalft.scm.graph import latent_nodes, observed_nodes

__all__ = [
    "Change",
    "Independence",
    "Relabelings",
    "explain",
    "find_instruments",
    "implied_independencies",
    "is_instrument",
    "relabelings",
    "separates",
]


#: Most candidate sets for one pair; beyond, a minimal set is taken instead of a smallest one.
MAX_CHECKS = 5_000

#: Most nodes and edges that all checks visit; what is left is shared among the remaining pairs.
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
        """The claim regardless of the order of its nodes: ({x, y}, given)."""
        return frozenset((self.x, self.y)), frozenset(self.given)


def separates(graph: nx.DiGraph, claim: Independence) -> bool:
    """Return whether the graph implies a claim (d-separation, Pearl 2009, section 1.2.3)."""
    return bool(nx.is_d_separator(graph, claim.x, claim.y, set(claim.given)))


def implied_independencies(
    graph: nx.DiGraph,
) -> tuple[tuple[Independence, ...], tuple[tuple[str, str, tuple[str, ...]], ...]]:
    """Return an implied independence for each non-adjacent pair of observed nodes, and the pairs that have none.

    Parameters
    ----------
    graph : networkx.DiGraph
        A DAG from :func:`causalft.scm.as_dag`; separating sets hold no latent node.

    Returns
    -------
    claims : tuple of Independence
        With a smallest separating set; of equals, the first in graph order. In a graph too large to try all sets it may
        only be minimal.
    untestable : tuple of (x, y, latent)
        Pairs that only latent nodes separate, and these nodes.

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
    """Return a claim with a smallest set, and how many sets were tried: only ancestors of the two can be in it."""
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


def is_instrument(
    graph: nx.DiGraph, treatment: str, outcome: str, name: str, given: Sequence[str] = ()
) -> bool:
    """Return whether a node is an instrument for the effect, given others (Pearl 2009, definition 7.4.1).

    The treatment affects neither it nor what is given; given these, it depends on the treatment, and is independent of
    the outcome once the arrows into the treatment are cut.

    Examples
    --------
    >>> graph = nx.DiGraph([("W", "Z"), ("W", "Y"), ("Z", "X"), ("U", "X"), ("U", "Y"), ("X", "Y")])
    >>> is_instrument(graph, "X", "Y", "Z"), is_instrument(graph, "X", "Y", "Z", ["W"])
    (False, True)
    """
    if nx.descendants(graph, treatment) & {name, *given}:
        return False
    cut = _without_arrows_into(graph, treatment)
    return nx.is_d_separator(cut, name, outcome, set(given)) and not nx.is_d_separator(
        graph, name, treatment, set(given)
    )


def find_instruments(
    graph: nx.DiGraph, treatment: str, outcome: str, checks: int
) -> tuple[list[str], list[tuple[str, tuple[str, ...]]], bool]:
    """Return the instruments, the conditional ones with a smallest set each, and whether the search was complete.

    Parameters
    ----------
    checks : int
        How many candidate sets may be tried; finding one is a hard problem.

    Examples
    --------
    >>> graph = nx.DiGraph([("W", "Z"), ("W", "Y"), ("Z", "X"), ("U", "X"), ("U", "Y"), ("X", "Y")])
    >>> nx.set_node_attributes(graph, {"U": True}, "latent")
    >>> find_instruments(graph, "X", "Y", 100)
    ([], [('Z', ('W',))], True)
    """
    cut = _without_arrows_into(graph, treatment)
    latent, after = set(latent_nodes(graph)), nx.descendants(graph, treatment) | {treatment, outcome}
    usable = [name for name in graph if name not in latent and name not in after]
    related_to_outcome, related_to_treatment = _related(cut, outcome), _related(graph, treatment)
    alone = [
        name
        for name in graph
        if name not in after
        and (name not in latent or graph.has_edge(name, treatment))
        and name in related_to_treatment
        and name not in related_to_outcome
    ]
    conditional, complete = [], True
    for name in usable:
        if name in alone or cut.has_edge(name, outcome):
            continue
        others = [other for other in usable if other != name]
        minimal = nx.find_minimal_d_separator(cut, name, outcome, restricted=set(others))
        if minimal is None:
            continue
        found = None
        for given in itertools.chain.from_iterable(
            itertools.combinations(others, size) for size in range(1, len(others) + 1)
        ):
            checks -= 1
            if checks < 0:
                complete = False
                break
            if nx.is_d_separator(cut, name, outcome, set(given)) and not nx.is_d_separator(
                graph, name, treatment, set(given)
            ):
                found = given
                break
        if found is None and not complete and not nx.is_d_separator(graph, name, treatment, minimal):
            found = tuple(other for other in others if other in minimal)
        if found:
            conditional.append((name, found))
    return alone, conditional, complete


def _without_arrows_into(graph: nx.DiGraph, name: str) -> nx.DiGraph:
    cut = graph.copy()
    cut.remove_edges_from(list(graph.in_edges(name)))
    return cut


def _related(graph: nx.DiGraph, name: str) -> set[str]:
    """Return the nodes marginally dependent on a node."""
    causes = nx.ancestors(graph, name) | {name}
    return causes.union(*(nx.descendants(graph, cause) for cause in causes))


#: Most changed graphs that are tested on the data.
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
    """How the graph compares with itself under relabelings of its observed nodes.

    Attributes
    ----------
    n : int
        Relabelings tried, without the graph itself.
    as_good : int
        Those with no larger share of implied independencies contradicted.
    equivalent : int
        Those that imply the same independencies as the graph.
    share : float
        Share of the graph's implied independencies that is contradicted, each at level alpha.
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
    """Return the single changes after which the graph implies no claim that the data reject.

    Parameters
    ----------
    wrong : sequence of Independence
        The rejected claims.
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

    DoWhy's ``gcm.falsify`` conditions on all parents and skips tests with a latent one, which in the paper's graph is
    every test of X; so it is not used here. For graphs without latent nodes, tests compare the two.

    Parameters
    ----------
    contradicted : callable
        Whether the data contradict a claim.
    n : int
        How many random relabelings; all if there are fewer.
    seed : int
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
