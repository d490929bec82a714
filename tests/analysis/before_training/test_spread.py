"""The variance of class accuracy and its parts, against parts that are known."""

from __future__ import annotations

import numpy as np
import pytest

from causalft.analysis.before_training.spread import spread_of_accuracy

PARTS = ("difficulty", "data", "between", "own_prior", "neither")


def draw(n_classes, n_strata, n_images, seed):
    """Accuracies of known law; the variances are .01 + .0036 (difficulty, along counts) and .0092 + .0025 (own)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), n_images)
    log_q, log_counts = rng.normal(0, 1.2, (n_strata, n_classes)), rng.normal(3, 1, n_classes)
    accuracy = 0.3 + rng.normal(0, 0.1, n_classes) + 0.06 * log_counts + 0.08 * log_q
    accuracy = (accuracy + rng.normal(0, 0.05, log_q.shape)).clip(0.01, 0.99)
    correct = rng.random((n_strata, len(labels))) < accuracy[:, labels]
    return correct, labels, np.exp(log_q), np.exp(log_counts)


TOTAL = 0.01 + 0.0036 + 0.0092 + 0.0025
TRUE = {
    "difficulty": 0.0136 / TOTAL,
    "data": 0.0036 / TOTAL,
    "between": 0.0117 / TOTAL,
    "own_prior": 0.0092 / TOTAL,
    "neither": 0.0125 / TOTAL,
}


@pytest.mark.parametrize("n_images", [10, 80])
def test_known_parts_are_found_whatever_the_number_of_test_images(n_images):
    drawn = [spread_of_accuracy(*draw(1000, 3, n_images, seed), n_boot=20) for seed in range(8)]
    for name in PARTS:
        mean = np.mean([getattr(found, name).estimate for found in drawn])
        assert mean == pytest.approx(TRUE[name], abs=0.035), name
    assert np.mean([found.deviation.estimate for found in drawn]) == pytest.approx(np.sqrt(TOTAL), abs=0.01)


def test_intervals_cover_the_known_parts():
    covered = dict.fromkeys(PARTS, 0)
    for seed in range(40):
        found = spread_of_accuracy(*draw(100, 3, 20, seed), n_boot=200)
        for name in PARTS:
            covered[name] += getattr(found, name).low <= TRUE[name] <= getattr(found, name).high
    assert min(covered.values()) >= 33, covered  # 95 % of 40 are 38; fewer than 33 happen once in 300


def test_equal_accuracies_leave_no_share_to_be_named():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), 20)
    found = spread_of_accuracy(rng.random((2, 600)) < 0.5, labels, rng.dirichlet(np.ones(30), 2))
    assert found.deviation.low < 0.03
    assert not found.own_prior.bounded or found.own_prior.low == 0


def test_one_stratum_cannot_tell_its_prior_from_difficulty():
    correct, labels, priors, counts = draw(60, 1, 50, 0)
    found = spread_of_accuracy(correct, labels, priors, counts)
    assert found.data.exists and not found.own_prior.exists and not found.difficulty.exists
    assert "one stratum alone" in found.own_prior.reason


def test_equal_priors_identify_nothing():
    correct, labels, priors, _ = draw(60, 2, 50, 0)
    found = spread_of_accuracy(correct, labels, np.stack([priors[0], priors[0]]))
    assert not found.own_prior.exists and "equal" in found.own_prior.reason
    assert found.difficulty.exists and not found.data.exists


def test_classes_without_a_test_image_do_not_count():
    correct, labels, priors, counts = draw(60, 2, 50, 0)
    kept = labels < 40
    some = spread_of_accuracy(correct[:, kept], labels[kept], priors, counts)
    alone = spread_of_accuracy(correct[:, kept], labels[kept], priors[:, :40], counts[:40])
    for name in PARTS:  # NaN is not equal to itself, so p-values are not compared
        one, other = getattr(some, name), getattr(alone, name)
        assert (one.estimate, one.low, one.high) == pytest.approx((other.estimate, other.low, other.high))


def test_too_few_classes_are_refused_in_words():
    found = spread_of_accuracy(np.ones((2, 8), bool), np.repeat(np.arange(4), 2), np.full((2, 4), 0.25))
    assert found.own_prior.reason == "4 classes with test images and priors are too few"
