"""The solver under GLA: against a plain optimiser, in float32, many columns at once, where little is determined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax

from causalft.methods.priors import estimate_prior, offsets, rank_correlation
from causalft.methods.priors.offsets import Table, solve


def problem(seed: int, n: int = 60, n_classes: int = 7, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that tell something of the label, every class labelled."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    logits = scale * (rng.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[labels])
    return logits + rng.normal(size=n_classes), labels


def plain_minimum(
    logits: np.ndarray, labels: np.ndarray, weights: np.ndarray, l2: float, centre: np.ndarray | None = None
) -> np.ndarray:
    """The same risk written down directly, minimised by L-BFGS."""
    n, n_classes = logits.shape
    pull = np.zeros(n_classes) if centre is None else centre - centre.mean()

    def risk(offset: np.ndarray) -> tuple[float, np.ndarray]:
        shifted = logits + offset
        deviation = offset - offset.mean() - pull
        loss = weights @ (logsumexp(shifted, axis=1) - shifted[np.arange(n), labels])
        gradient = (
            weights @ softmax(shifted, axis=1) - np.bincount(labels, weights, n_classes) + l2 * deviation
        )
        return loss + 0.5 * l2 * deviation @ deviation, gradient

    options = {"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-10}
    found = minimize(risk, np.zeros(n_classes), jac=True, method="L-BFGS-B", options=options).x
    return found - found.mean()


@given(st.integers(0, 10_000), st.sampled_from([0.0, 1e-3, 0.1, 5.0]))
@settings(max_examples=25, deadline=None)
def test_the_minimum_is_that_of_a_plain_optimiser(seed: int, l2: float) -> None:
    logits, labels = problem(seed)
    rng = np.random.default_rng(seed)
    weights, centre = rng.dirichlet(np.ones(len(labels))), rng.normal(size=7)
    found = solve(Table(logits, labels), weights[:, None], np.array([l2]), centre=centre[:, None])
    assert found.converged.all()
    np.testing.assert_allclose(
        found.values[:, 0], plain_minimum(logits, labels, weights, l2, centre), atol=2e-4, rtol=1e-4
    )


def test_losses_are_those_of_the_shifted_softmax() -> None:
    logits, labels = problem(0)
    shift = np.random.default_rng(1).normal(size=(7, 3))
    target = np.log(np.random.default_rng(2).dirichlet(np.ones(7)))
    table = Table(logits, labels, target)
    table.recentre(shift[:, 0])
    expected = [-log_softmax(logits + target + o, axis=1)[np.arange(60), labels] for o in shift.T]
    np.testing.assert_allclose(table.losses(shift), np.transpose(expected), rtol=1e-10)


def test_columns_solved_together_are_those_solved_alone() -> None:
    logits, labels = problem(3)
    rng = np.random.default_rng(3)
    weights = rng.dirichlet(np.ones(60), size=5).T
    l2 = np.array([0.0, 0.01, 1.0, 0.0, 0.1])
    together = solve(Table(logits, labels), weights, l2)
    for b in range(5):
        alone = solve(Table(logits, labels), weights[:, b : b + 1], l2[b : b + 1])
        np.testing.assert_allclose(together.values[:, b], alone.values[:, 0], atol=1e-7)


def test_float32_gives_what_float64_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = problem(4, n=400, n_classes=40, scale=4.0)
    double = estimate_prior(logits, labels)
    monkeypatch.setattr(offsets, "_DOUBLE_ENTRIES", 0)
    single = estimate_prior(logits.astype(np.float32), labels)
    assert Table(logits, labels).dtype == np.float32
    assert single.converged and single.loss == pytest.approx(double.loss, rel=1e-5)
    np.testing.assert_allclose(np.log(single.prior), np.log(double.prior), atol=1e-3)


@pytest.mark.parametrize("double_entries", [10**9, 0])
def test_offsets_beyond_the_range_of_exp(monkeypatch: pytest.MonkeyPatch, double_entries: int) -> None:
    """A prior of exp(-300) in the logits: the table is filled anew on the way, for one column and for several."""
    monkeypatch.setattr(offsets, "_DOUBLE_ENTRIES", double_entries)
    logits, labels = problem(5, n=200, n_classes=4, scale=1.0)
    far = np.array([0.0, -300.0, 120.0, 40.0])
    near = solve(Table(logits, labels), np.full((200, 1), 1 / 200), np.zeros(1)).values[:, 0]
    for n_columns in (1, 3):
        found = solve(Table(logits + far, labels), np.full((200, n_columns), 1 / 200), np.zeros(n_columns))
        assert found.converged.all()
        for column in found.values.T:
            np.testing.assert_allclose(column, near - (far - far.mean()), atol=2e-3)


def test_a_model_that_is_always_right_gives_a_uniform_prior() -> None:
    labels = np.repeat(np.arange(4), 5)
    estimate = estimate_prior(400.0 * np.eye(4)[labels], labels)
    assert estimate.converged
    np.testing.assert_allclose(estimate.prior, 0.25)


def test_a_newton_step_never_raises_the_risk() -> None:
    """The damped step from far away: the risk of every iterate lies below the one before."""
    logits, labels = problem(6, n=120, n_classes=10, scale=3.0)
    logits = logits + np.linspace(0, 30, 10)
    table, weights = Table(logits, labels), np.full((120, 1), 1 / 120)
    risks = []
    for steps in range(1, 8):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(offsets, "_NEWTON_STEPS", steps)
            values = solve(table, weights, np.zeros(1)).values
        risks.append(float(table.losses(values).mean()))
        table.recentre(np.zeros(10))
    assert all(later <= earlier + 1e-12 for earlier, later in zip(risks, risks[1:], strict=False))
    assert risks[0] > risks[-1] + 0.1


def test_many_classes_with_a_known_prior() -> None:
    """1,500 classes, 6,000 samples: the prior is found through float32 columns in a second or two."""
    rng = np.random.default_rng(0)
    n_classes = 1500
    labels = np.repeat(np.arange(n_classes), 4)
    prior = 100.0 ** (-rng.permutation(n_classes) / (n_classes - 1))
    prior /= prior.sum()
    centres = rng.normal(size=(n_classes, 16)).astype(np.float32)
    x = centres[labels] + 0.8 * rng.normal(size=(len(labels), 16)).astype(np.float32)
    squares = (centres**2).sum(1)
    logits = (x @ centres.T - squares / 2) / 0.64 + np.log(prior).astype(np.float32)
    estimate = estimate_prior(logits.astype(np.float32), labels, l2=0)
    assert logits.size > offsets._DOUBLE_ENTRIES and estimate.converged
    assert rank_correlation(prior, estimate.prior) > 0.8
    predicted = softmax(logits - np.log(estimate.prior), axis=1).mean(0)
    np.testing.assert_allclose(predicted, 1 / n_classes, rtol=1e-3)
