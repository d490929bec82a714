"""Refuters, sensitivity and error rates: exact effects, published numbers, and runs that a refuter must reject."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalft.analysis.confounding.battery import (
    binary_roles,
    e_value,
    e_value_of_ratio,
    effect,
    groups_of,
    refute,
    true_effect,
    unobserved_confounder,
)
from causalft.analysis.confounding.statistics import power
from causalft.errors import CausalFTError
from synthetic.designs import make_design
from tests.analysis.confounding.small_scms import confounded_scm


@pytest.fixture(scope="module")
def rows():
    """c, t, o of a confounded design's B set."""
    design = make_design("confounded", ["cat", "dog"], strength=0.8)
    found = design.rows("B_train", 300, seed=0)
    t, o = binary_roles(found.looks, found.labels, design.majority)
    return found.factors, t, o


@pytest.fixture(scope="module")
def refuted(rows):
    return refute(*rows, simulations=12, truth=0.5)


def test_roles_follow_the_majority_and_fall_back_on_every_second_class():
    t, o = binary_roles(np.array([0, 1, 2]), np.array([2, 1, 0]), [0, 1, 1])
    assert t.tolist() == [0, 1, 1] and o.tolist() == [1, 1, 0]
    assert groups_of([0, 0]).tolist() == [0, 1]


def test_effect_by_hand():
    # C=0: P(O|T=1) - P(O|T=0) = 1 - 0; C=1: 0.5 - 0.5; C=0 has 3 of 7 rows
    c = np.array([0, 0, 0, 1, 1, 1, 1])
    t = np.array([1, 0, 0, 1, 1, 0, 0])
    o = np.array([1, 0, 0, 1, 0, 1, 0])
    assert effect(t, o, c) == pytest.approx(3 / 7)
    assert effect(t, o) == pytest.approx(2 / 3 - 1 / 4)
    with pytest.raises(CausalFTError, match="C = 1 has T = 0"):
        effect(np.array([1, 0, 1]), np.array([1, 0, 1]), np.array([0, 0, 1]))


@pytest.mark.parametrize("scm", [confounded_scm(0.8), make_design("confounded", strength=0.8).scm("B")])
def test_the_stratified_effect_converges_to_the_exact_one_and_the_naive_does_not(scm):
    drawn = scm.sample(200_000, np.random.default_rng(0))
    majority = [0, 1] * (scm.n_states("Y") // 2)
    t, o = binary_roles(drawn["X"] // 2, drawn["Y"], majority)
    exact = true_effect(scm, majority)
    assert effect(t, o, drawn["C"]) == pytest.approx(exact, abs=0.015)
    assert effect(t, o) > exact + 0.1


def test_without_confounding_the_exact_effect_is_the_naive_one():
    scm = confounded_scm(0.8, arrow=False)
    drawn = scm.sample(200_000, np.random.default_rng(0))
    t, o = binary_roles(drawn["X"] // 2, drawn["Y"], [0, 1])
    assert effect(t, o) == pytest.approx(true_effect(scm, [0, 1]), abs=0.01)


def test_the_regression_of_dowhy_is_stratification(rows, refuted):
    c, t, o = rows
    assert refuted.adjusted == pytest.approx(effect(t, o, c), abs=1e-9)
    assert refuted.naive == pytest.approx(effect(t, o))
    assert refuted.naive > refuted.adjusted + 0.1


def test_a_sound_estimate_passes_all_refuters(refuted):
    assert set(refuted.tests) == {
        "placebo_treatment",
        "dummy_outcome",
        "random_common_cause",
        "subset_stability",
    }
    for name, found in refuted.tests.items():
        assert found.p > 0.01, name
        assert found.ci95[0] < found.estimate < found.ci95[1]
    for name in ("placebo_treatment", "dummy_outcome"):
        assert abs(refuted.tests[name].estimate) < 0.05
    for name in ("random_common_cause", "subset_stability"):
        assert refuted.tests[name].estimate == pytest.approx(refuted.adjusted, abs=0.05)
    document = json.loads(json.dumps(refuted.to_metrics(), allow_nan=False))
    assert document["truth"] == 0.5 and document["tests"]["dummy_outcome"]["p"] > 0


def test_refuters_are_repeatable_and_leave_no_trace(rows, refuted):
    before, level = np.random.get_state()[1].copy(), logging.root.manager.disable  # noqa: NPY002
    again = refute(*rows, simulations=12, truth=0.5)
    assert again == refuted
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    assert logging.root.manager.disable == level


def test_the_subset_refuter_finds_an_estimate_that_rests_on_a_few_rows():
    """Only two rows have T = 1 under C = 1, one with O = 1 and one without: a subset often loses one of them."""
    rng = np.random.default_rng(0)
    c = np.repeat([0, 1], 200)
    t = np.concatenate([rng.integers(2, size=200), np.zeros(200, int)])
    o = rng.integers(2, size=400)
    t[-2:], o[-2:] = 1, [0, 1]
    steady = refute(c, rng.integers(2, size=400), o, simulations=12).tests["subset_stability"]
    shaky = refute(c, t, o, simulations=12).tests["subset_stability"]
    assert np.ptp(shaky.ci95) > 2 * np.ptp(steady.ci95)


def test_columns_that_are_not_binary_are_refused(rows):
    c, t, o = rows
    with pytest.raises(CausalFTError, match="column T must hold both 0 and 1"):
        refute(c, np.zeros_like(t), o)
    with pytest.raises(CausalFTError, match="column C"):
        refute(c + 1, t, o)
    with pytest.raises(CausalFTError, match="at least 10"):
        refute(c, t, o, simulations=3)


@pytest.mark.parametrize(
    ("ratio", "limits", "expected"),
    [  # the examples of VanderWeele and Ding 2017, and two by hand
        (3.9, (1.8, 8.7), (7.26, 3.00)),
        (0.8, (0.71, 0.91), (1.81, 1.43)),
        (2.0, (0.9, 4.0), (2 + np.sqrt(2), 1.0)),
        (1.0, (0.5, 2.0), (1.0, 1.0)),
    ],
)
def test_e_values(ratio, limits, expected):
    assert e_value_of_ratio(ratio, limits) == pytest.approx(expected, abs=0.005)


@given(st.floats(1.0, 50.0))
def test_the_e_value_is_the_strength_at_which_the_bounding_factor_is_the_ratio(ratio):
    strength = e_value(ratio)
    assert strength**2 / (2 * strength - 1) == pytest.approx(
        ratio
    )  # Ding and VanderWeele 2016, equal strengths
    assert e_value(1 / ratio) == pytest.approx(strength)


def test_bad_ratios_are_refused():
    with pytest.raises(CausalFTError, match="no ratio"):
        e_value(-1.0)
    with pytest.raises(CausalFTError, match="no ratio"):
        e_value(float("nan"))
    with pytest.raises(CausalFTError, match="does not lie in its interval"):
        e_value_of_ratio(3.0, (1.0, 2.0))


def test_unobserved_confounder_with_and_without_an_effect(rows):
    found = unobserved_confounder(*rows)
    assert found.p < 0.01 and 1 < found.ci95[0] <= found.estimate <= found.ci95[1]
    assert "-fold" in found.words
    rng = np.random.default_rng(0)
    c, t, o = rng.integers(2, size=(3, 400))
    nothing = unobserved_confounder(c, t, o)
    assert nothing.ci95[0] == 1.0 and nothing.p > 0.05 and "no certain effect" in nothing.words


def test_the_interval_of_the_risk_ratio_behaves_like_a_test():
    rng = np.random.default_rng(1)
    p = [unobserved_confounder(*rng.integers(2, size=(3, 200)), seed=i, resamples=300).p for i in range(200)]
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.1


def test_power_against_simulation_and_the_numbers_it_plans():
    pilot = np.array([0.02, 0.10, 0.05, 0.11, -0.01, 0.06])
    images, of_pictures = 400, 0.5 * pilot.var(ddof=1)
    found = power(pilot, images, of_pictures)
    rng = np.random.default_rng(0)

    def simulated(n_seeds, n_images):
        variance = pilot.var(ddof=1) - of_pictures + of_pictures * images / n_images
        draws = rng.normal(pilot.mean(), np.sqrt(variance), size=(20_000, n_seeds))
        t = draws.mean(1) / draws.std(1, ddof=1) * np.sqrt(n_seeds)
        from scipy import stats

        return np.mean(np.abs(t) > stats.t.ppf(0.975, n_seeds - 1))

    assert found.power == pytest.approx(simulated(6, images), abs=0.02)
    assert simulated(found.seeds_needed, images) > 0.78 > 0.72 > simulated(found.seeds_needed - 2, images)
    assert simulated(6, found.images_needed) == pytest.approx(0.8, abs=0.02)


def test_more_images_do_not_help_if_training_varies():
    assert power([0.5, -0.45, 0.4, -0.4], 100, 1e-6).images_needed is None
    nothing = power([0.1, -0.1], 100, 0.001)
    assert nothing.images_needed is None and nothing.seeds_needed is None and nothing.power == 0
    assert power([0.3, 0.3], 100, 0.0).power == 1
    json.dumps(power([0.3, 0.3], 100, 0.0).to_metrics(), allow_nan=False)
    with pytest.raises(CausalFTError, match="two seeds or more"):
        power([0.3], 100, 0.0)
    with pytest.raises(CausalFTError, match="n_images 0"):
        power([0.3, 0.2], 0, 0.0)


def test_power_of_a_large_effect_on_few_seeds_is_a_number():
    few = power([0.2, 0.21], 100, 5e-5).power  # noncentrality 41 on one degree of freedom
    draws = np.random.default_rng(0).normal(0.205, 0.05**0.5 / 10**1.5, (40_000, 2))
    ratio = draws.mean(1) / (draws.std(1, ddof=1) / 2**0.5)
    assert few == pytest.approx(np.mean(np.abs(ratio) > 12.706), abs=0.02)
