"""GLA-ZS and GLA-FT where the Bayes classifier is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from causalft.errors import CausalFTError
from causalft.methods.estimators.gla import (
    EXPECTED_FAILED_CHECKS,
    GLAClassifier,
    gla_finetuned,
    gla_zero_shot,
)
from causalft.methods.priors import kl_divergence

K = 6
P_P = np.array([0.5, 0.25, 0.12, 0.07, 0.04, 0.02])
P_S = P_P[::-1].copy()


@parametrize_with_checks([GLAClassifier()], expected_failed_checks=lambda _: EXPECTED_FAILED_CHECKS)
def test_the_contract_of_scikit_learn_but_for_named_checks(estimator, check) -> None:  # type: ignore[no-untyped-def]
    check(estimator)


def two_views(n_per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Posteriors of two views, independent given the class, under P_P and P_S; labels; and the exact P(y|x1,x2)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(2, K, 3))
    labels = np.repeat(np.arange(K), n_per_class)
    x = centres[:, labels] + rng.normal(size=(2, len(labels), 3))
    log_likelihood = -0.5 * ((x[:, :, None] - centres[:, None]) ** 2).sum(-1)
    exact = softmax(log_likelihood.sum(0), axis=1)
    first = softmax(log_likelihood[0] + np.log(P_P), axis=1)
    second = softmax(log_likelihood[1] + np.log(P_S), axis=1)
    return np.log(first), np.log(second), labels, exact


def test_with_the_true_priors_gla_is_the_bayes_classifier() -> None:
    f_zs, f_ft, _, exact = two_views(20, seed=0)
    np.testing.assert_allclose(softmax(gla_finetuned(f_zs, f_ft, P_P, P_S), axis=1), exact, rtol=1e-9)
    target = np.array([0.3, 0.3, 0.1, 0.1, 0.1, 0.1])
    shifted = exact * target
    found = softmax(gla_finetuned(f_zs, f_ft, P_P, P_S, target), axis=1)
    np.testing.assert_allclose(found, shifted / shifted.sum(1, keepdims=True), rtol=1e-9)


def test_debiasing_by_the_target_prior_changes_nothing() -> None:
    f_zs, _, _, _ = two_views(5, seed=1)
    np.testing.assert_allclose(softmax(gla_zero_shot(f_zs, P_P, P_P), axis=1), np.exp(f_zs), rtol=1e-9)


def test_logits_tuned_with_logit_adjustment_are_not_debiased_again() -> None:
    f_zs, f_ft, _, exact = two_views(20, seed=2)
    adjusted = f_ft - np.log(P_S)  # what LA-tuned logits are
    np.testing.assert_allclose(softmax(gla_finetuned(f_zs, adjusted, P_P), axis=1), exact, rtol=1e-9)


def test_the_classifier_learns_q_and_gains_step_by_step() -> None:
    f_zs, f_ft, labels, exact = two_views(400, seed=3)
    model = GLAClassifier(train_prior=P_S).fit(f_zs, labels)
    assert kl_divergence(P_P, model.estimate_.prior) < 0.02 and model.classes_.tolist() == list(range(K))
    new_zs, new_ft, labels, exact = two_views(400, seed=3)

    def accuracy(predicted: np.ndarray) -> float:
        return float((predicted == labels).mean())

    raw, debiased = accuracy(new_zs.argmax(1)), accuracy(model.predict(new_zs))
    both = accuracy(model.predict(new_zs, new_ft))
    assert raw + 0.03 < debiased and debiased + 0.03 < both
    assert both == pytest.approx(accuracy(exact.argmax(1)), abs=0.01)
    np.testing.assert_allclose(model.predict_proba(new_zs, new_ft).sum(1), 1)


def test_it_clones_and_passes_its_strength_on() -> None:
    f_zs, _, labels, _ = two_views(3, seed=4)
    model = clone(GLAClassifier(l2="cv", seed=2))
    assert model.get_params()["l2"] == "cv"
    assert model.fit(f_zs[labels > 0], labels[labels > 0]).estimate_.l2 > 0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: gla_finetuned(np.zeros((2, 3)), np.zeros((2, 4)), np.full(3, 1 / 3)), "of one shape"),
        (lambda: gla_zero_shot(np.zeros((2, 3)), [0.5, 0.5]), "prior must hold 3"),
        (lambda: gla_zero_shot(np.zeros((2, 2)), [0.5, 0.5], [0.9, 0.3]), "target_prior sums to 1.2"),
        (lambda: gla_finetuned(np.zeros((2, 2)), np.zeros((2, 2)), [0.5, 0.5], [1.0, 0.0]), "positive"),
        (lambda: GLAClassifier(l2=0).fit(np.zeros((2, 2)), [0, 0]), "has no labelled sample"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CausalFTError, match=message):
        call()


@pytest.fixture(scope="module")
def labelled() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, 90)
    return 2 * np.eye(3)[labels] + rng.normal(size=(90, 3)), labels


def test_nothing_is_predicted_before_fit_or_of_rows_that_are_not_numbers(labelled) -> None:  # type: ignore[no-untyped-def]
    logits, labels = labelled
    for method in ("predict", "predict_proba", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(GLAClassifier(), method)(logits)
    model = GLAClassifier().fit(logits, labels)
    broken = logits.copy()
    broken[4, 1] = np.nan
    for call in (
        lambda: model.predict(broken),
        lambda: model.predict(logits, broken),
        lambda: GLAClassifier().fit(broken, labels),
        lambda: model.predict(logits[:, :2]),
    ):
        with pytest.raises(ValueError, match="NaN|2 features"):
            call()


def test_classes_may_be_names_in_the_order_of_the_columns(labelled) -> None:  # type: ignore[no-untyped-def]
    logits, labels = labelled
    by_number = GLAClassifier(l2=0.0).fit(logits, labels)
    names = np.array(["owl", "cat", "ant"])  # not sorted
    by_name = GLAClassifier(l2=0.0, classes=names).fit(logits, names[labels])
    assert by_name.classes_.tolist() == names.tolist()
    np.testing.assert_array_equal(by_name.predict(logits), names[by_number.predict(logits)])
    in_order = np.array(["a", "b", "c"])
    assert (
        GLAClassifier(l2=0.0).fit(logits, in_order[labels]).predict(logits) == in_order[labels]
    ).mean() > 0.8
    with pytest.raises(CausalFTError, match="say which label each column is for with classes="):
        GLAClassifier().fit(logits, np.array(["a", "b"])[labels % 2])
    with pytest.raises(CausalFTError, match="label 'owl' of y is not one of classes"):
        GLAClassifier(classes=["oWl", "cat", "ant"]).fit(logits, names[labels])
    with pytest.raises(CausalFTError, match="classes must be 3 different labels"):
        GLAClassifier(classes=["owl", "cat"]).fit(logits, names[labels])


def test_of_two_classes_the_decision_is_the_log_odds_of_the_second(labelled) -> None:  # type: ignore[no-untyped-def]
    logits, labels = labelled
    two = labels < 2
    model = GLAClassifier().fit(logits[two, :2], labels[two])
    odds, probs = model.decision_function(logits[:, :2]), model.predict_proba(logits[:, :2])
    np.testing.assert_allclose(odds, np.log(probs[:, 1] / probs[:, 0]))
    scores = cross_val_score(GLAClassifier(), logits[two, :2], labels[two], scoring="roc_auc", cv=3)
    assert scores.min() > 0.7
