"""A run of a preset with the head tde: settings, prediction and export agree."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from causalft.data.opening import open_images
from causalft.methods.adaptation.presets import preset
from causalft.methods.estimators.fit_command import fit_command
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.estimators.strata import StrataClassifier
from causalft.runs.folder import Run
from tests.command_line import run
from tests.pipelines.fitted_runs import fit

pytestmark = pytest.mark.slow

ASKED = ("--preset", "lift+", "--head", "tde", "--loss", "CE", "--tde-alpha", "validation")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    return fit(tmp_path_factory.mktemp("tde") / "run", tiny_zoo, photos, *ASKED)


def test_a_run_keeps_its_preset_and_what_was_made_of_it(fitted):
    config = Run.open(fitted).config
    tuning = FitSettings.from_config(config).tuning
    assert config["preset"] == "lift+"
    assert tuning.augmentation == preset("lift+").augmentation == "growing-crop"
    assert (tuning.lr, tuning.epochs, tuning.batch_size) == (0.05, 1, 16)  # as the command says
    assert " ".join(ASKED[:2]) in fit_command(config, "again")
    assert "--augmentation" not in fit_command(config, "again")


def test_a_run_with_tde_predicts_and_exports_what_it_evaluated(fitted, photos):
    table = pd.read_parquet(fitted / "predictions.parquet")
    model = StrataClassifier.load(fitted, device="cpu", progress=False)
    pictures = open_images(photos)
    shown = pictures.subset([pictures.files.index(file) for file in table["file"]])
    fused = model.predict_proba(shown)
    assert np.array_equal(model.classes_[fused.argmax(1)], table["prediction"])
    for name, member in model.members_.items():
        kept = load_file(fitted / "strata" / name / "head.safetensors")
        assert set(kept) == {"weight", "d", "alpha"} and kept["d"].norm() > 0
        assert torch.equal(member.head.alpha, kept["alpha"])
        member.head.alpha.fill_(4.0)
    assert np.abs(model.predict_proba(shown) - fused).max() > 1e-3  # an export without d would be noticed
    result = run("export", fitted, "--to", "single-file")  # compares the file with the classifier
    assert result.exit_code == 0, result.output
