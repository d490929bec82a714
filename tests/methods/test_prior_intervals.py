"""Strength by cross-validation and bootstrap intervals, on models whose label prior is known; and the caveat."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pytest
from scipy.special import softmax

from causalft.data.groups import GROUPS, prior_groups
from causalft.errors import CausalFTError
from causalft.methods.priors import (
    PRETRAINING_LOSSES,
    bootstrap_prior,
    estimate_prior,
    kl_divergence,
    prior_caveat,
    prior_caveats,
)
from causalft.methods.priors.bootstrap import _counts
from causalft.methods.priors.offsets import _folds


def simulate(n_per_class: int, prior: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bayes logits under `prior` for Gaussian classes, on a balanced sample."""
    rng = np.random.default_rng(seed)
    n_classes = len(prior)
    centres = 1.5 * rng.normal(size=(n_classes, 4))
    labels = np.repeat(np.arange(n_classes), n_per_class)
    x = centres[labels] + rng.normal(size=(len(labels), 4))
    return -0.5 * ((x[:, None] - centres) ** 2).sum(-1) + np.log(prior), labels


def known_prior(seed: int, n_classes: int = 20) -> np.ndarray:
    prior = 100.0 ** (-np.arange(n_classes) / (n_classes - 1))
    return np.random.default_rng(seed).permutation(prior / prior.sum())


@pytest.mark.parametrize("n_per_class", [1, 2, 5])
def test_cross_validation_beats_no_pull_and_a_heavy_one(n_per_class: int) -> None:
    none, chosen, heavy = [], [], []
    for seed in range(15):
        prior = known_prior(seed)
        logits, labels = simulate(n_per_class, prior, seed=100 + seed)
        none.append(kl_divergence(prior, estimate_prior(logits, labels, l2=0).prior))
        chosen.append(kl_divergence(prior, estimate_prior(logits, labels, seed=seed).prior))
        heavy.append(kl_divergence(prior, estimate_prior(logits, labels, l2=1.0).prior))
    assert np.mean(chosen) < 0.9 * np.mean(none)
    assert np.mean(chosen) < 0.7 * np.mean(heavy)


def test_cross_validation_reports_its_choice_and_is_repeatable() -> None:
    logits, labels = simulate(5, known_prior(1), seed=1)
    found, again = (estimate_prior(logits, labels, l2="cv", seed=3) for _ in range(2))
    strengths, risks = zip(*found.l2_path, strict=True)
    assert list(strengths) == sorted(strengths, reverse=True) and strengths[-1] == 0
    assert found.l2 >= strengths[int(np.argmin(risks))]
    assert "by cross-validation" in repr(found)
    np.testing.assert_array_equal(found.prior, again.prior)
    np.testing.assert_allclose(found.prior, estimate_prior(logits, labels, l2=found.l2).prior, rtol=1e-9)


def test_the_strongest_pull_within_one_standard_error_of_the_best_is_chosen() -> None:
    logits, labels = simulate(4, known_prior(2, 8), seed=2)
    n, fold = len(labels), _folds(labels, 5, seed=0)
    found = estimate_prior(logits, labels)
    losses = np.empty((len(found.l2_path), n))
    for row, (l2, _) in zip(losses, found.l2_path, strict=True):
        for k in range(5):
            train = fold != k
            sizes = np.bincount(labels[train], minlength=8)[labels[train]]
            prior = estimate_prior(
                logits[train], labels[train], l2=l2 * n / train.sum(), weights=1 / sizes
            ).prior
            row[~train] = -np.log(softmax(logits - np.log(prior), axis=1)[np.arange(n), labels])[~train]
    worse = losses - losses[losses.mean(1).argmin()]
    within = worse.mean(1) <= worse.std(1) / np.sqrt(n) + 1e-9
    assert found.l2 == found.l2_path[int(within.argmax())][0]


@pytest.mark.parametrize("n_classes, n_per_class, seeds", [(8, 1, 20), (8, 5, 12), (100, 5, 3)])
def test_few_images_never_give_a_prior_much_worse_than_uniform(n_classes, n_per_class, seeds) -> None:
    """As published, GLA from five images in each of 100 classes is worse than no estimate at all."""
    for imbalance in (1.0, 100.0):
        found, uniform = [], []
        for seed in range(seeds):
            prior = imbalance ** (-np.arange(n_classes) / (n_classes - 1))
            prior = np.random.default_rng(seed).permutation(prior / prior.sum())
            estimate = estimate_prior(*simulate(n_per_class, prior, seed=200 + seed))
            found.append(kl_divergence(prior, estimate.prior))
            uniform.append(kl_divergence(prior, np.full(n_classes, 1 / n_classes)))
        assert np.mean(found) < np.mean(uniform) + 0.05


def test_eight_images_do_not_make_one_class_nearly_certain() -> None:
    """A confident, mostly wrong model on one image of each of 8 classes: unpulled, its prior is nonsense."""
    rng = np.random.default_rng(3)
    logits = 12 * rng.normal(size=(8, 8))
    wild, tame = (estimate_prior(logits, np.arange(8), l2=l2) for l2 in (1e-9, "cv"))
    assert wild.imbalance > 1e5 and tame.imbalance < 100 and tame.prior.max() < 0.5


def test_held_out_risk_is_that_of_the_folds_fitted_one_by_one() -> None:
    logits, labels = simulate(4, known_prior(2, 8), seed=2)
    n = len(labels)
    fold = _folds(labels, 4, seed=0)
    found = estimate_prior(logits, labels, l2="cv", folds=4, seed=0)
    for l2, risk in found.l2_path:
        losses = np.empty(n)
        for k in range(4):
            train = fold != k
            prior = estimate_prior(logits[train], labels[train], l2=l2 * n / train.sum()).prior
            held_out = softmax(logits - np.log(prior), axis=1)[np.arange(n), labels]
            losses[~train] = -np.log(held_out[~train])
        assert risk == pytest.approx(losses.mean(), rel=1e-5)


def test_folds_are_stratified_and_of_one_size() -> None:
    labels = np.repeat(np.arange(6), [10, 5, 3, 2, 1, 4])
    fold = _folds(labels, 5, seed=0)
    assert np.ptp(np.bincount(fold)) <= 1
    for k in range(6):
        assert np.ptp(np.bincount(fold[labels == k], minlength=5)) <= 1
    assert (fold != _folds(labels, 5, seed=1)).any()


def test_a_class_without_a_sample_has_a_finite_prior_whose_interval_holds_the_truth() -> None:
    covered = []
    for seed in range(10):
        prior = known_prior(seed, 8)
        logits, labels = simulate(6, prior, seed=seed)
        keep = labels != 2
        found = bootstrap_prior(logits[keep], labels[keep], n_boot=60, l2="cv", seed=seed)
        assert np.isfinite(found.estimate.prior).all() and found.n_labelled[2] == 0
        assert np.isfinite(found.log_prior).all() and found.log_prior.max() <= 0
        covered.append((found.log_prior[:, 0] <= np.log(prior)) & (np.log(prior) <= found.log_prior[:, 1]))
    assert np.mean(covered) > 0.85 and np.mean(covered, axis=0)[2] >= 0.8


@pytest.mark.parametrize("n_per_class, l2", [(1, "cv"), (4, "cv"), (10, 0.0)])
def test_intervals_cover_and_group_probabilities_are_honest(n_per_class: int, l2: float | str) -> None:
    covered, hits, claimed, imbalance = [], [], [], []
    for seed in range(20):
        prior = known_prior(seed)
        logits, labels = simulate(n_per_class, prior, seed=500 + seed)
        found = bootstrap_prior(logits, labels, n_boot=100, seed=seed, l2=l2)
        inside = (found.log_prior[:, 0] <= np.log(prior)) & (np.log(prior) <= found.log_prior[:, 1])
        covered.append(inside.mean())
        hits.append((found.groups == prior_groups(prior)).mean())
        claimed.append(found.group_confidence.mean())
        imbalance.append(found.imbalance[0] <= 100 <= found.imbalance[1])
        assert found.imbalance[0] <= found.imbalance_estimate <= found.imbalance[1]
        np.testing.assert_allclose(found.group_probability.sum(axis=1), 1)
    assert 0.88 <= np.mean(covered) <= 0.995
    assert np.mean(imbalance) >= 0.8
    assert np.mean(claimed) == pytest.approx(np.mean(hits), abs=0.15)


def test_more_images_narrow_the_intervals_and_settle_the_groups() -> None:
    prior = known_prior(0)
    few, many = (bootstrap_prior(*simulate(n, prior, seed=9), n_boot=60) for n in (4, 60))
    assert np.diff(many.log_prior).mean() < 0.5 * np.diff(few.log_prior).mean()
    assert many.group_confidence.mean() > few.group_confidence.mean()
    assert many.imbalance[0] < many.imbalance[1] and "60 draws" in repr(many)
    own = many.group_probability[np.arange(20), [GROUPS.index(g) for g in many.groups]]
    np.testing.assert_array_equal(own, many.group_confidence)


def test_draws_keep_class_sizes_with_unbiased_variance() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [1, 2, 6]))
    counts = _counts(labels, 3, 4000, np.random.default_rng(1))
    for k, size in ((1, 2), (2, 6)):
        np.testing.assert_allclose(counts[labels == k].sum(axis=0), size)
        # A sample's variance of the class mean is s^2 / n with the unbiased s^2.
        values = np.arange(size, dtype=float)
        means = values @ counts[labels == k] / size
        assert means.var() == pytest.approx(values.var(ddof=1) / size, rel=0.1)
    np.testing.assert_allclose(counts.mean(axis=1), 1, atol=0.06)


def test_intervals_repeat_with_the_seed() -> None:
    logits, labels = simulate(5, known_prior(4, 6), seed=4)
    a, b, other = (bootstrap_prior(logits, labels, n_boot=30, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(a.log_prior, b.log_prior)
    assert (a.log_prior != other.log_prior).any()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_boot": 5}, "20 draws or more"),
        ({"level": 1.0}, "between 0 and 1"),
        ({"l2": "auto"}, "give 'cv', 0"),
        ({"l2": "cv", "folds": 1}, "needs 2 folds"),
    ],
)
def test_bad_input_is_named(options: dict, message: str) -> None:
    logits, labels = simulate(3, known_prior(0, 4), seed=0)
    with pytest.raises(CausalFTError, match=message):
        bootstrap_prior(logits, labels, **options)


def test_the_caveat_depends_on_the_pretraining_loss() -> None:
    assert "NOT" not in prior_caveat("caption-bank")
    for loss in ("in-batch contrastive", "in-batch", "unknown"):
        assert "NOT the class frequency" in prior_caveat(loss) and "calibrates" in prior_caveat(loss)
    assert "MetaCLIP" in prior_caveat() and "SigLIP" in prior_caveat("unknown")
    with pytest.raises(CausalFTError, match="did you mean 'caption-bank'"):
        prior_caveat("caption-bnk")
    assert "NOT a pre-training prior" in prior_caveat("no captions") and "CLIP" not in prior_caveat(
        "no captions"
    )
    assert len(PRETRAINING_LOSSES) == 4


def test_several_models_get_one_caveat_per_loss() -> None:
    same = {"clip": "caption-bank", "openclip": "caption-bank"}
    assert prior_caveats(same) == [prior_caveat("caption-bank")]
    assert prior_caveats({"clip": "caption-bank", "infonce": "in-batch", "openclip": "caption-bank"}) == [
        f"clip, openclip: {prior_caveat('caption-bank')}",
        f"infonce: {prior_caveat('in-batch')}",
    ]


def test_every_loss_on_a_card_has_a_caveat() -> None:
    folder = resources.files("causalft.models.strata") / "mini_weights"
    cards = [json.loads(file.read_text()) for file in folder.iterdir() if file.name.endswith(".json")]
    losses = {card["loss"] for card in cards if "loss" in card}
    assert losses == {"caption-bank", "in-batch"} and all(map(prior_caveat, losses))
