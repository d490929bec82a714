"""Paths in tables, lists and JSON: slashes, escapes and Unicode composition."""

from __future__ import annotations

from pathlib import Path

import pytest

from causalft.data.containers import find_files
from causalft.data.opening import open_container, open_images
from causalft.errors import CausalFTError, escape_name
from tests.data import kit

WRITTEN = ["/cat/1.png", "cat\\2.png", "./dog//1.png", "\\emu\\1.png", "emu/./2.png"]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_written_paths_find_their_files(pets: Path, write_zip, tmp_path: Path, kind: str) -> None:
    files = {name: (pets / name).read_bytes() for name in kit.PETS}
    place = {"folder": lambda: pets, "zip": lambda: write_zip(files)}.get(
        kind, lambda: kit.write_tar(tmp_path / "p.tar", files)
    )()
    assert find_files(open_container(place), WRITTEN, "t.csv") == kit.PETS


def test_leading_slash_of_places365_is_the_root(pets: Path) -> None:
    (pets / "places365_train_standard.txt").write_text(
        "/cat/1.png 0\n/cat/2.png 0\n/dog/1.png 1\n/emu/1.png 2\n"
    )
    (pets / "places365_val.txt").write_text("/emu/2.png 2\n")
    images = open_images(f"{pets}/places365_train_standard.txt,places365_val.txt")
    assert images.class_names == ("cat", "dog", "emu") and images.files[0] == "cat/1.png"
    assert [len(rows) for rows in images.splits.values()] == [4, 1]


def test_existing_absolute_path_is_used_unchanged(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    table = tmp_path / "away" / "t.csv"
    table.write_text(f"path,label\n{pets}/cat/1.png,A\n{pets}/dog/1.png,B\n")
    assert open_images(table).bytes_hash(1) == open_images(pets).bytes_hash(2)


@pytest.mark.parametrize(
    "name", ["caf\u00e9.png", "cafe\u0301.png", "caf\udce9.png", "two\nlines.png", "a\\x41.png"]
)
def test_every_spelling_of_a_name_finds_the_file(write_folder, name: str) -> None:
    folder = write_folder(["cat/" + name, "dog/1.png"])
    (folder / "t.csv").write_text(f"path,label\ncat/{escape_name(name)},A\ndog/1.png,B\n")
    other = {"caf\u00e9.png": "cafe\u0301.png", "cafe\u0301.png": "caf\u00e9.png"}.get(
        name, escape_name(name)
    )
    (folder / "all.txt").write_text(f"cat/{other} A\ndog/1.png B\n")
    for given in (folder / "t.csv", folder / "all.txt"):
        images = open_images(given)
        assert images.image(0).size == (8, 8) and images.files[0] == "cat/" + escape_name(name)
        assert len(images.fingerprint) == 64


def test_one_file_written_in_two_ways_is_one_image(pets: Path) -> None:
    with pytest.raises(CausalFTError, match=r"names cat/1\.png twice, as 'A' and as 'B'"):
        open_images(kit.table(pets, "cat/1.png,A\n/cat/1.png,B\n", "path,label"))
    images = open_images(kit.table(pets, "cat/1.png,A\ncat\\1.png,A\ndog/1.png,B\n", "path,label"))
    assert len(images) == 2 and images.notes == ("left out 1 repeated row: cat/1.png",)


def test_missing_files_are_named_as_they_are_written(pets: Path) -> None:
    with pytest.raises(
        CausalFTError, match=r"2 of them are missing under .* \(row 1: /cat/9\.png, row 2: no\.png\)"
    ):
        open_images(kit.table(pets, "/cat/9.png,A\nno.png,B\ndog/1.png,B\n", "path,label"))
    long = "x" * 100_000
    with pytest.raises(CausalFTError) as caught:
        open_images(kit.table(pets, f"{long},A\ndog/1.png,B\n", "path,label"))
    assert len(str(caught.value)) < 600


def test_metadata_beside_class_folders_is_read_by_the_same_rules(pets: Path) -> None:
    names = ["/cat/1.png", "cat\\2.png", "./dog/1.png", "emu/1.png", "emu/2.png"]
    rows = "".join(f"{name};{factor}\n" for name, factor in zip(names, ["0.0", "1", "01", "0", "1"]))
    (pets / "metadata.csv").write_text("\ufeffsep=;\n\nfile_name;factor\n" + rows)
    assert open_images(pets).factors.tolist() == [0, 1, 1, 0, 1]
    (pets / "metadata.csv").write_text("file_name,text\nof,another,kind\n")
    assert open_images(pets).factors is None
