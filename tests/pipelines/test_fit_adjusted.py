"""``fit --fusion adjusted``: what it writes, and that every verb takes the fusion from the run."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from causalft.errors import CausalFTError
from causalft.methods.estimators.adjustment import fit_adjustment
from causalft.methods.estimators.fitted import load_fitted
from causalft.methods.estimators.member_prediction import open_prediction
from causalft.methods.estimators.run_documents import open_fit
from causalft.methods.estimators.strata import StrataClassifier
from causalft.runs.folder import read_json, write_json
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit


@pytest.fixture(scope="module")
def adjusted(tmp_path_factory, tiny_zoo, photos):
    folder = tmp_path_factory.mktemp("adjusted") / "run"
    return fit(folder, tiny_zoo, photos, "--fusion", "adjusted", "--control", "seeds", "--tolerance", 50)


def test_the_metrics_hold_the_adjustment_and_the_tables_of_the_fusion(adjusted):
    metrics = open_fit(adjusted).metrics
    found = metrics["adjustment"]
    assert {"strength", "ci95", "frontier", "guard"} <= set(found) and metrics["fused"][
        "fusion"
    ] == "adjusted"
    assert found["ci95"][0] <= found["strength"] <= found["ci95"][1] and found["guard"]["tolerance"] == 0.5
    assert {"strength", "accuracy", "gap"} == set(found["frontier"][0])
    of_strata = [
        open_prediction(adjusted / "strata" / name / "predictions.safetensors")[0]
        for name in ("clip", "openclip")
    ]
    again = fit_adjustment(
        [p.validation_logits for p in of_strata],
        np.repeat(np.arange(4), 3),
        [p.prior.prior for p in of_strata],
        class_counts=list(metrics["class_counts"].values()),
        tolerance=50,
        kind="logits",
    )
    assert json.loads(json.dumps(again.to_json())).items() <= found.items()
    assert np.allclose(metrics["mixing"]["offsets"], again.offsets)


def test_a_loaded_run_fuses_its_test_images_as_the_fit_did(adjusted):
    rows = pd.read_parquet(adjusted / "predictions.parquet")
    mixing = load_fitted(adjusted, device="cpu").mixing_
    names = ("clip", "openclip")
    logits = [
        open_prediction(adjusted / "strata" / name / "predictions.safetensors")[0].test_logits
        for name in names
    ]
    fused = mixing(logits, kind="logits")
    classes = read_json(adjusted / "metrics.json")["classes"]
    assert [classes[k] for k in fused.argmax(axis=1)] == rows["prediction"].tolist()


def test_evaluate_and_export_and_a_second_fit_take_the_fusion_from_the_run(adjusted, photos, tmp_path):
    document = json.loads(run("evaluate", adjusted, "--data", photos, "--json").stdout)
    assert document["fused"]["fusion"] == "adjusted"
    assert document["fused"]["accuracy"] == read_json(adjusted / "metrics.json")["fused"]["accuracy"]
    model = StrataClassifier.load(adjusted, device="cpu")
    assert model.get_params()["fusion"] == "adjusted" and model.get_params()["tolerance"] == 50
    saved = model.save(tmp_path / "saved")
    assert StrataClassifier.load(saved, device="cpu").mixing_ == model.mixing_


def test_damaged_tables_are_refused(adjusted, tmp_path):
    for change, message in (
        ({"offsets": None}, "mixing.offsets is missing"),
        ({"class_weights": [[0.5], [0.5]]}, "does not hold 4 numbers per stratum"),
    ):
        copy = tmp_path / message[:14]
        shutil.copytree(adjusted, copy)
        document = read_json(copy / "metrics.json")
        document["mixing"] = {k: v for k, v in {**document["mixing"], **change}.items() if v is not None}
        write_json(copy / "metrics.json", document)
        with pytest.raises(CausalFTError, match=message):
            open_fit(copy)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Images without labels."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for number in range(9):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def law(tmp_path_factory, adjusted):
    file = tmp_path_factory.mktemp("law") / "law.csv"
    classes = read_json(adjusted / "metrics.json")["classes"]
    file.write_text("".join(f"{name},{share}\n" for name, share in zip(classes, (7, 1, 1, 1))))
    return file


@pytest.mark.slow
def test_images_without_labels_choose_and_a_target_law_moves_the_predictions(
    adjusted, noise, law, tiny_zoo, photos, tmp_path
):
    options = ["--fusion", "adjusted", "--control", "seeds", "--tolerance", 50]
    run_ = fit(tmp_path / "run", tiny_zoo, photos, *options, "--unlabeled", noise, "--target-law", law)
    metrics = open_fit(run_).metrics
    assert metrics["adjustment"]["chosen_on"] == "unlabelled" and metrics["adjustment"]["n_images"] == 9
    offsets = np.array(metrics["mixing"]["offsets"]) - np.array(
        read_json(adjusted / "metrics.json")["mixing"]["offsets"]
    )
    assert (offsets[:, 0] > offsets[:, 1:].max(axis=1)).all()
    config = read_json(run_ / "config.json")["config"]
    assert config["unlabeled"] == str(noise) and config["unlabeled_fingerprint"]
    assert StrataClassifier.load(run_, device="cpu").target_law == str(law)
    page = (run_ / "report.html").read_text()
    assert "The adjustment: gap against accuracy" in page and "9 unlabelled images" in page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat,1\ndog,2\nlynx,3\n", "law.csv"),
        ("{0},1\n{1},1\n{2},1\n", "has no share for 1 class"),
        *(
            (f"{{0}},1\n{{1}},1\n{{2}},1\n{{3}},{share}\n", "write a number above 0")
            for share in ("0", "-1", "nan", "x", "")
        ),
        (
            "{0},1\n{1},1\n{2},1\n{3}x,1\n",
            "has no share for 1 class (doe), but for doex, which no class is called",
        ),
        ("{0},1\n{1},1\n{2},1\n{3},1\nlynx,2\n", "that no class of the data has"),
    ],
)
def test_a_target_law_that_does_not_match_the_classes_is_refused(
    adjusted, tiny_zoo, photos, tmp_path, text, message
):
    file = tmp_path / "law.csv"
    file.write_text(text.format(*read_json(adjusted / "metrics.json")["classes"]))
    words = ["fit", "--strata", "clip,openclip", "--zoo", tiny_zoo, "--data", photos, "--fusion", "adjusted"]
    words += ["--n-test", 4, "--n-validation", 3, "--target-law", file, "--out", tmp_path / "run"]
    assert message in said(run(*words)) and not (tmp_path / "run").exists()


def test_a_run_without_validation_images_is_told_what_needs_them(tiny_zoo, photos, tmp_path):
    words = ["fit", "--strata", "clip,openclip", "--zoo", tiny_zoo, "--data", photos, "--fusion", "adjusted"]
    line = said(run(*words, "--n-validation", 0, "--n-test", 4, "--out", tmp_path / "run"))
    assert "the pool of the adjusted fusion" in line and "--unlabeled PATH" in line


def test_unlabelled_images_that_are_all_in_the_splits_are_refused(tiny_zoo, photos, tmp_path):
    words = ["fit", "--strata", "clip,openclip", "--zoo", tiny_zoo, "--data", photos, "--fusion", "adjusted"]
    words += ["--n-test", 4, "--n-validation", 3, "--unlabeled", photos, "--out", tmp_path / "run"]
    assert "are images of the run already" in said(run(*words))


def test_a_tolerance_without_the_adjusted_fusion_is_refused():
    result = run("fit", "--fusion", "mixture", "--tolerance", 1)
    assert result.exit_code == 2 and "--tolerance goes with --fusion adjusted" in result.output
