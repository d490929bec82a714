"""Every format gives the same set of the same pictures, and what is wrong with one is said in one line."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causalft.datasets import tars
from causalft.datasets.formats import absolute_path
from causalft.datasets.image_set import ImageSet
from causalft.datasets.sources import open_images
from causalft.errors import CausalFTError

PETS = ["cat/1.png", "cat/2.png", "dog/1.png", "emu/1.png", "emu/2.png"]


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w", kind: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, mode, format=kind) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_lists(folder: Path, stem: str = "ImageNet_LT_") -> Path:
    """Three lists over the pets: train has all but the last two pictures."""
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
    """Hash of each picture's file to the name of its class."""
    return {images.bytes_hash(i): images.class_names[k] for i, k in enumerate(images.labels)}


@pytest.fixture
def pets(write_folder) -> Path:
    return write_folder(PETS)


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


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_pictures_of_the_folder(kind: str, pets: Path) -> None:
    folder, images = open_images(pets), open_images(KINDS[kind](pets))
    assert images.format == kind.split()[0] and folder.format == "folder"
    assert images.class_names == ("cat", "dog", "emu")
    assert contents(images) == contents(folder)
    assert np.array_equal(np.asarray(images.image(0)), np.asarray(folder.image(0)))
    assert images.splits == {} and len(images.files) == len(set(images.files)) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_survives_pickle_and_threads(kind: str, pets: Path) -> None:
    images = open_images(KINDS[kind](pets))
    want = [images.bytes_hash(i) for i in range(5)] * 20
    copy = pickle.loads(pickle.dumps(images))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(copy.bytes_hash, list(range(5)) * 20)) == want
    assert copy.fingerprint == images.fingerprint == open_images(written(kind, pets)).fingerprint
    part = images.subset([4, 0])
    assert part.bytes_hash(1) == images.bytes_hash(0) and part.fingerprint != images.fingerprint


def written(kind: str, pets: Path) -> Path:  # the file that the kind has already written
    names = {"tar": "pets.tar", "tar gz": "pets.tgz", "tar zst": "pets.tar.zst"}
    inside = {"table": "labels.csv", "table tsv": "labels.tsv", "table parquet": "labels.parquet"}
    inside |= {"list": "all.txt", "inaturalist": "all.json"}
    others = {"huggingface": "saved", "webdataset": "shards"}
    return pets / inside[kind] if kind in inside else pets.parent / (names | others)[kind]


def test_the_same_names_and_sizes_have_one_fingerprint_in_folder_zip_and_tar(pets: Path, write_zip) -> None:
    archive = write_zip({name: (pets / name).read_bytes() for name in PETS})
    packed = write_tar(pets.parent / "flat.tar", {name: (pets / name).read_bytes() for name in PETS})
    prints = {open_images(path).fingerprint for path in (pets, archive, packed)}
    assert len(prints) == 1


# Tars ---------------------------------------------------------------------------------------------------------------


def test_a_compressed_tar_says_what_it_costs_and_is_refused_when_it_is_too_much(
    pets: Path, monkeypatch
) -> None:
    path = as_tgz(pets)
    [note] = open_images(path).notes
    assert "pets.tgz is compressed by gzip: its images" in note and "in memory" in note
    monkeypatch.setattr(tars, "MAX_UNPACKED_BYTES", 300)
    with pytest.raises(
        CausalFTError, match=r"pets\.tgz is compressed .* run `gunzip -k pets\.tgz` and open the \.tar"
    ):
        open_images(path)


@pytest.mark.parametrize("keep", [0.1, 0.55, 0.8])
def test_a_cut_off_tar_is_refused(pets: Path, keep: float) -> None:
    for path in (as_tar(pets), as_tgz(pets)):
        data = path.read_bytes()
        end = max(data.rfind(b"IEND"), 0) or len(data)  # the zeros behind the last file are no loss
        path.write_bytes(data[: int(keep * end)])
        with pytest.raises(CausalFTError, match=r"not a whole tar|cannot read .*pets"):
            open_images(path)


def test_hard_links_and_links_in_a_tar(pets: Path) -> None:
    path = as_tar(pets)
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
    path = as_tar(pets)
    with tarfile.open(path, "a") as archive:
        archive.add(pets / "cat/1.png", "data/cat/1.png")
    with pytest.raises(CausalFTError, match=r"holds data/cat/1\.png twice"):
        open_images(path)


def test_factors_come_with_a_compressed_tar_too(pets: Path) -> None:
    files = {name: (pets / name).read_bytes() for name in PETS}
    files["metadata.csv"] = b"file_name,factor\n" + "".join(f"{n},{i}\n" for i, n in enumerate(PETS)).encode()
    images = open_images(write_tar(pets.parent / "f.tar.gz", files, "w:gz"))
    assert images.factors is not None and images.factors.tolist() == [0, 1, 2, 3, 4]


def test_a_tar_that_changed_under_the_reader_is_named(pets: Path) -> None:
    path = as_tar(pets)
    images = open_images(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(CausalFTError, match=r"emu/2\.png in .*pets\.tar: the file was cut off"):
        images.image(4)
    path.unlink()
    with pytest.raises(CausalFTError, match=r"emu/2\.png in .*pets\.tar: No such file"):
        images.image(4)


# Tables -------------------------------------------------------------------------------------------------------------


def table(pets: Path, rows: str, header: str = "path,label,split,factor") -> Path:
    path = pets / "t.csv"
    path.write_text(f"{header}\n{rows}")
    return path


GOOD = "cat/1.png,A,train,0\ndog/1.png,B,Train,1\ncat/2.png,A,val,1\nemu/1.png,B,test,0\n"


def test_splits_and_factors_of_a_table(pets: Path) -> None:
    images = open_images(table(pets, GOOD))
    assert {name: rows.tolist() for name, rows in images.splits.items()} == {
        "train": [0, 1],
        "validation": [2],
        "test": [3],
    }
    assert images.factors is not None and images.factors.tolist() == [0, 1, 1, 0]
    joined = open_images(table(pets, GOOD), split_as={"val": "test"})
    assert {name: rows.tolist() for name, rows in joined.splits.items()} == {"train": [0, 1], "test": [2, 3]}
    with pytest.raises(CausalFTError, match="no split named 'vall': did you mean"):
        open_images(table(pets, GOOD), split_as={"vall": "test"})


def test_columns_by_other_names_semicolons_and_a_root(pets: Path, tmp_path) -> None:
    path = tmp_path / "far" / "t.csv"
    path.parent.mkdir()
    path.write_text('file;kind;light\ncat/1.png;"a; b";day\ndog/1.png;c;night\n')
    images = open_images(path, root=pets, path_column="file", label_column="kind", factor_column="light")
    assert images.class_names == ("a; b", "c") and images.factors.tolist() == ["day", "night"]
    with pytest.raises(CausalFTError, match=r"no column 'knid' .*did you mean 'kind'"):
        open_images(path, root=pets, path_column="file", label_column="knid")
    with pytest.raises(CausalFTError, match=r"no column 'path' for the path \(it has file, kind, light\)"):
        open_images(path, root=pets)


def test_a_root_can_be_a_zip_or_a_tar(pets: Path, write_zip, tmp_path) -> None:
    archive = write_zip({name: (pets / name).read_bytes() for name in PETS})
    packed = write_tar(tmp_path / "p.tar", {name: (pets / name).read_bytes() for name in PETS})
    sets = [open_images(as_csv(pets), root=root) for root in (pets, archive, packed)]
    assert contents(sets[0]) == contents(sets[1]) == contents(sets[2])
    with pytest.raises(CausalFTError, match=r"names 1 images and 1 of them are missing under .*p\.tar"):
        open_images(table(pets, "cat/9.png,A\n", "path,label"), root=packed)


def test_labels_that_are_numbers_keep_their_order_and_take_names(pets: Path, tmp_path) -> None:
    path = table(pets, "cat/1.png,10\ndog/1.png,9\n", "path,label")
    images = open_images(path)
    assert images.class_names == ("9", "10") and "called by their numbers" in images.notes[0]
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"kind {k}" for k in range(12)))
    named = open_images(path, class_names=names, drop_empty_classes=True)
    assert named.class_names == ("kind 9", "kind 10") and named.labels.tolist() == [1, 0]
    with pytest.raises(CausalFTError, match="class 'kind 0' has no image"):
        open_images(path, class_names=names)
    with pytest.raises(CausalFTError, match=r"label 10 .* lies outside the 10 class names .* \(0 to 9\)"):
        open_images(path, class_names=[f"k{i}" for i in range(10)])


def test_many_files_of_one_folder_are_looked_for_at_once(write_folder) -> None:
    data = (names := [f"cat/{i}.png" for i in range(80)]) and dict.fromkeys(names, b"x")
    folder = write_folder({**data, "dog/1.png": b"x"})
    rows = "".join(f"{name},cat\n" for name in [*names, "cat/80.png", "cat/81.png"]) + "dog/1.png,dog\n"
    with pytest.raises(CausalFTError, match=r"names 83 images and 2 of them .* \(cat/80\.png, cat/81\.png\)"):
        open_images(table(folder, rows, "path,label"))
    (folder / "cat/80.png").write_bytes(b"x")
    (folder / "cat/81.png").write_bytes(b"x")
    assert len(open_images(table(folder, rows, "path,label"))) == 83


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            "cat/1.png,A,train,0\ncat/1.png,B,train,0\n",
            "names cat/1.png twice, as 'A' and as 'B'; keep one label",
        ),
        ("cat/1.png,A,train,0\ncat/1.png,A,test,0\n", "names cat/1.png in two splits; keep it in one"),
        ("cat/1.png,A,train,0\ndog/1.png,B,hold,0\n", "1 row.s. of .* in no split .'hold' is no split"),
        ("cat/1.png,A,train,0\ndog/1.png,B,,0\n", "in no split .they name none"),
        ("cat/1.png,,train,0\ndog/1.png,B,train,0\n", "no label in 1 of 2 rows .first: row 1"),
        ("cat/1.png,A,train,\ndog/1.png,B,train,0\n", "no factor in 1 of 2 rows"),
        ("cat/1.png,A,train,0\ndog/1.png,A,train,0\n", r"one class only \('A'\)"),
        (
            "cat/1.png,A,train,0\ndog/1.png,B,test,0\n",
            "class 'B' has no training image in .* but has some in test",
        ),
        ("cat/1.png,A,train,0\ndog/1.png,B,train\n", "not a whole table"),
        ("cat/1.png,0,train,0\ndog/1.png,-1,train,0\n", "has label -1; labels count from 0"),
        (
            "".join(f"cat/{i}.png,A,train,0\n" for i in range(1, 8)) + "dog/1.png,B,train,0\n",
            r"names 8 images and 5 of them are missing under .*photos \(cat/3.png, cat/4.png, cat/5.png, \.\.\.\)",
        ),
        ("", "a header and no row"),
    ],
)
def test_bad_tables_are_refused_in_one_line(pets: Path, rows: str, words: str) -> None:
    with pytest.raises(CausalFTError, match=words) as caught:
        open_images(table(pets, rows))
    assert "\n" not in str(caught.value)


def test_repeated_rows_are_left_out_and_said(pets: Path) -> None:
    images = open_images(table(pets, GOOD + "cat/1.png,A,train,0\n"))
    assert len(images) == 4 and images.splits["train"].tolist() == [0, 1]
    assert images.notes == ("left out 1 repeated row: cat/1.png",)


def test_a_dropped_class_leaves_all_splits(pets: Path) -> None:
    rows = "emu/1.png,C,test,7\ncat/1.png,A,train,0\ndog/1.png,B,train,1\ncat/2.png,A,test,2\n"
    images = open_images(table(pets, rows), drop_empty_classes=True)
    assert images.files == ["cat/1.png", "dog/1.png", "cat/2.png"] and images.factors.tolist() == [0, 1, 2]
    assert {k: v.tolist() for k, v in images.splits.items()} == {"train": [0, 1], "test": [2]}
    assert images.bytes_hash(2) == open_images(pets).bytes_hash(1)


def test_pictures_inside_a_parquet_have_a_way_out(tmp_path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"path": [b"x", b"y"], "label": [0, 1]}), path)
    with pytest.raises(CausalFTError, match="save_to_disk"):
        open_images(path)
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(CausalFTError, match="not a whole Parquet file"):
        open_images(path)


# Lists --------------------------------------------------------------------------------------------------------------


def test_a_folder_of_lists_beside_or_away_from_its_images(pets: Path, tmp_path) -> None:
    beside = open_images(write_lists(pets))
    assert beside.format == "list" and beside.name == "ImageNet_LT"
    assert beside.class_names == ("cat", "dog", "emu")
    assert {k: v.tolist() for k, v in beside.splits.items()} == {
        "train": [0, 1, 2],
        "validation": [3],
        "test": [4],
    }
    away = tmp_path / "lists"
    away.mkdir()
    assert contents(open_images(write_lists(away), root=pets)) == contents(beside)
    with pytest.raises(
        CausalFTError, match=r"names 5 images and 5 of them are missing .* give the folder, zip or tar"
    ):
        open_images(away)


def test_lists_joined_by_commas(pets: Path, monkeypatch) -> None:
    write_lists(pets, stem="")
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
        open_images(f"{pets}/train.txt,{as_csv(pets)}")


def test_lists_of_another_set_do_not_hide_class_folders(pets: Path) -> None:
    (pets / "train.txt").write_text("elsewhere/1.png 0\n")
    assert open_images(pets).format == "folder"
    (pets / "train.txt").write_text("cat\ndog\n")  # class names, not a list of images
    assert open_images(pets).format == "folder"


def test_two_lists_for_one_split(pets: Path) -> None:
    write_lists(pets), write_lists(pets, "Places_LT_")
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
def test_bad_lists(pets: Path, text: str, words: str) -> None:
    (pets / "all.txt").write_text(text)
    with pytest.raises(CausalFTError, match=words):
        open_images(pets / "all.txt")


def test_paths_with_spaces_and_labels_that_are_names(write_folder) -> None:
    folder = write_folder(["my cat.png", "dog.png"])
    (folder / "all.txt").write_text("my cat.png feline\ndog.png,canine\n")
    assert open_images(folder / "all.txt").class_names == ("canine", "feline")


# iNaturalist --------------------------------------------------------------------------------------------------------

KINDS_OF = {2: "cat", 5: "dog", 11: "emu"}


def test_inaturalist_train_and_val_and_the_unlabelled_test(pets: Path) -> None:
    write_coco(pets / "train2018.json", [PETS[0], PETS[2], PETS[3]], KINDS_OF)
    write_coco(pets / "val2018.json", [PETS[1], PETS[4]], KINDS_OF)
    (pets / "test2018.json").write_text(json.dumps({"info": {}, "images": [{"id": 1, "file_name": "x.png"}]}))
    images = open_images(pets)
    assert images.format == "inaturalist" and images.class_names == ("cat", "dog", "emu")
    assert {k: v.tolist() for k, v in images.splits.items()} == {"train": [0, 1, 2], "validation": [3, 4]}
    assert images.notes == ("left out test2018.json: it has no annotations, so its images have no label",)
    by_comma = open_images(f"{pets}/train2018.json,val2018.json", split_as={"validation": "test"})
    assert sorted(by_comma.splits) == ["test", "train"] and contents(by_comma) == contents(images)
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
def test_bad_json(pets: Path, change: dict, words: str) -> None:
    with pytest.raises(CausalFTError, match=words):
        open_images(write_coco(pets / "all.json", PETS, KINDS_OF, change))


def test_json_that_is_cut_off(pets: Path) -> None:
    path = as_coco(pets)
    path.write_text(path.read_text()[:-5])
    with pytest.raises(CausalFTError, match=r"all\.json is not valid JSON"):
        open_images(path)


# Hugging Face -------------------------------------------------------------------------------------------------------


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


def test_a_saved_dict_of_splits_with_plain_numbers_as_labels(pets: Path) -> None:
    images = open_images(saved(pets), class_names=["cat", "dog", "emu"])
    assert {k: v.tolist() for k, v in images.splits.items()} == {"train": [0, 1, 2], "test": [3, 4]}
    assert images.factors.tolist() == ["f0", "f2", "f3", "f4", "f1"]
    assert contents(images) == contents(open_images(pets))
    assert images.quick_key(0) == ((pets / PETS[0]).stat().st_size,)
    test_only = open_images(pets.parent / "dict" / "test", label_column="factor")
    assert test_only.class_names == ("f1", "f4") and test_only.splits == {}


def test_saved_splits_of_unknown_names_and_columns(pets: Path) -> None:
    folder = saved(pets, test="holdout")
    with pytest.raises(CausalFTError, match="has a split 'holdout'"):
        open_images(folder)
    with pytest.raises(CausalFTError, match="no column 'lable' for the label: did you mean 'label'"):
        open_images(folder / "train", label_column="lable")
    with pytest.raises(CausalFTError, match="column 'factor' holds no pictures"):
        open_images(folder / "train", path_column="factor")
    with pytest.raises(CausalFTError, match=r"root is not for .* belongs to"):
        open_images(folder, root=pets)
    (folder / "train" / "state.json").write_text("{}")
    with pytest.raises(CausalFTError, match="cannot read .*train: "):
        open_images(folder / "train")


# webdataset ---------------------------------------------------------------------------------------------------------


def test_shards_by_pattern_and_by_split(pets: Path) -> None:
    folder = as_shards(pets)
    whole = open_images(folder)
    pytest.importorskip("webdataset")
    assert contents(open_images(f"{folder}/{{000000..000001}}.tar")) == contents(whole)
    with pytest.raises(
        CausalFTError, match=r"2 of the 4 shards .* are missing \(.*000002\.tar, .*000003\.tar\)"
    ):
        open_images(f"{folder}/{{000000..000003}}.tar")
    assert open_images(folder / "000001.tar").format == "webdataset"
    (folder / "000000.tar").rename(folder / "val-000000.tar")
    with pytest.raises(CausalFTError, match="only some shards .* name a split"):
        open_images(folder)
    (folder / "000001.tar").rename(folder / "train-000000.tar")
    with pytest.raises(CausalFTError, match="class 'cat' has no training image"):
        open_images(folder)
    images = open_images(folder, split_as={"validation": "test"}, drop_empty_classes=True)
    assert images.class_names == ("dog", "emu") and images.splits["train"].tolist() == [0, 1, 2]


def test_labels_in_json_and_text(pets: Path) -> None:
    picture = (pets / PETS[0]).read_bytes()
    files = {}
    for key, label in {"a": "cat", "b.": "dog"}.items():
        key = key.strip(".")
        files[f"x/{key}.png"] = picture
        files[f"x/{key}.json"] = json.dumps({"label": label, "light": label[0], "id": 3}).encode()
    path = write_tar(pets.parent / "s.tar", files)
    images = open_images(path, factor_column="light")
    assert images.class_names == ("cat", "dog") and images.factors.tolist() == ["c", "d"]
    with pytest.raises(CausalFTError, match=r"2 samples .* have no 'knid' in its \.json \(x/a in s\.tar"):
        open_images(path, label_column="knid")
    files["x/c.png"] = picture
    with pytest.raises(CausalFTError, match="1 samples .*have no .cls, .json with a label, or .txt"):
        open_images(write_tar(pets.parent / "t.tar", files))
    files["x/c.txt"] = b"emu\n"
    assert open_images(write_tar(pets.parent / "u.tar", files)).class_names == ("cat", "dog", "emu")
    files["x/c.jpg"] = picture
    with pytest.raises(CausalFTError, match="sample x/c of .* holds two pictures"):
        open_images(write_tar(pets.parent / "v.tar", files))


def test_a_compressed_shard_is_refused(pets: Path) -> None:
    shard = as_shards(pets) / "000000.tar"
    packed = shard.parent / "more.tar"
    packed.write_bytes(gzip.compress(shard.read_bytes()))
    with pytest.raises(CausalFTError, match=r"more\.tar is compressed, so it cannot be read in place"):
        open_images(shard.parent)


# Options ------------------------------------------------------------------------------------------------------------


def test_options_that_do_not_belong_and_formats_that_do_not_exist(pets: Path) -> None:
    with pytest.raises(
        CausalFTError, match="split_column is not for .*, which is a folder with one folder of images"
    ):
        open_images(pets, split_column="part")
    with pytest.raises(CausalFTError, match="no format named 'tabel': did you mean 'table'"):
        open_images(pets, format="tabel")
    assert open_images(write_lists(pets), format="folder").format == "folder"
    with pytest.raises(CausalFTError, match="is not a folder"):
        open_images(as_csv(pets), format="folder")
    with pytest.raises(CausalFTError, match="holds no train....json"):
        open_images(pets, format="inaturalist")
    with pytest.raises(CausalFTError, match="imbalance_factor is not for"):
        open_images(pets, imbalance_factor=10)
