"""Class names from every kind of file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from causalft.data.class_names import read_class_names
from causalft.data.opening import open_images
from causalft.errors import CausalFTError

IDS = ["n01440764", "n02012849", "n03126707"]
FOLDERS = [f"{wordnet_id}/1.png" for wordnet_id in IDS]


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "n03126707 crane2\nn01440764 tench, Tinca tinca\nn02012849 crane\n"),
        ("a.txt", "# comment\nn01440764, tench\nn02012849, crane\nn03126707, crane2\n"),
        ("a.txt", "tench\ncrane\ncrane2\n"),
        (
            "a.json",
            {"n01440764": "tench", "n02012849": "crane", "n03126707": "crane2", "n00000001": "entity"},
        ),
        ("a.json", ["tench", "crane", "crane2"]),
        ("a.json", {"0": ["n01440764", "tench"], "1": ["n02012849", "crane"], "2": ["n03126707", "crane2"]}),
    ],
)
def test_wordnet_folders_get_their_names(write_folder, tmp_path, name: str, content: object) -> None:
    folder = write_folder(FOLDERS)
    images = open_images(folder, class_names=write(tmp_path / name, content))
    assert {
        file.split("/")[0]: images.class_names[k] for file, k in zip(images.files, images.labels)
    } == dict(zip(IDS, ["tench", "crane", "crane2"]))
    [note] = open_images(folder).notes
    assert "WordNet ids (n01440764, ...)" in note and "give class names" in note


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "bee\nant\ncow\n"),
        ("a.txt", "0 bee\n2 cow\n1 ant\n"),
        ("a.txt", "ant 1\nbee 0\ncow 2\n"),
        ("a.txt", "0: bee\n1: ant\n2: cow"),
        ("a.json", ["bee", "ant", "cow"]),
        ("a.json", {"1": "ant", "0": "bee", "2": "cow"}),
        (
            "a.json",
            {"categories": [{"id": 1, "name": "ant"}, {"id": 0, "name": "bee"}, {"id": 2, "name": "cow"}]},
        ),
    ],
)
def test_numbers_get_their_names(write_folder, tmp_path, name: str, content: object) -> None:
    folder = write_folder(["x.png", "y.png", "z.png"])
    (folder / "all.txt").write_text("x.png 2\ny.png 0\nz.png 1\n")
    images = open_images(folder / "all.txt", class_names=write(tmp_path / name, content))
    assert images.class_names == ("bee", "ant", "cow")
    assert [images.class_names[k] for k in images.labels] == ["cow", "bee", "ant"]


def test_trailing_numbers_are_part_of_the_name(tmp_path) -> None:
    assert read_class_names(write(tmp_path / "a.txt", "grade 0\ngrade 1\n")).ordered == ("grade 0", "grade 1")
    assert read_class_names(write(tmp_path / "b.txt", "001.Auk\n002.Bee\n")).ordered == ("001.Auk", "002.Bee")


def test_list_of_folder_names_sets_the_order_of_classes(write_folder) -> None:
    folder = write_folder(["ant/1.png", "bee/1.png", "cow/1.png"])
    images = open_images(folder, class_names=["cow", "ant", "bee"])
    assert images.class_names == ("cow", "ant", "bee") and images.labels.tolist() == [1, 2, 0]
    assert open_images(folder, class_names={"ant": "Ant", "bee": "Bee", "cow": "Cow"}).class_names == (
        "Ant",
        "Bee",
        "Cow",
    )


def test_classes_of_one_name_are_told_apart(write_folder) -> None:
    names = {"n01440764": "tench", "n02012849": "crane", "n03126707": "crane"}
    images = open_images(write_folder(FOLDERS), class_names=names)
    assert images.class_names == ("tench", "crane (n02012849)", "crane (n03126707)")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "a.txt",
            "ant\nbee\nhorse\n",
            r"the 3 class names of .*a\.txt and the 3 classes of .* do not match: 'cow' is not among",
        ),
        ("a.txt", "ant\nbee\ncow\ndoe\n", "class 'doe' has no image"),
        ("a.json", {"ant": "A", "bee": "B"}, r"no name for class 'cow' of .* \(1 of 3 are missing\)"),
        ("a.json", {"ant": 3}, "name of 'ant' in .* is 3; each class name must be a text"),
        ("a.json", ["ant", ""], "name 1 of .* is ''"),
        ("a.json", "3", "neither a list nor a map"),
        ("a.json", "{", "is not valid JSON"),
        ("a.txt", "\n", "holds no class name"),
        ("a.txt", "n01440764 tench\nn02012849\n", "no name for n02012849"),
    ],
)
def test_mismatched_names_are_refused(write_folder, tmp_path, name: str, content: object, words: str) -> None:
    folder = write_folder(["ant/1.png", "bee/1.png", "cow/1.png"])
    with pytest.raises(CausalFTError, match=words):
        open_images(folder, class_names=write(tmp_path / name, content))


def test_missing_name_files_are_refused(write_folder, tmp_path) -> None:
    folder = write_folder(["ant/1.png", "bee/1.png"])
    write(tmp_path / "synsets.txt", "x")
    with pytest.raises(CausalFTError, match="did you mean 'synsets.txt'"):
        open_images(folder, class_names=tmp_path / "synset.txt")
    with pytest.raises(CausalFTError, match="is a folder; class names are read from"):
        open_images(folder, class_names=tmp_path)


PLACES = ["airfield", "amusement_park", "bakery-shop"]


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ("airfield airfield\namusement_park amusement_park\nbakery-shop bakery-shop\n", PLACES),
        ("airfield airfield\namusement_park amusement park\nbakery-shop bakery, shop\n",
         ["airfield", "amusement park", "bakery, shop"]),
        ("bakery-shop\ta shop\nairfield\tan airfield\namusement_park\ta park\n", ["an airfield", "a park", "a shop"]),
        ("bakery-shop a shop\nairfield an airfield\namusement_park a park\n", ["an airfield", "a park", "a shop"]),
    ],
)  # fmt: skip
def test_lines_of_a_folder_and_a_name_name_the_folders(
    write_folder, tmp_path, lines: str, names: list[str]
) -> None:
    folder = write_folder([f"{place}/1.png" for place in PLACES])
    images = open_images(folder, class_names=write(tmp_path / "classnames.txt", lines))
    found = {file.split("/")[0]: images.class_names[k] for file, k in zip(images.files, images.labels)}
    assert found == dict(zip(PLACES, names))


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ("airfield airfield\namusement_park amusement park\nbar bar\n", ("airfield", "amusement park", "bar")),
        ("n01440764 tench\nn01443537 goldfish, Carassius auratus\nn01484850 great white shark\n",
         ("tench", "goldfish", "great white shark")),
        ("sea otter\nred panda\naye aye\n", ("sea otter", "red panda", "aye aye")),
    ],
)  # fmt: skip
def test_numbers_take_the_names_in_the_order_of_the_lines(write_folder, tmp_path, lines: str, names) -> None:
    """As LIFT reads the class names of ImageNet-LT and Places-LT, whose lists hold numbers."""
    folder = write_folder(["x.png", "y.png", "z.png"])
    (folder / "all.txt").write_text("x.png 2\ny.png 0\nz.png 1\n")
    images = open_images(folder / "all.txt", class_names=write(tmp_path / "classnames.txt", lines))
    assert images.class_names == names and images.labels.tolist() == [2, 0, 1]


def test_two_word_names_are_not_read_as_folders(write_folder, tmp_path) -> None:
    folder = write_folder(["sea otter/1.png", "red panda/1.png"])
    images = open_images(folder, class_names=write(tmp_path / "a.txt", "sea otter\nred panda\n"))
    assert images.class_names == ("sea otter", "red panda")
    with pytest.raises(CausalFTError, match="'red panda' is not among them"):
        open_images(folder, class_names=write(tmp_path / "b.txt", "sea lion\nred fox\n"))
