"""STL-10 in its binary version: planes column by column, labels from 1, and its unlabelled images."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from causalft.data.opening import open_images
from causalft.data.unlabelled import open_unlabelled
from causalft.errors import CausalFTError

SIZE = 3 * 96 * 96


def pixels(n: int, first: int = 0) -> np.ndarray:
    """(n, 96, 96, 3): red is the number of the image, green runs down the rows, blue along the columns."""
    found = np.zeros((n, 96, 96, 3), np.uint8)
    found[..., 0] = first + np.arange(n)[:, None, None]
    found[..., 1], found[..., 2] = np.arange(96)[:, None], 100 + np.arange(96)[None, :]
    return found


def written(images: np.ndarray) -> bytes:
    return images.transpose(0, 3, 2, 1).tobytes()


@pytest.fixture
def stl(tmp_path) -> Path:
    folder = tmp_path / "data" / "stl10_binary"
    folder.mkdir(parents=True)
    (folder / "class_names.txt").write_text("airplane\nbird\ncar\n")
    for split, labels in {"train": [1, 2, 3, 3], "test": [2, 1]}.items():
        (folder / f"{split}_X.bin").write_bytes(written(pixels(len(labels), 10 if split == "test" else 0)))
        (folder / f"{split}_y.bin").write_bytes(bytes(labels))
    (folder / "unlabeled_X.bin").write_bytes(written(pixels(5, 20)))
    return folder


def test_labelled_images_are_read_with_their_splits(stl):
    for place in (stl, stl.parent):
        images = open_images(place)
        assert (
            images.format == "stl"
            and images.name == "stl-10"
            and images.class_names == ("airplane", "bird", "car")
        )
        assert images.labels.tolist() == [0, 1, 2, 2, 1, 0]
        assert {name: rows.tolist() for name, rows in images.splits.items()} == {
            "train": [0, 1, 2, 3],
            "test": [4, 5],
        }
        assert np.array_equal(np.asarray(images.image(4)), pixels(1, 10)[0])


def test_unlabelled_images_are_those_of_the_set(stl):
    for place in (stl, stl.parent, stl / "unlabeled_X.bin"):
        found = open_unlabelled(str(place))
        assert len(found) == 5 and found.hidden is None
        assert np.array_equal(np.asarray(found.images.image(2)), pixels(1, 22)[0])


def test_names_of_classes_can_be_missing(stl):
    (stl / "class_names.txt").unlink()
    assert open_images(stl).class_names == ("1", "2", "3")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "train_X.bin").write_bytes(b"x" * (SIZE + 1)), "train_X.bin is cut off"),
        (lambda f: (f / "train_y.bin").write_bytes(b"\1\2\3"), "has 3 labels for 4 images"),
        (lambda f: (f / "train_y.bin").write_bytes(b"\1\2\3\7"), "label 7, outside the 3 classes"),
        (lambda f: (f / "train_y.bin").write_bytes(b"\1\2\3\0"), "label 0, outside the 3 classes"),
        (lambda f: (f / "test_y.bin").unlink(), "lacks test_y.bin of STL-10"),
    ],
)
def test_damaged_files_are_refused(stl, damage, said):
    damage(stl)
    with pytest.raises(CausalFTError, match=said):
        open_images(stl)


def test_archives_and_the_unlabelled_file_are_refused_with_the_way_out(stl, tmp_path):
    with pytest.raises(CausalFTError, match="open its folder, or give it to unlabeled"):
        open_images(stl / "unlabeled_X.bin")
    with tarfile.open(tmp_path / "stl10_binary.tar.gz", "w:gz") as archive:
        archive.add(stl, "stl10_binary")
    with pytest.raises(CausalFTError, match="unpack it and open the folder stl10_binary"):
        open_images(tmp_path / "stl10_binary.tar.gz")
    (stl / "unlabeled_X.bin").unlink()
    with pytest.raises(CausalFTError, match="has no unlabeled_X.bin"):
        open_unlabelled(str(stl))
