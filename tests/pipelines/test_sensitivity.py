"""`causalft sensitivity`, and `causalft predict --sets`, on a small fitted run."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from pyarrow import parquet
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from causalft.analysis.uncertainty.simplex import sensitivity_to_prior
from causalft.methods.estimators.fitted import load_fitted
from causalft.pipelines.pages.sensitivity import sentences
from causalft.pipelines.workflows.sensitivity import sensitivity
from causalft.runs.folder import Run, read_json
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    out = tmp_path_factory.mktemp("sensitive") / "run"
    return fit(out, tiny_zoo, photos, "--n-validation", 14, "--n-test", 8, "--no-cache")


@pytest.fixture(scope="module")
def analysed(fitted, tmp_path_factory):
    out = tmp_path_factory.mktemp("analysed") / "out"
    result = run("sensitivity", fitted, "--out", out, "--coverage", 0.8, "--json")
    assert result.exit_code == 0, result.output
    return out, json.loads(result.stdout)


def rows_of(folder):
    return parquet.read_table(folder / "sensitivity.parquet").to_pylist()


def test_json_has_the_share_of_certain_predictions_and_flips_by_class(fitted, analysed):
    out, metrics = analysed
    logits = [
        load_file(fitted / "strata" / name / "predictions.safetensors")["test_logits"]
        for name in ("clip", "openclip")
    ]
    found = sensitivity_to_prior(logits, kind="logits")
    assert metrics["certain"]["estimate"] == pytest.approx(found.certain.mean())
    assert metrics["certain"]["n"] == metrics["n"] == 32 and metrics["resolution"] is None
    assert sum(of["predicted"] for of in metrics["flips"].values()) == 32
    assert sum(of["certain"] for of in metrics["flips"].values()) == found.certain.sum()
    for of in metrics["flips"].values():
        assert sum(of["flips_to"].values()) == of["predicted"] - of["certain"]
    assert set(metrics["groups"]) == {"of", "D", "P", "P by clip", "P by openclip"}
    assert Run.open(out, kind="sensitivity").metrics == metrics


def test_rows_say_what_each_prediction_changes_to_and_where(analysed):
    out, metrics = analysed
    rows = rows_of(out)
    for row in rows:
        assert row["certain"] == (row["flips_to"] is None) == (row["possible"] == [row["prediction"]])
        if not row["certain"]:
            assert 0 <= row["radius"] <= 1 and row["flips_to"] in row["possible"]
        assert row["e_value"] >= 1
    held = np.mean([row["label"] in row["set"] for row in rows])
    assert metrics["sets"]["covered"]["all"]["estimate"] == pytest.approx(held)
    assert metrics["sets"]["coverage"] == 0.8


def test_page_has_figures_and_its_command(fitted, analysed):
    out, metrics = analysed
    page = (out / "report.html").read_text()
    assert f"causalft sensitivity {fitted} --coverage 0.8 --out {out}" in page.replace("&#39;", "'")
    assert (out / "figures" / "radius.png").is_file() and (out / "figures" / "coverage.png").is_file()
    assert "Prediction sets" in page and "An unobserved confounder" in page
    assert "leads in every stratum" in page and "the distance is exact" in page and "over a grid" not in page
    assert "already holds a complete sensitivity run" in said(run("sensitivity", fitted, "--out", out))
    shown = run("sensitivity", fitted)
    assert "are the same for every P(c)" in shown.stdout.replace("\n", " ")
    assert "share a threshold" in shown.stdout.replace("\n", " ") or not metrics["notes"]


def test_images_are_predicted_and_give_what_the_stored_logits_give(fitted, photos):
    found = sensitivity(fitted, str(photos / "ant"))
    assert found.metrics["of"] == "given images" and found.metrics["groups"]["of"] == "prediction"
    assert "accuracy" not in found.metrics and "covered" not in found.metrics["sets"]
    assert found.metrics["certain"]["n"] == 30
    model = load_fitted(fitted, precision="fp32")
    assert set(found.metrics["flips"]) <= set(model.classes_)
    assert "predictions hold for every P(c)" in repr(found) and "flips to" in found._repr_html_()


def test_adjusted_fusion_is_analysed_over_a_grid_and_says_so(fitted, tmp_path):
    folder = shutil.copytree(fitted, tmp_path / "run")
    document = read_json(folder / "metrics.json")
    weights = [[0.8, 0.5, 0.5, 0.4], [0.2, 0.5, 0.5, 0.6]]
    document["mixing"] |= {"fusion": "adjusted", "class_weights": weights, "offsets": [[0.1, 0, 0, 0]] * 2}
    (folder / "metrics.json").write_text(json.dumps(document))
    out = tmp_path / "out"
    metrics = sensitivity(folder, out=out).metrics
    assert metrics["fusion"] == "adjusted" and metrics["resolution"] == 0.01
    page = " ".join((out / "report.html").read_text().split())
    shown = " ".join(run("sensitivity", folder).stdout.split())
    for words in (page, shown):
        assert "P(c) ran over a grid in steps of 0.01" in words
    assert "distance is exact" not in page and "leads in every stratum" not in page
    assert sum(of["predicted"] for of in metrics["flips"].values()) == metrics["n"]
    assert metrics["second_opinion"]["disagree"]["n"] == metrics["n"]


def test_one_stratum_has_nothing_to_vary():
    share = {"estimate": 1.0, "ci95": [0.9, 1.0], "n": 32}
    metrics = {
        "certain": share,
        "resolution": None,
        "stratum_prior": {"student": 1.0},
        "within_interval": {"stratum_prior": {"student": share}, "certain": share},
        "second_opinion": {"stratum_prior": {"student": 1.0}, "disagree": share},
        "unobserved": {"changeable_up_to": {"1.5": share}},
    }
    first, *rest = sentences(metrics)
    assert first == "The run has one stratum: P(c) is 1, and there is nothing to vary."
    assert len(rest) == 1 and "unobserved confounder" in rest[0]
    several = sentences({**metrics, "stratum_prior": {"clip": 0.5, "openclip": 0.5}})
    assert "100.0 [90.0, 100.0] % of 32 predictions are the same for every P(c)." == several[0]
    assert len(several) == 4


@pytest.fixture(scope="module")
def pulled(fitted, tmp_path_factory):
    """A run without logits, as it comes from a hub."""
    folder = shutil.copytree(fitted, tmp_path_factory.mktemp("pulled") / "run")
    for file in folder.glob("strata/*/predictions.safetensors"):
        file.unlink()
    return folder


def test_run_without_logits_names_the_way_out(pulled, photos):
    message = said(run("sensitivity", pulled))
    assert "holds no logits of clip" in message and "causalft sensitivity RUN IMAGES" in message
    message = said(run("predict", pulled, photos / "ant", "--sets", 0.9))
    assert "prediction sets need the validation images of the fit" in message
    found = sensitivity(pulled, str(photos / "ant" / "000.png"))
    assert "second_opinion" not in found.metrics and found.metrics["notes"]


def test_saved_classifier_has_no_sets(fitted, photos, tmp_path):
    from causalft import StrataClassifier

    folder = StrataClassifier.load(fitted).save(tmp_path / "classifier")
    message = said(run("sensitivity", folder))
    assert "is a saved classifier, which keeps no validation images" in message
    assert sensitivity(folder, str(photos / "ant" / "000.png")).metrics["n"] == 1


def test_lost_table_of_test_images_is_named(fitted, tmp_path):
    folder = shutil.copytree(fitted, tmp_path / "run")
    (folder / "predictions.parquet").unlink()
    assert "predictions.parquet is missing" in said(run("sensitivity", folder))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:99]), "it is not a whole Parquet file"),
        (
            lambda file: parquet.write_table(parquet.read_table(file).drop_columns("label"), file),
            "lacks the column label",
        ),
    ],
)
def test_damaged_table_of_test_images_is_named(fitted, tmp_path, damage, words):
    folder = shutil.copytree(fitted, tmp_path / "run")
    damage(folder / "predictions.parquet")
    message = said(run("sensitivity", folder))
    assert "predictions.parquet" in message and words in message


def changed_logits(file, change):
    with safe_open(file, "np") as opened:
        about = opened.metadata()
    tensors = load_file(file)
    tensors["validation_logits"] = np.ascontiguousarray(change(tensors["validation_logits"]))
    save_file(tensors, file, about)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda logits: logits * np.nan, "holds validation logits that are not finite"),
        (lambda logits: logits[:3], "holds 3 validation images, and that of clip"),
        (lambda logits: logits[:, :3], "holds 3 classes, and the run has 4"),
    ],
)
def test_damaged_logits_are_named_with_their_file(fitted, tmp_path, photos, change, words):
    folder = shutil.copytree(fitted, tmp_path / "run")
    changed_logits(folder / "strata/openclip/predictions.safetensors", change)
    for message in (
        said(run("sensitivity", folder)),
        said(run("predict", folder, photos / "ant", "--sets", 0.9)),
    ):
        assert "openclip/predictions.safetensors" in message and words in message


def test_built_in_images_score_no_run_of_others(fitted, photos):
    message = said(run("evaluate", fitted, "--data", "creatures-lt"))
    assert f"was fitted on {photos}" in message and "give --data labelled images of its classes" in message


def test_wrong_coverage_is_refused_before_anything_is_read(fitted):
    assert "'--coverage': '1' is out of range" in said(run("sensitivity", fitted, "--coverage", 1))
    assert "'--sets': 'most' is not a number" in said(run("predict", fitted, "x.png", "--sets", "most"))


def test_predict_gives_the_same_sets_in_every_format(fitted, photos, tmp_path):
    words = ["predict", fitted, photos / "ant", "--sets", 0.8]
    shown = run(*words, "--json")
    assert shown.exit_code == 0, shown.output
    document = json.loads(shown.stdout)
    sets = [row["set"] for row in document]
    for row in document:
        p = row["probabilities"]
        assert row["set"] == sorted(row["set"], key=lambda k: -p[k])
    for ending in ("jsonl", "csv", "parquet"):
        assert run(*words, "--out", tmp_path / f"rows.{ending}").exit_code == 0
    with open(tmp_path / "rows.jsonl") as file:
        assert [json.loads(line)["set"] for line in file] == sets
    with open(tmp_path / "rows.csv") as file:
        assert [json.loads(row["set"]) for row in csv.DictReader(file)] == sets
    assert parquet.read_table(tmp_path / "rows.parquet")["set"].to_pylist() == sets
    assert "set, 80 %" in run(*words).stdout
    assert "set" not in json.loads(run("predict", fitted, photos / "ant" / "000.png", "--json").stdout)[0]


def test_sets_are_those_of_the_validation_images(fitted):
    """The threshold of a class is the p-value rule on the fused probabilities that the run kept."""
    metrics = read_json(fitted / "metrics.json")
    from causalft.pipelines.workflows.stored_run import StoredRun, sets_of_run

    stored = StoredRun.open(fitted)
    sets = sets_of_run(stored, 0.8)
    files = [load_file(fitted / "strata" / name / "predictions.safetensors") for name in stored.names]
    probs = stored.mixing([file["validation_logits"] for file in files], kind="logits")
    labels = files[0]["validation_labels"]
    of_label = probs[np.arange(len(labels)), labels]
    for number, cell in enumerate(sets.cells):
        own = np.sort(of_label[sets.cell_of_class[labels] == number])
        k = int(np.ceil(0.2 * (len(own) + 1) - 1e-9)) - 2  # the image itself and the new one count, too
        assert sets.threshold[sets.cell_of_class == number] == pytest.approx(own[k])
        assert cell.n_images == len(own)
    assert metrics["classes"] == stored.classes


def test_evaluate_gives_the_coverage_of_the_sets_as_sensitivity_does(fitted, analysed, photos):
    found = json.loads(run("evaluate", fitted, "--data", photos, "--sets", 0.8, "--json").stdout)["sets"]
    expected = analysed[1]["sets"]
    assert found["cells"] == expected["cells"] and found["coverage"] == 0.8
    assert (
        found["covered"].keys()
        == expected["covered"].keys()
        == {"all", "D", "P", "P by clip", "P by openclip"}
    )
    for kind, of in expected["covered"].items():
        for group, value in {"": of}.items() if kind == "all" else of.items():
            got = found["covered"][kind] if kind == "all" else found["covered"][kind][group]
            assert (got is None) == (value is None)
            for key in ("estimate", "n", "mean_size", "empty") if value else ():
                assert got[key] == pytest.approx(value[key])
    shown = run("evaluate", fitted, "--data", photos, "--sets", 0.8)
    assert shown.exit_code == 0, shown.output
    assert "Prediction sets for 80 % coverage on" in " ".join(shown.stdout.split())


def test_evaluate_covers_what_the_thresholds_say_on_other_images(fitted, pictures, tmp_path):
    other = pictures(tmp_path / "other", {"ant": 6, "cow": 9}, seed=4)
    found = json.loads(run("evaluate", fitted, "--data", other, "--sets", 0.6, "--json").stdout)["sets"]
    rows = tmp_path / "rows.jsonl"
    assert run("predict", fitted, other, "--sets", 0.6, "--out", rows).exit_code == 0
    predicted = [json.loads(line) for line in rows.read_text().splitlines()]
    assert found["mean_size"] == pytest.approx(np.mean([len(row["set"]) for row in predicted]))
    held = [any(f"/{name}/" in row["file"] for name in row["set"]) for row in predicted]
    assert found["covered"]["all"]["estimate"] == pytest.approx(np.mean(held))
    assert found["covered"]["all"]["n"] == 15


def test_evaluate_without_validation_logits_refuses_sets_and_says_why(fitted, photos, tmp_path):
    folder = shutil.copytree(fitted, tmp_path / "run")
    (folder / "strata" / "clip" / "predictions.safetensors").unlink()
    assert "prediction sets need the validation images of the fit" in said(
        run("evaluate", folder, "--data", photos, "--sets", 0.9)
    )
    assert "sets" not in json.loads(run("evaluate", folder, "--data", photos, "--json").stdout)
