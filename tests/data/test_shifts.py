"""Shifts of images against what they are by definition."""

from __future__ import annotations

import numpy as np
import pytest

from causalft.data.shifts import SHIFTS, STRENGTHS, shifted_images
from causalft.errors import CausalFTError


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 196, (4, 40, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize(("strength", "share"), [(1, 0.04), (2, 0.08), (3, 0.16)])
def test_noise_has_the_standard_deviation_of_its_strength(strength: int, share: float) -> None:
    grey = np.full((4, 64, 64, 3), 128, np.uint8)
    found = shifted_images(grey, "noise", strength)
    assert found.std() == pytest.approx(255 * share, rel=0.03) and found.mean() == pytest.approx(128, abs=1)
    assert (found != shifted_images(grey, "noise", strength, seed=1)).any()


@pytest.mark.parametrize(("strength", "left"), [(1, 0.7), (2, 0.5), (3, 0.3)])
def test_contrast_shrinks_towards_the_mean_of_each_image(images, strength: int, left: float) -> None:
    found = shifted_images(images, "contrast", strength).astype(float)
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    assert np.abs(found - (mean + left * (images - mean))).max() <= 0.51


def test_blur_keeps_flat_images_and_spreads_a_point_over_its_own_image_and_channel() -> None:
    flat = np.full((2, 40, 40, 3), 77, np.uint8)
    assert (shifted_images(flat, "blur", 3) == 77).all()
    point = np.zeros((2, 40, 40, 3), np.uint8)
    point[0, 20, 20, 1] = 255
    found = shifted_images(point, "blur", 2)  # a standard deviation of one pixel
    assert found[0, 20, 20, 1] == pytest.approx(255 / (2 * np.pi), rel=0.05)
    assert found[0, 20, 21, 1] == found[0, 21, 20, 1] > 0
    assert not found[1].any() and not found[..., 0].any()


@pytest.mark.parametrize("shift", SHIFTS)
def test_stronger_shifts_are_further_away_and_the_same_every_time(images, shift: str) -> None:
    away = [np.abs(shifted_images(images, shift, s).astype(float) - images).mean() for s in STRENGTHS]
    assert away == sorted(away) and away[0] > 1
    assert (shifted_images(images, shift, 2) == shifted_images(images, shift, 2)).all()


def test_unknown_shifts_and_strengths_are_refused(images) -> None:
    with pytest.raises(CausalFTError, match="no shift is named 'nois'; did you mean 'noise'"):
        shifted_images(images, "nois", 1)
    with pytest.raises(CausalFTError, match="give 1, 2 or 3"):
        shifted_images(images, "noise", 4)
