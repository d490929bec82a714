"""The class law of unlabelled images: EM, calibration, intervals, and the setting that explains them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from causalft.data.protocol import unlabelled_counts
from causalft.data.tails import UNLABELLED_ORDERS
from causalft.errors import CausalFTError
from causalft.methods.semi.label_shift import (
    Calibration,
    _score,
    calibrate,
    em_law,
    law_posterior,
    mean_log_likelihood,
    responsibilities,
)
from causalft.methods.semi.law import anchor_laws, estimate_law

K = 12


def logits_of(labels, rng, noise=1.0, confusable=True):
    """Exact log-posteriors (n, K) under equal shares: normal features about class means, half of them in near pairs."""
    means = 2.2 * np.eye(K)
    if confusable:
        means[1::2] = 0.75 * means[0::2] + 0.66 * means[1::2]
    features = means[labels] + noise * rng.normal(size=(len(labels), K))
    return -((features[:, None] - means) ** 2).sum(axis=2) / (2 * noise**2)


def drawn(order, rng, n_max=150, gamma=10.0):
    counts = unlabelled_counts(K, n_max, gamma, "consistent" if order == "zigzag" else order)
    zigzag = np.ravel(
        np.column_stack([np.arange(K // 2), np.arange(K // 2, K)[::-1]])
    )  # large and small in turn
    return np.repeat(np.arange(K), counts[zigzag] if order == "zigzag" else counts)


@given(n=st.integers(3, 30), k=st.integers(2, 5), seed=st.integers(0, 10_000), sharp=st.floats(0.2, 4))
def test_em_finds_the_maximum_of_the_likelihood(n, k, seed, sharp):
    scores = sharp * np.random.default_rng(seed).normal(size=(n, k))
    found = em_law(scores, tolerance=1e-10)
    ratios = np.exp(scores)

    def risk(q):
        return -np.log(ratios @ q).mean()

    best = minimize(
        risk,
        np.full(k, 1 / k),
        jac=lambda q: -((1 / (ratios @ q)) @ ratios) / n,
        bounds=[(0, 1)] * k,
        constraints={"type": "eq", "fun": lambda q: q.sum() - 1, "jac": lambda q: np.ones(k)},
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 500},
    )
    assert found.sum() == pytest.approx(1) and found.min() >= 0
    assert risk(found) <= risk(best.x / best.x.sum()) + 1e-7
    assert mean_log_likelihood(scores, found) == pytest.approx(
        -risk(found) - scores.max(axis=1).mean(), abs=1e-9
    )


def test_em_inverts_a_known_confusion_matrix():
    """Four signals with known P(signal | class), in exactly the proportions that a law gives them."""
    confusion = np.array([[0.7, 0.1, 0.1, 0.1], [0.2, 0.5, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    law = np.array([0.2, 0.5, 0.3])
    counts = np.rint(10_000 * law @ confusion).astype(int)
    scores = np.log(np.repeat(confusion.T, counts, axis=0))
    assert np.allclose(em_law(scores, tolerance=1e-12), law, atol=1e-5)
    assert np.allclose(em_law(scores, start=[0.98, 0.01, 0.01], tolerance=1e-12), law, atol=1e-5)


def test_two_classes_have_the_share_of_the_closed_form():
    """Two signals: the share of class 1 solves P(signal 1) = q a + (1 - q) b."""
    a, b, share = 0.8, 0.3, 0.45
    scores = np.log(np.repeat([[b, a], [1 - b, 1 - a]], [450, 550], axis=0))
    assert em_law(scores, tolerance=1e-12)[1] == pytest.approx((share - b) / (a - b), abs=1e-6)


def test_calibration_finds_temperature_and_biases():
    rng = np.random.default_rng(0)
    labels, bias = np.repeat(np.arange(K), 800), np.linspace(-0.6, 0.6, K)
    found = calibrate(2 * (logits_of(labels, rng) - bias), labels)
    assert found.beta == pytest.approx(0.5, abs=0.02) and np.allclose(found.bias, bias, atol=0.2)
    assert found.spread == pytest.approx(bias.std(), abs=0.1) and found.n == len(labels)


def test_calibration_takes_the_shares_of_the_validation_images_out():
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(K), np.geomspace(900, 60, K).astype(int))
    found = calibrate(logits_of(labels, rng), labels)
    assert np.abs(found.bias).max() < 0.25 and found.beta == pytest.approx(1, abs=0.05)


def test_few_validation_images_leave_an_unbiased_model_alone():
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(K), 8)
    found = calibrate(logits_of(labels, rng), labels)
    assert found.spread < 0.35 and np.abs(found.bias).max() < 0.4
    missing = calibrate(logits_of(labels[8:], rng), labels[8:])  # no image of the first class
    assert np.isfinite(missing.bias).all() and abs(missing.bias[0]) < 0.5


def test_score_and_its_slopes_are_the_derivatives_of_the_likelihood():
    rng = np.random.default_rng(3)
    z = logits_of(drawn("reversed", rng, 20), rng)
    calibration = Calibration(0.8, rng.normal(0, 0.2, K), np.eye(K + 1), 0.2, 100)
    centre = np.log(rng.dirichlet(np.full(K, 3.0)))

    def likelihood(at):
        law = np.exp(at) / np.exp(at).sum()
        return np.log((np.exp(0.8 * z + calibration.bias) * law).sum(axis=1)).sum()

    score, information, slopes = _score(z, calibration, centre)
    unit = 1e-5 * np.eye(K)
    numeric = [(likelihood(centre + e) - likelihood(centre - e)) / 2e-5 for e in unit]
    assert np.allclose(score, numeric, atol=1e-4) and np.allclose(information @ np.ones(K), 0, atol=1e-8)

    def score_at(beta, bias):
        return _score(z, Calibration(beta, bias, np.eye(K + 1), 0.2, 100), centre)[0]

    of_bias = [
        (score_at(0.8, calibration.bias + e) - score_at(0.8, calibration.bias - e)) / 2e-5 for e in unit
    ]
    assert np.allclose(slopes[:, 1:], np.array(of_bias).T, atol=1e-3)
    of_beta = (score_at(0.8 + 1e-5, calibration.bias) - score_at(0.8 - 1e-5, calibration.bias)) / 2e-5
    assert np.allclose(slopes[:, 0], of_beta, atol=1e-3)


def test_images_whose_classes_are_certain_have_the_interval_of_a_multinomial():
    counts = np.array([500, 300, 200])
    values = 60 * np.eye(3)[np.repeat(np.arange(3), counts)]
    calibration = Calibration(1.0, np.zeros(3), 0.01 * np.eye(4), 0.1, 100)
    trend = np.zeros((3, 0))
    found = law_posterior(values, calibration, trend, start=np.full(3, 1 / 3))
    draws = found.draw(20_000, np.random.default_rng(0))
    share = counts / 1000
    assert np.allclose(draws.mean(axis=0), share, atol=0.01)
    assert np.allclose(draws.std(axis=0), np.sqrt(share * (1 - share) / 1000), rtol=0.1)


def test_responsibilities_follow_bayes():
    scores, law = np.log([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]), np.array([0.5, 0.25, 0.25])
    joint = np.exp(scores) * law
    assert np.allclose(responsibilities(scores, law), joint / joint.sum(axis=1, keepdims=True))


@given(counts=st.lists(st.integers(0, 200), min_size=2, max_size=20).filter(any))
def test_anchors_hold_the_labelled_shares_in_their_order(counts):
    laws = anchor_laws(counts)
    assert list(laws) == list(UNLABELLED_ORDERS)
    own = np.maximum(counts, 0.5)
    own = own / np.maximum(counts, 0.5).sum()
    assert np.allclose(laws["consistent"], own) and np.allclose(laws["uniform"], 1 / len(counts))
    for name, law in laws.items():
        assert law.sum() == pytest.approx(1) and (
            name == "uniform" or np.allclose(np.sort(law), np.sort(own))
        )
    by_rank = np.argsort(-own, kind="stable")
    assert np.allclose(laws["reversed"][by_rank], np.sort(own))


@pytest.mark.parametrize("order", [*UNLABELLED_ORDERS, "zigzag"])
def test_settings_of_the_field_are_named_and_their_laws_recovered(order):
    right, covered = 0, []
    labelled = unlabelled_counts(K, 60, 10, "consistent")
    for seed in range(3):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(K), 20)
        hidden = drawn(order, rng, 600 if order == "zigzag" else 150)
        pairs = order != "zigzag"  # which the pairs would hide
        tables = logits_of(labels, rng, confusable=pairs), labels, logits_of(hidden, rng, confusable=pairs)
        found = estimate_law(*tables, labelled)
        truth = np.bincount(hidden, minlength=K) / len(hidden)
        assert np.abs(found.law - truth).sum() < (0.3 if order == "zigzag" else 0.15)
        right += found.setting == ("other" if order == "zigzag" else order)
        covered.append((found.ci95[:, 0] <= truth) & (truth <= found.ci95[:, 1]))
        assert found.law.sum() == pytest.approx(1) and (found.ci95[:, 0] <= found.ci95[:, 1]).all()
        assert all(one.log_likelihood <= 0 for one in found.evidence.values())
    assert right == 3 and np.mean(covered) >= 0.85


def test_classes_can_be_permuted_and_scores_given_as_log_probabilities():
    rng = np.random.default_rng(5)
    labels, hidden = np.repeat(np.arange(K), 15), drawn("middle", rng)
    tables = [logits_of(labels, rng), logits_of(hidden, rng)]
    counts = unlabelled_counts(K, 60, 10, "consistent")
    found = estimate_law(tables[0], labels, tables[1], counts)
    order = rng.permutation(K)
    other = estimate_law(tables[0][:, order], np.argsort(order)[labels], tables[1][:, order], counts[order])
    assert np.allclose(other.law, found.law[order], atol=0.005) and other.setting == found.setting
    logs = [t - np.logaddexp.reduce(t, axis=1, keepdims=True) for t in tables]
    same = estimate_law(logs[0], labels, logs[1], counts)
    assert np.allclose(same.law, found.law, atol=1e-6)
    with pytest.raises(CausalFTError, match="these scores are probabilities; give their logarithms"):
        estimate_law(np.exp(logs[0]), labels, logs[1], counts)
    logs[1][3, 4] = np.nan
    with pytest.raises(CausalFTError, match="row 3 of the scores has no finite class score"):
        estimate_law(logs[0], labels, logs[1], counts)
    document = json.loads(json.dumps(found.document))
    assert document["setting"] == "middle" and len(document["law_ci95"]) == K and document["n"] == len(hidden)
    assert set(document["evidence"]["middle"]) == {"l1", "log_likelihood", "log_odds"}
    assert document["outliers"]["n"] == len(hidden) and not found.outliers.found
    assert document["l1_to_labelled"] == found.evidence["consistent"].l1


def test_alike_labelled_classes_and_few_images_are_possible():
    rng = np.random.default_rng(6)
    labels = np.repeat(np.arange(K), 5)
    found = estimate_law(logits_of(labels, rng), labels, logits_of(np.array([3]), rng), [5] * K)
    assert found.setting == "consistent" and found.n == 1 and np.abs(found.law - 1 / K).sum() < 0.1
    assert np.diff(found.ci95).min() > 0.05


@pytest.mark.parametrize(
    ("validation", "labels", "unlabelled", "counts", "said"),
    [
        (
            np.zeros((4, 3)),
            [0, 1, 2, 0],
            np.zeros((0, 3)),
            [3, 2, 1],
            "scores of unlabelled images for 3 classes",
        ),
        (np.zeros((0, 3)), [], np.zeros((2, 3)), [3, 2, 1], "scores of validation images for 3 classes"),
        (np.zeros((4, 3)), [0, 1, 2], np.zeros((2, 3)), [3, 2, 1], "validation images and their labels"),
        (np.zeros((3, 3)), [0, 1, 3], np.zeros((2, 3)), [3, 2, 1], "whole numbers from 0 to 2"),
        (np.zeros((3, 3)), [0, 1, 2], np.zeros((2, 2)), [3, 2, 1], r"not of shape \(2, 2\)"),
        (np.zeros((3, 3)), [0, 1, 2], np.zeros((2, 3)), [0, 0, 0], "not all 0"),
        (np.zeros((3, 3)), [0, 1, 2], np.zeros((2, 3)), [3, -1, 0], "the labelled law needs"),
    ],
)
def test_tables_that_do_not_match_are_refused(validation, labels, unlabelled, counts, said):
    with pytest.raises(CausalFTError, match=said):
        estimate_law(validation, np.array(labels, dtype=int), unlabelled, counts)


def test_images_of_no_class_are_found_beside_the_law():
    rng = np.random.default_rng(8)
    labels, hidden = np.repeat(np.arange(K), 40), drawn("consistent", rng)
    strange = 0.3 * rng.normal(size=(400, K))  # near the middle of all classes
    found = estimate_law(
        logits_of(labels, rng), labels, np.concatenate([logits_of(hidden, rng), strange]), [10] * K
    )
    share = 400 / (400 + len(hidden))
    assert found.outliers.found and 0.5 * share < found.outliers.share < 1.1 * share
    assert (
        found.outliers.drop[len(hidden) :].mean() > 0.9 and found.outliers.drop[: len(hidden)].mean() < 0.15
    )
