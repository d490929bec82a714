"""Folders, zips and arrays give the same set; what cannot be a set is refused."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalft.data.formats.folder import arrange
from causalft.data.image_set import ImageSet
from causalft.data.opening import open_images
from causalft.errors import CausalFTError

PETS = ["cat/1.png", "cat/2.png", "dog/1.png", "dog/deep/er/2.png", "emu/1.png"]
JUNK = {
    ".git/x.png": None,
    "cat/.hidden.png": None,
    "cat/Thumbs.db": b"x",
    "__MACOSX/cat/._1.png": b"x",
    "cat/.DS_Store": b"x",
    "desktop.ini": b"x",
}


def test_folder_and_zip_of_it_are_the_same_set(write_folder, write_zip) -> None:
    folder, archive = open_images(write_folder(PETS)), open_images(write_zip(PETS))
    for images in (folder, archive):
        assert images.class_names == ("cat", "dog", "emu")
        assert images.labels.tolist() == [0, 0, 1, 1, 2]
        assert images.files == sorted(PETS)
        assert images.class_counts.tolist() == [2, 2, 1]
        assert images.name == "photos" and images.notes == () and images.splits == {}
    assert folder.fingerprint == archive.fingerprint
    assert folder.content_fingerprint() == archive.content_fingerprint()
    for i in range(5):
        assert folder.bytes_hash(i) == archive.bytes_hash(i)
        assert np.array_equal(np.asarray(folder.image(i)), np.asarray(archive.image(i)))
    assert len({folder.bytes_hash(i) for i in range(5)}) == 5


def test_opening_a_zip_reads_no_member_and_an_image_reads_its_own(write_zip, members_read) -> None:
    images = open_images(write_zip(PETS))
    assert len(images) == 5 and images.fingerprint
    assert members_read == []
    images.image(3)
    assert members_read == ["dog/deep/er/2.png"]


@pytest.mark.parametrize("maker", ["write_folder", "write_zip"])
def test_files_left_by_operating_systems_are_ignored(maker: str, request) -> None:
    images = open_images(request.getfixturevalue(maker)({**dict.fromkeys(PETS), **JUNK}))
    assert images.files == sorted(PETS) and images.notes == ()


@pytest.mark.parametrize("maker", ["write_folder", "write_zip"])
def test_other_files_are_left_out_and_reported(maker: str, request) -> None:
    files = {**dict.fromkeys(PETS), "cat/notes.txt": b"x", "README.md": b"x", "stray.png": None}
    images = open_images(request.getfixturevalue(maker)(files))
    assert images.files == sorted(PETS)
    assert images.notes == (
        "left out 2 files that are not images: README.md, cat/notes.txt",
        "left out 1 image outside the class folders: stray.png",
    )


@pytest.mark.parametrize("maker", ["write_folder", "write_zip"])
def test_single_top_folder_is_skipped(maker: str, request) -> None:
    inner = [f"data/v1/{name}" for name in PETS]
    images = open_images(request.getfixturevalue(maker)({**dict.fromkeys(inner), "__MACOSX/data/._x": b""}))
    assert images.class_names == ("cat", "dog", "emu") and images.files == sorted(inner)


def test_zip_with_backslashes(write_zip) -> None:
    path = write_zip([name.replace("/", "\\") for name in PETS])
    assert open_images(path).class_names == ("cat", "dog", "emu")


def test_zip_is_recognised_without_its_ending(write_zip) -> None:
    assert len(open_images(write_zip(PETS, name="photos.data"))) == 5


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_zip_compressions(write_zip, method: int) -> None:
    assert open_images(write_zip(PETS, compression=method)).image(4).size == (8, 8)


# Splits -------------------------------------------------------------------------------------------------------------

SPLIT = [f"{split}/{name}" for split in ("train", "val", "Test") for name in PETS]


@pytest.mark.parametrize("maker", ["write_folder", "write_zip"])
def test_split_folders_become_splits(maker: str, request) -> None:
    images = open_images(request.getfixturevalue(maker)(SPLIT))
    assert len(images) == 15 and images.class_names == ("cat", "dog", "emu")
    assert sorted(images.splits) == ["test", "train", "validation"]
    for split, folder in (("train", "train"), ("validation", "val"), ("test", "Test")):
        part = images.subset(images.splits[split])
        assert {name.split("/")[0] for name in part.files} == {folder}
        assert part.class_counts.tolist() == [2, 2, 1]


def test_a_test_class_that_training_lacks_is_named(write_folder) -> None:
    path = write_folder(["train/cat/1.png", "train/dog/1.png", "test/cat/2.png", "test/lynx/1.png"])
    with pytest.raises(
        CausalFTError, match=r"'lynx' has no training image in .*train but has some in test \(found 2 of 3"
    ):
        open_images(path)
    images = open_images(path, drop_empty_classes=True)
    assert images.class_names == ("cat", "dog") and len(images) == 3
    assert images.notes == ("dropped 1 class without a training image: lynx",)


def test_a_training_class_that_test_lacks_is_allowed(write_folder) -> None:
    images = open_images(write_folder(["train/cat/1.png", "train/dog/1.png", "test/cat/2.png"]))
    assert images.subset(images.splits["test"]).class_counts.tolist() == [1, 0]


def test_split_and_class_folders_side_by_side_are_refused(write_folder) -> None:
    path = write_folder(["train/cat/1.png", "test/cat/1.png", "extra/dog/1.png"])
    with pytest.raises(CausalFTError, match="train/ beside extra/|test/ and train/ beside extra/"):
        open_images(path)


def test_class_named_like_a_split(write_folder) -> None:
    images = open_images(write_folder(["bus/1.png", "car/1.png", "train/1.png"]))
    assert images.class_names == ("bus", "car", "train") and not images.splits


def test_two_folders_for_one_split_are_refused(write_folder) -> None:
    path = write_folder(["train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "valid/cat/1.png"])
    with pytest.raises(CausalFTError, match="both val/ and valid/"):
        open_images(path)


def test_a_folder_of_several_sets_is_refused(write_folder) -> None:
    path = write_folder([f"{part}/{name}" for part in ("A_train", "A_test") for name in PETS])
    with pytest.raises(CausalFTError, match=r"several sets \(A_test, A_train\); open one"):
        open_images(path)
    assert len(open_images(path / "A_test")) == 5


# Bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maker", ["write_folder", "write_zip"])
def test_empty_class_is_named(maker: str, request) -> None:
    path = request.getfixturevalue(maker)([*PETS, "lynx/"])
    with pytest.raises(
        CausalFTError, match=r"class 'lynx' has no image in .*photos.* \(found 3 of 4 classes\)"
    ):
        open_images(path)
    assert open_images(path, drop_empty_classes=True).class_names == ("cat", "dog", "emu")


@pytest.mark.parametrize("maker", ["write_folder", "write_zip"])
def test_one_class_only(maker: str, request) -> None:
    path = request.getfixturevalue(maker)(["cat/1.png", "cat/2.png"])
    with pytest.raises(CausalFTError, match=r"one class only \('cat'\)"):
        open_images(path)
    assert len(open_images(path, min_classes=1)) == 2


@pytest.mark.parametrize("maker", ["write_folder", "write_zip"])
def test_images_without_class_folders(maker: str, request) -> None:
    path = request.getfixturevalue(maker)(["1.png", "2.png"])
    with pytest.raises(CausalFTError, match="2 image.* directly in .* none in a class folder"):
        open_images(path)


@pytest.mark.parametrize("maker", ["write_folder", "write_zip"])
def test_no_image_at_all(maker: str, request) -> None:
    with pytest.raises(CausalFTError, match="no image in .*; it holds 1 other file.* cat/notes.txt"):
        open_images(request.getfixturevalue(maker)({"cat/notes.txt": b"x", "dog/": None}))
    with pytest.raises(CausalFTError, match="no image in"):
        open_images(request.getfixturevalue(maker)(["lynx/"], name="none.zip"))


def test_missing_path_offers_the_nearest(write_zip, tmp_path) -> None:
    write_zip(PETS, name="creatures.zip")
    with pytest.raises(CausalFTError, match=r"no such file or folder; .*did you mean 'creatures\.zip'"):
        open_images(tmp_path / "creatrues.zip")
    (tmp_path / "photos" / "train").mkdir(parents=True)
    with pytest.raises(CausalFTError, match="did you mean 'photos'"):
        open_images(tmp_path / "photo" / "train")


def test_unknown_kind_of_file_is_refused(tmp_path) -> None:
    path = tmp_path / "labels.xyz"
    path.write_text("file,label\n")
    with pytest.raises(CausalFTError, match="labels.xyz is in no known format; give a folder with one"):
        open_images(path)
    with pytest.raises(CausalFTError, match="is not a folder"):
        ImageSet.from_folder(path)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.98])
def test_cut_off_zip(write_zip, keep: float) -> None:
    path = write_zip(PETS)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(CausalFTError, match=r"photos\.zip is not a whole zip"):
        open_images(path)


def test_damaged_entry_is_named(write_zip) -> None:
    path = write_zip(PETS, compression=zipfile.ZIP_STORED)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("dog/1.png")
    data = bytearray(path.read_bytes())
    data[info.header_offset + 30 + len("dog/1.png") + 60] ^= 0xFF
    path.write_bytes(bytes(data))
    images = open_images(path)
    images.image(0)
    with pytest.raises(CausalFTError, match=r"dog/1\.png in .*photos\.zip: the zip is damaged"):
        images.image(images.files.index("dog/1.png"))


def test_encrypted_zip(write_zip) -> None:
    path = write_zip(PETS)
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # set the flag that says encrypted
        start = data.find(signature)
        while start >= 0:
            data[start + offset] |= 1
            start = data.find(signature, start + 4)
    path.write_bytes(bytes(data))
    with pytest.raises(CausalFTError, match=r"photos\.zip is encrypted \(cat/1\.png asks for a password\)"):
        open_images(path)


def test_unsupported_compression(write_zip) -> None:
    path = write_zip(PETS)
    data = bytearray(path.read_bytes())
    start = data.find(b"PK\x01\x02")
    data[start + 10 : start + 12] = struct.pack("<H", 9)
    path.write_bytes(bytes(data))
    with pytest.raises(CausalFTError, match=r"cat/1\.png in .* packed by method 9"):
        open_images(path)


def test_name_twice_in_a_zip(write_zip, picture) -> None:
    path = write_zip(PETS)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("cat/1.png", picture(9))
    with pytest.raises(CausalFTError, match=r"holds cat/1\.png twice"):
        open_images(path)


def test_deleted_and_damaged_files_are_reported(write_folder) -> None:
    path = write_folder({**dict.fromkeys(PETS), "emu/2.png": b"not an image"})
    images = open_images(path)
    with pytest.raises(CausalFTError, match=r"emu/2\.png"):
        images.image(5)
    (path / "cat/1.png").unlink()
    with pytest.raises(CausalFTError, match=r"cat/1\.png: No such file"):
        images.image(0)


def test_deleted_zip_is_reported(write_zip) -> None:
    path = write_zip(PETS)
    images = open_images(path)
    path.unlink()
    with pytest.raises(CausalFTError, match=r"cannot read .*photos\.zip: No such file"):
        images.image(0)


def test_links_are_followed_and_loops_cut(write_folder, tmp_path) -> None:
    path = write_folder(PETS)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(path / "emu", elsewhere)
    (path / "fox").symlink_to(elsewhere, target_is_directory=True)
    (path / "fox" / "again").symlink_to(path, target_is_directory=True)
    images = open_images(path)
    assert images.class_names == ("cat", "dog", "emu", "fox")
    assert images.class_counts.tolist() == [2, 2, 1, 1]


@given(
    st.lists(
        st.lists(
            st.sampled_from(["train", "test", "a", "b", ".x", "1.png", "2.jpg", "n.txt"]),
            min_size=1,
            max_size=4,
        ),
        max_size=8,
    )
)
def test_any_names_give_a_layout_or_a_clear_error(paths: list[list[str]]) -> None:
    names = sorted({"/".join(parts) for parts in paths})
    try:
        layout = arrange(names, [], "SET")
    except CausalFTError as error:
        assert "SET" in str(error)
        return
    assert len(layout.files) == len(layout.labels) == len(set(layout.files))
    assert set(layout.files) <= {name for name in names if name.endswith((".png", ".jpg"))}
    assert (np.bincount(layout.labels, minlength=len(layout.class_names)) > 0).all()
    for name, label in zip(layout.files, layout.labels):
        assert layout.class_names[label] in name.split("/")[:-1]
    if layout.splits:
        rows = np.concatenate(list(layout.splits.values()))
        assert sorted(rows.tolist()) == list(range(len(layout.files)))


# Threads, processes, arrays, views ----------------------------------------------------------------------------------


def _hashes(images: ImageSet) -> list[str]:
    return [images.bytes_hash(i) for i in range(len(images))]


def test_zip_read_from_many_threads(write_zip) -> None:
    images = open_images(write_zip([f"{kind}/{i}.png" for kind in "ab" for i in range(50)]))
    expected = _hashes(images)
    again = open_images(images.location)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(again.bytes_hash, list(range(100)) * 4)) == expected * 4


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_zip_read_from_other_processes(write_zip, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    images = open_images(write_zip(PETS))
    expected = _hashes(images)  # the parent's handle is open by now
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(images.bytes_hash, range(5)) == expected
        assert _hashes(images) == expected


def test_a_copy_has_no_open_handle(write_zip) -> None:
    images = open_images(write_zip(PETS))
    images.image(0)
    assert _hashes(pickle.loads(pickle.dumps(images))) == _hashes(images)


def arrays(n: int = 6) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 4, 5, 3)).astype(np.uint8)
    return ImageSet.from_arrays(pixels, np.arange(n) % 3, ["a", "b", "c"], factors=np.arange(n) % 2)


def test_arrays_are_an_image_set() -> None:
    images = arrays()
    part = images.subset([5, 0, 5], name="part")
    assert part.pixels is not None and np.array_equal(np.asarray(part.image(0)), images.pixels[5])
    assert part.labels.tolist() == [2, 0, 2] and part.factors.tolist() == [1, 0, 1]
    assert part.files == ["c/000005", "a/000000", "c/000005"] and part.name == "part"
    assert part.class_counts.tolist() == [1, 0, 2]
    assert len(images.subset(images.labels == 1)) == 2
    with pytest.raises(IndexError):
        images.subset(np.array([True]))


def test_fingerprint_sees_pixels_labels_and_order() -> None:
    images = arrays()
    changed = images.pixels.copy()
    changed[3, 0, 0, 0] ^= 1
    others = [
        ImageSet.from_arrays(changed, images.labels, images.class_names),
        ImageSet.from_arrays(images.pixels, images.labels[::-1], images.class_names, files=images.files),
        ImageSet.from_arrays(images.pixels, images.labels, ["a", "b", "d"], files=images.files),
        images.subset([1, 0, 2, 3, 4, 5]),
        images.subset(range(5)),
    ]
    assert len({images.fingerprint, *(other.fingerprint for other in others)}) == 6
    assert arrays().fingerprint == images.fingerprint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pixels": np.zeros((6, 4, 5), np.uint8)}, "pixels must be"),
        ({"pixels": np.zeros((6, 4, 5, 3), float)}, "pixels must be .* not .* of float64"),
        ({"labels": np.zeros(5, int)}, r"labels must be \(6,\)"),
        ({"labels": np.zeros(6)}, "whole numbers"),
        ({"labels": np.full(6, 3)}, "label 3 lies outside the 3 classes"),
        ({"class_names": ["a", "b", "a"]}, "same name"),
        ({"files": ["x"]}, "6 images but 1 files"),
        ({"factors": [0]}, "6 images but 1 factors"),
    ],
)
def test_mismatched_arrays_are_refused(change: dict, words: str) -> None:
    given = {
        "pixels": np.zeros((6, 4, 5, 3), np.uint8),
        "labels": np.zeros(6, int),
        "class_names": ["a", "b", "c"],
    }
    with pytest.raises(CausalFTError, match=words):
        ImageSet.from_arrays(**{**given, **change})


def test_align_classes() -> None:
    images = arrays()
    aligned = images.align_classes(["c", "x", "b", "a"])
    assert [aligned.class_names[k] for k in aligned.labels] == [images.class_names[k] for k in images.labels]
    with pytest.raises(CausalFTError, match="class 'c' of arrays is not a class here; "):
        images.align_classes(["a", "b"])
    with_gap = images.subset(images.labels != 1)
    assert with_gap.align_classes(["a", "c"]).class_counts.tolist() == [2, 2]
    assert with_gap.without_empty_classes().class_names == ("a", "c")


# metadata.csv -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maker", ["write_folder", "write_zip"])
@pytest.mark.parametrize("top", ["", "data/"])
def test_factors_come_from_metadata(maker: str, top: str, request) -> None:
    table = "file_name,label,factor\n" + "".join(f"{name},x,{i % 2}\n" for i, name in enumerate(sorted(PETS)))
    files = {**{top + name: None for name in PETS}, top + "metadata.csv": table.encode()}
    images = open_images(request.getfixturevalue(maker)(files))
    assert images.factors is not None and images.factors.tolist() == [0, 1, 0, 1, 0]
    assert images.notes == ()


def test_factors_of_one_set_among_several(write_folder) -> None:
    names = [f"{part}/{name}" for part in ("A_train", "A_test") for name in sorted(PETS)]
    table = "file_name,factor\n" + "".join(
        f"{name},{'head' if i % 2 else 'tail'}\n" for i, name in enumerate(names)
    )
    path = write_folder({**dict.fromkeys(names), "metadata.csv": table.encode()})
    assert open_images(path / "A_test").factors.tolist() == ["head", "tail", "head", "tail", "head"]


def test_metadata_about_something_else_is_no_factor(write_folder) -> None:
    assert (
        open_images(write_folder({**dict.fromkeys(PETS), "metadata.csv": b"author,year\nx,1\n"})).factors
        is None
    )


@pytest.mark.parametrize(
    ("rows", "words"),
    [("cat/1.png,1\n", "no row for image cat/2.png"), ("cat/1.png,\n", "no factor for image cat/1.png")],
)
def test_incomplete_metadata_is_named(write_folder, rows: str, words: str) -> None:
    path: Path = write_folder({**dict.fromkeys(PETS), "metadata.csv": b"file_name,factor\n" + rows.encode()})
    with pytest.raises(CausalFTError, match=f"metadata.csv .*has {words}"):
        open_images(path)
