"""`causalft predict --adapt`: rows that say who adapted, what is said of a collapse, what is saved, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from pyarrow import parquet

from causalft.data.opening import open_images
from causalft.methods.adaptation.at_test import adapting
from causalft.methods.estimators.run_documents import open_classifier
from causalft.pipelines.workflows.predict import Prediction
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos) -> Path:
    return fit(tmp_path_factory.mktemp("adapt") / "run", tiny_zoo, photos)


@pytest.fixture(scope="module")
def files(photos) -> list[str]:
    """24 images, six of each kind in turn."""
    names = open_images(photos).files
    return [str(photos / names[30 * kind + number]) for number in range(6) for kind in range(4)]


def adapt(fitted, files, *options):
    found = run("predict", fitted, *files, "--adapt", "tent", "--batch-size", 8, *options)
    assert found.exit_code == 0, found.output
    return found


@pytest.fixture(scope="module")
def answers(fitted, files) -> list[dict]:
    return json.loads(adapt(fitted, files, "--json").stdout)


def test_json_says_of_each_image_which_strata_had_adapted(answers, fitted, files) -> None:
    assert [row["file"] for row in answers] == files
    assert all(row["adapted"] == ["clip", "openclip"] for row in answers)
    plain = json.loads(run("predict", fitted, *files, "--json").stdout)
    assert "adapted" not in plain[0]
    changes = [
        abs(row["strata"]["clip"]["probabilities"]["ant"] - other["strata"]["clip"]["probabilities"]["ant"])
        for row, other in zip(answers, plain, strict=True)
    ]
    assert 0 < max(changes) < 0.2


def test_every_format_has_a_column_of_the_strata_that_adapted(fitted, files, tmp_path) -> None:
    for kind in ("jsonl", "csv", "parquet"):
        adapt(fitted, files, "--out", tmp_path / f"rows.{kind}")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["adapted"] for row in rows] == [["clip", "openclip"]] * 24
    table = pd.read_csv(tmp_path / "rows.csv")
    assert table["adapted"].map(json.loads).tolist() == [["clip", "openclip"]] * 24
    stored = parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [row["adapted"] for row in stored] == [["clip", "openclip"]] * 24
    assert [row["prediction"] for row in stored] == [row["prediction"] for row in rows]


def test_a_stream_that_was_interrupted_goes_on_as_if_it_had_not_been(
    answers, fitted, files, tmp_path, monkeypatch
) -> None:
    real, calls = adapting.AdaptingStratum.logits_of, []

    def stops(self, pixels):
        calls.append(len(pixels))
        if len(calls) == 5:  # two strata, so in the third batch
            raise KeyboardInterrupt
        return real(self, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(adapting.AdaptingStratum, "logits_of", stops)
        stopped = run(
            "predict", fitted, *files, "--adapt", "tent", "--batch-size", 8, "--out", tmp_path / "a.jsonl"
        )
    assert stopped.exit_code != 0 and (tmp_path / ".a.jsonl.part").is_file()
    again = adapt(fitted, files, "--out", tmp_path / "a.jsonl")
    assert "16 of 24 images are there already" in again.stderr
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rows] == files
    for row, wanted in zip(rows, answers, strict=True):
        for name, value in row["probabilities"].items():
            assert value == pytest.approx(wanted["probabilities"][name], abs=2e-6)


def test_an_unreadable_image_is_skipped_and_the_rest_adapts(fitted, files, tmp_path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    found = adapt(fitted, [*files[:10], str(broken), *files[10:]], "--on-error", "skip", "--json")
    rows = json.loads(found.stdout)
    assert "error" in rows[10] and rows[11]["adapted"] == ["clip", "openclip"]
    assert "clip: adapted by tent to 2 batches" in found.stderr  # the second one is left with seven images


def test_stored_statistics_of_much_weight_change_little(fitted, files) -> None:
    words = ["predict", fitted, *files, "--adapt", "bn", "--json"]
    plain, much, none = (
        [row["strata"]["clip"]["probabilities"]["ant"] for row in json.loads(run(*words, *more).stdout)]
        for more in (["--stored-images", 1_000_000], ["--stored-images", 100_000], ["--stored-images", 0])
    )
    assert much == pytest.approx(plain, abs=0.01) and none != pytest.approx(plain, abs=0.01)


def test_one_image_is_predicted_unadapted_and_that_is_said(fitted, files) -> None:
    found = adapt(fitted, files[:1], "--json")
    plain = json.loads(run("predict", fitted, files[0], "--json").stdout)
    (row,) = json.loads(found.stdout)
    assert row.pop("adapted") == [] and row == plain[0]
    assert "clip: not adapted: tent needs batches of 8 images or more" in found.stderr


def test_a_collapse_is_said_with_class_and_image_and_the_rest_is_unadapted(
    fitted, files, monkeypatch
) -> None:
    """The guard is made to see one in the second batch of the first stratum."""
    from causalft.methods.adaptation.at_test.guard import Collapse, CollapseGuard

    looks: list[int] = []

    def update(self, adapted, unadapted):
        looks.append(1)
        return Collapse(2, 0.75, 0.25, 8) if len(looks) == 3 else None

    monkeypatch.setattr(CollapseGuard, "update", update)
    found = adapt(fitted, files, "--json")
    rows = json.loads(found.stdout)
    assert [row["adapted"] for row in rows] == [["clip", "openclip"]] * 8 + [["openclip"]] * 16
    line = next(line for line in found.stderr.splitlines() if "collapse" in line)
    assert line == (
        "causalft: clip: predictions collapse onto class 'cow', 75 % of the last 8 images (25 % unadapted); "
        f"from image 9 on ({files[8]}) it predicts unadapted"
    )
    assert "clip: tent stopped after 1 batch" in found.stderr
    plain = json.loads(run("predict", fitted, *files, "--json").stdout)
    for row, other in zip(rows[8:], plain[8:], strict=True):
        for name, value in row["strata"]["clip"]["probabilities"].items():
            assert value == pytest.approx(other["strata"]["clip"]["probabilities"][name], abs=1e-6)


def test_the_adapted_classifier_is_kept_only_if_asked_and_predict_reads_it(fitted, files, tmp_path) -> None:
    before = {path: path.read_bytes() for path in sorted(fitted.rglob("*")) if path.is_file()}
    kept = tmp_path / "kept"
    adapt(fitted, files, "--save-adapted", kept)
    assert {path: path.read_bytes() for path in sorted(fitted.rglob("*")) if path.is_file()} == before
    found = open_classifier(kept).metrics["adapted"]
    assert found["method"] == "tent" and found["images"] == 24 and found["strata"]["clip"]["batches"] == 3

    prediction = Prediction(fitted, open_images_of(files), batch_size=8, adapt="tent")
    list(prediction.stream())
    assert prediction.adapted is not None
    expected = prediction.adapted.members_["clip"].tuned
    plain = json.loads(run("predict", fitted, *files, "--json").stdout)
    again = json.loads(run("predict", kept, *files, "--json").stdout)
    assert again != plain
    fresh = Prediction(kept, open_images_of(files))
    assert {
        name: value.tolist() for name, value in fresh.model.members_["clip"].tower.state_dict().items()
    } == {name: value.tolist() for name, value in expected.tower.state_dict().items()}


def open_images_of(files):
    from causalft.data.given import unlabelled_images

    return unlabelled_images(files)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--adapt", "tnet"), "no method of test-time adaptation is named 'tnet'; did you mean 'tent'?"),
        (("--adapt", "tent", "--batch-size", 1), "--adapt needs batches of 8 images or more"),
        (("--adapt", "tent", "--engine", "ray"), "--adapt follows the images in their order"),
        (
            ("--adapt", "tent", "--stored-images", 8),
            "--stored-images goes with --adapt bn; tent takes no statistics",
        ),
        (("--stored-images", 8), "--stored-images goes with --adapt bn"),
        (("--adapt", "tent", "--sets", 0.9), "--sets does not go with --adapt"),
        (("--save-adapted", "FOLDER"), "--save-adapted goes with --adapt NAME: tent"),
        (
            ("--adapt", "tent", "--save-adapted", "RUN"),
            "complete fit run; choose another --save-adapted or remove it",
        ),
        (
            ("--adapt", "tent", "--save-adapted", "FILE"),
            "is a file, not a folder; choose another --save-adapted",
        ),
        (("--adapt", "tent", "--save-adapted", "ROWS", "--out", "ROWS"), "give them different places"),
        (("--adapt", "tent", "--save-adapted", "FOLDER", "--out", "INSIDE"), "give them different places"),
    ],
)
def test_wrong_calls_are_refused_in_one_line(fitted, files, tmp_path, options, message) -> None:
    (tmp_path / "file").write_text("kept")
    places = {
        "FOLDER": tmp_path / "new",
        "RUN": fitted,
        "FILE": tmp_path / "file",
        "ROWS": tmp_path / "rows.jsonl",
    }
    places["INSIDE"] = tmp_path / "new" / "rows.jsonl"
    found = run("predict", fitted, *files, *(places.get(each, each) for each in options))
    assert message in said(found)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_adaptation_is_refused_under_a_launcher(fitted, files, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert (
        "--adapt follows the images in their order"
        in run("predict", fitted, *files, "--adapt", "tent").output
    )


def test_an_exported_model_is_no_run(files, tmp_path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"exported")
    found = run("predict", tmp_path / "model.onnx", *files, "--adapt", "tent")
    assert "an exported model cannot adapt, so give the folder of its run" in said(found)


def test_nothing_is_saved_where_nothing_adapted(fitted, files, tmp_path) -> None:
    found = run("predict", fitted, files[0], "--adapt", "tent", "--save-adapted", tmp_path / "new")
    assert "no stratum has adapted" in said(found) and not (tmp_path / "new").exists()
