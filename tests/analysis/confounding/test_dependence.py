"""The tests of the arrows: exact on tables, at their level where nothing is there, with power where something is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causalft.analysis.confounding.curve import truth
from causalft.analysis.confounding.dependence import (
    c_to_x,
    c_to_y,
    conditional_mutual_information,
    open_backdoor_path,
    path_distance,
    permute_within,
    placebo_c,
    seeing_minus_adjusting,
)
from causalft.errors import CausalFTError
from tests.analysis.confounding.small_scms import confounded_scm, joint

FAST = {"resamples": 99}


def draw(law, n, rng):
    """n rows (c, x, y) of a law over (c, x, b, y)."""
    table = law.sum(2)
    c, x, y = np.unravel_index(rng.choice(table.size, size=n, p=table.ravel()), table.shape)
    return c, x, y


def test_permutation_of_tables_is_permutation_of_rows():
    """The mean and variance of a cell under random permutation of rows, against the hypergeometric closed form."""
    counts = np.array([[[6.0, 3, 1], [2, 4, 4]]])
    drawn = permute_within(counts, 20_000, np.random.default_rng(0))
    assert drawn.shape == (20_000, 1, 2, 3)
    assert (drawn.sum(-1) == counts.sum(-1)).all() and (drawn.sum(-2) == counts.sum(-2)).all()
    law = stats.hypergeom(20, 8, 10)
    assert drawn[:, 0, 0, 0].mean() == pytest.approx(law.mean(), abs=0.04)
    assert drawn[:, 0, 0, 0].var() == pytest.approx(law.var(), rel=0.05)
    seen = np.bincount(drawn[:, 0, 0, 0].astype(int), minlength=9) / 20_000
    assert seen == pytest.approx(law.pmf(np.arange(9)), abs=0.015)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_permutations_keep_both_margins_of_every_stratum(seed, n_c):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(1.5, size=(3, n_c, 4)).astype(float)
    drawn = permute_within(counts, 7, rng)
    assert (drawn >= 0).all()
    assert (drawn.sum(-1) == counts.sum(-1)).all()
    assert (drawn.sum(-2) == counts.sum(-2)).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_information_is_the_mean_divergence_within_strata(seed):
    p = np.random.default_rng(seed).dirichlet(np.full(24, 0.5)).reshape(3, 2, 4) + 1e-9
    p /= p.sum()
    direct = sum(
        stratum.sum() * stats.entropy((stratum / stratum.sum()).ravel(), np.outer(a, b).ravel())
        for stratum in p
        for a, b in [(stratum.sum(1) / stratum.sum(), stratum.sum(0) / stratum.sum())]
    )
    assert float(conditional_mutual_information(p)) == pytest.approx(direct, abs=1e-9)


@pytest.mark.parametrize("strength", [0.0, 0.8])
def test_on_the_exact_law_the_distance_is_that_of_the_truth(strength):
    scm = confounded_scm(strength)
    found, law = truth(scm), joint(scm).sum(2)
    assert seeing_minus_adjusting(law) == pytest.approx(found.p_y_given_x - found.p_y_do_x)
    assert float(path_distance(law)) == pytest.approx(found.tv)


@pytest.mark.parametrize(
    ("test", "law"),
    [
        (c_to_x, joint(confounded_scm(0.0)).mean(0, keepdims=True).repeat(2, 0)),  # C decides nothing
        (c_to_y, joint(confounded_scm(0.8, arrow=False))),
        (open_backdoor_path, joint(confounded_scm(0.8, arrow=False))),
    ],
)
def test_the_tests_keep_their_level_under_the_null(test, law):
    law = law / law.sum()
    rng = np.random.default_rng(1)
    p = np.array([test(*draw(law, 250, rng), seed=i, **FAST).p for i in range(200)])
    assert np.mean(p <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    if test is not open_backdoor_path:  # that one asks for two things at once, and may be below its level
        assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_the_path_test_keeps_its_level_if_c_depends_on_the_label_only():
    """Permuting C within codes alone would be wrong here: the weights P(c | x) differ from P(c) by chance only."""
    law = joint(confounded_scm(0.8)).sum(2)
    p_y = law / law.sum(-1, keepdims=True)
    independent = p_y * law.sum((1, 2))[:, None, None] * law.sum((0, 2))[None, :, None]
    assert float(path_distance(independent)) == pytest.approx(0, abs=1e-12)
    rng = np.random.default_rng(2)
    rows = independent[:, :, None] / independent.sum()
    p = [open_backdoor_path(*draw(rows, 250, rng), seed=i, **FAST).p for i in range(150)]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)


@pytest.mark.parametrize("test", [c_to_x, c_to_y, open_backdoor_path])
def test_the_tests_have_power_and_coverage_if_the_arrow_exists(test):
    scm = confounded_scm(0.8)
    law = joint(scm)
    strata = {c_to_x: np.moveaxis(law.sum(2), -1, 0), c_to_y: law.sum(2).swapaxes(0, 1)}
    exact = (
        truth(scm).tv if test is open_backdoor_path else float(conditional_mutual_information(strata[test]))
    )
    rng = np.random.default_rng(3)
    found = [test(*draw(law, 800, rng), seed=i, resamples=199) for i in range(60)]
    assert all(each.p <= 0.05 for each in found)
    assert np.mean([each.estimate for each in found]) == pytest.approx(exact, rel=0.1)
    assert np.mean([each.ci95[0] <= exact <= each.ci95[1] for each in found]) >= 0.85
    assert all(each.ci95[0] <= each.estimate <= each.ci95[1] for each in found)


def test_estimates_of_no_effect_are_about_zero_and_say_so():
    law = joint(confounded_scm(0.8, arrow=False))
    rng = np.random.default_rng(5)
    found = [c_to_y(*draw(law, 800, rng), seed=i, **FAST) for i in range(40)]
    assert np.mean([each.estimate for each in found]) < 0.003
    assert np.mean([each.ci95[0] == 0 for each in found]) >= 0.9
    quiet = next(each for each in found if each.p > 0.05)
    assert "no link of C with the label" in quiet.words


def test_the_placebo_is_zero_although_the_factor_has_an_effect():
    c, x, y = draw(joint(confounded_scm(0.8)), 1000, np.random.default_rng(0))
    real, placebo = open_backdoor_path(c, x, y), placebo_c(c, x, y)
    assert real.estimate > 0.1 and real.p < 0.01 and "is open" in real.words
    assert abs(placebo.estimate) < 0.01 < 0.1 * real.estimate
    assert placebo.ci95[0] < 0 < placebo.ci95[1] and placebo.p > 0.05
    assert "as it must be" in placebo.words


def test_the_path_test_is_nan_if_c_is_a_function_of_the_image():
    x = np.random.default_rng(0).integers(4, size=200)
    found = open_backdoor_path(x % 2, x, x // 2)
    assert np.isnan(found.estimate) and found.p == 1.0 and "no overlap" in found.words
    assert found.to_metrics()["estimate"] is None and found.to_metrics()["ci95"] == [None, None]


def test_codes_without_overlap_are_left_out_and_counted():
    c, x, y = draw(joint(confounded_scm(0.8)), 1000, np.random.default_rng(0))
    c = np.where(x == 3, 1, c)
    found = open_backdoor_path(c, x, y, **FAST)
    assert "1 of 4 codes lack overlap" in found.words and np.isfinite(found.estimate)


def test_same_seed_same_answer():
    rows = draw(joint(confounded_scm(0.4)), 300, np.random.default_rng(0))
    for test in (c_to_x, c_to_y, open_backdoor_path):
        assert test(*rows, seed=7, **FAST) == test(*rows, seed=7, **FAST)
        assert test(*rows, seed=7, **FAST).ci95 != test(*rows, seed=8, **FAST).ci95
    assert placebo_c(*rows, seed=7, shuffles=10, resamples=9) == placebo_c(
        *rows, seed=7, shuffles=10, resamples=9
    )


def test_bad_rows_are_refused():
    ones = np.ones(10, int)
    with pytest.raises(CausalFTError, match="C takes one value only"):
        c_to_x(ones, np.arange(10) % 2, ones)
    with pytest.raises(CausalFTError, match="X takes one value only"):
        c_to_y(np.arange(10) % 2, ones, ones)
    with pytest.raises(CausalFTError, match="integers"):
        c_to_x(ones * 0.5, ones, ones)
    with pytest.raises(CausalFTError, match="same number"):
        c_to_x(np.arange(10) % 2, ones[:9], ones)
