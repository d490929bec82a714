"""Pipes, devices and loops of links are left out and reported, and nothing hangs."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from causalft.data.given import unlabelled_images
from causalft.data.images import read_image
from causalft.data.opening import open_images
from causalft.errors import CausalFTError
from causalft.runs.tables import read_table
from tests.command_line import run, said
from tests.data import kit

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


def make(kind: str, path: Path) -> Path:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # the address of a socket is short
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
        os.chdir(here)
    elif kind == "loop":
        path.symlink_to(path.name)
    else:
        path.symlink_to("nothing")
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pipe", "left out 1 pipe, device or socket: cat/9.png"),
        ("device", "left out 1 pipe, device or socket: cat/9.png"),
        ("socket", "left out 1 pipe, device or socket: cat/9.png"),
        ("loop", "left out 1 broken link: cat/9.png (leads back to itself)"),
        ("nothing", "left out 1 broken link: cat/9.png (leads to nothing)"),
    ],
)
def test_special_files_in_a_folder_are_left_out_and_reported(
    pets: Path, kind: str, words: str, monkeypatch
) -> None:
    make(kind, pets / "cat" / "9.png")
    images = open_images(pets)
    assert len(images) == 5 and images.notes == (words,)
    unlabelled = unlabelled_images([pets])
    assert len(unlabelled) == 5 and unlabelled.notes == (f"{words} (in {pets})",)
    shown = run("data", "show", pets, "--check")
    assert shown.exit_code == 0 and words in shown.output and "all 5 images can be read" in shown.output


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pipe", "is a pipe, not a regular file"),
        ("device", "is a device, not a regular file"),
        ("socket", "is a socket, not a regular file"),
        ("loop", "it is a link that leads back to itself"),
    ],
)
def test_special_files_are_refused_if_named(tmp_path: Path, kind: str, words: str) -> None:
    for name in ("x.png", "x.csv", "x.txt", "x.json", "x.parquet", "x.tar", "x.zip"):
        path = make(kind, tmp_path / name)
        with pytest.raises(CausalFTError, match=words):
            open_images(path)
    with pytest.raises(CausalFTError, match=words):
        read_image(tmp_path / "x.png")
    with pytest.raises(CausalFTError, match=words):
        unlabelled_images([tmp_path / "x.png"])
    with pytest.raises(CausalFTError, match=words):
        read_table(tmp_path / "x.csv")
    # A list names images that are looked for when they are read.
    with pytest.raises(CausalFTError, match=words):
        unlabelled_images(["-"], [str(tmp_path / "x.png")]).image(0)
    with pytest.raises(CausalFTError, match=words):
        open_images(kit_folder(tmp_path), class_names=tmp_path / "x.txt")


def kit_folder(tmp_path: Path) -> Path:
    for name in ("set/a/1.png", "set/b/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path / "set"


@pytest.mark.parametrize("name", ["train.txt", "train2018.json", "a-train.tar", "metadata.csv"])
def test_a_pipe_with_the_name_of_a_list_does_not_hang(pets: Path, name: str) -> None:
    make("pipe", pets / name)
    assert len(open_images(pets)) == 5


def test_a_link_to_a_folder_above_is_cut_and_named(pets: Path) -> None:
    (pets / "cat" / "up").symlink_to(pets)
    images = open_images(pets)
    assert len(images) == 5 and "cat/up (leads back to a folder above it)" in images.notes[0]


def test_empty_path_is_refused() -> None:
    with pytest.raises(CausalFTError, match="an empty path"):
        open_images("")
    with pytest.raises(CausalFTError, match="an empty path"):
        unlabelled_images([""])


def test_a_huge_file_is_not_read(pets: Path) -> None:
    with open(pets / "cat" / "1.png", "r+b") as file:
        file.truncate(10**10)  # sparse: it takes no room on the disk
    with pytest.raises(CausalFTError, match=r"cat/1\.png: it has 10,000,000,000 bytes; remove it"):
        open_images(pets).image(0)


def test_huge_shard_pattern_is_refused_at_once(tmp_path: Path) -> None:
    for pattern in (
        "{000..999999999}.tar",
        "{0..9}{0..99999}{0..9}.tar",
        "{0.." + "9" * 5000 + "}.tar",
        "{1,2}" * 40,
    ):
        with pytest.raises(CausalFTError, match=r"stands for more than 100,000 shards; shorten the pattern"):
            open_images(str(tmp_path / pattern))
    pytest.importorskip("webdataset")
    with pytest.raises(CausalFTError, match=r"3 of the 3 shards .* are missing"):
        open_images(str(tmp_path / "{0..2}.tar"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"categories": [{"name": "cat"}]}, "entry 0 of 'categories' in .*'id' is missing"),
        ({"categories": ["cat", "dog"]}, "entry 0 of 'categories' in .* is 'cat', not an object"),
        ({"categories": {"5": "cat"}}, "'categories' of .* is dict, not a list"),
        ({"categories": None}, "'categories' of .* is null, not a list"),
        ({"categories": [None]}, "entry 0 of 'categories' in .* is None, not an object"),
        (
            {"categories": [{"id": 5, "name": "cat"}, {"id": 5, "name": "dog"}]},
            "category 5 is 'cat' once and 'dog'",
        ),
        ({"images": [None]}, "entry 0 of 'images' in .* is None"),
        ({"images": [{"id": None, "file_name": "a"}]}, "entry 0 of 'images' in .* has null for 'id'"),
        ({"images": [{"id": 1, "file_name": None}]}, "has null for 'file_name'"),
        ({"images": [{"id": 1, "file_name": 7}]}, "the file_name of image 1 in .* is 7, not a path"),
        (
            {"images": [{"id": [1], "file_name": "a"}]},
            r"the id of an image of .* is \[1\], not a number or text",
        ),
        ({"annotations": None}, "'annotations' of .* is null"),
        ({"annotations": [None]}, "entry 0 of 'annotations' in .* is None"),
        ({"annotations": [{"image_id": 10, "category_id": None}]}, "has null for 'category_id'"),
        ({"annotations": [{"image_id": {}, "category_id": 2}]}, "the image_id of an annotation of .* is {}"),
    ],
)
def test_annotations_of_another_shape_are_named(pets: Path, change: dict, words: str) -> None:
    path = kit.write_coco(pets / "all.json", kit.PETS, {2: "cat", 5: "dog", 11: "emu"}, change)
    with pytest.raises(CausalFTError, match=words):
        open_images(path)


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"images": ['])
def test_deeply_nested_json_is_refused_in_one_line(tmp_path: Path, opening: str) -> None:
    (tmp_path / "deep.json").write_text(opening * 100_000)
    assert "deep.json is nested too deeply" in said(run("data", "show", tmp_path / "deep.json"))
    (tmp_path / "number.json").write_text('{"images": ' + "9" * 10_000 + "}")
    assert "number.json is not valid JSON" in said(run("data", "show", tmp_path / "number.json"))
    with pytest.raises(CausalFTError, match="line 1 of the list is not a JSON object"):
        unlabelled_images(["-"], [json.dumps({"a": 1})[:-1] + "[" * 100_000])
