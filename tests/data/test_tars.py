"""Tars: read in place, compressed ones from memory, damaged ones refused."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from causalft.data.formats import tar as tars
from causalft.data.opening import open_images
from causalft.errors import CausalFTError
from tests.data import kit


def test_compressed_tar_reports_its_memory_and_is_refused_above_the_limit(pets: Path, monkeypatch) -> None:
    path = kit.as_tgz(pets)
    [note] = open_images(path).notes
    assert "pets.tgz is compressed by gzip: its images" in note and "in memory" in note
    monkeypatch.setattr(tars, "MAX_UNPACKED_BYTES", 300)
    with pytest.raises(
        CausalFTError, match=r"pets\.tgz is compressed .* run `gunzip -k pets\.tgz` and open the \.tar"
    ):
        open_images(path)


@pytest.mark.parametrize("keep", [0.1, 0.55, 0.8])
def test_a_cut_off_tar_is_refused(pets: Path, keep: float) -> None:
    for path in (kit.as_tar(pets), kit.as_tgz(pets)):
        data = path.read_bytes()
        end = max(data.rfind(b"IEND"), 0) or len(data)  # the zeros behind the last file are no loss
        path.write_bytes(data[: int(keep * end)])
        with pytest.raises(CausalFTError, match=r"not a whole tar|cannot read .*pets"):
            open_images(path)


def test_hard_links_and_links_in_a_tar(pets: Path) -> None:
    path = kit.as_tar(pets)
    with tarfile.open(path, "a") as archive:
        for name, kind, target in (
            ("data/fox/1.png", tarfile.LNKTYPE, "./data/cat/1.png"),
            ("data/fox/2.png", tarfile.SYMTYPE, "../cat/2.png"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    images = open_images(path)
    assert images.class_counts.tolist() == [2, 1, 2, 1]
    assert images.bytes_hash(images.files.index("data/fox/1.png")) == images.bytes_hash(0)
    assert any("left out 1 link" in note for note in images.notes)


def test_a_name_twice_in_a_tar(pets: Path) -> None:
    path = kit.as_tar(pets)
    with tarfile.open(path, "a") as archive:
        archive.add(pets / "cat/1.png", "data/cat/1.png")
    with pytest.raises(CausalFTError, match=r"holds data/cat/1\.png twice"):
        open_images(path)


def test_factors_come_with_a_compressed_tar_too(pets: Path) -> None:
    files = {name: (pets / name).read_bytes() for name in kit.PETS}
    files["metadata.csv"] = (
        b"file_name,factor\n" + "".join(f"{n},{i}\n" for i, n in enumerate(kit.PETS)).encode()
    )
    images = open_images(kit.write_tar(pets.parent / "f.tar.gz", files, "w:gz"))
    assert images.factors is not None and images.factors.tolist() == [0, 1, 2, 3, 4]


def test_tar_changed_after_opening_is_reported(pets: Path) -> None:
    path = kit.as_tar(pets)
    images = open_images(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(CausalFTError, match=r"emu/2\.png in .*pets\.tar: the file was cut off"):
        images.image(4)
    path.unlink()
    with pytest.raises(CausalFTError, match=r"emu/2\.png in .*pets\.tar: No such file"):
        images.image(4)
