"""A run with merged tokens on the command line: predict, evaluate, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from causalft.data.given import unlabelled_images
from causalft.errors import CausalFTError
from causalft.methods.estimators.fitted import load_fitted, predict_stream
from causalft.methods.estimators.settings import FitSettings
from causalft.models.tuning.towers import Tower
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.pipelines.workflows.merged_agreement import merged_agreement
from causalft.pipelines.workflows.predict import Prediction
from causalft.runs.folder import Run
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    return fit(tmp_path_factory.mktemp("merged") / "run", tiny_zoo, photos)


@pytest.fixture(scope="module")
def chosen(photos):
    return sorted(photos.rglob("*.png"))[::20]


def predicted(folder, chosen, r):
    model = load_fitted(folder, device="cpu", merge_tokens=r)
    return np.concatenate([fused for _, _, fused in predict_stream(model, unlabelled_images(chosen))])


def test_predict_merges_tokens_and_none_by_default(fitted, chosen):
    of = {}
    for options in ((), ("--merge-tokens", 0), ("--merge-tokens", 2)):
        result = run("predict", fitted, *chosen, "--json", *options)
        assert result.exit_code == 0, result.output
        of[options[1:]] = np.array(
            [list(each["probabilities"].values()) for each in json.loads(result.stdout)]
        )
    assert np.array_equal(of[()], of[(0,)]) and np.array_equal(of[(2,)], predicted(fitted, chosen, 2))
    assert not np.array_equal(of[()], of[(2,)])


def test_predict_says_what_merging_changes(fitted, chosen, monkeypatch):
    images = unlabelled_images(chosen)
    measured = merged_agreement(fitted, images, 2)
    whole, merged = predicted(fitted, chosen, 0), predicted(fitted, chosen, 2)
    assert measured.agreement == (whole.argmax(1) == merged.argmax(1)).mean() and measured.accuracy is None
    assert measured.largest_difference == np.abs(whole - merged).max() > 0
    monkeypatch.setattr("causalft.pipelines.workflows.predict.CHECKED", 2)
    monkeypatch.setattr("causalft.pipelines.workflows.predict.CHECKED_SHARE", 0.5)
    result = run("predict", fitted, *chosen, "--merge-tokens", 2, "--out", "-")
    assert "merging 2 tokens per block keeps the class for" in result.stderr
    assert "of 2 images" in result.stderr


def test_evaluate_gives_the_cost_on_validation_images(fitted, photos):
    plain = json.loads(run("evaluate", fitted, "--data", photos, "--json").stdout)
    assert "token_merging" not in plain
    found = json.loads(run("evaluate", fitted, "--data", photos, "--merge-tokens", 2, "--json").stdout)
    cost = found["token_merging"]
    assert cost["merge_tokens"] == 2 and 0 <= cost["accuracy_merged"] <= 1 and 0 <= cost["agreement"] <= 1
    settings = FitSettings.from_config(Run.open(fitted).config)
    assert cost["n_images"] == len(load_splits(settings, 0).validation)
    assert found["fused"] != plain["fused"] or cost["agreement"] == 1


def test_merging_is_refused_with_adaptation_and_for_other_towers(fitted, chosen, monkeypatch):
    with pytest.raises(CausalFTError, match="leave merge_tokens out"):
        Prediction(fitted, unlabelled_images(chosen), "cpu", adapt="tent", merge_tokens=2)
    monkeypatch.setattr(Tower, "_halves", lambda self: [])
    monkeypatch.setattr("causalft.models.tuning.towers.OpenClipViT._halves", Tower._halves)
    refused = said(run("predict", fitted, *chosen, "--merge-tokens", 2))
    assert "stratum 'clip': tokens are merged in a plain ViT that is read at its class token" in refused
    assert "leave --merge-tokens out" in refused
