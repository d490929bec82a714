"""The command on the page of a fit is valid and repeats the run."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from causalft.methods.adaptation.settings import default_tuning
from causalft.methods.estimators.fit_command import fit_command
from causalft.methods.estimators.settings import FitSettings
from tests.command_line import run


class Asked(BaseException):
    """The settings that ``fit`` would run; not an Exception, which the command would report as a bug."""

    def __init__(self, settings: FitSettings, *_: Any, **__: Any) -> None:
        self.settings = settings
        raise self


def settings_of(line: str) -> FitSettings:
    """The settings that ``fit`` makes of a command line."""
    words = shlex.split(line)
    assert words[:2] == ["causalft", "fit"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Asked) as asked:
        patch.setattr("causalft.pipelines.workflows.fit.run_fit", Asked)
        patch.setattr(FitSettings, "check", lambda self: None)  # the folders of these commands do not exist
        patch.setattr(FitSettings, "check_names", lambda self: None)
        run(*words[1:])
    return asked.value.settings


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"zoo": "mini", "control": "seeds", "control_of": "openclip", "n_seeds": 3, "seed": 2},
        {"data": "my photos", "zoo": "pretrained", "weights": {"clip": "a b.safetensors"}},
        {"data": "photos", "n_test": 20, "order": "class", "profile": "zipf", "drop_empty_classes": True},
        {"data": "photos", "imbalance_factor": 50.0, "order": "class", "profile": "zipf", "n_validation": 5},
        {"data": "photos", "imbalance_factor": 50.0, "order": "reverse", "order_by": "openclip"},
        {"data": "photos", "zoo": "PHOTO ZOO", "imbalance_factor": 20.0, "order": "balance", "n_test": 9},
        {"data": "photos", "zoo": "PHOTO ZOO", "imbalance_factor": 20.0, "profile": "zipf", "n_test": 9},
        {"strata": ("clip", "openclip"), "stratum_prior": (0.25, 0.75), "fusion": "logit"},
        {"learning_rates": (0.01, 0.02), "gla": True},
        {
            "data": "a.csv",
            "zoo": "mini",
            "data_options": {"label_column": "kind", "split_as": {"validation": "test"}},
        },
        {"data": "photos", "offline": True, "allow_pickle": True},
        {"stratum_prior": "em", "calibrate_strata": True, "fusion": "product"},
    ],
)
def test_command_on_the_page_repeats_the_run(given: dict[str, Any], tmp_path: Path) -> None:
    if given.get("zoo") == "PHOTO ZOO":
        (tmp_path / "manifest.parquet").touch()
        given = {**given, "zoo": str(tmp_path)}
    settings = FitSettings(**given)
    tuning = default_tuning(settings.zoo_name)
    if settings.learning_rates:
        tuning = type(tuning)(**{**asdict(tuning), "lr": settings.learning_rates[0]})
    config = {**asdict(settings), "tuning": asdict(tuning)}
    again = {**asdict(settings_of(fit_command(config, "runs/x y"))), "tuning": asdict(tuning)}
    unused = {"zoo"} if settings.zoo in (None, "mini", "pretrained") else {"n_test"}
    if settings.imbalance_factor is None:
        unused |= {"order", "profile"}
    for name in config.keys() - unused:
        assert again[name] == config[name], name


def test_command_contains_only_changed_tuning() -> None:
    tuning = {
        "loss": "CE",
        "lr": 0.02,
        "epochs": 3,
        "batch_size": 64,
        "augmentation": "flip",
        "seed": 0,
        "tuner": "lora@last-2+bias",
        "head": "l2",
        "head_start": "10-shot",
        "sampler": "square-root",
        "precision": "bf16",
        "patience": 2,
        "wise_ft": 0.5,
        "test_view": "five-crop",
    }
    config = {"strata": ["clip", "openclip", "metaclip"], "data": "creatures-lt", "zoo": "mini"}
    line = fit_command({**config, "tuning": tuning}, "a")
    read = settings_of(line).tuning
    assert {name: getattr(read, name) for name in tuning} == tuning
    usual = asdict(default_tuning("mini"))
    assert fit_command({**config, "tuning": usual}, "a") == "causalft fit --out a"
