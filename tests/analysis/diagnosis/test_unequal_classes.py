"""Validation and test sets of unequal classes, against closed forms: prior, temperature, P(c), risks, accuracies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from causalft.analysis.diagnosis import diagnose
from causalft.data.groups import balancing_weights
from causalft.data.image_set import ImageSet
from causalft.data.splits import Splits
from causalft.methods.estimators.fusion import (
    apply_temperature,
    fit_stratum_temperatures,
    fit_temperature,
    nll,
)
from causalft.methods.estimators.mixing import estimate_stratum_prior, fit_mixing
from causalft.methods.estimators.probes import sweep_heads
from causalft.methods.priors import prior_on_validation
from causalft.models.tuning.train import Recipe
from causalft.pipelines.workflows.outcome import mean_class_accuracy, score_correct

Q = np.array([0.6, 0.3, 0.1])  # the prior in the logits
CODES = np.array(
    [[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]]
)  # P(x | y): three codes, a row per class


def exact_table(counts):
    """All codes with their exact shares: logits log P(x|y) q(y), labels, so often as ``counts`` of each class say."""
    logits, labels = [], []
    for y, count in enumerate(counts):
        for x in range(3):
            n = round(count * CODES[y, x])
            logits += [np.log(CODES[:, x] * Q)] * n
            labels += [y] * n
    return np.array(logits), np.array(labels)


@pytest.mark.parametrize("counts", [(1000, 1000, 1000), (1000, 100, 10), (10, 1000, 100)])
def test_the_prior_is_exact_whatever_the_law_of_the_validation_images(counts) -> None:
    found = prior_on_validation(*exact_table(counts), l2=0.0)
    assert found.converged and found.prior == pytest.approx(Q, abs=1e-9)


def test_a_class_without_a_validation_image_gets_the_geometric_mean() -> None:
    logits, labels = exact_table((1000, 100, 0))
    found = prior_on_validation(logits, labels, l2=0.0).prior
    assert found[0] / found[1] == pytest.approx(2.0, abs=1e-9)
    assert found[2] == pytest.approx(np.sqrt(found[0] * found[1])) and found.sum() == pytest.approx(1)


def test_with_images_of_one_class_the_prior_is_uniform_and_not_converged() -> None:
    found = prior_on_validation(np.log([[0.8, 0.1, 0.1]] * 3), [0, 0, 0])
    assert found.prior.tolist() == pytest.approx([1 / 3] * 3) and not found.converged and found.n == 3
    assert found.loss == pytest.approx(-np.log(0.8))


def test_balancing_weights_weigh_present_classes_alike() -> None:
    labels = np.array([0] * 6 + [2] * 2 + [3])
    weights = balancing_weights(labels, 5)
    sums = np.bincount(labels, weights=weights, minlength=5)
    assert sums.tolist() == pytest.approx([3, 0, 3, 3, 0]) and weights.sum() == pytest.approx(9)
    assert (balancing_weights([0, 1, 2, 2, 1, 0], 3) == 1).all()


def calibrated(shares_right, counts, confidence=0.8):
    """Two-class probabilities of one confidence, of which this share of each class is right."""
    probs, labels = [], []
    for y, (share, count) in enumerate(zip(shares_right, counts)):
        for right in range(count):
            p = confidence if right < round(share * count) else 1 - confidence
            probs.append([p, 1 - p] if y == 0 else [1 - p, p])
            labels.append(y)
    return np.array(probs), np.array(labels)


def test_the_temperature_is_that_of_a_balanced_set() -> None:
    """Rights r of one confidence s ask for sigmoid(logit(s) / T) = r: r is the mean over classes, not over images."""
    probs, labels = calibrated((0.9, 0.5), (90, 10))

    def exact(rate):
        return np.log(0.8 / 0.2) / np.log(rate / (1 - rate))

    weights = balancing_weights(labels, 2)
    assert fit_temperature(probs, labels, weights) == pytest.approx(exact(0.7), rel=1e-4)
    assert fit_temperature(probs, labels) == pytest.approx(exact(0.86), rel=1e-4)
    of_strata = fit_stratum_temperatures([probs, probs], labels, weights)
    assert of_strata.tolist() == pytest.approx([exact(0.7)] * 2, rel=1e-4)
    mixing = fit_mixing([probs, probs], labels, weights=weights)
    assert mixing.temperature == pytest.approx(exact(0.7), rel=1e-4)
    assert nll(probs, labels, weights) == pytest.approx(-(0.7 * np.log(0.8) + 0.3 * np.log(0.2)))


def test_the_stratum_prior_is_that_of_a_balanced_set() -> None:
    """Two strata that each know one class: sum_k log(a_k P + b_k (1 - P)) has its maximum where the classes balance."""
    labels = np.array([0] * 50 + [1] * 5)
    knows_first = np.where(labels[:, None] == 0, [0.9, 0.1], [0.8, 0.2])
    knows_second = np.where(labels[:, None] == 0, [0.2, 0.8], [0.1, 0.9])
    weights = balancing_weights(labels, 2)
    found = estimate_stratum_prior([knows_first, knows_second], labels, weights=weights, n_boot=20)
    assert found.weights.tolist() == pytest.approx([0.5, 0.5], abs=1e-3)  # by symmetry of the two classes
    assert estimate_stratum_prior([knows_first, knows_second], labels, n_boot=20).weights[0] > 0.9
    once = np.r_[0:50, np.tile(np.arange(50, 55), 10)]  # the rare class as often as the frequent one
    repeated = estimate_stratum_prior([knows_first[once], knows_second[once]], labels[once], n_boot=20)
    assert found.weights == pytest.approx(repeated.weights, abs=1e-3)
    by_em = fit_mixing([knows_first, knows_second], labels, stratum_prior="em", weights=weights)
    assert by_em.stratum_prior == pytest.approx(found.weights, abs=1e-6)


def test_accuracy_and_class_mean_differ_on_an_unbalanced_test_set() -> None:
    labels = np.array([0] * 8 + [1] * 2)  # a third class has no test image
    right = np.array([1] * 8 + [0, 1], dtype=bool)
    images = ImageSet.from_arrays(np.zeros((10, 1, 1, 3), np.uint8), labels, ["ant", "bee", "cow"])
    train = images.subset(np.repeat([0, 8], [120, 3]))
    scores = score_correct(right[None], Splits(train, images, images), seed=0).to_metrics()
    assert scores["accuracy"] == pytest.approx(0.9) and scores["mean_class_accuracy"] == pytest.approx(0.75)
    assert scores["D"] == {"many": 1.0, "medium": None, "few": 0.5}
    assert mean_class_accuracy(np.where(right, labels, 2), images) == pytest.approx(0.75)
    probs = np.where(np.arange(3) == np.where(right, labels, 1 - labels)[:, None], 0.8, 0.1)
    found = diagnose(
        labels, [120, 5, 3], {"a": probs, "b": probs}, probs, dict.fromkeys("ab", [0.5, 0.3, 0.2])
    )
    assert found.fused.accuracy.estimate == pytest.approx(0.9)
    assert found.fused.class_mean.estimate == pytest.approx(0.75)
    assert found.nll == pytest.approx(-(0.75 * np.log(0.8) + 0.25 * np.log(0.1)))
    assert found.ece == pytest.approx(0.05)
    document = found.to_metrics()
    assert document["fused"]["mean_class_accuracy"] == pytest.approx(0.75)
    assert document["test_counts"] == [8, 2, 0]
    (said,) = [line for line in found.conclusion() if "tested classes" in line and "images" in line]
    assert "2 tested classes have 2 to 8 test images; 1 more has none" in said and "90.0" in said
    assert any(line.startswith("Accuracy (mean over classes): 75.0") for line in found.conclusion())


def test_differences_between_models_are_of_the_mean_over_classes() -> None:
    """On the head one model is right, on the tail the other: by images they differ, by classes they do not."""
    labels = np.repeat([0, 1], [30, 3])
    head, tail = (np.where(np.arange(2) == right, 0.9, 0.1)[None].repeat(33, 0) for right in (0, 1))
    found = diagnose(labels, [120, 5], {"a": head, "b": tail}, head, dict.fromkeys("ab", [0.5, 0.5]))
    assert found.strata["a"].accuracy.estimate == pytest.approx(30 / 33)
    assert found.strata["a"].class_mean.estimate == found.strata["b"].class_mean.estimate == 0.5
    assert found.paired["fused_minus_mean_single"].estimate == pytest.approx(0)


def test_a_sweep_gives_the_risk_of_a_balanced_set_too() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [30, 5])
    x = rng.normal(size=(35, 4)).astype(np.float32)
    truth = np.repeat([0, 1], [9, 1])
    held = rng.normal(size=(10, 4)).astype(np.float32)
    found = sweep_heads(
        x, labels, losses=["CE"], recipe=Recipe(epochs=1, batch_size=8, lr=0.1), evaluate={"v": (held, truth)},
        keep_heads=True, progress=False,
    )  # fmt: skip
    from causalft.methods.estimators.probes import head_logits

    (head,) = found.heads.values()
    loss = -log_softmax(head_logits(head, held), axis=1)[np.arange(10), truth]
    row = found.table.iloc[0]
    assert row["v_nll"] == pytest.approx(loss.mean())
    assert row["v_balanced_nll"] == pytest.approx((loss[:9].mean() + loss[9]) / 2)


def test_a_temperature_scales_as_it_was_fitted() -> None:
    probs, labels = calibrated((0.9, 0.5), (90, 10))
    weights = balancing_weights(labels, 2)
    cooled = apply_temperature(probs, fit_temperature(probs, labels, weights))
    assert np.average(cooled.max(axis=1), weights=weights) == pytest.approx(0.7, abs=1e-4)
