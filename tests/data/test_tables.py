"""Tables give labels, splits and factors, or an error of one line."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causalft.data.opening import open_images
from causalft.errors import CausalFTError
from tests.data import kit

GOOD = "cat/1.png,A,train,0\ndog/1.png,B,Train,1\ncat/2.png,A,val,1\nemu/1.png,B,test,0\n"


def test_splits_and_factors_of_a_table(pets: Path) -> None:
    images = open_images(kit.table(pets, GOOD))
    assert {name: rows.tolist() for name, rows in images.splits.items()} == {
        "train": [0, 1],
        "validation": [2],
        "test": [3],
    }
    assert images.factors is not None and images.factors.tolist() == [0, 1, 1, 0]
    joined = open_images(kit.table(pets, GOOD), split_as={"val": "test"})
    assert {name: rows.tolist() for name, rows in joined.splits.items()} == {"train": [0, 1], "test": [2, 3]}
    with pytest.raises(CausalFTError, match="no split named 'vall': did you mean"):
        open_images(kit.table(pets, GOOD), split_as={"vall": "test"})


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
    archive = write_zip({name: (pets / name).read_bytes() for name in kit.PETS})
    packed = kit.write_tar(tmp_path / "p.tar", {name: (pets / name).read_bytes() for name in kit.PETS})
    sets = [open_images(kit.as_csv(pets), root=root) for root in (pets, archive, packed)]
    assert kit.contents(sets[0]) == kit.contents(sets[1]) == kit.contents(sets[2])
    with pytest.raises(CausalFTError, match=r"names 1 images and 1 of them is missing under .*p\.tar"):
        open_images(kit.table(pets, "cat/9.png,A\n", "path,label"), root=packed)


def test_labels_that_are_numbers_keep_their_order_and_take_names(pets: Path, tmp_path) -> None:
    path = kit.table(pets, "cat/1.png,10\ndog/1.png,9\n", "path,label")
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


def test_many_files_of_one_folder_are_checked_by_listing(write_folder) -> None:
    data = (names := [f"cat/{i}.png" for i in range(80)]) and dict.fromkeys(names, b"x")
    folder = write_folder({**data, "dog/1.png": b"x"})
    rows = "".join(f"{name},cat\n" for name in [*names, "cat/80.png", "cat/81.png"]) + "dog/1.png,dog\n"
    with pytest.raises(
        CausalFTError, match=r"names 83 images and 2 of them .* \(row 81: cat/80\.png, row 82: cat/81\.png\)"
    ):
        open_images(kit.table(folder, rows, "path,label"))
    (folder / "cat/80.png").write_bytes(b"x")
    (folder / "cat/81.png").write_bytes(b"x")
    assert len(open_images(kit.table(folder, rows, "path,label"))) == 83


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            "cat/1.png,A,train,0\ncat/1.png,B,train,0\n",
            "names cat/1.png twice, as 'A' and as 'B' .row 1 and row 2.; keep one label",
        ),
        (
            "cat/1.png,A,train,0\ncat/1.png,A,test,0\n",
            "names cat/1.png in two splits .row 1 and row 2.; keep it in one",
        ),
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
        ("cat/1.png,0,train,0\ndog/1.png,-1,train,0\n", "has label -1 .row 2.; labels count from 0"),
        (
            "".join(f"cat/{i}.png,A,train,0\n" for i in range(1, 8)) + "dog/1.png,B,train,0\n",
            r"8 images and 5 of them are missing under .*photos \(row 3: cat/3.png, row 4: cat/4.png, row 5: ",
        ),
        ("", "a header and no row"),
    ],
)
def test_bad_tables_are_refused_in_one_line(pets: Path, rows: str, words: str) -> None:
    with pytest.raises(CausalFTError, match=words) as caught:
        open_images(kit.table(pets, rows))
    assert "\n" not in str(caught.value)


def test_repeated_rows_are_left_out_and_reported(pets: Path) -> None:
    images = open_images(kit.table(pets, GOOD + "cat/1.png,A,train,0\n"))
    assert len(images) == 4 and images.splits["train"].tolist() == [0, 1]
    assert images.notes == ("left out 1 repeated row: cat/1.png",)


def test_a_dropped_class_leaves_all_splits(pets: Path) -> None:
    rows = "emu/1.png,C,test,7\ncat/1.png,A,train,0\ndog/1.png,B,train,1\ncat/2.png,A,test,2\n"
    images = open_images(kit.table(pets, rows), drop_empty_classes=True)
    assert images.files == ["cat/1.png", "dog/1.png", "cat/2.png"] and images.factors.tolist() == [0, 1, 2]
    assert {k: v.tolist() for k, v in images.splits.items()} == {"train": [0, 1], "test": [2]}
    assert images.bytes_hash(2) == open_images(pets).bytes_hash(1)


def test_bytes_in_the_path_column_are_refused_with_the_way_out(tmp_path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"path": [b"x", b"y"], "label": [0, 1]}), path)
    with pytest.raises(
        CausalFTError, match="holds binary, not text or numbers; .* read as Parquet with images"
    ):
        open_images(path)
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(CausalFTError, match="not a whole Parquet file"):
        open_images(path)


def test_table_in_the_current_folder_gives_its_name(pets: Path, monkeypatch) -> None:
    table = kit.table(pets, GOOD)
    monkeypatch.chdir(table.parent)
    images = open_images(table.name)
    assert images.location == images.name == table.stem
    assert images.image(0).size  # read from the folder that the dot stands for
