"""Prediction sets: thresholds against p-values, coverage by group on exchangeable data, and merged groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.analysis.uncertainty.conformal import (
    coverage_law,
    coverage_of_groups,
    fit_sets,
    make_cells,
    pooled_prior,
)
from causalft.data.groups import data_groups, prior_groups
from causalft.errors import CausalFTError

COUNTS = np.array([300, 200, 150, 60, 40, 12, 8, 5])
PRIOR = np.array([0.05, 0.3, 0.04, 0.2, 0.03, 0.15, 0.13, 0.1])


def drawn(rng, n, difficulty):
    """Labels, and probabilities that are worse for classes of higher number."""
    labels = np.arange(n) % len(COUNTS)
    logits = rng.normal(size=(n, len(COUNTS)))
    logits[np.arange(n), labels] += difficulty[labels]
    return labels, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_class_is_in_the_set_if_its_p_value_in_its_cell_is_large_enough(coverage):
    rng = np.random.default_rng(0)
    labels, probs = drawn(rng, 480, np.linspace(3, 0.5, 8))
    sets = fit_sets(probs, labels, COUNTS, PRIOR, coverage)
    assert len(sets.cells) > 1
    _, new = drawn(rng, 50, np.linspace(3, 0.5, 8))
    for k in range(len(COUNTS)):
        rows = sets.cell_of_class[labels] == sets.cell_of_class[k]
        seen = probs[rows, labels[rows]]
        p_value = (1 + (seen[None] <= new[:, [k]]).sum(1)) / (1 + rows.sum())
        assert (sets.contains(new)[:, k] == (p_value >= 1 - coverage - 1e-12)).all()


def test_coverage_is_within_two_points_in_every_group_of_fifty_images():
    rng, difficulty = np.random.default_rng(1), np.linspace(3, 0.5, 8)
    groups = {"D": data_groups(COUNTS), "P": prior_groups(PRIOR)}
    found: dict = {}
    for _ in range(100):
        labels, probs = drawn(rng, 200, difficulty)
        sets = fit_sets(probs, labels, COUNTS, PRIOR, 0.9)
        labels, probs = drawn(rng, 400, difficulty)
        covered = sets.contains(probs)[np.arange(400), labels]
        for kind, names in groups.items():
            for group in set(names):
                found.setdefault((kind, str(group)), []).append(covered[names[labels] == group].mean())
        found.setdefault("cell", []).append([covered[sets.cell_of_class[labels] == c].mean() for c in (0, 1)])
    for group, shares in found.items():
        mean, error = np.mean(shares, 0), np.std(shares, 0) / np.sqrt(len(shares))
        assert np.all(np.abs(mean - 0.9) < 0.02 + 2 * error), group
    # One threshold for all classes would not do: the same scores cover the easy group too often.
    labels, probs = drawn(rng, 4000, difficulty)
    marginal = fit_sets(probs, labels, COUNTS, PRIOR, 0.9, least=10**6)
    covered = marginal.contains(probs)[np.arange(4000), labels]
    assert covered[groups["D"][labels] == "many"].mean() > 0.95
    assert covered[groups["D"][labels] == "few"].mean() < 0.87


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 40), st.sampled_from([10, 50, 200]))
def test_merging_leaves_no_small_cell_and_no_class_without_one(seed, n_classes, least):
    rng = np.random.default_rng(seed)
    images, counts = rng.integers(0, 40, n_classes), rng.integers(1, 300, n_classes)
    prior = np.where(rng.random(n_classes) < 0.1, np.nan, rng.dirichlet(np.ones(n_classes)))
    prior[0] = 0.5
    cells, of_class, notes = make_cells(images, counts, prior, least)
    sizes = [images[of_class == c].sum() for c in range(len(cells))]
    assert sizes == [cell.n_images for cell in cells] and sum(sizes) == images.sum()
    assert len(cells) == 1 or min(sizes) >= least
    assert [np.sum(of_class == c) for c in range(len(cells))] == [cell.n_classes for cell in cells]
    merged = [cell for cell in cells if len(cell.groups) > 1]
    assert len(notes) == len(merged)
    d = data_groups(counts)
    if all(images[d == group].sum() >= least for group in set(d)):
        assert all(len(set(d[of_class == c])) == 1 for c in range(len(cells))), "D groups are kept apart"


def test_merged_groups_are_named_with_their_images():
    images = np.array([60, 60, 60, 30, 25, 60, 60, 60])
    cells, of_class, notes = make_cells(images, COUNTS, PRIOR)
    assert of_class[3] == of_class[4] and len(notes) == 1
    assert notes[0].startswith(
        "D-medium x P-many (30), D-medium x P-few (25) share a threshold: each has fewer than 50"
    )
    (note,) = make_cells(np.array([60, 60, 60, 60, 25, 60, 60, 60]), COUNTS, PRIOR)[2]
    assert "(25) share a threshold: one has fewer than 50" in note
    assert any(cell.words == "D-medium x P-many, D-medium x P-few" for cell in cells)


def test_too_few_images_for_the_coverage_put_every_class_into_the_set():
    labels, probs = drawn(np.random.default_rng(2), 16, np.ones(8))
    sets = fit_sets(probs, labels, COUNTS, PRIOR, 0.95)
    assert len(sets.cells) == 1 and sets.contains(probs).all()
    assert "16 validation images are too few for 95 % coverage" in sets.notes[-1]
    assert sets.notes[-1].endswith("give 20 or more")
    assert (
        fit_sets(*drawn(np.random.default_rng(2), 24, np.ones(8))[::-1], COUNTS, PRIOR, 0.95).threshold > 0
    ).all()


@pytest.mark.parametrize(("n", "coverage"), [(50, 0.9), (99, 0.9), (13, 0.8), (5, 0.9)])
def test_law_of_the_coverage_is_that_of_the_rank_of_the_threshold(n, coverage):
    rng = np.random.default_rng(0)
    probs = np.c_[1 - rng.random(n), np.zeros(n)]
    probs[:, 1] = 1 - probs[:, 0]
    sets = fit_sets(probs, np.zeros(n, dtype=int), [9, 9], [0.5, 0.5], coverage, least=10**6)
    left_out = int((probs[:, 0] < sets.threshold[0] * (1 - 1e-9)).sum())  # images below the threshold itself
    found = coverage_law(n, coverage)
    ranks = 0 if sets.threshold[0] == 0 else left_out + 1
    assert found["expected"] == pytest.approx(1 - ranks / (n + 1))
    assert (
        coverage <= found["expected"] + 1e-12 and found["expected"] <= max(coverage + 1 / (n + 1), 1) + 1e-12
    )
    low, high = found["range95"]
    assert low <= found["expected"] <= high
    if ranks:  # uniform scores: the coverage is what lies above the threshold
        drawn = np.sort(rng.random((4000, n)), axis=1)[:, left_out]
        assert np.quantile(1 - drawn, [0.025, 0.975]) == pytest.approx([low, high], abs=0.012)


def test_pooled_prior_is_the_geometric_mean_and_unknown_where_one_is():
    assert pooled_prior([[0.9, 0.1], [0.5, 0.5]], [1.0, 0.0]) == pytest.approx([0.9, 0.1])
    found = pooled_prior([[0.5, 0.3, 0.2], [0.5, np.nan, 0.2]])
    assert np.isnan(found[1]) and found[0] / found[2] == pytest.approx(2.5)


def test_coverage_of_groups_counts_images_of_the_true_class():
    found = coverage_of_groups([True, False, True], [1, 0, 3], [0, 0, 1], {"D": ["many", "few"]})
    assert found["all"]["estimate"] == pytest.approx(2 / 3)
    assert found["D"]["many"]["estimate"] == 0.5 and found["D"]["many"]["empty"] == 0.5
    assert found["D"]["few"]["mean_size"] == 3 and found["D"]["medium"] is None


def test_sets_without_images_or_with_an_impossible_coverage_are_refused():
    with pytest.raises(CausalFTError, match="coverage 1.5 is not between 0 and 1"):
        fit_sets([[0.5, 0.5]], [0], [1, 1], [0.5, 0.5], 1.5)
    with pytest.raises(CausalFTError, match="2 numbers of images for 3 classes"):
        make_cells([1, 2], [1, 1, 1], [0.3, 0.3, 0.4])
