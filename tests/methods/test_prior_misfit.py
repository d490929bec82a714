"""Intervals that allow for the misfit of a model: wider in quadrature, and measured where the prior is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from causalft.errors import CausalFTError
from causalft.methods.priors import PriorIntervals, bootstrap_prior, compare_priors
from causalft.methods.priors.misfit import measured_misfit, with_misfit

K, N = 40, 60
AWAY = np.random.default_rng(3).normal(0, 0.5, K)


@pytest.fixture(scope="module")
def known() -> np.ndarray:
    return np.random.default_rng(1).permutation(50.0 ** (-np.arange(K) / (K - 1)))


@pytest.fixture(scope="module")
def found(known: np.ndarray) -> PriorIntervals:
    """Of logits that hold the known prior times a misfit of log-normal factors."""
    rng = np.random.default_rng(2)
    labels, centres = np.repeat(np.arange(K), N), 1.5 * rng.normal(size=(K, 5))
    x = centres[labels] + rng.normal(size=(len(labels), 5))
    distance = (x**2).sum(1)[:, None] - 2 * x @ centres.T + (centres**2).sum(1)
    return bootstrap_prior(np.log(known) + AWAY - distance / 2, labels, n_boot=60, l2=0.0)


def test_variances_of_draws_and_misfit_are_added(found: PriorIntervals) -> None:
    log_q, z = np.log(found.estimate.prior), norm.ppf(0.975)
    wider, bare = with_misfit(found, 0.3), with_misfit(found, 0.0)
    np.testing.assert_allclose((log_q - bare[:, 0]) / z, found.spread)
    np.testing.assert_allclose((log_q - wider[:, 0]) ** 2, (log_q - bare[:, 0]) ** 2 + (0.3 * z) ** 2)
    reach = log_q - found.log_prior[:, 0]  # of the root mean square about the estimate
    assert (found.spread * z <= 1.02 * reach).all()
    assert (wider[:, 1] <= 0).all()
    with pytest.raises(CausalFTError, match="must be 0 or more"):
        with_misfit(found, -0.1)


def misfit_of_limit(known: np.ndarray, away: np.ndarray) -> float:
    """Of the estimate from ever so many images: the known prior times exp(away), as shares."""
    shift = np.log((known * np.exp(away)).sum() / known.sum())
    return float(np.sqrt(((away - shift) ** 2).mean()))


def test_the_misfit_of_a_known_prior_is_measured(known: np.ndarray, found: PriorIntervals) -> None:
    assert measured_misfit(known, found) == pytest.approx(misfit_of_limit(known, AWAY), rel=0.1)
    part = known.copy()
    part[:10] = np.nan
    expected = misfit_of_limit(known[10:], AWAY[10:])
    assert measured_misfit(part, found) == pytest.approx(expected, rel=0.1)
    assert measured_misfit(found.estimate.prior, found) == 0.0


def test_intervals_miss_the_known_prior_unless_they_allow_for_the_misfit(
    known: np.ndarray, found: PriorIntervals
) -> None:
    compared = compare_priors(known, found, misfit=misfit_of_limit(known, AWAY))
    assert compared.n_inside is not None and compared.n_inside_wider is not None
    assert compared.n_inside < 0.7 * K and compared.n_inside_wider >= 0.9 * K
    assert compared.misfit == measured_misfit(known, found)
    assert compare_priors(known, found).n_inside_wider is None
