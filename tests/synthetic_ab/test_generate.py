"""Image sets in memory and on disk: the same seed gives the same bytes, folders load with the usual tools."""

from __future__ import annotations

import csv
import hashlib
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.stats import chi2_contingency

from causalft.cli import main
from causalft.errors import CausalFTError
from synthetic import generate as module
from synthetic.designs import SETS, make_design
from synthetic.generate import generate, make_set


def test_a_larger_set_begins_with_the_smaller_one_and_no_picture_is_in_two_sets():
    design = make_design("confounded", ["cat", "dog"])
    small, large = (make_set(design, "B_train", n, seed=3, size=16) for n in (10, 20))
    heads = small.pixels[(small.labels == 0) & (small.factors == 0)]
    assert np.array_equal(heads, large.pixels[(large.labels == 0) & (large.factors == 0)][: len(heads)])
    seen: set[bytes] = set()
    for which in SETS:
        for seed in (0, 1):
            pictures = make_set(design, which, 10, seed, size=16).pixels
            seen |= {picture.tobytes() for picture in pictures}
    assert len(seen) == 4 * 2 * 20


def test_null_pictures_know_nothing_of_the_factor():
    pictures = make_set(make_design("null"), "B_train", 200, seed=0, size=8)
    assert not np.array_equal(pictures.parts, pictures.factors)
    for label in range(6):
        mine = pictures.labels == label
        assert pictures.parts[mine].sum() == 100
        table = np.histogram2d(pictures.factors[mine], pictures.parts[mine], bins=2)[0]
        assert chi2_contingency(table).pvalue > 0.001
    drawn = make_set(make_design("confounded"), "B_train", 20, seed=0, size=8)
    assert np.array_equal(drawn.parts, drawn.factors)


def fingerprint(folder) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_command_writes_image_folders_bit_identically(tmp_path):
    for name in ("one", "two"):
        result = CliRunner().invoke(
            main,
            [
                "generate",
                "--classes",
                "cat,truck",
                "--n-per-class",
                "6",
                "--ratio",
                "5:1",
                "--size",
                "16",
                "--seed",
                "4",
                "--out",
                str(tmp_path / name),
                "--json",
            ],
        )
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["counts"]["B_train"] == [[5, 1], [1, 5]]
    one, two = fingerprint(tmp_path / "one"), fingerprint(tmp_path / "two")
    assert one == two and sum(path.endswith(".png") for path in one) == 48

    rows = list(csv.DictReader((tmp_path / "one" / "metadata.csv").open()))
    assert list(rows[0])[:6] == ["file_name", "label", "factor", "design", "split", "seed"]
    assert len(rows) == 48 and {row["split"] for row in rows} == set(SETS)
    for row in rows:
        with Image.open(tmp_path / "one" / row["file_name"]) as picture:
            assert picture.size == (16, 16) and picture.mode == "RGB"
        assert row["file_name"].split("/")[:2] == [row["split"], row["label"]]
        assert row["part"].startswith(row["label"])

    from torchvision.datasets import ImageFolder

    folder = ImageFolder(str(tmp_path / "one" / "B_train"))
    assert folder.classes == ["cat", "truck"] and len(folder) == 12
    local = list(csv.DictReader((tmp_path / "one" / "B_train" / "metadata.csv").open()))
    assert all((tmp_path / "one" / "B_train" / row["file_name"]).exists() for row in local)


def test_interrupted_writing_leaves_no_half_set_and_resumes(tmp_path, monkeypatch):
    design, calls = make_design("paper", ["cat", "dog"]), []
    write = module._write_set

    def stop_in_the_third(folder, which, pictures, rows):
        calls.append(which)
        if len(calls) == 3:
            write(folder, which, pictures, rows[:0])  # reaches the disk, then the plug is pulled
            (folder / which).rename(folder / f".{which}.partial")
            raise KeyboardInterrupt
        write(folder, which, pictures, rows)

    monkeypatch.setattr(module, "_write_set", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        generate(design, tmp_path / "run", 4, size=8)
    assert not (tmp_path / "run" / "B_train").exists() and not (tmp_path / "run" / "metrics.json").exists()
    monkeypatch.setattr(module, "_write_set", write)
    generate(design, tmp_path / "run", 4, size=8)
    generate(design, tmp_path / "whole", 4, size=8)
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


@pytest.mark.parametrize(
    "options, message",
    [
        (["--classes", "cat,hound"], "no class 'hound'"),
        (["--ratio", "90-10"], "--ratio 90-10: not a ratio"),
        (["--ratio", "1:0"], "out of range"),
        (["--n-per-class", "2"], "too small"),
        (["--size", "4"], "size 4 is too small"),
        (["--seed", "-1"], "seed -1 is negative"),
        (["--generator", "rendrer"], "did you mean 'renderer'"),
    ],
)
def test_bad_options_give_one_line_and_no_folder(tmp_path, options, message):
    result = CliRunner().invoke(main, ["generate", "--out", str(tmp_path / "out"), *options])
    assert result.exit_code == 2 and message in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CausalFTError, match="not empty"):
        generate(make_design("paper", ["cat", "dog"]), tmp_path, 4, size=8)
