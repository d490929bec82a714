"""The truth of a model: closed forms, models without confounding, selection, and what goes into metrics.json."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.analysis.confounding.curve import Truth, truth
from causalft.analysis.confounding.estimates import backdoor, frontdoor, naive
from causalft.errors import CausalFTError
from causalft.scm import DiscreteSCM
from causalft.scm.exact import PositivityError
from tests.analysis.confounding.small_scms import confounded_scm, joint


def test_two_by_two_by_hand():
    # P(c | x) is (0.9, 0.1) and (0.1, 0.9); Y says C whatever X is: P(y=0 | x=0) = 0.9, P(y=0 | do(x)) = 0.5
    scm = DiscreteSCM(
        [("C", "X"), ("C", "Y"), ("X", "Y")],
        states={"C": ["0", "1"], "X": ["a", "b"], "Y": ["0", "1"]},
        tables={"C": [0.5, 0.5], "X": [[0.9, 0.1], [0.1, 0.9]], "Y": [[[1, 0], [1, 0]], [[0, 1], [0, 1]]]},
    )
    found = truth(scm)
    assert found.p_x == pytest.approx([0.5, 0.5])
    assert found.p_y_given_x == pytest.approx(np.array([[0.9, 0.1], [0.1, 0.9]]))
    assert found.p_y_do_x == pytest.approx(np.full((2, 2), 0.5))
    assert found.tv == pytest.approx(0.4)
    assert found.kl == pytest.approx(0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5))


@pytest.mark.parametrize("strength", [0.0, 0.4, 0.8])
def test_the_truth_is_what_the_formulas_give_on_the_exact_law(strength):
    scm = confounded_scm(strength)
    law, found = joint(scm), truth(scm)
    assert found.p_y_given_x == pytest.approx(naive(law))
    assert found.p_y_do_x == pytest.approx(backdoor(law))
    assert found.p_y_do_x == pytest.approx(frontdoor(law))
    assert (found.tv > 0.01) == (strength > 0)


def test_without_the_arrow_into_the_label_seeing_is_doing():
    found = truth(confounded_scm(0.8, arrow=False))
    assert found.tv == pytest.approx(0, abs=1e-12)
    assert found.kl == pytest.approx(0, abs=1e-12)


def selected_scm():
    """C and X are independent causes; a row is kept if C and Y agree, else with probability 0.25."""
    return DiscreteSCM(
        [("X", "Y"), ("C", "S"), ("Y", "S")],
        states={"C": "01", "X": "ab", "Y": "01", "S": ["no", "yes"]},
        tables={
            "C": [0.7, 0.3],
            "X": [0.5, 0.5],
            "Y": [[0.8, 0.2], [0.2, 0.8]],
            "S": [[[0, 1], [0.75, 0.25]], [[0.75, 0.25], [0, 1]]],
        },
    )


def test_selection_moves_what_is_seen_and_not_what_is_true():
    whole, kept = truth(selected_scm()), truth(selected_scm(), selected=True)
    assert whole.tv == pytest.approx(0, abs=1e-12)
    assert kept.p_y_do_x == pytest.approx(whole.p_y_do_x)
    # P(y=0 | x=a, kept) by Bayes: P(kept | y=0) = 0.7 + 0.3 / 4, P(kept | y=1) = 0.3 + 0.7 / 4
    keep0, keep1 = 0.7 + 0.3 * 0.25, 0.3 + 0.7 * 0.25
    assert kept.p_y_given_x[0, 0] == pytest.approx(0.8 * keep0 / (0.8 * keep0 + 0.2 * keep1))
    assert kept.tv > 0.05


def test_selection_of_a_model_that_selects_nothing_is_refused():
    with pytest.raises(CausalFTError, match="no node 'S'"):
        truth(confounded_scm(), selected=True)


def test_a_code_that_never_occurs_is_named():
    scm = DiscreteSCM([("X", "Y")], {"X": "ab", "Y": "01"}, {"X": [1.0, 0.0], "Y": [[1, 0], [0, 1]]})
    with pytest.raises(PositivityError, match=r"X=b"):
        truth(scm)


def test_metrics_are_json_with_an_infinite_divergence_as_null():
    found = truth(confounded_scm())
    document = json.loads(json.dumps(found.to_metrics(), allow_nan=False))
    assert document["tv"] == pytest.approx(found.tv)
    assert np.array(document["p_y_do_x"]).sum(1) == pytest.approx(1)
    assert len(document["kl_per_code"]) == len(document["codes"]) == 4
    # kept rows have y = x only, but do(x) gives both labels: KL of (0.5, 0.5) to (1, 0)-like rows is infinite
    scm = DiscreteSCM(
        [("X", "Y"), ("Z", "Y"), ("Y", "S")],
        {"X": "ab", "Z": "01", "Y": "01", "S": ["no", "yes"]},
        {"X": [0.5, 0.5], "Z": [0.5, 0.5], "Y": [[[1, 0], [0, 1]], [[1, 0], [0, 1]]], "S": [[1, 0], [0, 1]]},
    )
    found = truth(scm, selected=True)
    assert np.isfinite(found.kl)  # doing allows all that seeing shows
    reversed_ = replace(found, p_y_given_x=found.p_y_do_x, p_y_do_x=found.p_y_given_x)
    assert reversed_.kl_per_code.tolist() == [np.inf, np.inf]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_pinsker_bounds_the_two_distances(seed):
    p, q = np.random.default_rng(seed).dirichlet(np.full(4, 0.5), size=2)
    found = Truth(("x",), tuple("abcd"), np.ones(1), p[None], q[None])
    assert 0 <= found.tv <= 1
    assert found.tv <= np.sqrt(found.kl / 2) + 1e-12
