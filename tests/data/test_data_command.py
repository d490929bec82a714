"""`causalft data show`: text, JSON and damaged images."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from causalft.cli.data import command
from causalft.cli.options import options_of
from causalft.data import creatures, damaged_images, open_images
from causalft.data.settings import DataOptions
from causalft.errors import CausalFTError

PETS = {"train": {"cat": 25, "dog": 3, "emu": 1}, "test": {"cat": 2, "dog": 2, "emu": 2}}


@pytest.fixture
def split_pets(write_folder) -> Path:
    files = [
        f"{split}/{name}/{i}.png"
        for split, classes in PETS.items()
        for name, n in classes.items()
        for i in range(n)
    ]
    return write_folder({**dict.fromkeys(files), "train/cat/notes.txt": b"x"})


def show(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(command, ["show", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.stdout


def test_output_for_people(split_pets: Path, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = show(split_pets).splitlines()
    assert lines[0] == "photos: 35 images of 3 classes"
    assert lines[1].split() == ["format", "folder,", str(split_pets)]
    assert ["train", "29", "3", "25", "1", "25"] in [line.split() for line in lines]
    assert ["test", "6", "3", "2", "2", "1"] in [line.split() for line in lines]
    assert "groups     0 many (over 100 training images), 1 medium, 2 few (under 20)" in lines
    assert "largest    cat 25, dog 3, emu 1" in lines and "smallest   emu 1, dog 3, cat 25" in lines
    assert "note       left out 1 file that is not an image: train/cat/notes.txt" in lines


def test_standard_output_is_json_only(split_pets: Path) -> None:
    found = json.loads(show(split_pets, "--json"))
    assert found["format"] == "folder" and found["splits"] == {"train": 29, "test": 6}
    assert found["class_counts"]["emu"] == {"train": 1, "test": 2} and found["imbalance"] == 25
    assert found["groups"] == {"many": 0, "medium": 1, "few": 2}
    assert list(found["largest"]) == ["cat", "dog", "emu"] and "damaged" not in found
    assert found["fingerprint"] == open_images(split_pets).fingerprint


def test_check_names_every_damaged_image(split_pets: Path) -> None:
    assert "all 35 images can be read" in show(split_pets, "--check")
    for name in ("train/dog/1.png", "test/emu/0.png"):
        (split_pets / name).write_bytes((split_pets / name).read_bytes()[:50])
    assert list(json.loads(show(split_pets, "--check", "--json", code=1))["damaged"]) == [
        "train/dog/1.png",
        "test/emu/0.png",
    ]
    text = show(split_pets, "--check", code=1)
    assert "2 of 35 images cannot be read" in text and "test/emu/0.png: it is damaged" in text


def test_damage_is_found_in_all_chunks(write_folder) -> None:
    folder = write_folder({f"{'ab'[i % 2]}/{i:03d}.png": None if i % 50 else b"x" for i in range(150)})
    assert list(damaged_images(open_images(folder), threads=3)) == ["a/000.png", "a/050.png", "a/100.png"]


def test_options_reach_the_reader(split_pets: Path, tmp_path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(
        "file,kind,part,tone\ntrain/cat/0.png,0,dev,x\ntrain/dog/0.png,1,train,y\ntrain/cat/1.png,0,train,x\n"
    )
    (tmp_path / "names.txt").write_text("Cat\nDog\n")
    words = [
        "--path-column",
        "file",
        "--label-column",
        "kind",
        "--split-column",
        "part",
        "--factor-column",
        "tone",
    ]
    words += ["--root", split_pets, "--class-names", tmp_path / "names.txt", "--format", "table"]
    found = json.loads(show(table, *words, "--split-as", "validation=test", "--json"))
    assert found["splits"] == {"train": 2, "test": 1} and found["factors"] == {"x": 2, "y": 1}
    assert found["class_counts"] == {"Cat": {"train": 1, "test": 1}, "Dog": {"train": 1, "test": 0}}


def test_the_built_in_set(monkeypatch) -> None:
    small = partial(creatures.creatures_longtail, n_max=4, imbalance_factor=2, n_validation=1, n_test=2)
    monkeypatch.setattr(creatures, "creatures_longtail", small)  # the whole set takes seconds to draw
    found = json.loads(show("creatures-lt", "--json"))
    assert found["splits"]["validation"] == 60 and found["splits"]["test"] == 120 and found["imbalance"] == 2
    assert (
        found["class_counts"]["aradax"]["test"] == 2 and sum(found["factors"].values()) == found["n_images"]
    )
    with pytest.raises(CausalFTError, match="root is for your own images; creatures-lt is built in"):
        CliRunner().invoke(command, ["show", "creatures-lt", "--root", "."], catch_exceptions=False)


def test_options_are_passed_as_one_dict_with_absolute_paths(monkeypatch, tmp_path) -> None:
    received = {}

    @click.command()
    @options_of(DataOptions)
    @click.option("--other", default=1, help="Another.")
    def verb(settings: DataOptions, other: int) -> None:
        received.update(settings.given(), other=other)

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(verb, ["--root", "pictures", "--split-as", "val=test", "--label-column", "y"])
    assert result.exit_code == 0
    expected = {
        "root": os.path.abspath("pictures"),
        "split_as": {"val": "test"},
        "label_column": "y",
        "other": 1,
    }
    assert received == expected
    assert {parameter.name for parameter in verb.params} == {*vars(DataOptions()), "other"}
    received.clear()
    CliRunner().invoke(verb, [])
    assert received == {"other": 1}
