"""Maps in numbers: shares, spread and overlap in closed form; curves of a model whose one pixel is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.analysis.maps import (
    centre_maps,
    confidence_when_hidden,
    deletion_insertion,
    entropy,
    filled,
    grid_masks,
    hide,
    mask_areas,
    mask_shares,
    overlap,
    random_maps,
    spread,
)
from causalft.errors import CausalFTError
from causalft.models.maps.density import density

RNG = np.random.default_rng(0)


def corner(images):
    """A model that sees the red of the first pixel alone."""
    red = images[:, 0, 0, 0] / 255
    return np.stack([red, 1 - red], axis=1)


@given(h=st.integers(1, 7), w=st.integers(1, 7), size=st.integers(1, 20), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_a_density_is_a_distribution_at_any_size(h, w, size, seed):
    raw = np.random.default_rng(seed).normal(size=(3, h, w))
    found = density(raw, size)
    assert found.shape == (3, size, size)
    assert found.min() >= 0
    assert np.allclose(found.sum(axis=(1, 2)), 1)


def test_a_constant_map_stays_constant_when_it_is_resized():
    for size in (3, 4, 17):
        assert np.allclose(density(np.ones((1, 5, 5)), size), 1 / size**2)


def test_evidence_against_the_class_is_not_shown():
    assert density([[-5.0, 1.0], [1.0, -2.0]]).tolist() == [[0, 0.5], [0.5, 0]]


def test_a_map_that_is_nowhere_positive_is_the_uniform_one():
    assert density([[-1.0, 0.0]]).tolist() == [[0.5, 0.5]]


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(CausalFTError, match="not finite"):
        density([[np.nan, 1.0]])


def test_the_uniform_map_has_the_shares_of_the_areas():
    masks = RNG.dirichlet(np.ones(4), size=(6, 8, 8)).transpose(0, 3, 1, 2)[:, :3]
    found = mask_shares(np.full((6, 8, 8), 1 / 64), masks)
    assert np.allclose(found, mask_areas(masks))
    assert np.allclose(found.sum(axis=1), 1)


def test_shares_take_maps_of_several_models_at_once():
    masks = grid_masks(2, 4, 2)
    maps = density(RNG.uniform(size=(3, 2, 4, 4)))
    together = mask_shares(maps, masks)
    assert together.shape == (3, 2, 5)
    assert np.allclose(together[1], mask_shares(maps[1], masks))
    assert np.allclose(together[..., -1], 0)


def test_masks_of_another_size_are_refused():
    with pytest.raises(CausalFTError, match="do not go with masks"):
        mask_shares(np.ones((2, 4, 4)), np.ones((2, 3, 5, 5)))


def test_spread_and_entropy_of_a_map_that_is_uniform_on_a_share_of_the_pixels():
    found = np.zeros((4, 4))
    found[0] = 0.25
    assert entropy(found) == pytest.approx(np.log(4))
    assert spread(found) == pytest.approx(0.25)
    assert entropy(np.eye(1, 4)) == 0


def test_overlap_is_one_for_equal_and_zero_for_disjoint_maps():
    first, second = np.array([[0.5, 0.5, 0, 0]]), np.array([[0, 0, 0.25, 0.75]])
    assert overlap(first, first) == 1
    assert overlap(first, second) == 0
    assert overlap(first, (first + second) / 2) == pytest.approx(0.5)


def test_the_mean_colour_and_the_blur_keep_the_mean():
    images = RNG.integers(0, 256, (2, 20, 20, 3)).astype(np.uint8)
    for fill in ("mean", "blur"):
        found = filled(images, fill)
        assert found.dtype == np.uint8 and found.shape == images.shape
        assert np.abs(found.mean(axis=(1, 2)) - images.mean(axis=(1, 2))).max() < 4
    with pytest.raises(CausalFTError, match="unknown fill 'black'"):
        filled(images, "black")


def test_hiding_nothing_changes_nothing_and_hiding_all_leaves_the_fill():
    images = RNG.integers(0, 256, (2, 6, 6, 3)).astype(np.uint8)
    assert np.array_equal(hide(images, np.zeros((2, 6, 6))), images)
    assert np.array_equal(hide(images, np.ones((2, 6, 6))), filled(images))


def test_confidence_falls_only_when_what_the_model_sees_is_hidden():
    images = np.zeros((1, 4, 4, 3), np.uint8)
    images[0, 0, 0, 0] = 255
    found = confidence_when_hidden(corner, images, grid_masks(1, 4, 2), [0])
    assert found.shape == (1, 5)
    assert found[0, 0] == 1 and found[0, 1] < 0.1
    assert found[0, 2:].tolist() == [1, 1, 1]


def test_cells_of_a_grid_cover_every_pixel_once():
    for size, cells in ((40, 5), (7, 3)):
        found = grid_masks(1, size, cells)
        assert found.shape == (1, cells**2, size, size)
        assert np.array_equal(found.sum(axis=1), np.ones((1, size, size)))
    with pytest.raises(CausalFTError, match="does not fit"):
        grid_masks(1, 4, 5)


def test_curves_of_the_true_map_are_the_best_there_are():
    images = RNG.integers(0, 60, (5, 6, 6, 3)).astype(np.uint8)
    images[:, 0, 0, 0] = 255
    true = np.zeros((5, 6, 6))
    true[:, 0, 0] = 1
    classes = np.zeros(5, int)
    best = deletion_insertion(corner, images, true, classes, steps=6)
    worst = deletion_insertion(corner, images, -true, classes, steps=6)
    assert np.allclose(best.deletion[:, 0], 1) and np.allclose(best.insertion[:, -1], 1)
    assert np.allclose(best.deletion[:, 1:], best.deletion[:, -1:])
    assert (best.deletion_auc < worst.deletion_auc).all()
    assert (best.insertion_auc > worst.insertion_auc).all()
    assert (best.faithfulness > 0.5).all() and (worst.faithfulness < -0.5).all()


def test_a_random_order_is_as_good_in_deletion_as_in_insertion():
    images = RNG.integers(0, 60, (200, 6, 6, 3)).astype(np.uint8)
    images[:, 0, 0, 0] = 255
    found = deletion_insertion(corner, images, random_maps(200, 6, cells=6), np.zeros(200, int), steps=6)
    assert abs(found.faithfulness.mean()) < 0.08


def test_curves_refuse_maps_of_another_size():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(CausalFTError, match="do not go with images"):
        deletion_insertion(corner, images, np.zeros((2, 5, 5)), [0, 0])
    with pytest.raises(CausalFTError, match="steps is 0"):
        deletion_insertion(corner, images, np.zeros((2, 4, 4)), [0, 0], steps=0)


def test_controls_are_distributions():
    for found in (random_maps(3, (6, 9), cells=3), centre_maps(3, (6, 9))):
        assert found.shape == (3, 6, 9)
        assert np.allclose(found.sum(axis=(1, 2)), 1)
    assert np.array_equal(random_maps(2, 5), random_maps(2, 5))
    assert not np.array_equal(random_maps(2, 5), random_maps(2, 5, seed=1))
