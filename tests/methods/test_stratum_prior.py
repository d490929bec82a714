"""P(c) by EM: monotone, certified, right where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from causalft.errors import CausalFTError
from causalft.methods.estimators.fusion import fuse, nll
from causalft.methods.estimators.mixing import estimate_stratum_prior


def mixture(weights: list[float], n: int, seed: int, n_classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of M random strata, and labels drawn from their mixture by the given P(c)."""
    rng = np.random.default_rng(seed)
    probs = softmax(2 * rng.normal(size=(len(weights), n, n_classes)), axis=-1)
    cumulative = np.tensordot(weights, probs, axes=1).cumsum(1)
    return probs, (rng.random((n, 1)) > cumulative).sum(1).clip(0, n_classes - 1)


def test_the_weights_of_a_mixture_are_recovered_and_covered() -> None:
    truth, covered = np.array([0.6, 0.3, 0.1]), []
    for seed in range(20):
        found = estimate_stratum_prior(*mixture(truth.tolist(), 600, seed), seed=seed, n_boot=100)
        assert found.converged and found.weights.sum() == pytest.approx(1)
        np.testing.assert_allclose(found.weights, truth, atol=0.2)
        covered.append((found.ci95[:, 0] <= truth) & (truth <= found.ci95[:, 1]))
    assert np.mean(covered) > 0.85


@given(st.integers(0, 10_000), st.floats(1, 5))
@settings(max_examples=20, deadline=None)
def test_em_never_lowers_the_likelihood_and_beats_every_other_prior(seed: int, concentration: float) -> None:
    probs, labels = mixture([0.2, 0.5, 0.3], 60, seed)
    found = estimate_stratum_prior(probs, labels, n_boot=20, concentration=concentration)
    steps = np.diff(found.path)
    assert (steps >= -1e-9 * abs(found.path[0])).all() and found.n_iter == len(steps)

    def smoothed(weights: np.ndarray) -> float:
        return -60 * nll(fuse(probs, weights), labels) + (concentration - 1) * np.log(weights).sum()

    assert found.path[-1] == pytest.approx(smoothed(np.maximum(found.weights, 1e-300)), rel=1e-9)
    for other in np.random.default_rng(seed).dirichlet(np.ones(3), size=20):
        assert smoothed(other) <= found.path[-1] + 60 * found.gap + 1e-9


def test_two_strata_by_line_search() -> None:
    probs, labels = mixture([0.7, 0.3], 300, seed=7)

    def risk(w: float) -> float:
        return nll(fuse(probs, [w, 1 - w]), labels)

    best = minimize_scalar(risk, bounds=(0, 1), method="bounded", options={"xatol": 1e-9})
    found = estimate_stratum_prior(probs, labels, n_boot=20)
    assert found.weights[0] == pytest.approx(best.x, abs=2e-3)
    assert found.loglik == pytest.approx(-300 * best.fun, rel=1e-7)


def test_a_useless_stratum_gets_weight_zero_without_smoothing() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 120)
    good = 0.85 * np.eye(3)[labels] + 0.05
    wrong = 0.85 * np.eye(3)[(labels + 1) % 3] + 0.05
    bare = estimate_stratum_prior([good, wrong], labels, n_boot=50)
    kept = estimate_stratum_prior([good, wrong], labels, n_boot=50, concentration=13)
    assert bare.weights[1] < 0.01 and bare.ci95[1, 1] < 0.05
    assert 0.03 < kept.weights[1] < 0.2


@pytest.mark.parametrize(
    "labels", [[0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 2, 3, 4, 5, 6, 7]], ids=["4 a class", "1 a class"]
)
def test_a_stratum_that_explains_every_one_of_8_images_is_not_certain(labels: list[int]) -> None:
    """As with a share of 8 in 8: the other stratum may explain up to a third."""
    right = np.eye(8)[labels] * (1 - 8e-6) + 1e-6
    wrong = np.roll(right, 1, axis=1)
    found = estimate_stratum_prior([right, wrong], labels, n_boot=2000)
    assert found.weights[0] > 0.999
    assert 0.55 < found.ci95[0, 0] < 0.8 and found.ci95[0, 1] > 0.999
    assert 0.2 < found.ci95[1, 1] < 0.45


def test_equal_strata_stay_equal_and_logits_count_as_probabilities() -> None:
    probs, labels = mixture([0.5, 0.5], 80, seed=3)
    same = estimate_stratum_prior([probs[0], probs[0]], labels, n_boot=20)
    np.testing.assert_allclose(same.weights, 0.5)
    a = estimate_stratum_prior(probs, labels, n_boot=20, seed=1)
    b = estimate_stratum_prior(np.log(probs) - 3, labels, n_boot=20, seed=1, kind="logits")
    np.testing.assert_allclose(a.weights, b.weights, rtol=1e-6)
    np.testing.assert_allclose(a.ci95, b.ci95, rtol=1e-6)
    assert "EM steps" in repr(a)


@pytest.mark.parametrize(
    "options, message",
    [({"concentration": 0.5}, "concentration is 0.5"), ({"n_boot": 3}, "20 draws or more")],
)
def test_bad_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(CausalFTError, match=message):
        estimate_stratum_prior(np.full((2, 3, 2), 0.5), [0, 1, 0], **options)


def test_bad_shapes_are_named() -> None:
    with pytest.raises(CausalFTError, match="n_strata, n, n_classes"):
        estimate_stratum_prior(np.full((3, 2), 0.5), [0, 1, 0])
    with pytest.raises(CausalFTError, match="from 0 to 1"):
        estimate_stratum_prior(np.full((2, 3, 2), 0.5), [0, 1, 2])
