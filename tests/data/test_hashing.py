"""Equal files are found with few bytes read; hashes are those of the files, in order, from any container."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalft.data.hashing import equal_files, file_hashes
from causalft.data.image_set import ImageSet
from causalft.data.opening import open_images
from tests.data import kit


def big(middle: bytes, end: bytes = b"e") -> bytes:
    """20,004 bytes around one byte in the middle and one at the end."""
    return b"s" * 10_000 + middle + b"t" * 10_002 + end


def test_only_files_with_equal_sizes_and_middles_are_read_whole(write_folder, monkeypatch) -> None:
    files = {
        "a/1.png": big(b"x"),
        "a/2.png": big(b"y"),  # same size, another middle
        "a/3.png": big(b"x"),  # equal to the first
        "a/4.png": big(b"x", b"f"),  # same size and middle, another end
        "b/5.png": big(b"x") + b"!",  # another size
    }
    images = open_images(write_folder(files))
    read = []
    monkeypatch.setattr(ImageSet, "read_bytes", lambda self, i: read.append(i) or files[self.files[i]])
    assert equal_files(images) == [[0, 2]]
    assert sorted(read) == [0, 2, 3]


@pytest.mark.parametrize("maker", ["write_folder", "write_zip"])
def test_hashes_are_those_of_the_files_in_order(maker: str, request) -> None:
    files = {f"{'ab'[i % 2]}/{i:03d}.png": b"%d" % (i // 2) * 50 for i in range(150)}
    images = open_images(request.getfixturevalue(maker)(files))
    want = [hashlib.sha256(files[name]).hexdigest() for name in images.files]
    assert file_hashes(images, threads=3) == want
    assert file_hashes(images, [5, 0]) == [want[5], want[0]]
    assert equal_files(images) == [[i, i + 75] for i in range(75)]


def test_piece_of_a_tar_is_the_middle_of_the_file(pets, tmp_path) -> None:
    files = {f"{k}/1.png": big(bytes([k])) for k in range(65, 68)}
    images = open_images(kit.write_tar(tmp_path / "p.tar", files))
    folder = tmp_path / "folder"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(data)
    assert [images.piece(i) for i in range(3)] == [open_images(folder).piece(i) for i in range(3)]
    assert all(len(images.piece(i)) == 4096 and bytes([65 + i]) in images.piece(i) for i in range(3))


@given(st.lists(st.integers(0, 4), min_size=2, max_size=40))
def test_equal_pixels_in_memory_are_grouped(values: list[int]) -> None:
    pixels = np.array(values, np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    images = ImageSet.from_arrays(pixels, np.arange(len(values)) % 2, ["a", "b"])
    want = [np.flatnonzero(np.array(values) == v).tolist() for v in dict.fromkeys(values)]
    assert equal_files(images) == [rows for rows in want if len(rows) > 1]
