"""Identification against known graphs, brute force over all subsets, and exact numbers of random models."""

from __future__ import annotations

import itertools
import sys

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from causalft.errors import CausalFTError
from causalft.scm import (
    as_dag,
    backdoor_adjustment,
    causal_graph,
    check_adjustment_set,
    check_frontdoor_set,
    frontdoor_adjustment,
    identify,
    interventional,
    observed_nodes,
    open_backdoor_path,
    parse_edge_list,
)
from causalft.scm import identify as identify_function
from tests.scm.random_scms import dags, random_scm


def _sets(estimands):
    return [set(estimand.variables) for estimand in estimands]


def test_the_papers_graph_gives_c_b_and_u():
    found = identify(causal_graph(), "X", "Y")
    assert _sets(found.backdoor) == [{"C"}]
    assert _sets(found.frontdoor) == [{"B"}]
    assert _sets(found.instruments) == [{"U"}]
    assert found.identified and found.complete and found.adjustment_set == ("C",)
    assert [estimand.observed for estimand in (*found.backdoor, *found.frontdoor, *found.instruments)] == [
        True,
        True,
        False,
    ]


def test_formulas_plain_and_latex():
    found = identify(causal_graph())
    assert found.backdoor[0].formula == "P(y | do(x)) = sum_c P(y | x, c) P(c)"
    assert found.backdoor[0].latex == r"P(y \mid \operatorname{do}(x)) = \sum_{c} P(y \mid x, c)\, P(c)"
    assert found.frontdoor[0].formula == "P(y | do(x)) = sum_b P(b | x) sum_x' P(y | b, x') P(x')"
    assert "Cov(Y, U) / Cov(X, U)" in found.instruments[0].formula
    long = identify(
        parse_edge_list("age_group -> dose; age_group -> cure; sex -> dose; sex -> cure; dose -> cure"),
        "dose",
        "cure",
    )
    assert (
        long.backdoor[0].formula
        == "P(cure | do(dose)) = sum_{age_group, sex} P(cure | dose, age_group, sex) P(age_group, sex)"
    )
    assert r"\mathrm{age\_group}" in long.backdoor[0].latex
    # a and A are two variables here, so small letters cannot stand for values
    assert "P(Y | do(X))" in identify(parse_edge_list("a -> X; a -> Y; A -> Y; X -> Y")).backdoor[0].formula


@pytest.mark.parametrize(
    ("edges", "backdoor", "frontdoor", "instruments"),
    [
        ("X -> Y", [set()], [], []),
        ("Z -> X -> Y; latent: H; H -> X; H -> Y", [], [], [{"Z"}]),
        ("X -> M -> Y; X <-> Y", [], [{"M"}], []),
        ("X -> M -> Y; X <-> Y; X -> Y", [], [], []),
        ("X -> M -> Y; X -> N -> Y; X <-> Y", [], [{"M", "N"}], []),
        # M and X are confounded; a mediator that would close a backdoor path is no backdoor set
        ("X -> M -> Y; X <-> M", [], [], []),
        ("X -> M -> Y; Z -> X; Z -> M", [{"Z"}], [], []),
        # M-bias: the empty set is right, and adjusting for M alone would open a path
        ("X -> Y; A -> X; A -> M; B -> M; B -> Y", [set()], [], [{"A"}]),
        # butterfly: M must be blocked, and then one of its parents
        ("X -> Y; A -> X; A -> M; B -> M; B -> Y; M -> X; M -> Y", [{"A", "M"}, {"B", "M"}], [], []),
        # two ways to cut one path
        ("X -> Y; X <- A <- B -> Y", [{"A"}, {"B"}], [], []),
    ],
)
def test_textbook_graphs(edges, backdoor, frontdoor, instruments):
    found = identify(parse_edge_list(edges))
    assert sorted(map(sorted, _sets(found.backdoor))) == sorted(map(sorted, backdoor))
    assert _sets(found.frontdoor) == frontdoor
    assert _sets(found.instruments) == instruments
    assert (found.open_path is None) == bool(backdoor)


def test_no_directed_path_means_no_effect():
    found = identify(causal_graph(), "B", "X")
    assert not found.has_effect and found.identified and not found.frontdoor and not found.instruments
    assert "the effect is zero" in repr(found)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([], r"the backdoor path X <- C -> Y open; adjust for C"),
        (["B"], r"B is a descendant of the treatment \(X -> B\)"),
        (["C", "B"], r"B is a descendant of the treatment"),
        (["D"], "D is latent"),
        (["X"], "X is the treatment"),
        (["Y"], "Y is the outcome"),
        (["Q"], "adjustment variable 'Q' is not a node"),
    ],
)
def test_a_wrong_adjustment_set_is_refused(chosen, message):
    with pytest.raises(CausalFTError, match=message):
        check_adjustment_set(causal_graph(), "X", "Y", chosen)


def test_a_strata_variable_that_does_not_block_is_refused_with_the_extra_path():
    graph = causal_graph()
    graph.add_edges_from([("W", "X"), ("W", "Y")])
    with pytest.raises(
        CausalFTError, match=r"adjusting for C leaves the backdoor path X <- W -> Y open; adjust for C, W"
    ):
        check_adjustment_set(graph, "X", "Y", ["C"])
    below = parse_edge_list("X -> C -> Y; X -> Y")
    with pytest.raises(CausalFTError, match=r"C is a descendant of the treatment \(X -> C\)"):
        check_adjustment_set(below, "X", "Y", "C")


def test_conditioning_on_a_collider_is_refused_with_the_path_it_opens():
    graph = parse_edge_list("X -> Y; A -> X; A -> M; B -> M; B -> Y")
    with pytest.raises(
        CausalFTError, match=r"adjusting for M leaves the backdoor path X <- A -> M <- B -> Y open"
    ):
        check_adjustment_set(graph, "X", "Y", ["M"])
    assert check_adjustment_set(graph, "X", "Y", ["M", "A"]).variables == ("A", "M")
    graph.add_edge("M", "K")
    with pytest.raises(
        CausalFTError, match=r"adjusting for K leaves the backdoor path X <- A -> M <- B -> Y open"
    ):
        check_adjustment_set(graph, "X", "Y", ["K"])


def test_errors_of_the_nodes():
    with pytest.raises(CausalFTError, match="outcome 'Z'"):
        identify(causal_graph(), "X", "Z")
    with pytest.raises(CausalFTError, match="two different nodes"):
        identify(causal_graph(), "X", "X")


@given(graph=dags(latent=True), data=st.data())
@settings(max_examples=100, deadline=None)
def test_backdoor_sets_are_all_minimal_sets_that_brute_force_finds(graph, data):
    from dowhy.causal_identifier.auto_identifier import identify_frontdoor

    treatment, outcome = data.draw(st.permutations(list(graph)))[:2]
    cut = graph.copy()
    cut.remove_edges_from(list(graph.out_edges(treatment)))
    allowed = [
        n for n in observed_nodes(graph) if n not in {treatment, outcome} | nx.descendants(graph, treatment)
    ]
    subsets = [set(c) for size in range(len(allowed) + 1) for c in itertools.combinations(allowed, size)]
    valid = [s for s in subsets if nx.is_d_separator(cut, {treatment}, {outcome}, s)]
    minimal = [s for s in valid if not any(other < s for other in valid)]
    found = identify(graph, treatment, outcome)
    assert sorted(map(sorted, _sets(found.backdoor))) == sorted(map(sorted, minimal))
    if found.has_effect and identify_frontdoor(graph, [treatment], [outcome], list(observed_nodes(graph))):
        assert found.frontdoor  # DoWhy seeks among the descendants of the treatment only
    for chosen in subsets:
        if chosen in valid:
            assert set(check_adjustment_set(graph, treatment, outcome, chosen).variables) == chosen
        else:
            with pytest.raises(CausalFTError, match="leaves the backdoor path"):
                check_adjustment_set(graph, treatment, outcome, chosen)


def _is_frontdoor(graph, treatment, outcome, candidate):
    try:
        check_frontdoor_set(graph, treatment, outcome, candidate)
    except CausalFTError:
        return False
    return True


@given(graph=dags(max_nodes=7, latent=True), data=st.data())
@settings(max_examples=60, deadline=None)
def test_front_door_sets_are_all_minimal_sets_among_all_observed_nodes(graph, data):
    treatment, outcome = data.draw(st.permutations(list(graph)))[:2]
    others = [name for name in observed_nodes(graph) if name not in (treatment, outcome)]
    valid = [
        set(candidate)
        for size in range(1, len(others) + 1)
        for candidate in itertools.combinations(others, size)
        if nx.has_path(graph, treatment, outcome) and _is_frontdoor(graph, treatment, outcome, candidate)
    ]
    minimal = [one for one in valid if not any(other < one for other in valid)]
    found = identify(graph, treatment, outcome)
    assert sorted(map(sorted, _sets(found.frontdoor))) == sorted(map(sorted, minimal))


def test_a_front_door_set_with_a_node_that_is_no_mediator():
    graph = parse_edge_list("latent: U; U -> X; U -> Y; X -> M -> Y; W -> M; W -> Y")
    found = identify(graph)
    assert _sets(found.frontdoor) == [{"M", "W"}] and found.identified
    scm = random_scm(graph, 0)
    door = frontdoor_adjustment(scm, "Y", "X", ["M", "W"])
    np.testing.assert_allclose(door, interventional(scm, "Y", "X"), atol=1e-12)


def test_a_front_door_is_found_however_large_the_graph(monkeypatch):
    module = sys.modules[identify_function.__module__]
    monkeypatch.setattr(module, "MAX_CHECKS", 10)
    chain = "X -> M0; X <-> Y; M29 -> Y; " + "; ".join(f"M{i} -> M{i + 1}" for i in range(29))
    side = "; ".join(f"W{i} -> M{i}; W{i} -> Y" for i in range(8))
    found = identify(parse_edge_list(f"{chain}; {side}"))
    assert found.frontdoor and not found.complete
    check_frontdoor_set(parse_edge_list(f"{chain}; {side}"), "X", "Y", found.frontdoor[0].variables)


@pytest.mark.parametrize(("treatment", "outcome"), [("V0", "V99"), ("V40", "V60"), ("V98", "V99")])
def test_a_complete_graph_of_100_nodes_ends_soon(treatment, outcome):
    names = [f"V{i}" for i in range(100)]
    graph = as_dag(itertools.combinations(names, 2))
    found = identify(graph, treatment, outcome)
    assert found.complete and found.adjustment_set == tuple(names[: int(treatment[1:])])


@given(graph=dags(max_nodes=7), data=st.data())
@settings(max_examples=80, deadline=None)
def test_the_open_path_that_is_named_is_open_by_dowhys_own_rule(graph, data):
    from dowhy.graph import is_blocked

    treatment, outcome, *others = data.draw(st.permutations(list(graph)))
    after = nx.descendants(graph, treatment)
    chosen = [name for name in others if name not in after and data.draw(st.booleans())]
    text = open_backdoor_path(graph, treatment, outcome, chosen)
    assume(text is not None)
    path = text.replace("<-", "->").split(" -> ")
    assert len(set(path)) == len(path) and path[0] == treatment and path[-1] == outcome
    assert graph.has_edge(path[1], path[0])
    assert not is_blocked(graph, path, chosen)


@given(graph=dags(max_nodes=5), data=st.data(), seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_every_estimand_equals_the_true_intervention(graph, data, seed):
    treatment, outcome = data.draw(st.permutations(list(graph)))[:2]
    scm = random_scm(graph, seed)
    truth = interventional(scm, outcome, treatment)
    found = identify(graph, treatment, outcome)
    for estimand in found.backdoor:
        np.testing.assert_allclose(
            backdoor_adjustment(scm, outcome, treatment, estimand.variables), truth, atol=1e-10
        )
    for estimand in found.frontdoor:
        door = frontdoor_adjustment(scm, outcome, treatment, estimand.variables)
        np.testing.assert_allclose(door, truth, atol=1e-10)


def test_two_mediators_make_one_front_door():
    graph = parse_edge_list("X -> M -> Y; X -> N -> Y; X <-> Y")
    scm = random_scm(graph, 0)
    door = frontdoor_adjustment(scm, "Y", "X", ["N", "M"])
    np.testing.assert_allclose(door, interventional(scm, "Y", "X"), atol=1e-12)


@pytest.mark.parametrize(
    ("edges", "mediators", "message"),
    [
        (
            "X -> M -> Y; X -> Y; X <-> Y",
            ["M"],
            "M is not a front-door set: the directed path X -> Y bypasses it",
        ),
        ("X -> M -> Y; X <-> M", ["M"], "a backdoor path between X and it is open"),
        ("X -> M -> Y; X <-> Y; M <-> Y", ["M"], "X leaves a backdoor path between it and Y open"),
        ("latent: M; X -> M -> Y", ["M"], "M is latent"),
        ("X -> M -> Y", ["Y"], "Y is the treatment or the outcome"),
        ("X -> M -> Y", [], "the set is empty"),
        ("X -> M -> Y", ["Q"], "mediator 'Q'"),
    ],
)
def test_a_wrong_front_door_set_is_refused_with_its_reason(edges, mediators, message):
    with pytest.raises(CausalFTError, match=message):
        check_frontdoor_set(parse_edge_list(edges), "X", "Y", mediators)


def test_a_graph_too_large_to_search_still_gives_a_valid_set_and_says_so(monkeypatch):
    module = sys.modules[identify_function.__module__]
    lines = [f"X <- A{i} -> B{i} -> Y" for i in range(8)]
    graph = parse_edge_list("X -> Y\n" + "\n".join(lines))
    monkeypatch.setattr(module, "MAX_CHECKS", 200)
    found = identify(graph, "X", "Y")
    assert not found.complete and len(found.backdoor) == 1
    assert len(found.backdoor[0].variables) == 8
    check_adjustment_set(graph, "X", "Y", found.backdoor[0].variables)


def test_the_dictionary_is_plain():
    import json

    document = identify(causal_graph()).to_dict()
    assert json.loads(json.dumps(document)) == document
    assert document["adjustment_set"] == ["C"] and document["instruments"][0]["observed"] is False
