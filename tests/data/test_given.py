"""Images given in Python become the same set as their folder."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from causalft.data.given import given_images, labelled_images, numbered_labels, unlabelled_images
from causalft.data.image_set import ImageSet
from causalft.data.opening import open_images
from causalft.errors import CausalFTError

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 6, 7, 3)).astype(np.uint8)


@pytest.fixture
def files(tmp_path) -> list[Path]:
    paths = [tmp_path / f"{k}.png" for k in range(3)]
    for path, pixels in zip(paths, PIXELS):
        Image.fromarray(pixels).save(path)
    return paths


def forms(files) -> dict[str, object]:
    return {
        "paths": files,
        "texts": [str(file) for file in files],
        "array of texts": np.array([str(file) for file in files]),
        "tuple": tuple(files),
        "generator": (file for file in files),
        "PIL": [Image.open(file) for file in files],
        "arrays": list(PIXELS),
        "one array": PIXELS,
        "bytes": [file.read_bytes() for file in files],
        "mixed": [files[0], Image.fromarray(PIXELS[1]), PIXELS[2]],
        "set": ImageSet.from_arrays(PIXELS, [0, 1, 0], ["a", "b"]),
        "folder": files[0].parent,
    }


@pytest.mark.parametrize("form", [
    "paths", "texts", "array of texts", "tuple", "generator", "arrays", "one array", "bytes", "set", "folder", "PIL",
    "mixed",
])  # fmt: skip
def test_every_form_shows_the_same_pixels(files, form):
    images = given_images(forms(files)[form])
    assert [np.asarray(images.image(k)).tolist() for k in range(3)] == PIXELS.tolist()
    assert len(images.fingerprint) == 64 and len({images.bytes_hash(k) for k in range(3)}) == 3


def test_one_image_is_a_set_of_one(files):
    for one in (files[0], str(files[0]), Image.fromarray(PIXELS[0]), PIXELS[0], files[0].read_bytes()):
        assert np.array_equal(given_images(one).image(0), PIXELS[0])


def test_images_are_turned_upright_and_to_rgb():
    grey, clear = Image.new("L", (4, 5), 7), Image.new("RGBA", (4, 5), (255, 0, 0, 0))
    wide = io.BytesIO()
    Image.new("RGB", (8, 4)).save(
        wide, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    )
    images = given_images(
        [grey, clear, np.full((4, 5), 9, np.uint8), np.zeros((4, 5, 1), np.uint8), Image.open(wide)]
    )
    assert images.image(0).getpixel((0, 0)) == (7, 7, 7) and images.image(1).getpixel((0, 0)) == (
        255,
        255,
        255,
    )
    assert images.image(2).getpixel((0, 0)) == (9, 9, 9) and images.image(3).size == (5, 4)
    assert images.image(4).size == (4, 8)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no images given"),
        (None, "images are NoneType; give paths, PIL images, arrays"),
        (3, "images are int"),
        ([PIXELS[0], None], "images/000001 is None"),
        (PIXELS / 255.0, "array of float64; give uint8"),
        ([PIXELS[0].astype(int)], "images/000000 is an array of int64"),
        (PIXELS.transpose(0, 3, 1, 2), r"shape \(3, 6, 7\); give \(H, W, 3\), the channels last"),
        (np.zeros((2, 3, 4, 5, 3), np.uint8), r"shape \(2, 3, 4, 5, 3\)"),
        ([np.zeros((0, 4, 3), np.uint8)], r"shape \(0, 4, 3\)"),
    ],
)
def test_values_that_are_not_images_are_refused(images, message):
    with pytest.raises(CausalFTError, match=message):
        given_images(images)


def test_damaged_images_are_reported_on_reading(tmp_path):
    path = tmp_path / "cut.png"
    Image.fromarray(PIXELS[0]).save(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(CausalFTError, match="cannot read images/000000: it is damaged"):
        given_images([Image.open(path)]).image(0)


# --- labels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "class_names", "names", "places", "classes"),
    [
        (["owl", "ant", "owl"], None, ("ant", "owl"), [1, 0, 1], ["ant", "owl"]),
        (np.array(["owl", "ant", "owl"], dtype=object), None, ("ant", "owl"), [1, 0, 1], ["ant", "owl"]),
        ([10, 9, 10], None, ("9", "10"), [1, 0, 1], [9, 10]),
        ([1.0, 0.0, 1.0], None, ("0", "1"), [1, 0, 1], [0, 1]),
        ([1, 0, 1], ["owl", "ant", "bee"], ("owl", "ant", "bee"), [1, 0, 1], ["owl", "ant", "bee"]),
        (["ant", "owl", "ant"], ["owl", "ant"], ("owl", "ant"), [1, 0, 1], ["owl", "ant"]),
        ([8, 7, 8], ["7", "8"], ("7", "8"), [1, 0, 1], ["7", "8"]),
        ([True, False, True], None, ("False", "True"), [1, 0, 1], [False, True]),
    ],
)
def test_labels_become_classes(labels, class_names, names, places, classes):
    images, found = labelled_images(PIXELS, labels, class_names)
    assert images.class_names == names and images.labels.tolist() == places and found.tolist() == classes


def test_labels_of_a_set_or_folder_are_its_own(files, photos):
    images, classes = labelled_images(photos)
    assert classes.tolist() == ["ant", "bee", "cow", "doe"] and len(images) == 120
    again, _ = labelled_images(images, np.array(["x", "y", "z", "w"])[images.labels])
    assert again.class_names == ("w", "x", "y", "z") and images.class_names == ("ant", "bee", "cow", "doe")
    by_path, _ = labelled_images(
        [photos / file for file in images.files], [images.class_names[k] for k in images.labels]
    )
    assert by_path.class_names == images.class_names and by_path.labels.tolist() == images.labels.tolist()
    assert by_path.bytes_hash(7) == open_images(photos).bytes_hash(7)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["a"], {}, r"3 images but labels of shape \(1,\)"),
        (None, {}, "these images have no labels; give y"),
        (["a", None, "a"], {}, "label None"),
        ([0.0, np.nan, 1.0], {}, r"label .*nan.* \(of image 1\) is no class"),
        ([0.5, 1.0, 1.0], {}, "is no class; give texts or whole numbers"),
        (["a", "a", "a"], {}, "all labels are 'a'; a classifier needs two classes"),
        ([0, 1, 5], {"class_names": ["a", "b"]}, r"label 5 \(of image 2\) is no class; 0 to 1"),
        (
            ["a", "b", "ab"],
            {"class_names": ["a", "bb"]},
            r"label 'b' \(of image 1\) is no class; did you mean 'bb'",
        ),
        ([0, 1, 0], {"class_names": ["a", "a"]}, "class_names holds 'a' twice"),
    ],
)
def test_mismatched_labels_are_refused(labels, options, message):
    with pytest.raises(CausalFTError, match=message):
        labelled_images(PIXELS, labels, **options)


def test_a_folder_among_labelled_paths_is_refused(files):
    with pytest.raises(CausalFTError, match="is a folder; with labels, give one image file for each"):
        labelled_images([files[0], files[0].parent], ["a", "b"])


def test_numbers_are_names_only_if_all_labels_are_names():
    assert numbered_labels([2, 1], ["1", "2"]).tolist() == [1, 0]
    assert numbered_labels([0, 1], ["1", "2"]).tolist() == [0, 1]


def test_a_run_is_refused_where_images_are_asked_and_a_folder_with_one_below_is_not(photos, tmp_path):
    (tmp_path / "run" / "figures").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text('{"kind": "fit", "config": {"data": "photos"}}')
    shutil.copytree(photos / "ant", tmp_path / "run" / "figures", dirs_exist_ok=True)
    said = r"run is a run of causalft \(fit\), not images; its data are photos$"
    for opened in (open_images, lambda path: unlabelled_images([path])):
        with pytest.raises(CausalFTError, match=said):
            opened(tmp_path / "run")
    assert len(unlabelled_images([tmp_path])) == 30
    (tmp_path / "run" / "config.json").write_text('{"kind": "generate", "config": {}}')
    assert len(unlabelled_images([tmp_path / "run"])) == 30
