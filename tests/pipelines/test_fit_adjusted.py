"""``fit --fusion adjusted``: what it writes, and that every verb takes the fusion from the run."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from causalft.errors import CausalFTError
from causalft.methods.estimators.adjustment import fit_adjustment
from causalft.methods.estimators.fitted import load_fitted
from causalft.methods.estimators.member_prediction import open_prediction
from causalft.methods.estimators.run_documents import open_fit
from causalft.methods.estimators.strata import StrataClassifier
from causalft.runs.folder import read_json, write_json
from tests.command_line import run
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


def test_a_tolerance_without_the_adjusted_fusion_is_refused():
    result = run("fit", "--tolerance", 1)
    assert result.exit_code == 2 and "--tolerance goes with --fusion adjusted" in result.output
