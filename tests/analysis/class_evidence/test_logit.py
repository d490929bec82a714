"""The binomial model agrees with statsmodels, in estimate and clustered error, and no ceiling bends it."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from causalft.analysis.class_evidence import Regression, logit_slope
from causalft.runs.intervals import Z95


def binomial(n_models=3, n_classes=30, slope=1.5, base=0.0, seed=0, n_test=50):
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 0.7, (n_models, n_classes))
    logit = base + rng.normal(0, 1, n_classes) + 0.3 * np.arange(n_models)[:, None] + slope / 2 * (x - 3)
    p = 1 / (1 + np.exp(-logit))
    return x, rng.binomial(n_test, p) / n_test, p


def test_estimate_and_clustered_error_are_those_of_statsmodels():
    x, y, _ = binomial()
    n = np.full(y.shape, 50.0)
    found = logit_slope(y, x, n, unit=1.0)
    kept = np.flatnonzero((y.max(axis=0) > 0) & (y.min(axis=0) < 1))
    assert found.n_classes == len(kept)
    y, x = y[:, kept], x[:, kept]
    design = np.column_stack(
        [x.ravel(), np.repeat(np.eye(3), len(kept), axis=0), np.tile(np.eye(len(kept)), (3, 1))[:, 1:]]
    )
    hits = np.column_stack([50 * y.ravel(), 50 * (1 - y.ravel())])
    fitted = sm.GLM(hits, design, family=sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": np.tile(kept, 3), "use_correction": False}
    )
    assert found.log_odds.estimate == pytest.approx(fitted.params[0], rel=1e-6)
    from scipy.stats import t

    k = len(kept)
    error = (found.log_odds.high - found.log_odds.estimate) / t.ppf(0.975, k - 1)
    assert error == pytest.approx(fitted.bse[0] * (k / (k - 1)) ** 0.5, rel=1e-5)
    assert Z95 < t.ppf(0.975, k - 1)


def test_equal_test_counts_and_none_give_the_same_estimate():
    x, y, _ = binomial(seed=3)
    one = logit_slope(y, x, np.full(y.shape, 50.0)).log_odds
    other = logit_slope(y, x).log_odds
    assert other.estimate == pytest.approx(one.estimate, rel=1e-9)
    assert other.low == pytest.approx(one.low, rel=1e-9)


@pytest.mark.parametrize("base", [0.0, 3.0])
def test_the_ceiling_bends_the_linear_slope_and_not_the_logit(base):
    x, _, p = binomial(n_classes=400, base=base)
    found = logit_slope(p, x)
    assert found.log_odds.estimate == pytest.approx(1.5, rel=1e-6)
    linear = 2 * Regression(p, [x]).estimate()[0]
    assert found.accuracy.estimate == pytest.approx(linear, rel=0.1)
    assert (linear < 0.16) == (base == 3.0)  # a quarter of the slope in the middle, which is 0.3


def test_classes_that_are_always_right_or_always_wrong_do_not_count():
    x, y, _ = binomial()
    y[:, 0], y[:, 1] = 1.0, 0.0
    rest = logit_slope(y[:, 2:], x[:, 2:])
    found = logit_slope(y, x)
    assert found.n_classes == rest.n_classes
    # centring differs, the slope does not
    assert found.log_odds.estimate == pytest.approx(rest.log_odds.estimate, rel=1e-9)


def test_proportional_priors_have_no_logit_slope():
    x, y, _ = binomial(n_models=2)
    found = logit_slope(y, np.stack([x[0], x[0] + 1]))
    assert not found.log_odds.exists and found.to_json()["points"] is None


@pytest.mark.filterwarnings("error")
def test_classes_that_all_models_get_right_leave_no_slope_and_no_warning() -> None:
    found = logit_slope(np.ones((2, 4)), np.arange(8.0).reshape(2, 4), np.full((2, 4), 3.0))
    assert not found.log_odds.exists and found.n_classes == 0
    assert "three classes that some model gets right" in found.log_odds.reason
