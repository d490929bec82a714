"""Runs, a zoo and a cache of version 0.1.0: they open, predict, evaluate, export and resume as they did then."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import causalft
from tests.command_line import run
from tests.golden.old_folders import FIT, FIXTURES, copy_old_folders


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    return copy_old_folders(tmp_path_factory.mktemp("old") / "v0.1.0")


@pytest.fixture(autouse=True)
def here(old, monkeypatch):
    monkeypatch.chdir(old)
    monkeypatch.setenv("CAUSALFT_CACHE", str(old / "cache"))


@pytest.fixture(scope="module")
def predictions(old):
    """What the run predicted for its test images when it was made."""
    return pd.read_parquet(old / "run" / "predictions.parquet")


def done(*words):
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result


def test_fixtures_name_no_folder_of_a_machine():
    for path in FIXTURES.rglob("*"):
        if path.is_file() and path.suffix != ".png":
            found = re.findall(rb"/(?:home|root|tmp|work|usr|Users|mnt|data)/", path.read_bytes())
            assert not found, path


def test_an_old_run_predicts_as_it_did(old, predictions):
    paths = [f"photos/{name}" for name in predictions.file]
    rows = json.loads(done("predict", "run", *paths, "--json").stdout)
    fused = [list(row["probabilities"].values()) for row in rows]
    assert list(rows[0]["probabilities"]) == ["ant", "bee", "cow", "doe"]
    assert [row["prediction"] for row in rows] == list(predictions.prediction)
    np.testing.assert_allclose(fused, np.stack(predictions.probabilities), atol=1e-4)
    for name in ("clip", "openclip"):
        sure = [max(row["strata"][name]["probabilities"].values()) for row in rows]
        np.testing.assert_allclose(sure, predictions[f"{name}_probability"], atol=1e-4)


def test_an_old_run_evaluates_as_it_did(old):
    found = json.loads(done("evaluate", "run", "--data", "photos", "--json").stdout)
    then = json.loads((old / "run" / "metrics.json").read_text())
    assert found["n_test"] == then["n_test"] == 12 and found["test_counts"] == [3, 3, 3, 3]
    for name in ("clip", "openclip"):
        assert found["strata"][name]["accuracy"] == then["strata"][name]["accuracy"]
    assert found["fused"]["accuracy"] == then["fused"]["accuracy"]


def test_an_old_run_opens_in_python(old, predictions):
    model = causalft.StrataClassifier.load(old / "run")
    images = causalft.open_images(old / "photos")
    rows = [images.files.index(name) for name in predictions.file]
    found = model.predict_proba(images.subset(rows))
    np.testing.assert_allclose(found, np.stack(predictions.probabilities), atol=1e-4)


def test_an_old_run_exports(old):
    done("export", "run", "--to", "single-file", "--out", "model.safetensors")
    assert (old / "model.safetensors").exists() and (old / "preprocessor.json").exists()


def test_an_interrupted_old_run_resumes(old, predictions):
    done(*FIT, "--out", "interrupted", "--no-cache")
    found = pd.read_parquet(old / "interrupted" / "predictions.parquet")
    assert list(found.file) == list(predictions.file) and list(found.columns) == list(predictions.columns)
    # The finished stratum is read back, the other one is tuned here.
    assert list(found.clip_prediction) == list(predictions.clip_prediction)
    np.testing.assert_allclose(found.clip_probability, predictions.clip_probability, atol=1e-6)
    seconds = json.loads((old / "interrupted" / "strata" / "clip" / "timing.json").read_text())
    assert seconds == json.loads((FIXTURES / "interrupted" / "strata" / "clip" / "timing.json").read_text())


def test_an_old_zoo_opens_and_encodes(old, predictions):
    zoo = causalft.open_zoo(old / "zoo")
    assert zoo.names() == ["clip", "openclip"]
    stratum = zoo.load("clip")
    assert stratum.sha256 == json.loads((FIXTURES / "run" / "metrics.json").read_text())["weights"]["clip"]
    # The features of the run's test images were kept.
    kept = [path for path in (old / "cache").glob("*.json") if '"photos/test"' in path.read_text()]
    entry = next(path for path in kept if json.loads(path.read_text())["about"]["stratum"] == "clip")
    images = [Image.open(old / "photos" / name) for name in predictions.file]
    crops = torch.from_numpy(np.stack([stratum.crop(image) for image in images]))
    found = stratum.image_features(crops).numpy()
    np.testing.assert_allclose(found, np.load(entry.with_suffix(".npy")), atol=1e-4)


def test_an_old_cache_is_used(old):
    before = sorted((path.name, path.read_bytes()) for path in (old / "cache").glob("*.*"))
    assert len(before) == 8
    done(*FIT, "--epochs", 1, "--out", "again")
    assert sorted((path.name, path.read_bytes()) for path in (old / "cache").glob("*.*")) == before
