"""Images stream in order, in bounded memory, in threads that stop with the caller."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from causalft.data.image_set import ImageSet
from causalft.data.opening import open_images
from causalft.errors import CausalFTError
from causalft.models.features.encoder import Crops, batches, stream_crops
from causalft.models.strata.zoo import open_zoo


@pytest.fixture
def numbered():
    """50 images; every pixel of image i is i."""
    pixels = np.broadcast_to(np.arange(50, dtype=np.uint8)[:, None, None, None], (50, 8, 8, 3))
    return ImageSet.from_arrays(pixels, np.arange(50) % 2, ["a", "b"])


@pytest.fixture
def broken(pictures, tmp_path):
    """12 images; rows 3 and 7 are unreadable."""
    folder = pictures(tmp_path / "set", {"a": 6, "b": 6})
    images = open_images(folder)
    for row in (3, 7):
        (folder / images.files[row]).write_bytes(b"no image")
    return images


def first_pixels(stream):
    return [(rows.tolist(), pictures[:, 0, 0, 0].tolist()) for rows, (pictures,) in stream]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 50, 64])
def test_every_image_is_streamed_once_in_order(numbered, threads, batch_size):
    def slower_first(picture):
        time.sleep(0.001 * (int(picture.getpixel((0, 0))[0]) % 3 == 0))
        return np.asarray(picture)

    found = first_pixels(stream_crops(numbered, [slower_first], batch_size, threads=threads, progress=False))
    assert [len(rows) for rows, _ in found[:-1]] == [batch_size] * (len(found) - 1)
    assert sum((rows for rows, _ in found), []) == sum((pixels for _, pixels in found), []) == list(range(50))


def test_rows_are_taken_in_the_order_asked_and_only_as_needed(numbered):
    taken = []

    def order():
        for row in [9, 3, 3, *range(40)]:
            taken.append(row)
            yield row

    stream = stream_crops(numbered, [np.asarray], 2, rows=order(), ahead=1, progress=False)
    rows, (pictures,) = next(stream)
    assert rows.tolist() == pictures[:, 0, 0, 0].tolist() == [9, 3]
    assert len(taken) <= 2 * 2 + 1
    stream.close()


def test_several_cuts_share_one_decoding(numbered, monkeypatch):
    opened = []
    image = ImageSet.image
    monkeypatch.setattr(ImageSet, "image", lambda self, row: opened.append(row) or image(self, row))
    cuts = [np.asarray, lambda picture: np.asarray(picture)[:4, :4]]
    shapes = {tuple(p.shape) for _, found in stream_crops(numbered, cuts, 25, progress=False) for p in found}
    assert shapes == {(25, 8, 8, 3), (25, 4, 4, 3)}
    assert len(opened) == 50 + 1  # the first one also says what shapes the cuts give


def test_no_more_is_read_ahead_than_was_asked(numbered):
    read = []
    stream = stream_crops(
        numbered, [lambda p: read.append(1) or np.asarray(p)], 5, ahead=2, threads=2, progress=False
    )
    next(stream)
    time.sleep(0.1)
    assert 5 <= len(read) <= 3 * 5 + 1  # the batch yielded and two more, and the shape
    stream.close()


def test_threads_end_when_the_caller_stops(numbered):
    stream = stream_crops(numbered, [np.asarray], 5, threads=2, progress=False)
    next(stream)
    assert any(thread.name.startswith("decode") for thread in threading.enumerate())
    stream.close()
    assert not any(thread.name.startswith("decode") for thread in threading.enumerate())


def test_first_unreadable_image_is_named(broken):
    stream = stream_crops(broken, [np.asarray], 5, threads=3, progress=False)
    with pytest.raises(CausalFTError, match=broken.files[3]):
        list(stream)


@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_unreadable_images_are_skipped_and_named_on_request(broken, batch_size):
    bad = []
    found = list(
        stream_crops(
            broken,
            [np.asarray],
            batch_size,
            on_error="skip",
            bad=lambda row, message: bad.append((row, message)),
            progress=False,
        )
    )
    rows = np.concatenate([rows for rows, _ in found])
    assert rows.tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10, 11]
    assert [row for row, _ in bad] == [3, 7] and broken.files[3] in bad[0][1]
    direct = [np.asarray(broken.image(row)) for row in rows]
    assert np.array_equal(torch.cat([pictures for _, (pictures,) in found]).numpy(), direct)


def test_images_of_several_sizes_are_refused(pictures, tmp_path):
    pictures(tmp_path / "set" / "one", {"a": 3}, size=8)
    pictures(tmp_path / "set" / "two", {"a": 3}, size=10)
    with pytest.raises(CausalFTError, match=r"shape \(10, 10, 3\), the first one in \(8, 8, 3\)"):
        list(stream_crops(open_images(tmp_path / "set"), [np.asarray], 2, progress=False))


def test_wrong_settings_are_refused(numbered):
    with pytest.raises(CausalFTError, match="use stop or skip"):
        next(stream_crops(numbered, [np.asarray], 2, on_error="ignore"))
    with pytest.raises(CausalFTError, match="at least one image"):
        next(stream_crops(numbered, [np.asarray], 0))


def test_crops_are_the_same_from_memory_or_file(photos, tiny_zoo):
    stratum, images = open_zoo(tiny_zoo).load("clip"), open_images(photos)
    kept = Crops(images, stratum, progress=False)
    read = Crops(images, stratum, progress=False, in_memory_bytes=0)
    assert kept.kept is not None and read.kept is None
    for (rows, pixels), (other_rows, other) in zip(batches(kept, 32), batches(read, 32), strict=True):
        assert torch.equal(rows, other_rows) and torch.equal(pixels, other)


def test_memory_does_not_grow_with_the_number_of_images():
    """Of 400 batches of 3 MB only a few are alive at a time."""
    pixels = np.zeros((1, 64, 64, 3), np.uint8)
    images = ImageSet.from_arrays(pixels, [0], ["a"])
    import weakref

    alive: list = []
    most = 0
    for _, (pictures,) in stream_crops(
        images, [np.asarray], 256, rows=(0 for _ in range(20 * 256)), progress=False
    ):
        alive = [ref for ref in alive if ref() is not None]
        alive.append(weakref.ref(pictures))
        most = max(most, len(alive))
    assert most <= 2
