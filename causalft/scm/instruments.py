"""Instruments: variables that move the treatment and reach the outcome in no other way, alone or given others."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import networkx as nx

from causalft.scm.graph import latent_nodes

__all__ = ["find_instruments", "is_instrument"]


def is_instrument(
    graph: nx.DiGraph, treatment: str, outcome: str, name: str, given: Sequence[str] = ()
) -> bool:
    """Return whether a node is an instrument for the effect, given others (Pearl 2009, definition 7.4.1).

    Neither it nor what is given is affected by the treatment; given these, it is dependent on the treatment, and
    independent of the outcome once the arrows into the treatment are cut.

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
    """Return the instruments, the conditional ones, each with a smallest set, and whether the search was complete.

    Parameters
    ----------
    checks : int
        How many candidate sets may be tried. Whether a set exists is a hard problem, and here it is tried out.

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
    """Return the nodes dependent on a node, nothing given: they have a common cause, or one causes the other."""
    causes = nx.ancestors(graph, name) | {name}
    return causes.union(*(nx.descendants(graph, cause) for cause in causes))
