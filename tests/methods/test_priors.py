"""GLA against models whose label prior is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from causalft.errors import CausalFTError
from causalft.methods.priors import debias, estimate_prior, kl_divergence, rank_correlation


def simulate(
    n_per_class: int, prior: np.ndarray, target: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the Bayes classifier under `prior` for Gaussian classes, on samples drawn from `target`."""
    rng = np.random.default_rng(seed)
    n_classes = len(prior)
    centres = rng.normal(size=(n_classes, 4)) * 1.5
    counts = np.maximum(1, np.rint(n_per_class * n_classes * target)).astype(int)
    labels = np.repeat(np.arange(n_classes), counts)
    x = centres[labels] + rng.normal(size=(len(labels), 4))
    log_likelihood = -0.5 * ((x[:, None, :] - centres) ** 2).sum(-1)
    return log_likelihood + np.log(prior) + rng.normal(size=(len(labels), 1)), labels


def exponential_prior(n_classes: int, factor: float, seed: int) -> np.ndarray:
    prior = factor ** (-np.arange(n_classes) / (n_classes - 1))
    return np.random.default_rng(seed).permutation(prior / prior.sum())


def test_gla_recovers_the_prior_of_a_known_softmax_model() -> None:
    prior = exponential_prior(20, 100, seed=0)
    logits, labels = simulate(400, prior, np.full(20, 1 / 20), seed=1)
    estimate = estimate_prior(logits, labels)
    assert estimate.converged and estimate.n == 8000
    assert rank_correlation(prior, estimate.prior) > 0.97
    assert kl_divergence(prior, estimate.prior) < 0.02
    assert kl_divergence(prior, np.full(20, 1 / 20)) > 0.5
    assert estimate.prior.sum() == pytest.approx(1)


def test_gla_with_a_known_unbalanced_target() -> None:
    prior, target = exponential_prior(12, 100, seed=2), exponential_prior(12, 20, seed=3)
    logits, labels = simulate(800, prior, target, seed=4)
    told = estimate_prior(logits, labels, target_prior=target)
    counts = np.bincount(labels, minlength=12)
    weighted = estimate_prior(logits, labels, weights=1 / counts[labels])
    ignorant = estimate_prior(logits, labels)
    assert kl_divergence(prior, told.prior) < 0.02
    assert kl_divergence(prior, weighted.prior) < 0.03
    assert kl_divergence(prior, ignorant.prior) > 0.1


def test_gla_of_a_model_without_prior_is_near_uniform() -> None:
    uniform = np.full(15, 1 / 15)
    logits, labels = simulate(400, uniform, uniform, seed=5)
    assert kl_divergence(uniform, estimate_prior(logits, labels).prior) < 0.01


def test_debiased_model_is_the_bayes_classifier_of_the_target() -> None:
    prior = exponential_prior(20, 100, seed=6)
    logits, labels = simulate(200, prior, np.full(20, 1 / 20), seed=7)
    before = (logits.argmax(1) == labels).mean()
    after = (debias(logits, estimate_prior(logits, labels).prior).argmax(1) == labels).mean()
    best = (debias(logits, prior).argmax(1) == labels).mean()
    assert after > before + 0.03 and after == pytest.approx(best, abs=0.01)


@given(st.integers(0, 10_000), st.floats(-50, 50))
@settings(max_examples=15, deadline=None)
def test_a_constant_per_row_changes_nothing(seed: int, scale: float) -> None:
    logits, labels = simulate(10, exponential_prior(6, 10, 0), np.full(6, 1 / 6), seed)
    shift = scale * np.random.default_rng(seed).normal(size=(len(labels), 1))
    a, b = estimate_prior(logits, labels, l2=1e-3), estimate_prior(logits + shift, labels, l2=1e-3)
    np.testing.assert_allclose(a.prior, b.prior, atol=1e-5)


@given(st.integers(0, 10_000), st.permutations(range(6)))
@settings(max_examples=15, deadline=None)
def test_permuting_the_classes_permutes_the_prior(seed: int, permutation: list[int]) -> None:
    logits, labels = simulate(10, exponential_prior(6, 10, 0), np.full(6, 1 / 6), seed)
    order = np.array(permutation)
    moved = estimate_prior(logits[:, order], np.argsort(order)[labels], l2=1e-3)
    np.testing.assert_allclose(moved.prior, estimate_prior(logits, labels, l2=1e-3).prior[order], atol=1e-5)


def test_first_order_condition_matches_class_shares() -> None:
    """At the minimum the debiased model predicts each class as often as it occurs (the gradient)."""
    logits, labels = simulate(50, exponential_prior(8, 30, 1), np.full(8, 1 / 8), seed=8)
    estimate = estimate_prior(logits, labels, l2=0)
    predicted = softmax(debias(logits, estimate.prior), axis=1).mean(0)
    np.testing.assert_allclose(predicted, np.bincount(labels, minlength=8) / len(labels), atol=1e-5)
    assert "imbalance" in repr(estimate) and "NOT" not in repr(estimate)


def test_a_class_without_a_sample_is_named_or_regularised() -> None:
    logits, labels = simulate(20, exponential_prior(5, 10, 0), np.full(5, 0.2), seed=9)
    keep = labels != 3
    with pytest.raises(CausalFTError, match=r"class 3 has no labelled sample \(1 of 5"):
        estimate_prior(logits[keep], labels[keep], l2=0)
    for l2 in (0.1, "cv"):
        assert np.isfinite(estimate_prior(logits[keep], labels[keep], l2=l2).prior).all()


def test_the_penalty_pulls_towards_uniform() -> None:
    logits, labels = simulate(50, exponential_prior(8, 50, 1), np.full(8, 1 / 8), seed=10)
    spread = [estimate_prior(logits, labels, l2=l2).imbalance for l2 in (0, 0.01, 0.1, 10)]
    assert spread == sorted(spread, reverse=True) and spread[-1] < 1.2


@pytest.mark.parametrize(
    "logits, labels, options, message",
    [
        (np.zeros((2, 3)), [0], {}, "must agree"),
        (np.zeros(3), [0], {}, "n_samples, n_classes"),
        (np.array([[0, np.nan]]), [0], {}, "sample 0 are not finite"),
        (np.zeros((1, 2)), [2], {}, "from 0 to 1"),
        (np.zeros((2, 2)), [0, 1], {"target_prior": [0.5, 0.6]}, "sums to 1.1"),
        (np.zeros((2, 2)), [0, 1], {"target_prior": [1.0, 0.0]}, "positive numbers"),
        (np.zeros((2, 2)), [0, 1], {"weights": [-1, 1]}, "non-negative"),
        (np.zeros((2, 2)), [0, 1], {"l2": -1}, "l2 is -1"),
    ],
)
def test_bad_input_is_named(logits: np.ndarray, labels: list[int], options: dict, message: str) -> None:
    with pytest.raises(CausalFTError, match=message):
        estimate_prior(logits, labels, **options)


def test_divergence_and_rank_correlation_closed_forms() -> None:
    assert kl_divergence([0.75, 0.25], [0.5, 0.5]) == pytest.approx(np.log(2) - 0.5623351446)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == -1
    assert np.isnan(rank_correlation([1, 1], [1, 2]))
    with pytest.raises(CausalFTError, match="one length"):
        rank_correlation([1, 2], [1, 2, 3])
