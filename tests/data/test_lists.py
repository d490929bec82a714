"""List files and iNaturalist JSON: splits by file, names by folder or category, missing images counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from causalft.data.opening import absolute_path, open_images
from causalft.errors import CausalFTError
from tests.data import kit


def test_a_folder_of_lists_beside_or_away_from_its_images(pets: Path, tmp_path) -> None:
    beside = open_images(kit.write_lists(pets))
    assert beside.format == "list" and beside.name == "ImageNet_LT"
    assert beside.class_names == ("cat", "dog", "emu")
    assert {k: v.tolist() for k, v in beside.splits.items()} == {
        "train": [0, 1, 2],
        "validation": [3],
        "test": [4],
    }
    away = tmp_path / "lists"
    away.mkdir()
    assert kit.contents(open_images(kit.write_lists(away), root=pets)) == kit.contents(beside)
    with pytest.raises(
        CausalFTError, match=r"names 5 images and 5 of them are missing .* give the folder, zip or tar"
    ):
        open_images(away)


def test_lists_joined_by_commas(pets: Path, monkeypatch) -> None:
    kit.write_lists(pets, stem="")
    monkeypatch.chdir(pets.parent)
    for spec in (
        f"{pets}/train.txt,val.txt",
        "photos/train.txt, photos/val.txt",
        absolute_path("photos/train.txt,val.txt"),
    ):
        assert sorted(open_images(spec).splits) == ["train", "validation"]
    with pytest.raises(CausalFTError, match=r"vall\.txt: no such file"):
        open_images(f"{pets}/train.txt,vall.txt")
    with pytest.raises(CausalFTError, match="cannot be opened together"):
        open_images(f"{pets}/train.txt,{kit.as_csv(pets)}")


def test_lists_of_another_set_do_not_hide_class_folders(pets: Path) -> None:
    (pets / "train.txt").write_text("elsewhere/1.png 0\n")
    assert open_images(pets).format == "folder"
    (pets / "train.txt").write_text("cat\ndog\n")  # class names, not a list of images
    assert open_images(pets).format == "folder"


def test_two_lists_for_one_split(pets: Path) -> None:
    kit.write_lists(pets), kit.write_lists(pets, "Places_LT_")
    with pytest.raises(CausalFTError, match=r"holds ImageNet_LT_(\w+)\.txt and Places_LT_\1\.txt for the"):
        open_images(pets)


def test_places_folders_become_names(write_folder) -> None:
    files = ["data/a/arch/1.png", "data/b/bath/in/1.png", "data/b/bow/in/1.png"]
    folder = write_folder(files)
    (folder / "train.txt").write_text("".join(f"{name} {k}\n" for k, name in enumerate(files)))
    (folder / "val.txt").write_text("data/a/arch/1.png 0\n".replace("1.png", "2.png"))
    (folder / "data/a/arch/2.png").write_bytes((folder / files[0]).read_bytes())
    assert open_images(folder).class_names == ("arch", "bath/in", "bow/in")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cat/1.png 0\ncat/2.png\n", r"line 2 of .*all\.txt is not `path label`: 'cat/2.png'"),
        ("# nothing\n\n", r"all\.txt names no image"),
        ("cat/1.png 0\ncat/1.png 1\n", "twice, as '0' and as '1'"),
        ("cat/1.png 0\ndog/1.png -1\n", "has label -1"),
    ],
)
def test_malformed_lists_are_refused(pets: Path, text: str, words: str) -> None:
    (pets / "all.txt").write_text(text)
    with pytest.raises(CausalFTError, match=words):
        open_images(pets / "all.txt")


def test_paths_with_spaces_and_labels_that_are_names(write_folder) -> None:
    folder = write_folder(["my cat.png", "dog.png"])
    (folder / "all.txt").write_text("my cat.png feline\ndog.png,canine\n")
    assert open_images(folder / "all.txt").class_names == ("canine", "feline")


KINDS_OF = {2: "cat", 5: "dog", 11: "emu"}


def test_inaturalist_train_and_val_and_the_unlabelled_test(pets: Path) -> None:
    kit.write_coco(pets / "train2018.json", [kit.PETS[0], kit.PETS[2], kit.PETS[3]], KINDS_OF)
    kit.write_coco(pets / "val2018.json", [kit.PETS[1], kit.PETS[4]], KINDS_OF)
    (pets / "test2018.json").write_text(json.dumps({"info": {}, "images": [{"id": 1, "file_name": "x.png"}]}))
    images = open_images(pets)
    assert images.format == "inaturalist" and images.class_names == ("cat", "dog", "emu")
    assert {k: v.tolist() for k, v in images.splits.items()} == {"train": [0, 1, 2], "validation": [3, 4]}
    assert images.notes == ("left out test2018.json: it has no annotations, so its images have no label",)
    by_comma = open_images(f"{pets}/train2018.json,val2018.json", split_as={"validation": "test"})
    assert sorted(by_comma.splits) == ["test", "train"] and kit.contents(by_comma) == kit.contents(images)
    names = pets.parent / "categories.json"
    names.write_text(json.dumps([{"id": key, "name": f"Genus {name}"} for key, name in KINDS_OF.items()]))
    assert open_images(pets, class_names=names).class_names == ("Genus cat", "Genus dog", "Genus emu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"annotations": [{"image_id": 10, "category_id": 2}]}, "4 of 5 images without an annotation"),
        ({"annotations": [{"image_id": 99, "category_id": 2}]}, "annotates image 99"),
        ({"annotations": [{"image_id": 10, "category_id": 3}]}, "uses category 3"),
        ({"annotations": [{"image_id": 10}]}, "'category_id' is missing"),
        (
            {"annotations": [{"image_id": 10, "category_id": 2}, {"image_id": 10, "category_id": 5}]},
            "gives cat/1.png categories 2 and 5",
        ),
        ({"images": 3}, "not a JSON of images, annotations and categories"),
    ],
)
def test_malformed_json_is_refused(pets: Path, change: dict, words: str) -> None:
    with pytest.raises(CausalFTError, match=words):
        open_images(kit.write_coco(pets / "all.json", kit.PETS, KINDS_OF, change))


def test_json_that_is_cut_off(pets: Path) -> None:
    path = kit.as_coco(pets)
    path.write_text(path.read_text()[:-5])
    with pytest.raises(CausalFTError, match=r"all\.json is not valid JSON"):
        open_images(path)
