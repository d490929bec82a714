"""`causalft predict` on files, folders, zips and lists: rows that stream, resume, and say what could not be read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

from causalft.data.given import listed_paths, unlabelled_images
from causalft.data.opening import open_images
from causalft.errors import CausalFTError, unescape_name
from causalft.methods.estimators import fitted as stream_module
from causalft.pipelines.workflows import predict as predict_module
from causalft.pipelines.workflows.prediction_files import choose_format
from tests.command_line import run

KINDS = ["ant", "bee", "cow", "doe"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    folder = tmp_path_factory.mktemp("predict") / "run"
    options = [
        "--imbalance-factor",
        2,
        "--epochs",
        1,
        "--lr",
        0.05,
        "--batch-size",
        32,
        "--n-validation",
        5,
        "--n-test",
        5,
    ]
    result = run(
        "fit", "--strata", "clip,openclip", "--zoo", tiny_zoo, "--data", photos, "--out", folder, *options
    )
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def files(photos):
    return [str(photos / name) for name in open_images(photos).files[::6]]


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"no image")
    return str(path)


@pytest.fixture(scope="module")
def expected(fitted, files):
    """What --json says: one document, made of the whole set at once."""
    result = run("predict", fitted, *files, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def agree(rows, expected):
    assert [row["file"] for row in rows] == [row["file"] for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        assert row["prediction"] == wanted["prediction"]
        for found, truth in (
            (row, wanted),
            *((row["strata"][s], wanted["strata"][s]) for s in wanted["strata"]),
        ):
            for name, value in found["probabilities"].items():
                assert value == pytest.approx(truth["probabilities"][name], abs=2e-6)


# --- formats -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_json_lines_agree_with_the_document(fitted, files, expected, tmp_path, batch_size):
    out = tmp_path / "new" / "rows.jsonl"
    result = run("predict", fitted, *files, "--output", out, "--top", "all", "--batch-size", batch_size)
    assert result.exit_code == 0, result.output
    assert result.stdout == "" and f"{len(files)} images in" in result.stderr
    rows = lines(out.read_text())
    agree(rows, expected)
    assert all(list(row["probabilities"]) == KINDS for row in rows)
    assert [path.name for path in out.parent.iterdir()] == ["rows.jsonl"]


def test_all_probabilities_are_those_of_top_all(fitted, files, expected):
    result = run("predict", fitted, *files, "--out", "-", "--all-probabilities")
    assert result.stdout == run("predict", fitted, *files, "--out", "-", "--top", "all").stdout
    agree(lines(result.stdout), expected)
    refused = run("predict", fitted, *files, "--top", 2, "--all-probabilities")
    assert refused.exit_code == 2
    assert "--all-probabilities gives every class, --top 2 some; leave one of them out" in refused.stderr


def test_the_document_of_many_classes_holds_the_top(fitted, files, expected, monkeypatch):
    monkeypatch.setattr(predict_module, "MANY_CLASSES", 3)
    shown = json.loads(run("predict", fitted, *files, "--json", "--top", 2).stdout)
    agree(shown, expected)
    for row, wanted in zip(shown, expected, strict=True):
        assert list(row["probabilities"]) == sorted(KINDS, key=lambda k: -wanted["probabilities"][k])[:2]
        assert len(row["strata"]["openclip"]["probabilities"]) == 2
    assert json.loads(run("predict", fitted, *files, "--json", "--all-probabilities").stdout) == expected


def test_top_keeps_the_most_probable_in_order(fitted, files, expected):
    result = run("predict", fitted, *files, "--output", "-", "--top", 2)
    rows = lines(result.stdout)
    agree(rows, expected)
    for row, wanted in zip(rows, expected, strict=True):
        order = sorted(KINDS, key=lambda k: -wanted["probabilities"][k])
        assert list(row["probabilities"]) == order[:2]
        assert row["probability"] == row["probabilities"][row["prediction"]]
        assert row["strata"]["clip"]["probability"] == max(row["strata"]["clip"]["probabilities"].values())


@pytest.mark.parametrize("top", [1, 2, 9, "all"])
def test_csv_and_parquet_agree(fitted, files, expected, tmp_path, top):
    for name in ("rows.csv", "rows.parquet"):
        assert run("predict", fitted, *files, "-o", tmp_path / name, "--top", top).exit_code == 0
    table, other = pd.read_csv(tmp_path / "rows.csv"), pd.read_parquet(tmp_path / "rows.parquet")
    assert table["file"].tolist() == other["file"].tolist() == files
    for column in ("prediction", "clip_prediction", "openclip_prediction"):
        assert table[column].tolist() == other[column].tolist()
    assert table["prediction"].tolist() == [row["prediction"] for row in expected]
    np.testing.assert_allclose(table["openclip_probability"], other["openclip_probability"], atol=1e-6)
    if top == "all":
        truth = [[row["strata"]["clip"]["probabilities"][k] for k in KINDS] for row in expected]
        np.testing.assert_allclose(table[[f"clip:{k}" for k in KINDS]], truth, atol=2e-6)
        np.testing.assert_allclose(np.stack(other["clip_probabilities"]), truth, atol=2e-6)
        mixed = [list(row["probabilities"].values()) for row in expected]
        np.testing.assert_allclose(table[[f"p:{k}" for k in KINDS]], mixed, atol=2e-6)
        np.testing.assert_allclose(np.stack(other["probabilities"]), mixed, atol=2e-6)
        assert json.loads(parquet.read_schema(tmp_path / "rows.parquet").metadata[b"classes"]) == KINDS
    else:
        ranks = [c for c in table if c.startswith("top") and c.endswith("probability")]
        assert len(ranks) == min(top, 4) - 1
        for rank, column in enumerate(ranks, 1):
            truth = [sorted(row["probabilities"].values(), reverse=True)[rank] for row in expected]
            np.testing.assert_allclose(table[column], truth, atol=2e-6)
            np.testing.assert_allclose(other[column], truth, atol=2e-6)
            assert table[column.removesuffix("_probability")].tolist() == other[f"top{rank + 1}"].tolist()


def test_parquet_is_written_in_row_groups(fitted, files, tmp_path, monkeypatch):
    monkeypatch.setattr("causalft.pipelines.workflows.prediction_files.ParquetRows.ROWS", 8)
    out = tmp_path / "rows.parquet"
    assert run("predict", fitted, *files, "-o", out, "--batch-size", 4).exit_code == 0
    described = parquet.ParquetFile(out).metadata
    assert described.num_rows == len(files) == 20 and described.num_row_groups == 3


# --- where images come from --------------------------------------------------------------------------------------


def test_folders_zips_files_and_lists_in_the_order_they_are_named(photos, tmp_path, files):
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.write(files[1], "b/two.png")
        archive.write(files[0], "a/one.png")
        archive.writestr("notes.txt", "no image")
    listed = [f"{files[3]}\n", "\n", json.dumps({"path": files[4], "id": 1})]
    images = unlabelled_images([photos / "bee", tmp_path / "some.zip", files[2], "-"], listed)
    zipped = [str(tmp_path / "some.zip" / name) for name in ("a/one.png", "b/two.png")]
    assert images.files[30:] == [*zipped, files[2], files[3], files[4]]
    direct = unlabelled_images([files[0], files[1], files[2], files[3], files[4]])
    for row in range(5):
        assert np.array_equal(images.image(30 + row), direct.image(row))
        assert images.read_bytes(30 + row) == direct.read_bytes(row)
    assert [images.quick_key(row)[0] for row in range(30, 35)] == [
        direct.quick_key(row)[0] for row in range(5)
    ]
    assert np.array_equal(images.image(3), unlabelled_images([images.files[3]]).image(0))
    assert images.fingerprint != direct.fingerprint


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file": "x"}', 'line 2 of the list is not a JSON object with a string "path"'),
        ('{"path": 3}', "line 2"),
    ],
)
def test_list_with_an_invalid_line_is_refused(line, message):
    with pytest.raises(CausalFTError, match=message):
        listed_paths(["a.png", line])


def test_paths_come_through_standard_input(fitted, files, expected):
    result = run("predict", fitted, "-", "-o", "-", "--top", "all", input="\n".join(files))
    assert result.exit_code == 0, result.output
    agree(lines(result.stdout), expected)
    result = run("predict", fitted, "-", input="")
    assert result.exit_code == 2 and "no image given" in result.stderr


def test_zip_without_images_is_refused_by_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "no.zip", "w") as archive:
        archive.writestr("a.txt", "")
    with pytest.raises(CausalFTError, match=r"no\.zip holds no image"):
        unlabelled_images([tmp_path / "no.zip"])


# --- what cannot be read -----------------------------------------------------------------------------------------


def test_it_stops_at_the_first_broken_image_by_default(fitted, files, broken, tmp_path):
    result = run("predict", fitted, *files[:3], broken, *files[3:], "-o", tmp_path / "rows.jsonl")
    assert result.exit_code == 2 and not (tmp_path / "rows.jsonl").exists()
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("causalft: error: ")]
    assert "broken.png" in error


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_skipped_images_have_a_row_with_the_error(fitted, files, broken, tmp_path, name, batch_size):
    paths = [broken, *files[:3], broken, "gone.png", *files[3:5], broken]
    out = tmp_path / name
    result = run(
        "predict",
        fitted,
        "-",
        "-o",
        out,
        "--on-error",
        "skip",
        "--batch-size",
        batch_size,
        input="\n".join(paths),
    )
    assert result.exit_code == 0, result.output
    assert "5 images in" in result.stderr and "4 could not be read" in result.stderr
    assert result.stderr.count("causalft: skipped: ") == 4 and "gone.png: No such file" in result.stderr
    if name.endswith("jsonl"):
        rows = lines(out.read_text())
        assert [row["file"] for row in rows] == paths
        assert [row["file"] for row in rows if "error" in row] == [broken, broken, "gone.png", broken]
    else:
        table = pd.read_csv(out) if name.endswith("csv") else pd.read_parquet(out)
        assert table["file"].tolist() == paths
        assert table["error"].notna().tolist() == table["prediction"].isna().tolist()
        assert table.loc[table["error"].notna(), "file"].tolist() == [broken, broken, "gone.png", broken]


def test_screen_and_json_skip_unreadable_images(fitted, files, broken):
    result = run("predict", fitted, broken, files[0], "--on-error", "skip")
    assert result.exit_code == 0 and "1 of 2 images could not be read" in result.stderr
    document = json.loads(run("predict", fitted, files[0], broken, "--on-error", "skip", "--json").stdout)
    assert document[0]["prediction"] in KINDS and "not an image" in document[1]["error"]


def test_no_readable_image_is_an_error(fitted, broken, tmp_path):
    result = run("predict", fitted, broken, "-o", tmp_path / "rows.csv", "--on-error", "skip")
    assert result.exit_code == 2 and "none of 1 images could be read" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--top", "some"],
            "'--top': 'some' is not a whole number; give",
        ),
        (["--top", "0"], "'--top': '0' is out of range"),
        (["--format", "csv"], "--format goes with --out"),
        (["-o", "-", "--json"], "with --out use --format jsonl"),
        (["-o", "rows.txt"], "add --format jsonl|csv|parquet"),
        (["-o", "-", "--format", "parquet"], "cannot be streamed"),
    ],
)
def test_conflicting_options_are_refused(fitted, files, options, message):
    result = run("predict", fitted, files[0], *options)
    assert result.exit_code == 2 and message in result.stderr, result.output


def test_folder_as_output_is_refused(tmp_path):
    with pytest.raises(CausalFTError, match="is a folder"):
        choose_format(str(tmp_path), "csv")


# --- interruption ------------------------------------------------------------------------------------------------


def interrupt_after(monkeypatch, n_batches, seen):
    whole = stream_module.predict_stream

    def stops(model, images, *arguments, **options):
        for number, found in enumerate(whole(model, images, *arguments, **options)):
            if number == n_batches:
                raise KeyboardInterrupt
            seen.append(found[0].tolist())
            yield found

    monkeypatch.setattr(stream_module, "predict_stream", stops)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_an_interrupted_call_goes_on_and_gives_the_same_file(
    fitted, files, broken, tmp_path, monkeypatch, name
):
    command = ["predict", fitted, *files[:7], broken, *files[7:], "--batch-size", 3, "--on-error", "skip"]
    assert run(*command, "-o", tmp_path / f"whole-{name}").exit_code == 0
    seen = []
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4, seen)
        stopped = run(*command, "-o", tmp_path / name)
    assert stopped.exit_code == 130 and "repeat the command to resume" in stopped.stderr
    assert not (tmp_path / name).exists() and sum(map(len, seen)) == 11
    # A kill may leave half a row behind the rows that are safe.
    with open(tmp_path / f".{name}.part", "ab") as part:
        part.write(b'{"file": "hal')
    interrupt_after(monkeypatch, 1000, seen := [])
    done = run(*command, "-o", tmp_path / name)
    assert done.exit_code == 0 and "12 of 21 images are there already" in done.stderr
    assert sum(seen, []) == list(range(12, 21))
    assert (tmp_path / name).read_bytes() == (tmp_path / f"whole-{name}").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["broken.png", name, f"whole-{name}"])


def test_different_call_starts_over(fitted, files, tmp_path, monkeypatch):
    out = tmp_path / "rows.csv"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1, [])
        run("predict", fitted, *files, "-o", out, "--batch-size", 3)
    interrupt_after(monkeypatch, 1000, seen := [])
    assert run("predict", fitted, *files[1:], "-o", out).exit_code == 0
    assert sum(seen, []) == list(range(19))
    assert [row[0] for row in csv.reader(io.StringIO(out.read_text()))] == ["file", *files[1:]]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_file_names_in_rows_are_reversible(fitted, files, tmp_path, kind) -> None:
    odd = [b"caf\xe9.png", b"two\nlines.png", b"\x1b[31m.png", b"a\\x41.png", "caf\u00e9.png".encode()]
    (tmp_path / "set").mkdir()
    with open(files[0], "rb") as file:
        picture = file.read()
    for name in odd:
        with open(bytes(tmp_path) + b"/set/" + name, "wb") as file:
            file.write(picture)
    out = tmp_path / f"rows.{kind}"
    assert run("predict", fitted, tmp_path / "set", "-o", out).exit_code == 0
    if kind == "jsonl":
        rows = [json.loads(line)["file"] for line in out.read_text("utf-8").splitlines()]
    else:
        rows = (pd.read_csv(out) if kind == "csv" else pd.read_parquet(out))["file"].tolist()
    assert {os.fsencode(unescape_name(row)) for row in rows} == {
        bytes(tmp_path) + b"/set/" + name for name in odd
    }
    # The names that were written are a list of images again, and as arguments too.
    again = run("predict", fitted, "-", "-o", "-", input="\n".join(rows))
    assert [json.loads(line)["file"] for line in again.stdout.splitlines()] == rows
    shown = run("predict", fitted, *rows[:2])
    assert shown.exit_code == 0 and "\x1b" not in shown.stdout


def test_special_files_in_a_folder_are_reported_and_skipped(fitted, files, tmp_path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").symlink_to(files[0])
    os.mkfifo(tmp_path / "set" / "x.png")
    (tmp_path / "set" / "z.png").symlink_to("/dev/zero")
    (tmp_path / "set" / "loop").symlink_to("loop")
    result = run("predict", fitted, tmp_path / "set", "-o", "-")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 1
    assert "left out 2 pipes, devices and sockets: x.png, z.png" in result.stderr
    assert "left out 1 broken link: loop (leads back to itself)" in result.stderr


# --- webdataset shards -------------------------------------------------------------------------------------------


def write_shards(folder, files, n_shards):
    folder.mkdir()
    for number in range(n_shards):
        with tarfile.open(folder / f"{number:03d}.tar", "w") as archive:
            for row in range(number, len(files), n_shards):
                archive.add(files[row], f"{row:04d}.png")
                label = tarfile.TarInfo(f"{row:04d}.cls")
                label.size = 1
                archive.addfile(label, io.BytesIO(b"0"))
    return folder


def test_shards_give_the_rows_of_their_images(fitted, files, expected, tmp_path):
    shards = write_shards(tmp_path / "shards", files, 3)
    result = run("predict", fitted, shards, "-o", "-", "--top", "all")
    assert result.exit_code == 0, result.output
    rows = lines(result.stdout)
    order = [row for number in range(3) for row in range(number, len(files), 3)]
    assert [row["file"] for row in rows] == [
        str(shards / f"{row % 3:03d}.tar" / f"{row:04d}.png") for row in order
    ]
    agree(
        [{**row, "file": expected[at]["file"]} for row, at in zip(rows, order)],
        [expected[at] for at in order],
    )
    one = run("predict", fitted, shards / "001.tar", "-o", "-")
    assert len(lines(one.stdout)) == len(range(1, len(files), 3))


def test_shards_of_a_pattern(fitted, files, tmp_path):
    pytest.importorskip("webdataset", reason="patterns of shards need the extra data")
    shards = write_shards(tmp_path / "shards", files, 3)
    found = unlabelled_images([f"{shards}/{{000..002}}.tar"])
    assert found.files == unlabelled_images([shards]).files
    message = r"1 of the 4 shards of .* are missing \(.*003\.tar\)"
    with pytest.raises(CausalFTError, match=message):
        unlabelled_images([f"{shards}/{{000..003}}.tar"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:700]), r"001\.tar is not a whole tar"),
        (lambda path: path.write_bytes(gzip.compress(path.read_bytes())), r"001\.tar is compressed by gzip"),
        (lambda path: path.write_bytes(b"no tar at all" * 99), r"001\.tar"),
        (lambda path: tarfile.open(path, "w").close(), r"001\.tar holds no image"),
    ],
)
def test_a_shard_that_cannot_be_read_is_named(files, tmp_path, damage, message):
    shards = write_shards(tmp_path / "shards", files[:4], 2)
    damage(shards / "001.tar")
    with pytest.raises(CausalFTError, match=message):
        unlabelled_images([shards])
