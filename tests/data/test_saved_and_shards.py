"""Sets saved by Hugging Face `datasets`, and webdataset shards."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from causalft.data.opening import open_images
from causalft.errors import CausalFTError
from tests.data import kit


def test_a_saved_dict_of_splits_with_plain_numbers_as_labels(pets: Path) -> None:
    images = open_images(kit.saved(pets), class_names=["cat", "dog", "emu"])
    assert {k: v.tolist() for k, v in images.splits.items()} == {"train": [0, 1, 2], "test": [3, 4]}
    assert images.factors.tolist() == ["f0", "f2", "f3", "f4", "f1"]
    assert kit.contents(images) == kit.contents(open_images(pets))
    assert images.quick_key(0) == ((pets / kit.PETS[0]).stat().st_size,)
    test_only = open_images(pets.parent / "dict" / "test", label_column="factor")
    assert test_only.class_names == ("f1", "f4") and test_only.splits == {}


def test_saved_splits_of_unknown_names_and_columns(pets: Path) -> None:
    folder = kit.saved(pets, test="holdout")
    with pytest.raises(CausalFTError, match="has a split 'holdout'"):
        open_images(folder)
    with pytest.raises(CausalFTError, match="no column 'lable' for the label: did you mean 'label'"):
        open_images(folder / "train", label_column="lable")
    with pytest.raises(CausalFTError, match="column 'factor' holds no images"):
        open_images(folder / "train", path_column="factor")
    with pytest.raises(CausalFTError, match=r"root is not for .* belongs to"):
        open_images(folder, root=pets)
    (folder / "train" / "state.json").write_text("{}")
    with pytest.raises(CausalFTError, match="cannot read .*train: "):
        open_images(folder / "train")


def test_shards_by_pattern_and_by_split(pets: Path) -> None:
    folder = kit.as_shards(pets)
    whole = open_images(folder)
    pytest.importorskip("webdataset")
    assert kit.contents(open_images(f"{folder}/{{000000..000001}}.tar")) == kit.contents(whole)
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
    picture = (pets / kit.PETS[0]).read_bytes()
    files = {}
    for key, label in {"a": "cat", "b.": "dog"}.items():
        key = key.strip(".")
        files[f"x/{key}.png"] = picture
        files[f"x/{key}.json"] = json.dumps({"label": label, "light": label[0], "id": 3}).encode()
    path = kit.write_tar(pets.parent / "s.tar", files)
    images = open_images(path, factor_column="light")
    assert images.class_names == ("cat", "dog") and images.factors.tolist() == ["c", "d"]
    with pytest.raises(CausalFTError, match=r"2 samples .* have no 'knid' in its \.json \(x/a in s\.tar"):
        open_images(path, label_column="knid")
    files["x/c.png"] = picture
    with pytest.raises(CausalFTError, match="1 samples .*have no .cls, .json with a label, or .txt"):
        open_images(kit.write_tar(pets.parent / "t.tar", files))
    files["x/c.txt"] = b"emu\n"
    assert open_images(kit.write_tar(pets.parent / "u.tar", files)).class_names == ("cat", "dog", "emu")
    files["x/c.jpg"] = picture
    with pytest.raises(CausalFTError, match="sample x/c of .* holds two images"):
        open_images(kit.write_tar(pets.parent / "v.tar", files))


def test_a_compressed_shard_is_refused(pets: Path) -> None:
    shard = kit.as_shards(pets) / "000000.tar"
    packed = shard.parent / "more.tar"
    packed.write_bytes(gzip.compress(shard.read_bytes()))
    with pytest.raises(CausalFTError, match=r"more\.tar is compressed, so it cannot be read in place"):
        open_images(shard.parent)
