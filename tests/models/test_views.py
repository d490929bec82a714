"""Incomplete views hide what they say and keep the rest; a user's view is checked."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from causalft.errors import CausalFTError
from causalft.models.pretraining.photo_zoo import VIEWS, apply_view, find_view

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)


def seen(view):
    return apply_view(PIXELS, view, 1.0, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("view", "kept"),
    [
        ("upper", np.s_[:, :4]),
        ("lower", np.s_[:, 4:]),
        ("left", np.s_[:, :, :4]),
        ("right", np.s_[:, :, 4:]),
        ("full", np.s_[:]),
    ],
)
def test_half_of_the_image_is_kept_and_the_rest_is_grey(view, kept):
    shown, expected = seen(view), np.full_like(PIXELS, 128)
    expected[kept] = PIXELS[kept]
    assert np.array_equal(shown, expected)


def test_the_grey_view_has_no_colour_and_no_detail():
    shown = seen("grey").astype(int)
    assert (np.ptp(shown, axis=-1) == 0).all()
    assert (
        np.abs(np.diff(shown[..., 0], axis=2)).mean()
        < 0.7 * np.abs(np.diff(PIXELS.astype(int).mean(-1), axis=2)).mean()
    )


@pytest.mark.parametrize("size", [(7, 5), (1, 1), (3, 9)])
@pytest.mark.parametrize("view", sorted(VIEWS))
def test_views_keep_the_image_size(view, size):
    assert find_view(view)(Image.new("RGB", size)).size == size


def test_halves_of_an_odd_image_cover_it():
    white = Image.new("RGB", (5, 5), (255, 255, 255))
    both = sum((np.asarray(find_view(v)(white)) == 255).all(-1).astype(int) for v in ("upper", "lower"))
    assert (both == 1).all()


def test_share_of_images_goes_through_the_view_without_changing_the_input():
    before = PIXELS.copy()
    many = np.tile(PIXELS, (25, 1, 1, 1))
    shown = apply_view(many, "upper", 0.8, np.random.default_rng(3))
    changed = (shown != many).any((1, 2, 3))
    assert changed.mean() == pytest.approx(0.8, abs=0.04)
    assert np.array_equal(PIXELS, before)
    assert np.array_equal(shown, apply_view(many, "upper", 0.8, np.random.default_rng(3)))
    assert np.array_equal(apply_view(PIXELS, "upper", 0.0, np.random.default_rng(0)), PIXELS)


@pytest.fixture
def own_views(tmp_path, monkeypatch):
    (tmp_path / "my_views.py").write_text(
        "import numpy\n"
        "from PIL import ImageOps\n"
        "def inverted(image):\n    return ImageOps.invert(image)\n"
        "def cut(image):\n    return image.crop((0, 0, 2, 2))\n"
        "def array(image):\n    return numpy.asarray(image)\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_views", None)


def test_a_view_of_the_user(own_views):
    assert np.array_equal(seen("my_views:inverted"), 255 - PIXELS)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ("uper", r"no view 'uper'; did you mean 'upper'.*package\.module:function"),
        ("my_views:gone", "'my_views:gone' cannot be imported"),
        ("no_such_module:f", "is no_such_module on PYTHONPATH"),
        (":f", "cannot be imported"),
        (".views:f", "cannot be imported"),
        ("my_views:number", "is not a function"),
        ("my_views:cut", "changed the size of an image"),
        ("my_views:array", "returned a ndarray, not a PIL image"),
    ],
)
def test_invalid_views_are_refused(own_views, view, message):
    with pytest.raises(CausalFTError, match=message):
        seen(view)
