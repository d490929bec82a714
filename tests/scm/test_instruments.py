"""Instruments and conditional instruments against the definition, tried on every node and every set."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.scm import as_dag, identify, latent_nodes, observed_nodes, parse_edge_list
from causalft.scm.identify import import_dowhy
from causalft.scm.separation import find_instruments, is_instrument
from tests.scm.random_scms import dags


def _names(estimands):
    return [(estimand.variables[0], set(estimand.given)) for estimand in estimands]


@pytest.mark.parametrize(
    ("edges", "instruments", "conditional"),
    [
        ("Z -> X -> Y; X <-> Y", [("Z", set())], []),
        ("W -> Z -> X -> Y; X <-> Y; W -> Y", [], [("Z", {"W"})]),
        # a proxy of an instrument is one
        ("latent: H; H -> Z; H -> X; X -> Y; X <-> Y", [("H", set()), ("Z", set())], []),
        ("V -> Z -> X -> Y; X <-> Y", [("V", set()), ("Z", set())], []),
        ("Z -> X -> Y; Z -> Y; X <-> Y", [], []),
        ("Z -> X -> M -> Y; X <-> Y; Z <-> Y", [], []),
    ],
)
def test_textbook_instruments(edges, instruments, conditional):
    found = identify(parse_edge_list(edges))
    latent = latent_nodes(parse_edge_list(edges))
    shown = [pair for pair in _names(found.instruments) if not pair[0].startswith("L(")]
    assert sorted(shown, key=str) == sorted(instruments, key=str)
    assert _names(found.conditional_instruments) == conditional
    assert all(e.observed == (e.variables[0] not in latent) for e in found.instruments)


def test_a_conditional_instrument_says_what_is_given():
    (estimand,) = identify(parse_edge_list("W -> Z -> X -> Y; X <-> Y; W -> Y")).conditional_instruments
    assert estimand.title == "conditional instrument {Z} given {W}"
    assert estimand.formula.endswith("= Cov(Y, Z | W) / Cov(X, Z | W)")
    assert r"\operatorname{Cov}(Y, Z \mid W)" in estimand.latex
    assert estimand.to_dict()["given"] == ["W"] and "Within each value of W" in estimand.words


@given(graph=dags(max_nodes=6, latent=True), data=st.data())
@settings(max_examples=80, deadline=None)
def test_every_instrument_is_found_and_nothing_else(graph, data):
    treatment, outcome = data.draw(st.permutations(list(graph)))[:2]
    if not nx.has_path(graph, treatment, outcome):
        return
    alone, conditional, complete = find_instruments(graph, treatment, outcome, 10_000)
    assert complete
    cut = graph.copy()
    cut.remove_edges_from(list(graph.in_edges(treatment)))
    below = nx.descendants(graph, treatment) | {treatment, outcome}
    usable = [name for name in observed_nodes(graph) if name not in below]

    def valid(name, chosen):
        return nx.is_d_separator(cut, name, outcome, set(chosen)) and not nx.is_d_separator(
            graph, name, treatment, set(chosen)
        )

    by_hand = {}
    for name in usable:
        others = [other for other in usable if other != name]
        for chosen in itertools.chain.from_iterable(
            itertools.combinations(others, size) for size in range(len(others) + 1)
        ):
            if valid(name, chosen):
                by_hand[name] = len(chosen)
                break
    assert {name for name in alone if name in usable} == {name for name, size in by_hand.items() if size == 0}
    assert {name: len(chosen) for name, chosen in conditional} == {
        name: size for name, size in by_hand.items() if size
    }
    assert all(is_instrument(graph, treatment, outcome, name) for name in alone)
    assert all(is_instrument(graph, treatment, outcome, name, chosen) for name, chosen in conditional)
    assert set(import_dowhy("dowhy.graph").get_instruments(graph, [treatment], [outcome])) <= set(alone)


def test_the_ratio_of_partial_covariances_is_the_effect_in_a_linear_model():
    graph = parse_edge_list("W -> Z -> X -> M -> Y; X <-> Y; W -> Y; W -> X")
    ((name, given_set),) = _names(identify(graph).conditional_instruments)
    weight = dict(zip(graph.edges, np.linspace(0.5, 1.7, graph.number_of_edges())))
    nodes = list(nx.topological_sort(graph))
    mixing = {node: np.eye(len(nodes))[i] for i, node in enumerate(nodes)}
    for node in nodes:
        for parent in graph.predecessors(node):
            mixing[node] = mixing[node] + weight[parent, node] * mixing[parent]

    def partial(a, b):
        (c,) = given_set
        cov = lambda p, q: mixing[p] @ mixing[q]  # noqa: E731
        return cov(a, b) - cov(a, c) * cov(c, b) / cov(c, c)

    effect = weight["X", "M"] * weight["M", "Y"]
    assert partial("Y", name) / partial("X", name) == pytest.approx(effect)


def test_a_search_that_is_cut_short_still_finds_a_valid_set():
    side = "; ".join(f"A{i} -> Z; A{i} -> Y" for i in range(6))
    graph = as_dag(parse_edge_list(f"{side}; Z -> X -> Y; X <-> Y"))
    alone, conditional, complete = find_instruments(graph, "X", "Y", 5)
    assert not complete and [name for name, _ in conditional] == ["Z"]
    assert is_instrument(graph, "X", "Y", *conditional[0])
