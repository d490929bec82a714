"""Parquet with images: labels are read at once, images by row group; the schema tells it from a table of paths."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causalft.data.duplicates import shared_images
from causalft.data.formats.parquet import ParquetStore
from causalft.data.opening import open_images
from causalft.errors import CausalFTError
from tests.data import kit

NAMES = ["cat", "dog", "emu"]


def write(path: Path, pets: Path, rows=range(5), names=NAMES, image="struct", **columns) -> Path:
    """Some of the pets with two rows per group, as `datasets` pushes them to the hub."""
    files = [kit.PETS[row] for row in rows]
    data = [(pets / name).read_bytes() for name in files]
    cells = data if image == "bytes" else [{"bytes": each, "path": name} for each, name in zip(data, files)]
    table = pa.table({"image": cells, "label": [NAMES.index(name[:3]) for name in files], **columns})
    if names:
        about = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": about}})})
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path, row_group_size=2)
    return path


@pytest.mark.parametrize("image", ["struct", "bytes"])
def test_a_file_gives_the_images_of_the_folder(pets: Path, tmp_path: Path, image: str) -> None:
    images = open_images(write(tmp_path / "pets.parquet", pets, image=image))
    assert (images.format, images.name, images.class_names) == ("parquet", "pets", tuple(NAMES))
    assert images.labels.tolist() == [0, 0, 1, 2, 2] and images.splits == {}
    assert kit.contents(images) == kit.contents(open_images(pets))
    assert images.image(4).size == (8, 8)
    assert shared_images(images, open_images(pets)).all()


def test_groups_are_read_on_demand_and_copies_and_threads_read_the_same(pets: Path, tmp_path: Path) -> None:
    images = open_images(write(tmp_path / "pets.parquet", pets))
    store = images._store
    assert isinstance(store, ParquetStore) and not store._kept
    images.image(3)
    assert list(store._kept) == [1]
    copy = pickle.loads(pickle.dumps(images))
    assert not copy._store._kept and copy.fingerprint == images.fingerprint
    want = [images.bytes_hash(i) for i in range(5)] * 20
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(copy.bytes_hash, list(range(5)) * 20)) == want


def test_only_the_newest_groups_are_kept(pets: Path, tmp_path: Path, monkeypatch) -> None:
    images = open_images(write(tmp_path / "pets.parquet", pets))
    monkeypatch.setattr("causalft.data.formats.parquet._KEPT_BYTES", 1)
    for row in (0, 4, 2):
        images.image(row)
        assert len(images._store._kept) == 1
    assert list(images._store._kept) == [1]


@pytest.mark.parametrize("inside", [".", "data"])
def test_a_folder_of_the_hub_has_splits(pets: Path, tmp_path: Path, inside: str) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    write(folder / inside / "train-00000-of-00002.parquet", pets, [0, 2])
    write(folder / inside / "train-00001-of-00002.parquet", pets, [3])
    write(folder / inside / "test-00000-of-00001.parquet", pets, [4, 1])
    images = open_images(folder)
    assert images.name == "hub" and images.format == "parquet"
    assert {name: rows.tolist() for name, rows in images.splits.items()} == {
        "train": [2, 3, 4],
        "test": [0, 1],
    }
    assert kit.contents(images) == kit.contents(open_images(pets))
    two = open_images(f"{folder / inside}/train-00000-of-00002.parquet,train-00001-of-00002.parquet")
    assert len(two) == 3 and list(two.splits) == ["train"]


def test_plain_labels_and_chosen_columns(pets: Path, tmp_path: Path) -> None:
    kinds = ["b", "b", "a", "a", "b"]
    path = write(
        tmp_path / "p.parquet", pets, names=None, thumb=[b"x"] * 5, kind=kinds, factor=[0, 1, 0, 1, 0]
    )
    with pytest.raises(CausalFTError, match="2 columns hold images .*choose one with path_column"):
        open_images(path)
    images = open_images(path, path_column="image", label_column="kind")
    assert images.class_names == ("a", "b") and images.factors.tolist() == [0, 1, 0, 1, 0]
    with pytest.raises(CausalFTError, match="column 'kind' holds no images"):
        open_images(path, path_column="kind")
    with pytest.raises(CausalFTError, match="no column 'knid' for the label: did you mean 'kind'"):
        open_images(path, path_column="image", label_column="knid")
    with pytest.raises(CausalFTError, match="split_column is not for .* Parquet with a column of images"):
        open_images(path, split_column="kind")


def test_a_table_of_paths_is_still_a_table(pets: Path) -> None:
    assert open_images(kit.as_parquet(pets)).format == "table"
    with pytest.raises(CausalFTError, match="0 columns hold images"):
        open_images(kit.as_parquet(pets), format="parquet")
    with pytest.raises(CausalFTError, match="holds no Parquet file with a column of images"):
        open_images(pets, format="parquet")


def test_what_cannot_be_read_is_named(pets: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", pets, names=NAMES[:2])
    with pytest.raises(CausalFTError, match="column 'label' of .* has label 2, outside its 2 names"):
        open_images(path)
    table = pa.table({"image": [b"x", None, None], "label": [0, 1, None]})
    pq.write_table(table, path)
    with pytest.raises(CausalFTError, match=r"column 'label' of .* is empty in 1 of 3 rows \(3\)"):
        open_images(path)
    pq.write_table(table.slice(0, 2), path)
    images = open_images(path)
    with pytest.raises(CausalFTError, match=r"cannot read row 0 of .*p\.parquet: it is not an image"):
        images.image(0)
    with pytest.raises(CausalFTError, match=r"cannot read row 1 of .*p\.parquet: it holds no image"):
        images.image(1)
    pq.write_table(pa.table({"image": [b"x"], "kind": [1]}), tmp_path / "q.parquet")
    with pytest.raises(CausalFTError, match="q.parquet of .* has other columns than p.parquet"):
        open_images(f"{path},q.parquet")
    pq.write_table(pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}), path)
    with pytest.raises(CausalFTError, match="holds no row"):
        open_images(path)
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(CausalFTError, match="not a whole Parquet file"):
        open_images(path)
