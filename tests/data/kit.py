"""Writes the same five images in every format."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causalft.data.image_set import ImageSet

PETS = ["cat/1.png", "cat/2.png", "dog/1.png", "emu/1.png", "emu/2.png"]


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w", kind: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, mode, format=kind) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_lists(folder: Path, stem: str = "ImageNet_LT_") -> Path:
    """Three lists over the pets: train has all but the last two images."""
    for split, rows in {"train": [0, 2, 3], "val": [1], "test": [4]}.items():
        names = sorted(["cat", "dog", "emu"])
        lines = [f"{PETS[i]} {names.index(PETS[i].split('/')[0])}" for i in rows]
        (folder / f"{stem}{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_coco(path: Path, files: list[str], names: dict[int, str], extra: dict | None = None) -> Path:
    number = {name: key for key, name in names.items()}
    document = {
        "info": {},
        "images": [{"id": 10 + i, "file_name": name} for i, name in enumerate(files)],
        "annotations": [
            {"id": i, "image_id": 10 + i, "category_id": number[name.split("/")[0]]}
            for i, name in enumerate(files)
        ],
        "categories": [{"id": key, "name": name} for key, name in names.items()],
    }
    path.write_text(json.dumps({**document, **(extra or {})}))
    return path


def contents(images: ImageSet) -> dict[str, str]:
    """Hash of each image file to the name of its class."""
    return {images.bytes_hash(i): images.class_names[k] for i, k in enumerate(images.labels)}


def as_tar(pets: Path) -> Path:
    return write_tar(
        pets.parent / "pets.tar", {f"./data/{name}": (pets / name).read_bytes() for name in PETS}
    )


def as_tgz(pets: Path) -> Path:
    return write_tar(pets.parent / "pets.tgz", {name: (pets / name).read_bytes() for name in PETS}, "w:gz")


def as_zst(pets: Path) -> Path:
    plain = as_tar(pets)
    packed = pets.parent / "pets.tar.zst"
    with pa.CompressedOutputStream(str(packed), "zstd") as out:
        out.write(plain.read_bytes())
    return packed


def as_csv(pets: Path) -> Path:
    path = pets / "labels.csv"
    path.write_text("\ufeffpath,label,note\n" + "".join(f"{name},{name[:3]},\n" for name in PETS), "utf-8")
    return path


def as_tsv(pets: Path) -> Path:
    path = pets / "labels.tsv"
    path.write_text("label\tpath\n" + "".join(f"{name[:3]}\t./{name}\n" for name in PETS))
    return path


def as_parquet(pets: Path) -> Path:
    path = pets / "labels.parquet"
    pq.write_table(
        pa.table({"path": PETS, "label": pa.array([n[:3] for n in PETS]).dictionary_encode()}), path
    )
    return path


def as_list(pets: Path) -> Path:
    path = pets / "all.txt"
    path.write_text("# pets\n" + "".join(f"{name} {i}\n" for name, i in zip(PETS, [0, 0, 1, 2, 2])))
    return path


def as_coco(pets: Path) -> Path:
    return write_coco(pets / "all.json", PETS, {5: "cat", 7: "dog", 30: "emu"})


def as_saved(pets: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "emu"])}
    )
    rows = {
        "image": [{"bytes": (pets / name).read_bytes(), "path": None} for name in PETS],
        "label": [name[:3] for name in PETS],
    }
    folder = pets.parent / "saved"
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(folder))
    return folder


def as_shards(pets: Path) -> Path:
    folder = pets.parent / "shards"
    folder.mkdir()
    for shard, part in enumerate((PETS[:2], PETS[2:])):
        files: dict[str, bytes] = {}
        for i, name in enumerate(part):
            files[f"{i:04d}.png"] = (pets / name).read_bytes()
            files[f"{i:04d}.cls"] = name[:3].encode()
        write_tar(folder / f"{shard:06d}.tar", files, kind=tarfile.USTAR_FORMAT)
    return folder


KINDS: dict[str, Callable[[Path], Path]] = {
    "tar": as_tar,
    "tar gz": as_tgz,
    "tar zst": as_zst,
    "table": as_csv,
    "table tsv": as_tsv,
    "table parquet": as_parquet,
    "list": as_list,
    "inaturalist": as_coco,
    "huggingface": as_saved,
    "webdataset": as_shards,
}


def table(pets: Path, rows: str, header: str = "path,label,split,factor") -> Path:
    path = pets / "t.csv"
    path.write_text(f"{header}\n{rows}")
    return path


def saved(pets: Path, columns: dict | None = None, **changes) -> Path:
    datasets = pytest.importorskip("datasets")
    folder = pets.parent / "dict"
    parts = {}
    for split, rows in {"test": [4, 1], "train": [0, 2, 3]}.items():
        rows_of = {
            "image": [str(pets / PETS[i]) for i in rows],
            "label": [["cat", "dog", "emu"].index(PETS[i][:3]) for i in rows],
            "factor": [f"f{i}" for i in rows],
            **(columns or {}),
        }
        parts[changes.get(split, split)] = datasets.Dataset.from_dict(rows_of).cast_column(
            "image", datasets.Image()
        )
    datasets.DatasetDict(parts).save_to_disk(str(folder))
    return folder


def written(kind: str, pets: Path) -> Path:  # the file that the kind has already written
    names = {"tar": "pets.tar", "tar gz": "pets.tgz", "tar zst": "pets.tar.zst"}
    inside = {"table": "labels.csv", "table tsv": "labels.tsv", "table parquet": "labels.parquet"}
    inside |= {"list": "all.txt", "inaturalist": "all.json"}
    others = {"huggingface": "saved", "webdataset": "shards"}
    return pets / inside[kind] if kind in inside else pets.parent / (names | others)[kind]
