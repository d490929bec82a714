"""One bad row among many is named by its number; what is no regular file counts as missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from causalft.data.opening import open_images
from causalft.errors import CausalFTError
from tests.data import kit

MANY = [f"cat/{i}.png" for i in range(80)]  # enough that the folder is listed


@pytest.fixture
def many(write_folder) -> Path:
    return write_folder({**dict.fromkeys(MANY, b"x"), "dog/1.png": b"x"})


def write_list(folder: Path, row: int, line: str, name: str = "list.txt", head: str = "") -> Path:
    lines = [f"{name} cat" for name in [*MANY, "dog/1.png"]]
    lines[row] = line
    (folder / name).write_text(head + "\n".join(lines) + "\n")
    return folder / name


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cat/50.png", "line 53 of .* is not `path label`"),
        ("cat/gone.png cat", r"1 of them is missing under .* \(line 53: cat/gone\.png\)"),
        ("gone/50.png cat", r"1 of them is missing under .* \(line 53: gone/50\.png\)"),
        ("cat/\0.png cat", r"1 of them is missing under .* \(line 53: cat/\\x00\.png\)"),
        ("ca\0t/50.png cat", r"1 of them is missing under .* \(line 53: ca\\x00t/50\.png\)"),
        ("cat/3.png dog", r"names cat/3\.png twice, as 'cat' and as 'dog' \(line 6 and line 53\)"),
    ],
)
def test_bad_row_of_a_list_is_named_by_its_line(many: Path, line: str, words: str) -> None:
    path = write_list(many, 50, line, head="# two lines\n\n")  # and so the lines are not the rows
    with pytest.raises(CausalFTError, match=words):
        open_images(path)


def test_bad_label_of_a_list_is_named_by_its_line(many: Path) -> None:
    path = many / "list.txt"
    path.write_text("# comment\n" + "".join(f"{name} {k % 2}\n" for k, name in enumerate(MANY)))
    whole = path.read_text()
    path.write_text(whole.replace("cat/7.png 1", "cat/7.png -1"))
    with pytest.raises(CausalFTError, match=r"has label -1 \(line 9\); labels count from 0"):
        open_images(path)
    path.write_text(whole.replace("cat/7.png 1", "cat/7.png nan"))
    with pytest.raises(CausalFTError, match=r"has no label in 1 of 80 rows \(first: line 9\)"):
        open_images(path)


def test_bad_row_of_several_lists_is_named_with_its_file(many: Path) -> None:
    (many / "val.txt").write_text("dog/1.png dog\n")
    write_list(many, 4, "cat/gone.png cat", "train.txt")
    with pytest.raises(CausalFTError, match=r"\(line 5 of train\.txt: cat/gone\.png\)"):
        open_images(f"{many}/train.txt,val.txt")
    write_list(many, 4, "cat/4.png cat", "train.txt")
    (many / "val.txt").write_text("dog/1.png dog\ncat/lost.png cat\n")
    with pytest.raises(CausalFTError, match=r"\(line 2 of val\.txt: cat/lost\.png\)"):
        open_images(f"{many}/train.txt,val.txt")


def test_bad_image_of_a_json_is_named_by_its_place(many: Path) -> None:
    path = kit.write_coco(many / "train.json", [*MANY[:60], "dog/1.png"], {0: "cat", 1: "dog"})
    path.write_text(path.read_text().replace("cat/41.png", "cat/gone.png"))
    with pytest.raises(CausalFTError, match=r"1 of them is missing under .* \(image 42: cat/gone\.png\)"):
        open_images(path)


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop"])
def test_what_is_no_regular_file_is_missing(many: Path, kind: str) -> None:
    place = many / "cat/odd.png"
    {"pipe": os.mkfifo, "folder": os.mkdir, "loop": lambda path: os.symlink("odd.png", path)}[kind](place)
    with pytest.raises(CausalFTError, match=r"1 of them is missing under .* \(line 51: cat/odd\.png\)"):
        open_images(write_list(many, 50, "cat/odd.png cat"))
