"""Unlabelled images of unseen classes: evidence, a lower bound of their share, and which ones are left out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from causalft.errors import CausalFTError
from causalft.methods.semi.label_shift import Calibration
from causalft.methods.semi.outliers import (
    _difference,
    _distributions,
    _excess,
    confidence,
    energy,
    find_outliers,
)


def scores(rng, n, easy=True):
    return rng.beta(6, 2, n) if easy else rng.beta(2, 5, n)


def test_excess_is_the_mixture_proportion_of_separable_scores():
    """A quarter lies below everything known: any threshold that half of the known pass says at least that."""
    known = np.arange(100.0)
    other = np.concatenate([np.arange(0, 100, 1 / 3), np.full(100, -1.0)])  # 300 like the known, 100 unlike
    assert _excess(*_distributions(known, np.ones(100), other)) == pytest.approx(0.25, abs=0.02)
    assert _excess(*_distributions(known, np.ones(100), known)) <= 0


def test_known_images_alone_are_rarely_taken_for_outliers():
    found = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        result = find_outliers(scores(rng, 300), np.arange(300) % 3, scores(rng, 900), seed=seed)
        found += result.found
        assert result.ci95[0] <= result.share <= result.ci95[1]
        assert result.found or (result.warning is None and not result.drop.any())
    assert found <= 1


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_unseen_classes_are_found_and_their_share_is_bounded(share):
    rng = np.random.default_rng(0)
    n_new = int(2000 * share)
    unlabelled = np.concatenate([scores(rng, 2000 - n_new), rng.beta(1, 8, n_new)])
    found = find_outliers(scores(rng, 600), np.arange(600) % 3, unlabelled)
    assert found.found and found.ci95[0] <= share and abs(found.share - share) < 0.06
    assert found.drop[2000 - n_new :].mean() > 0.9 and found.drop[: 2000 - n_new].mean() < 0.1
    assert f"the {found.drop.sum()} least like one are best left out" in found.warning
    document = json.loads(json.dumps(found.document))
    assert document["drop"] == int(found.drop.sum()) and document["n"] == 2000


def test_hard_classes_that_are_frequent_are_no_outliers():
    """Half of the validation images are of an easy class, a tenth of the unlabelled ones."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 300)
    known = np.concatenate([scores(rng, 300), scores(rng, 300, easy=False)])
    unlabelled = np.concatenate([scores(rng, 200), scores(rng, 1800, easy=False)])
    assert find_outliers(known, labels, unlabelled).found
    assert not find_outliers(known, labels, unlabelled, law=[0.1, 0.9]).found


def test_the_difference_is_in_units_of_its_spread():
    """A tenth lies below everything known. At the first threshold, F = .05, G is .145: .095 / sqrt(.05 * .95)."""
    known = np.arange(100.0)
    other = np.concatenate([np.repeat(known, 9), np.full(100, -1.0)])
    found = _difference(*_distributions(known, np.ones(100), other))
    assert found == pytest.approx(0.095 / np.sqrt(0.05 * 0.95))
    assert _difference(*_distributions(known, np.ones(100), known)) == pytest.approx(0, abs=1e-9)


def test_a_small_share_of_images_unlike_any_class_is_found():
    """A share of a tenth is often within the chance of the excess, whose thresholds reach to the middle."""
    found = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        unlabelled = np.concatenate([rng.normal(0, 1, 500), rng.normal(-5, 1, 60)])
        found += find_outliers(rng.normal(0, 1, 300), np.arange(300) % 3, unlabelled, seed=seed).found
    assert found == 3


def test_energy_is_low_where_no_class_fits_and_where_strata_disagree():
    fits, nothing, other = np.array([[6.0, 0.0, 0.0]]), np.zeros((1, 3)), np.array([[0.0, 6.0, 0.0]])
    assert energy(fits) == pytest.approx(np.log(np.exp(6) + 2)) and energy(nothing) == pytest.approx(
        np.log(3)
    )
    assert energy(fits, fits) == pytest.approx(energy(fits))
    assert energy(nothing) < energy(fits, other) < energy(fits)


def test_confidence_is_the_largest_calibrated_probability():
    logits = np.array([[2.0, 0.0], [0.0, 0.5]])
    assert np.allclose(confidence(logits), 1 / (1 + np.exp([-2.0, -0.5])))
    halved = Calibration(0.5, np.array([0.0, 0.5]), np.eye(3), 0.1, 10)
    assert np.allclose(confidence(logits, halved), 1 / (1 + np.exp([-0.5, -0.75])))


@pytest.mark.parametrize(
    ("known", "labels", "unlabelled", "law", "said"),
    [
        ([], [], [0.5], None, "scores of the validation images"),
        ([0.5], [0], [], None, "scores of the unlabelled images"),
        ([0.5], [0], [np.nan], None, "finite numbers"),
        ([0.5, 0.6], [0], [0.5], None, "2 validation images but labels of shape"),
        ([0.5, 0.6], [0, 2], [0.5], [0.5, 0.5], "whole numbers from 0 to 1"),
    ],
)
def test_scores_that_do_not_match_are_refused(known, labels, unlabelled, law, said):
    with pytest.raises(CausalFTError, match=said):
        find_outliers(known, np.array(labels, dtype=int), unlabelled, law)
