"""The four estimators on tables of counts: exact on the law, identities, overlap, intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.analysis.confounding.curve import truth
from causalft.analysis.confounding.estimates import (
    ESTIMATORS,
    backdoor,
    count_table,
    estimate_do,
    frontdoor,
    interval,
    ipw,
    missing_cells,
    naive,
    require_overlap,
    wilson,
)
from causalft.errors import CausalFTError
from causalft.scm.exact import PositivityError
from tests.analysis.confounding.small_scms import confounded_scm, joint, random_joint, tables

ADJUSTED = ("backdoor", "ipw", "frontdoor")


@pytest.mark.parametrize("name", ESTIMATORS)
def test_on_the_exact_law_each_gives_its_estimand(name):
    scm = confounded_scm(0.8)
    found = truth(scm)
    expected = found.p_y_given_x if name == "naive" else found.p_y_do_x
    assert estimate_do(name, joint(scm)) == pytest.approx(expected)
    assert found.tv > 0.1  # the two are different things


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000))
def test_estimates_are_distributions(seed):
    counts = tables(random_joint(np.random.default_rng(seed)), 400, 3, seed)
    for name in ESTIMATORS:
        p = estimate_do(name, counts)
        assert p.shape == (3, 3, 3)
        defined = ~np.isnan(p).any(-1)
        assert np.all(np.isnan(p).any(-1) == np.isnan(p).all(-1))
        assert p[defined].sum(-1) == pytest.approx(1)
        assert np.all(p[defined] >= 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from((20, 100, 2000)))
def test_weighting_by_estimated_probabilities_is_stratification(seed, n):
    """Also where cells are empty: both say that they do not know, at the same codes."""
    counts = tables(random_joint(np.random.default_rng(seed), (3, 4, 2, 3)), n, 4, seed)
    np.testing.assert_allclose(ipw(counts), backdoor(counts), rtol=1e-10, atol=1e-12)


def test_weighting_row_by_row_is_what_the_table_form_computes():
    counts = tables(joint(confounded_scm(0.5)), 3000, 1, 5)[0]
    cells = np.argwhere(counts > 0)
    rows = np.repeat(cells, counts[counts > 0].astype(int), axis=0)
    c, x, _, y = rows.T
    p_c = np.bincount(c) / len(c)
    weight = p_c[c] / np.array([np.mean(c[x == code] == value) for code, value in zip(x, c)])
    for code in range(4):
        here = x == code
        assert ipw(counts)[code, 1] == pytest.approx(np.average(y[here] == 1, weights=weight[here]))


def test_leading_axes_are_separate_tables():
    counts = tables(joint(confounded_scm(0.8)), 2000, 6, 1)
    for name in ESTIMATORS:
        together = estimate_do(name, counts.reshape(2, 3, *counts.shape[1:]))
        low, high = interval(name, counts)
        for i in range(6):
            np.testing.assert_allclose(together[divmod(i, 3)], estimate_do(name, counts[i]))
            np.testing.assert_allclose(low[i], interval(name, counts[i])[0])
            np.testing.assert_allclose(high[i], interval(name, counts[i])[1])


def test_a_constant_factor_leaves_the_naive_estimate():
    counts = tables(random_joint(np.random.default_rng(3), (1, 3, 2, 2)), 500, 2, 0)
    np.testing.assert_allclose(backdoor(counts), naive(counts))
    unused = np.concatenate([counts, np.zeros_like(counts)], axis=1)  # a value of C that never occurs
    np.testing.assert_allclose(backdoor(unused), naive(counts))
    np.testing.assert_allclose(ipw(unused), naive(counts))
    np.testing.assert_allclose(interval("ipw", unused), interval("ipw", counts))


def test_missing_cells_are_named_and_not_guessed():
    counts = tables(joint(confounded_scm(0.8)), 5000, 1, 2)[0]
    counts[1, 2] = 0  # no dog head under C=1
    for name in ("backdoor", "ipw"):
        p = estimate_do(name, counts)
        assert np.isnan(p[2]).all() and not np.isnan(p[[0, 1, 3]]).any()
        assert missing_cells(name, counts) == [(2, 1)]
        low, high = interval(name, counts)
        assert np.isnan(low[2]).all() and np.isnan(high[2]).all() and not np.isnan(low[[0, 1, 3]]).any()
    with pytest.raises(PositivityError, match=r"backdoor estimate from \d+ rows .*X=dog head, C=1"):
        require_overlap("backdoor", counts, confounded_scm().states)
    assert missing_cells("naive", counts) == [] and not np.isnan(naive(counts)).any()
    require_overlap("naive", counts, confounded_scm().states)


def test_frontdoor_is_nan_if_the_content_is_a_function_of_the_image():
    counts = tables(joint(confounded_scm(0.8, misread=0.0)), 5000, 1, 2)[0]
    assert np.isnan(frontdoor(counts)).all()
    assert missing_cells("frontdoor", counts) == [(0, 1), (1, 1), (2, 0), (3, 0)]
    assert np.isnan(interval("frontdoor", counts)).all()
    # a code that never occurs is no obstacle to the others
    counts = tables(joint(confounded_scm(0.8)), 5000, 1, 2)[0]
    counts[:, 3] = 0
    assert not np.isnan(frontdoor(counts)[:3]).any() and np.isnan(frontdoor(counts)[3]).all()
    assert missing_cells("frontdoor", counts) == []
    assert not np.isnan(interval("frontdoor", counts)[0][:3]).any()


def test_rows_are_counted_and_bad_rows_refused():
    rng = np.random.default_rng(0)
    columns = [rng.integers(size, size=500) for size in (2, 4, 2, 2)]
    counts = count_table(*columns, (2, 4, 2, 2))
    assert counts.sum() == 500
    assert counts[1, 3, 0, 1] == np.sum(
        (columns[0] == 1) & (columns[1] == 3) & (columns[2] == 0) & (columns[3] == 1)
    )
    with pytest.raises(CausalFTError, match="column x holds 0 to 3; its 3 values"):
        count_table(*columns, (2, 3, 2, 2))
    with pytest.raises(CausalFTError, match="same number"):
        count_table(columns[0][:-1], *columns[1:], (2, 4, 2, 2))
    with pytest.raises(CausalFTError, match="did you mean 'backdoor'"):
        estimate_do("backdor", counts)


def test_wilson_agrees_with_statsmodels():
    from statsmodels.stats.proportion import proportion_confint

    for count, n in ((0, 7), (3, 7), (7, 7), (300, 1000)):
        assert wilson(np.array(count / n), np.array(n)) == pytest.approx(
            proportion_confint(count, n, method="wilson"), abs=1e-12
        )


def test_the_variance_of_the_front_door_is_the_spread_of_its_estimates():
    law = joint(confounded_scm(0.8))
    counts = tables(law, 20_000, 1500, 4)
    low, high = interval("frontdoor", counts)
    spread = frontdoor(counts).std(0)
    half = np.mean(high - low, 0) / 2 / 1.96
    assert half == pytest.approx(spread, rel=0.07)


@pytest.mark.parametrize("n", [400, 4000])
@pytest.mark.parametrize("name", ADJUSTED)
def test_intervals_of_adjusted_estimates_cover(name, n):
    scm = confounded_scm(0.8)
    counts = tables(joint(scm), n, 1000, n)
    found = truth(scm).p_y_do_x[:, 0]
    low, high = (limit[:, :, 0] for limit in interval(name, counts))
    defined = ~np.isnan(low)
    covers = ((low <= found) & (found <= high))[defined]
    assert 0.925 <= covers.mean() <= 0.975
    assert defined.mean() > 0.9


def test_the_naive_interval_covers_p_y_given_x_and_not_p_y_do_x():
    scm = confounded_scm(0.8)
    low, high = (limit[:, :, 0] for limit in interval("naive", tables(joint(scm), 4000, 500, 0)))
    seen, done = truth(scm).p_y_given_x[:, 0], truth(scm).p_y_do_x[:, 0]
    assert 0.93 <= np.mean((low <= seen) & (seen <= high)) <= 0.97
    assert np.mean((low <= done) & (done <= high)) < 0.2


def test_adjusted_estimates_converge_and_the_naive_one_does_not():
    scm = confounded_scm(0.8)
    found = truth(scm)
    error = {}
    for n in (1000, 100_000):
        counts = tables(joint(scm), n, 50, n)
        for name in ESTIMATORS:
            distance = np.abs(estimate_do(name, counts) - found.p_y_do_x).sum(-1) / 2
            error[name, n] = np.nanmean(distance @ found.p_x if name == "naive" else distance)
    for name in ADJUSTED:
        assert error[name, 100_000] < 0.2 * error[name, 1000]
        assert error[name, 100_000] < 0.01
    assert error["naive", 100_000] == pytest.approx(found.tv, abs=0.005)
