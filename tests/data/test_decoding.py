"""Decoding keeps the order and stops at the first unreadable image, which it names."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from causalft.data.image_set import ImageSet, decode, to_pixels
from causalft.data.images import fit_square
from causalft.data.opening import open_images
from causalft.errors import CausalFTError


def numbered(n: int) -> ImageSet:
    pixels = np.zeros((n, 2, 2, 3), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = np.arange(n) % 256, np.arange(n) // 256
    return ImageSet.from_arrays(pixels, np.arange(n) % 2, ["a", "b"])


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("n", [1, 2, 64, 65, 1000])
def test_order_is_kept(threads: int, n: int) -> None:
    indices = np.random.default_rng(n).permutation(n)
    out = decode(numbered(n), indices, threads=threads)
    assert out.dtype == np.uint8
    assert (out[:, 0, 0, 0] + 256 * out[:, 0, 0, 1].astype(int)).tolist() == indices.tolist()


def test_transform_and_type() -> None:
    out = decode(numbered(70), [3, 3, 1], lambda image: np.float32(image.getpixel((0, 0))[0]) / 2)
    assert out.dtype == np.float32 and out.tolist() == [1.5, 1.5, 0.5]


def test_first_bad_image_stops_everything(write_folder) -> None:
    files = {f"a/{i:04d}.png": None for i in range(600)} | {"b/0.png": None}
    files["a/0100.png"] = b"broken"
    files["a/0500.png"] = b"broken too"
    images = open_images(write_folder(files))
    seen = []

    def note(image):
        seen.append(1)
        return to_pixels(image)

    before = threading.active_count()
    with pytest.raises(CausalFTError, match=r"a/0100\.png"):
        decode(images, transform=note, threads=2)
    assert len(seen) < 600
    assert threading.active_count() == before


def test_unreadable_first_image(write_folder) -> None:
    images = open_images(write_folder({"a/0.png": b"broken", "a/1.png": None, "b/0.png": None}))
    with pytest.raises(CausalFTError, match=r"a/0\.png"):
        decode(images)


def test_shapes_that_differ_are_named(write_folder, picture) -> None:
    files = {"a/0.png": picture(0), "a/1.png": picture(1, (9, 5)), "b/0.png": picture(2)}
    images = open_images(write_folder(files))
    with pytest.raises(CausalFTError, match=r"a/1\.png .*\(5, 9, 3\).*\(8, 8, 3\)"):
        decode(images)
    assert decode(images, transform=lambda image: to_pixels(fit_square(image, 4))).shape == (3, 4, 4, 3)


def test_empty_selection_is_refused() -> None:
    with pytest.raises(CausalFTError, match="no image of arrays was chosen"):
        decode(numbered(3), [])


def test_errors_of_the_transform_are_raised() -> None:
    def fail(image):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(numbered(300), transform=fail)


def test_progress_goes_to_standard_error(capsys) -> None:
    decode(numbered(10), progress_label="reading owls", progress=True)
    printed = capsys.readouterr()
    assert "reading owls" in printed.err and "10/10" in printed.err and printed.out == ""
    decode(numbered(10), progress=False)
    assert capsys.readouterr().err == ""
