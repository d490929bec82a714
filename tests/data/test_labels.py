"""Labels become classes: equal labels are one class, doubtful ones are reported, and a missing one is named."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causalft.data.image_set import ImageSet
from causalft.data.labels import encode
from causalft.data.opening import open_images
from causalft.errors import CausalFTError
from tests.data import kit

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("values", "ids", "codes"),
    [
        (["1", "01", "1.0", " 1", "1 ", "2"], ["1", "2"], [0, 0, 0, 0, 0, 1]),
        ([1, "1", 1.0, Decimal("1.00"), "2.0"], ["1", "2"], [0, 0, 0, 0, 1]),
        ([2.0, 10.0, 9.0], ["2", "9", "10"], [0, 2, 1]),
        (["00", "01", "10"], ["00", "01", "10"], [0, 1, 2]),
        ([2**53 + 1, 2**53], [str(2**53), str(2**53 + 1)], [1, 0]),
        (["0.5", "10.5", "9.5"], ["0.5", "9.5", "10.5"], [0, 2, 1]),
        ([True, "TRUE", "false"], ["false", "true"], [1, 1, 0]),
        ([COMPOSED, DECOMPOSED, f" {COMPOSED}\u200b"], [COMPOSED], [0, 0, 0]),
        (["Lynx", "lynx"], ["Lynx", "lynx"], [0, 1]),
        (["--1", "0", "1", "2"], ["0", "1", "2", "--1"], [3, 0, 1, 2]),
        (["b", "10", "9"], ["9", "10", "b"], [2, 1, 0]),
        (["x\ud800", "x"], ["x", r"x\ud800"], [1, 0]),
    ],
    ids=str,
)
def test_labels_of_one_class_get_one_code(values, ids, codes) -> None:
    found = encode(values)
    assert found.ids == ids and found.codes.tolist() == codes


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (["1", "01"], "'01' and '1' are 1"),
        ([COMPOSED, DECOMPOSED], "written in several ways in Unicode"),
        (["Lynx", "lynx"], "'Lynx' and 'lynx'.* stay apart"),
        (["red fox", "red_fox"], "stay apart"),
        (["fox", "f\u200box"], "'fox' and 'f<U.200B>ox' are"),
        (["none", "cat"], "class 'none' reads like a missing label"),
        (["0", "1", "2", "--1"], "'--1' is no number among 3 numbers"),
    ],
)
def test_merged_and_similar_classes_are_reported_once(values, note) -> None:
    notes = encode(values).notes
    assert [bool(re.search(note, each)) for each in notes].count(True) == 1, notes


@pytest.mark.parametrize("values", [["1", "10"], ["cat", "dog"], [1.0, 2.0], [" cat", "cat"]])
def test_ordinary_labels_need_no_note(values) -> None:
    assert encode(values).notes == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0, float("nan"), 2.0], "no label in 1 of 3 rows .first: row 2"),
        (["a", None, ""], "no label in 2 of 3 rows .first: row 2"),
        (["1", "2", "NaN"], "no label in 1 of 3 rows .first: row 3"),
        ([2.0**53, 1.0], "row 1 of .*above 2\\*\\*53"),
        ([["a"], "b"], "row 1 of .*a label is \\['a'\\]"),
    ],
)
def test_missing_and_invalid_labels_are_refused_with_their_row(values, words) -> None:
    with pytest.raises(CausalFTError, match=words):
        encode(values, "t.csv")


def labelled(pets: Path, kind: str, labels: list) -> Path:
    """The first three pets with these labels, in a format."""
    files = kit.PETS[:3]
    if kind == "csv":
        rows = "".join(f"{file},{label}\n" for file, label in zip(files, labels))
        return kit.table(pets, rows, "path,label")
    if kind == "parquet":
        path = pets / "t.parquet"
        pq.write_table(pa.table({"path": files, "label": labels}), path)
        return path
    if kind == "json":
        path = pets / "all.json"
        document = {
            "images": [{"id": i, "file_name": file} for i, file in enumerate(files)],
            "annotations": [{"image_id": i, "category_id": label} for i, label in enumerate(labels)],
        }
        path.write_text(json.dumps(document))
        return path
    if kind == "shards":
        shards = pets.parent / "shards"
        shards.mkdir()
        members = {}
        for i, (file, label) in enumerate(zip(files, labels)):
            members |= {
                f"{i}.png": (pets / file).read_bytes(),
                f"{i}.json": json.dumps({"label": label}).encode(),
            }
        kit.write_tar(shards / "000.tar", members)
        return shards
    path = pets / "all.txt"
    path.write_text("".join(f"{file} {label}\n" for file, label in zip(files, labels)))
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet", "json", "shards", "list"])
@pytest.mark.parametrize("labels", [["2", "02", "10"], [2.0, 2.0, 10.0]], ids=["zeros", "floats"])
def test_numbers_are_the_same_classes_in_every_format(pets: Path, kind: str, labels: list) -> None:
    images = open_images(labelled(pets, kind, labels))
    assert images.labels.tolist() == [0, 0, 1]
    # In a list each number has a folder of its own here, which names the class.
    assert images.class_names == (("cat", "dog") if kind == "list" else ("2", "10"))


def test_a_saved_dataset_of_floats_has_whole_numbers(tmp_path: Path, picture) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("float64")})
    rows = {"image": [{"bytes": picture(i), "path": None} for i in range(3)], "label": [10.0, 2.0, 2.0]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    images = open_images(tmp_path / "saved")
    assert images.class_names == ("2", "10") and images.labels.tolist() == [1, 0, 0]


def test_a_gap_in_a_parquet_column_is_named(pets: Path) -> None:
    with pytest.raises(CausalFTError, match=r"t\.parquet has no label in 1 of 3 rows \(first: row 2\)"):
        open_images(labelled(pets, "parquet", [1.0, None, 2.0]))


def test_class_folders_of_one_name_are_one_class(write_folder) -> None:
    folder = write_folder(
        [
            f"train/{COMPOSED}/1.png",
            f"train/{DECOMPOSED}/2.png",
            "train/tea/3.png",
            f"test/{DECOMPOSED}/4.png",
        ]
    )
    images = open_images(folder)
    assert images.class_names == (COMPOSED, "tea")
    assert images.class_counts.tolist() == [3, 1] and len(images.splits["test"]) == 1
    assert "written in several ways" in images.notes[0]


def test_numbered_class_folders_are_ordered_by_value(write_folder) -> None:
    images = open_images(write_folder(["10/1.png", "9/1.png", "09/2.png"]))
    assert images.class_names == ("9", "10") and images.class_counts.tolist() == [2, 1]
    assert "'09' and '9' are 9" in images.notes[0]


def test_two_images_of_one_id_are_refused_by_their_id(pets: Path) -> None:
    path = kit.write_coco(pets / "all.json", kit.PETS, {2: "cat", 5: "dog", 11: "emu"})
    document = json.loads(path.read_text())
    document["images"][1]["id"] = str(document["images"][0]["id"])  # 10 and "10" are one id
    path.write_text(json.dumps(document))
    with pytest.raises(
        CausalFTError, match=r"two images with the id 10 \(cat/1\.png, cat/2\.png\); give each its own"
    ):
        open_images(path)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("n.json", '{"0": "cat", "0": "dog"}', "has the key '0' twice"),
        ("n.json", '[{"id": 1, "name": "cat"}, {"id": "01", "name": "dog"}]', "both 'cat' and 'dog'"),
        ("n.txt", "n01440764 tench\nn01440764 carp\n", "calls 'n01440764' both 'tench' and 'carp'"),
        ("n.txt", "0 cat\n0 dog\n1 emu\n", "calls '0' both 'cat' and 'dog'"),
        ("n.json", "[" * 100_000, "nested too deeply"),
        ("n.json", '{"0": null}', "the name of '0' in .* is None"),
    ],
)
def test_class_names_that_contradict_each_other_are_refused(pets: Path, name, text, words) -> None:
    (pets.parent / name).write_text(text)
    with pytest.raises(CausalFTError, match=words):
        open_images(pets, class_names=pets.parent / name)


def test_class_names_are_found_by_the_value_of_a_number(pets: Path) -> None:
    path = labelled(pets, "csv", ["01", "01", "2"])
    images = open_images(path, class_names={1: f"{DECOMPOSED} ", "02": "dog"})
    assert images.class_names == (COMPOSED, "dog")


def test_classes_are_aligned_by_number_and_by_composed_letters() -> None:
    images = ImageSet.from_arrays(np.zeros((2, 4, 4, 3), np.uint8), [0, 1], [DECOMPOSED, "07"])
    assert images.align_classes(["7", COMPOSED]).labels.tolist() == [1, 0]
    exact = ImageSet.from_arrays(np.zeros((2, 4, 4, 3), np.uint8), [0, 1], ["7", "07"])
    assert exact.align_classes(["07", "7"]).labels.tolist() == [1, 0]


def test_similar_class_names_are_reported(pets: Path) -> None:
    images = open_images(pets, class_names={"cat": "Lynx", "dog": "lynx", "emu": "emu"})
    assert any("'Lynx' and 'lynx' are spelt almost alike" in note for note in images.notes)


def test_factors_that_are_floats_or_odd_words_are_read(pets: Path) -> None:
    for factors, expected in (
        (["0.0", "1.0", "1"], [0, 1, 1]),
        (["--1", "1", "0"], ["--1", "1", "0"]),
    ):
        rows = "".join(f"{file},{file[:3]},{factor}\n" for file, factor in zip(kit.PETS[1:4], factors))
        assert open_images(kit.table(pets, rows, "path,label,factor")).factors.tolist() == expected
