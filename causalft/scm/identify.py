"""What a causal graph identifies: backdoor and front-door sets, instruments, or the general ID formula.

DoWhy checks each candidate set. The search for all minimal sets is ours: DoWhy's returns one set, or all supersets
too, seeks front doors among the treatment's descendants only, and finds no conditional instruments.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

import networkx as nx

from causalft.errors import CausalFTError
from causalft.runs.progress import named
from causalft.scm.estimand import Estimand, Identification, backdoor, frontdoor, general, instrument
from causalft.scm.general_id import Hedge, identify_generally
from causalft.scm.graph import as_dag, format_path, latent_nodes, observed_nodes, require_node
from causalft.scm.separation import find_instruments

__all__ = ["check_adjustment_set", "check_frontdoor_set", "identify", "import_dowhy", "open_backdoor_path"]


def import_dowhy(name: str = "dowhy") -> ModuleType:
    """Import a module of DoWhy and restore ``sys.displayhook``, which it replaces.

    Examples
    --------
    >>> hook = sys.displayhook
    >>> callable(import_dowhy("dowhy.graph").get_instruments), sys.displayhook is hook
    (True, True)
    """
    hook = sys.displayhook
    try:
        return importlib.import_module(name)
    finally:
        sys.displayhook = hook


#: Most candidate sets of one search; beyond, its list may be incomplete.
MAX_CHECKS = 20_000

#: Most nodes and edges that these checks visit in total.
MAX_VISITS = 1_000_000


@named("asking the causal graph")
def identify(graph: nx.DiGraph, treatment: str = "X", outcome: str = "Y") -> Identification:
    """Find every minimal way to identify the effect of ``treatment`` on ``outcome``.

    Parameters
    ----------
    graph : networkx.DiGraph
        A DAG. Nodes with ``latent=True`` are never in a backdoor or front-door set.
    treatment, outcome : str
        Two different nodes.

    Returns
    -------
    Identification
        All minimal backdoor and front-door sets, smallest first; without any, the formula of the general ID algorithm
        or the hedge that proves that there is none; and the instruments, latent ones marked as not observed.

    Raises
    ------
    CausalFTError
        If the graph is not a DAG, or a node is unknown.

    References
    ----------
    Pearl, "Causality", 2009, sections 3.3.1 (backdoor), 3.3.2 (front-door), 7.4 (instruments); Sharma & Kiciman,
    DoWhy, 2020; Jeong, Tian & Bareinboim, "Finding and listing front-door adjustment sets", NeurIPS 2022.

    Examples
    --------
    >>> from causalft.scm import causal_graph
    >>> found = identify(causal_graph(), "X", "Y")
    >>> found.backdoor[0].variables, found.frontdoor[0].variables, found.instruments[0].variables
    (('C',), ('B',), ('U',))
    >>> print(found.backdoor[0].formula)
    P(y | do(x)) = sum_c P(y | x, c) P(c)
    """
    graph = _checked(graph, treatment, outcome)
    dowhy_graph = import_dowhy("dowhy.graph")
    check_valid_backdoor_set, do_surgery = dowhy_graph.check_valid_backdoor_set, dowhy_graph.do_surgery

    observed = set(observed_nodes(graph)) - {treatment, outcome}
    after = nx.descendants(graph, treatment)
    has_effect = outcome in after
    blocked = do_surgery(graph, [treatment], remove_outgoing_edges=True)

    def is_backdoor(candidate: Sequence[str]) -> bool:
        found = check_valid_backdoor_set(graph, [treatment], [outcome], list(candidate), new_graph=blocked)
        return bool(found["is_dseparated"])

    # Minimal separators lie among the ancestors, and if any set of observed ancestors separates, all of them do.
    ancestors = nx.ancestors(blocked, treatment) | nx.ancestors(blocked, outcome)
    eligible = [name for name in graph if name in (observed & ancestors) - after]
    common = [name for name in eligible if graph.has_edge(name, treatment) and graph.has_edge(name, outcome)]
    sets: list[tuple[str, ...]] = []
    complete = True
    if is_backdoor(eligible):
        sets, complete = _minimal_sets(eligible, is_backdoor, _checks(graph), always=common)
    doors, doors_complete = _frontdoor_sets(graph, treatment, outcome, observed) if has_effect else ([], True)
    found = None
    if has_effect and not sets and not doors and not {treatment, outcome} & set(latent_nodes(graph)):
        found = identify_generally(graph, treatment, outcome)
    instruments, conditional, instruments_complete = (
        find_instruments(graph, treatment, outcome, _checks(graph)) if has_effect else ([], [], True)
    )
    path = None if sets else open_backdoor_path(graph, treatment, outcome, eligible)
    return Identification(
        treatment=treatment,
        outcome=outcome,
        has_effect=has_effect,
        backdoor=tuple(backdoor(graph, treatment, outcome, chosen) for chosen in sets),
        frontdoor=tuple(frontdoor(graph, treatment, outcome, chosen) for chosen in doors),
        instruments=tuple(instrument(graph, treatment, outcome, name) for name in instruments),
        open_path=path,
        complete=complete and doors_complete,
        conditional_instruments=tuple(
            instrument(graph, treatment, outcome, name, given) for name, given in conditional
        ),
        general=None
        if found is None or isinstance(found, Hedge)
        else general(graph, treatment, outcome, found),
        hedge=found if isinstance(found, Hedge) else None,
        instruments_complete=instruments_complete,
    )


def _checks(graph: nx.DiGraph) -> int:
    """Return how many candidate sets one search may try in a graph of this size."""
    return min(MAX_CHECKS, max(100, MAX_VISITS // (graph.number_of_nodes() + graph.number_of_edges())))


def _frontdoor_sets(
    graph: nx.DiGraph, treatment: str, outcome: str, observed: set[str]
) -> tuple[list[tuple[str, ...]], bool]:
    """Return all minimal front-door sets, and whether the search was complete.

    All lie in one largest set, which is a front-door set if any is: the nodes not confounded with the treatment, less,
    repeatedly, those with a backdoor path to the outcome that the treatment leaves open.
    """
    do_surgery = import_dowhy("dowhy.graph").do_surgery

    if graph.has_edge(treatment, outcome):
        return [], True
    cut = do_surgery(graph, [treatment], remove_outgoing_edges=True)
    sources = nx.ancestors(cut, treatment) | {treatment}
    confounded = sources.union(*(nx.descendants(cut, name) for name in sources))
    pool = [name for name in graph if name in observed - confounded]
    while True:
        below = do_surgery(graph, pool, remove_outgoing_edges=True)
        left = [name for name in pool if nx.is_d_separator(below, name, outcome, {treatment})]
        if left == pool:
            break
        pool = left

    def is_frontdoor(candidate: Sequence[str]) -> bool:
        return _frontdoor_failure(graph, treatment, outcome, candidate) is None

    if not pool or not is_frontdoor(pool):
        return [], True
    return _minimal_sets(pool, is_frontdoor, _checks(graph), smallest=1)


@named("asking the causal graph")
def check_adjustment_set(
    graph: nx.DiGraph, treatment: str, outcome: str, adjustment_set: Iterable[str]
) -> Estimand:
    """Return the backdoor estimand of an adjustment set, or refuse the set.

    Parameters
    ----------
    adjustment_set : iterable of str
        Observed nodes; the set need not be minimal.

    Raises
    ------
    CausalFTError
        If the set holds the treatment, the outcome, a latent node or a descendant of the treatment, or leaves a
        backdoor path open (the path is named).

    Examples
    --------
    >>> from causalft.scm import causal_graph
    >>> check_adjustment_set(causal_graph(), "X", "Y", ["C"]).formula
    'P(y | do(x)) = sum_c P(y | x, c) P(c)'
    >>> check_adjustment_set(causal_graph(), "X", "Y", [])
    Traceback (most recent call last):
    causalft.errors.CausalFTError: adjusting for nothing leaves the backdoor path X <- C -> Y open; adjust for C
    """
    graph = _checked(graph, treatment, outcome)
    if isinstance(adjustment_set, str):
        adjustment_set = [adjustment_set]
    wanted = {require_node(graph, name, "adjustment variable") for name in adjustment_set}
    chosen = [name for name in graph if name in wanted]
    for name in chosen:
        if name in (treatment, outcome):
            role = "treatment" if name == treatment else "outcome"
            raise CausalFTError(f"{name} is the {role}: it cannot be adjusted for; leave it out of the set")
        if nx.has_path(graph, treatment, name):
            directed = format_path(graph, nx.shortest_path(graph, treatment, name))
            raise CausalFTError(
                f"{name} is a descendant of the treatment ({directed}): adjusting for it would block or bias the "
                "effect; leave it out of the set"
            )
        if graph.nodes[name]["latent"]:
            raise CausalFTError(
                f"{name} is latent: nobody observes it, so it cannot be adjusted for; leave it out of the set"
            )
    path = open_backdoor_path(graph, treatment, outcome, chosen)
    if path is not None:
        best = identify(graph, treatment, outcome).adjustment_set
        if best is None:
            hint = "no set of observed variables closes every path"
        else:
            hint = f"adjust for {', '.join(best)}" if best else "adjust for nothing"
        raise CausalFTError(
            f"adjusting for {', '.join(chosen) or 'nothing'} leaves the backdoor path {path} open; {hint}"
        )
    return backdoor(graph, treatment, outcome, chosen)


def check_frontdoor_set(
    graph: nx.DiGraph, treatment: str, outcome: str, mediators: Iterable[str]
) -> Estimand:
    """Return the front-door estimand of a set of mediators, or refuse the set.

    Raises
    ------
    CausalFTError
        If the set is empty, holds the treatment, the outcome or a latent node, or fails a condition (named).

    Examples
    --------
    >>> from causalft.scm import causal_graph
    >>> check_frontdoor_set(causal_graph(), "X", "Y", ["B"]).formula
    "P(y | do(x)) = sum_b P(b | x) sum_x' P(y | b, x') P(x')"
    >>> check_frontdoor_set(causal_graph(), "X", "Y", ["C"])
    Traceback (most recent call last):
    causalft.errors.CausalFTError: C is not a front-door set: the directed path X -> B -> Y bypasses it
    """
    graph = _checked(graph, treatment, outcome)
    wanted = {mediators} if isinstance(mediators, str) else set(mediators)
    for name in sorted(wanted):
        require_node(graph, name, "mediator")
        if name in (treatment, outcome) or graph.nodes[name]["latent"]:
            what = "latent" if graph.nodes[name]["latent"] else "the treatment or the outcome"
            raise CausalFTError(
                f"{name} is {what}: it cannot stand in the front door; leave it out of the set"
            )
    chosen = [name for name in graph if name in wanted]
    if not chosen:
        raise CausalFTError("a front-door set needs one mediator or more; the set is empty")
    if failure := _frontdoor_failure(graph, treatment, outcome, chosen):
        raise CausalFTError(f"{', '.join(chosen)} is not a front-door set: {failure}")
    return frontdoor(graph, treatment, outcome, chosen)


def _frontdoor_failure(
    graph: nx.DiGraph, treatment: str, outcome: str, candidate: Sequence[str]
) -> str | None:
    """Return which condition of the front-door criterion fails (Pearl 2009, definition 3.3.3), or None."""
    check_valid_backdoor_set = import_dowhy("dowhy.graph").check_valid_backdoor_set

    chosen, x, y = list(candidate), [treatment], [outcome]
    around = graph.subgraph(set(graph).difference(chosen))
    if nx.has_path(around, treatment, outcome):
        return f"the directed path {format_path(graph, nx.shortest_path(around, treatment, outcome))} bypasses it"
    if not check_valid_backdoor_set(graph, x, chosen, [])["is_dseparated"]:
        return f"a backdoor path between {treatment} and it is open"
    if not check_valid_backdoor_set(graph, chosen, y, x)["is_dseparated"]:
        return f"{treatment} leaves a backdoor path between it and {outcome} open"
    return None


def open_backdoor_path(
    graph: nx.DiGraph, treatment: str, outcome: str, given: Iterable[str] = ()
) -> str | None:
    """Return a shortest backdoor path that is open given a set, with its arrows, or None.

    ``given`` must hold no descendant of the treatment.

    Examples
    --------
    >>> from causalft.scm import causal_graph
    >>> open_backdoor_path(causal_graph(), "X", "Y")
    'X <- C -> Y'
    >>> open_backdoor_path(causal_graph(), "X", "Y", ["C"]) is None
    True
    """
    dowhy_graph = import_dowhy("dowhy.graph")
    check_valid_backdoor_set, do_surgery = dowhy_graph.check_valid_backdoor_set, dowhy_graph.do_surgery

    conditioned = set(given)
    surgery = do_surgery(graph, [treatment], remove_outgoing_edges=True)
    if check_valid_backdoor_set(graph, [treatment], [outcome], list(conditioned), new_graph=surgery)[
        "is_dseparated"
    ]:
        return None
    return format_path(graph, _shortest_open_path(surgery, treatment, outcome, conditioned))


def _shortest_open_path(graph: nx.DiGraph, start: str, end: str, given: set[str]) -> list[str]:
    """Search breadth-first over (node, entered through an arrow head): a shortest open walk is a path.

    A collider is open if it or a descendant is in ``given``; any other node is open if it is not in ``given``.
    """
    opened = given.union(*(nx.ancestors(graph, name) for name in given))
    trail: dict[tuple[str, bool], tuple[str, bool] | None] = {(start, False): None}
    queue = deque(trail)
    while queue:
        state = queue.popleft()
        here, through_head = state
        if here == end:
            path: list[str] = []
            step: tuple[str, bool] | None = state
            while step is not None:
                path.append(step[0])
                step = trail[step]
            return path[::-1]
        ahead = [(child, True) for child in graph.successors(here) if here not in given]
        if (here in opened) if through_head else (here not in given):
            ahead += [(parent, False) for parent in graph.predecessors(here)]
        for other in ahead:
            if other not in trail:
                trail[other] = state
                queue.append(other)
    raise AssertionError(f"no open path from {start} to {end}")  # the caller has asked d-separation first


def _checked(graph: nx.DiGraph, treatment: str, outcome: str) -> nx.DiGraph:
    graph = as_dag(graph)
    require_node(graph, treatment, "treatment")
    require_node(graph, outcome, "outcome")
    if treatment == outcome:
        raise CausalFTError(f"treatment and outcome are both {treatment!r}; name two different nodes")
    return graph


def _minimal_sets(
    names: Sequence[str],
    is_valid: Callable[[Sequence[str]], bool],
    checks: int,
    *,
    smallest: int = 0,
    always: Sequence[str] = (),
) -> tuple[list[tuple[str, ...]], bool]:
    """Return all minimal valid subsets, smallest first, and whether the search was complete.

    ``names`` as a whole is valid, so there is always an answer. Names in ``always`` are in every valid set.
    """
    found: list[tuple[str, ...]] = []
    place = {name: index for index, name in enumerate(names)}
    others = [name for name in names if name not in always]
    for size in range(max(smallest - len(always), 0), len(others) + 1):
        for chosen in itertools.combinations(others, size):
            candidate = tuple(sorted((*always, *chosen), key=place.__getitem__))
            if any(set(smaller) <= set(candidate) for smaller in found):
                continue
            checks -= 1
            if checks < 0:
                return found or [_shrink(names, is_valid)], False
            if is_valid(candidate):
                found.append(candidate)
    return found, True


def _shrink(names: Sequence[str], is_valid: Callable[[Sequence[str]], bool]) -> tuple[str, ...]:
    kept: list[Any] = list(names)
    for name in names:
        fewer = [other for other in kept if other != name]
        if fewer and is_valid(fewer):
            kept = fewer
    return tuple(kept)
