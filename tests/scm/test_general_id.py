"""The general ID algorithm against exact interventions in random models, and against a search for hedges."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from causalft.errors import CausalFTError
from causalft.scm import (
    DiscreteSCM,
    PositivityError,
    as_dag,
    general_formula,
    identify,
    interventional,
    parse_edge_list,
)
from causalft.scm.general_id import Hedge, identify_generally, latent_projection
from tests.scm.random_scms import dags, random_scm

NAPKIN = "W -> Z -> X -> Y; W <-> X; W <-> Y"
TIAN = "X -> Z1 -> Y; Z2 -> X; Z2 -> Z1; Z2 -> Z3 -> Y; X <-> Y; X <-> Z2; X <-> Z3; Y <-> Z2"


def test_the_napkin_graph_has_its_textbook_formula():
    found = identify(parse_edge_list(NAPKIN))
    assert not found.backdoor and not found.frontdoor and found.identified and found.hedge is None
    assert found.general.kind == "general ID"
    assert found.general.formula == (
        "P(y | do(x)) = (sum_w P(w) P(x | w, z) P(y | w, z, x)) / (sum_w P(w) P(x | w, z))"
    )
    assert found.general.latex.startswith(
        r"P(y \mid \operatorname{do}(x)) = \frac{\sum_{w} P(w)\, P(x \mid w, z)"
    )
    assert "whatever the value of Z" in found.general.words
    assert found.to_dict()["general"]["formula"] == found.general.formula


def test_a_variable_summed_out_beside_its_value_gets_a_prime():
    expression = identify(parse_edge_list(TIAN)).general
    assert "sum_x' " in expression.formula and "P(x' | z2)" in expression.formula


@pytest.mark.parametrize("edges", [NAPKIN, TIAN, "X -> M -> Y; X <-> Y", "C -> X; C -> Y; X -> Y", "X -> Y"])
@pytest.mark.parametrize("seed", range(3))
def test_known_graphs_give_the_true_intervention(edges, seed):
    scm = random_scm(parse_edge_list(edges), seed, n_states=2 if "Z3" in edges else 3)
    truth = interventional(scm, "Y", "X")
    np.testing.assert_allclose(general_formula(scm, "Y", "X"), truth, atol=1e-12)


@pytest.mark.parametrize(
    ("edges", "forest", "root"),
    [
        ("X -> Y; X <-> Y", ("X", "Y"), ("Y",)),
        ("X -> M -> Y; X <-> M", ("X", "M"), ("M",)),
        ("X -> Y; Z -> Y; X <-> Z; Z <-> Y", ("X", "Z", "Y"), ("Z", "Y")),
    ],
)
def test_where_nothing_identifies_the_effect_the_hedge_is_named(edges, forest, root):
    found = identify(parse_edge_list(edges))
    assert not found.identified and found.general is None
    assert set(found.hedge.forest) == set(forest) and set(found.hedge.root) == set(root)
    assert "not identified" in repr(found) and "(a hedge)" in found.why_not


@given(graph=dags(latent=True), data=st.data(), seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_every_formula_equals_the_true_intervention(graph, data, seed):
    treatment, outcome = data.draw(
        st.permutations([n for n in graph if not graph.nodes[n]["latent"]] + ["-", "-"])
    )[:2]
    assume("-" not in (treatment, outcome))
    found = identify_generally(graph, treatment, outcome)
    if isinstance(found, Hedge):
        assert _has_hedge(graph, treatment, outcome)
        assert not identify(graph, treatment, outcome).identified
        return
    assert not _has_hedge(graph, treatment, outcome)
    scm = random_scm(graph, seed)
    truth = interventional(scm, outcome, treatment)
    np.testing.assert_allclose(general_formula(scm, outcome, treatment), truth, atol=1e-10)


def _subsets(names):
    return itertools.chain.from_iterable(
        itertools.combinations(names, size) for size in range(1, len(names) + 1)
    )


def _has_hedge(graph, treatment, outcome):
    """Look for two sets, with and without the treatment, each held together by hidden causes and rooted alike."""
    arrows, pairs = latent_projection(graph)
    cut = arrows.copy()
    cut.remove_edges_from(list(arrows.in_edges(treatment)))
    near = nx.ancestors(cut, outcome) | {outcome}

    def rooted(names, root):
        inside = arrows.subgraph(names)
        above = set(root).union(*(nx.ancestors(inside, name) for name in root))
        return above == set(names) and nx.is_connected(pairs.subgraph(names))

    for forest in _subsets(list(arrows)):
        if treatment not in forest or not nx.is_connected(pairs.subgraph(forest)):
            continue
        for small in _subsets([name for name in forest if name != treatment]):
            for root in _subsets([name for name in small if name in near]):
                if rooted(forest, root) and rooted(small, root):
                    return True
    return False


def test_refusals_are_one_line():
    scm = random_scm(parse_edge_list("X -> Y; X <-> Y"), 0)
    with pytest.raises(CausalFTError, match="is not identified: hidden common causes hold {X, Y} together"):
        general_formula(scm, "Y", "X")
    with pytest.raises(CausalFTError, match="is latent"):
        general_formula(scm, "L(X,Y)", "X")
    with pytest.raises(CausalFTError, match="two different nodes"):
        general_formula(scm, "X", "X")


def test_a_formula_that_divides_by_zero_names_the_cells():
    graph = as_dag([("C", "X"), ("C", "Y"), ("X", "Y")])
    tables = {"C": [0.5, 0.5], "X": [[1, 0], [0, 1]], "Y": np.full((2, 2, 2), 0.5)}
    scm = DiscreteSCM(graph, {name: ["0", "1"] for name in "CXY"}, tables)
    with pytest.raises(PositivityError, match="general ID algorithm needs P.C, X. > 0, but it is 0 at"):
        general_formula(scm, "Y", "X")
    # a value of C that never occurs is no hole
    never = DiscreteSCM(graph, scm.states, {**tables, "C": [1.0, 0.0], "X": np.full((2, 2), 0.5)})
    np.testing.assert_allclose(general_formula(never, "Y", "X"), interventional(never, "Y", "X"))


def test_no_effect_is_the_marginal():
    scm = random_scm(parse_edge_list("Y -> X; Z -> Y"), 0)
    np.testing.assert_allclose(general_formula(scm, "Y", "X"), interventional(scm, "Y", "X"), atol=1e-12)


def test_a_long_formula_is_not_written_out(monkeypatch):
    from causalft.scm import estimand

    monkeypatch.setattr(estimand, "_MAX_SIZE", 3)
    assert "too long to write out" in identify(parse_edge_list(NAPKIN)).general.formula
