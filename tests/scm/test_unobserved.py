"""Bounds of what an unobserved U can do, against the truth of random models."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.errors import CausalFTError
from causalft.scm import (
    DiscreteSCM,
    PositivityError,
    bounding_factor,
    confounding_bounds,
    e_value,
    strength_of,
)
from causalft.scm.graph import as_dag
from tests.scm.random_scms import random_scm

GRAPHS = {
    "U alone": ([("U", "X"), ("U", "Y"), ("X", "Y")], []),
    "beside C": ([("C", "X"), ("C", "Y"), ("U", "X"), ("U", "Y"), ("X", "Y")], ["C"]),
    "caused by C": ([("C", "U"), ("C", "X"), ("C", "Y"), ("U", "X"), ("U", "Y"), ("X", "Y")], ["C"]),
    "through B": ([("C", "X"), ("C", "Y"), ("U", "X"), ("U", "Y"), ("X", "B"), ("B", "Y")], ["C"]),
}


@settings(max_examples=20, derandomize=True, deadline=None)
@given(st.sampled_from(sorted(GRAPHS)), st.integers(0, 1 << 20), st.integers(2, 4))
def test_truth_lies_in_the_bounds_of_the_strength_that_u_has(name, seed, n_states):
    edges, chosen = GRAPHS[name]
    found = strength_of(random_scm(as_dag(edges), seed, n_states), "U", "Y", "X", chosen)
    low, high = confounding_bounds(found.adjusted, found.with_x[:, None], found.with_y, found.with_not_y)
    assert (low <= found.true + 1e-12).all() and (found.true <= high + 1e-12).all()
    # With y alone they are wider, and hold too.
    wide_low, wide_high = confounding_bounds(found.adjusted, found.with_x[:, None], found.with_y)
    assert (wide_low <= low + 1e-12).all() and (high <= wide_high + 1e-12).all()


@settings(max_examples=20, derandomize=True, deadline=None)
@given(st.integers(0, 1 << 20), st.integers(2, 4))
def test_decision_that_u_reverses_needs_a_u_of_its_e_value(seed, n_states):
    edges, chosen = GRAPHS["beside C"]
    found = strength_of(random_scm(as_dag(edges), seed, n_states), "U", "Y", "X", chosen)
    first = found.adjusted.argmax(1)
    for x in np.flatnonzero(first != found.true.argmax(1)):
        y = found.true[x].argmax()
        least = e_value((found.adjusted[x, first[x]] / found.adjusted[x, y]) ** 0.5)
        strength = max(found.with_x[x], found.with_y[x, [first[x], y]].max())
        assert strength >= least - 1e-9


def test_bounds_are_reached_by_the_model_that_the_lemma_constructs():
    # P(u=1 | x) / P(u=1) = 2 and P(y | u=1) / P(y | u=0) = 2, with P(u=1 | x) = 1: the bounding factor is 4/3.
    graph = [("U", "X"), ("U", "Y"), ("X", "Y")]
    tables = {
        "U": [0.5, 0.5],
        "X": [[1.0, 0.0], [0.5, 0.5]],
        "Y": [[[0.6, 0.4], [0.6, 0.4]], [[0.2, 0.8], [0.2, 0.8]]],
    }
    scm = DiscreteSCM(graph, dict.fromkeys("UXY", "01"), tables)
    found = strength_of(scm, "U", "Y", "X")
    assert found.adjusted[1, 1] == pytest.approx(0.8) and found.true[1, 1] == pytest.approx(0.6)
    assert found.adjusted[1, 1] / found.true[1, 1] == pytest.approx(float(bounding_factor(2, 2)))
    # u=0 never goes with x=1: the strength of U there is unbounded, and so are the bounds of others.
    assert np.isinf(found.with_x[1]) and np.isinf(found.with_y[1]).all()


def test_bounds_without_knowledge_of_the_outcome_are_those_of_manski():
    # P(u | x) / P(u) is at most 1 / P(x), and nothing is known of Y: P(y, x) <= P(y | do(x)).
    p_x, p = 0.4, 0.7
    low, _ = confounding_bounds(p, 1 / p_x, np.inf)
    assert low == pytest.approx(p * p_x)


def test_u_without_effect_leaves_the_adjusted_probability():
    low, high = confounding_bounds([0.0, 0.3, 1.0], 1.0, 50.0)
    assert low == pytest.approx([0.0, 0.3, 1.0]) and high == pytest.approx([0.0, 0.3, 1.0])


@pytest.mark.parametrize("ratio", [1.0, 1.5, 4.0, np.inf])
def test_e_value_is_the_strength_at_which_the_bounding_factor_is_the_ratio(ratio):
    assert float(bounding_factor(e_value(ratio), e_value(ratio))) == pytest.approx(ratio)


def test_impossible_strengths_models_and_probabilities_are_refused():
    with pytest.raises(CausalFTError, match="a strength of 0.5 is no largest ratio"):
        bounding_factor(0.5, 2)
    with pytest.raises(CausalFTError, match="give probabilities"):
        confounding_bounds(1.2, 2, 2)
    with pytest.raises(CausalFTError, match="open"):  # C is missing
        strength_of(random_scm(as_dag(GRAPHS["beside C"][0]), 0), "U", "Y", "X")
    graph = as_dag([("C", "X"), ("C", "Y"), ("U", "X"), ("U", "Y"), ("X", "Y")])
    scm = random_scm(graph, 0)
    tables = {**scm.tables, "X": np.array([[[1.0, 0.0], [1.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]]])}
    with pytest.raises(PositivityError, match="adjusting for C"):
        strength_of(DiscreteSCM(graph, scm.states, tables), "U", "Y", "X", ["C"])
