"""The command that a fit page prints is one that fit accepts, and that makes the same run."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from causalft.cli.fit import _refuse_what_would_do_nothing, _settings, command
from causalft.fitting import FitSettings
from causalft.fitting.page import fit_command
from causalft.strata.tuning_settings import default_tuning


def settings_of(line: str) -> FitSettings:
    """What ``fit`` would do for a command line, once it has checked the options."""
    words = shlex.split(line)
    assert words[:2] == ["causalft", "fit"]
    context = command.make_context("fit", words[2:])
    options: dict[str, Any] = {k: v for k, v in context.params.items() if k not in ("out", "as_json")}
    with context:
        _refuse_what_would_do_nothing(options)
        return _settings(options)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"zoo": "mini", "control": "seeds", "control_of": "openclip", "n_seeds": 3, "seed": 2},
        {"data": "my photos", "zoo": "pretrained", "weights": {"clip": "a b.safetensors"}},
        {"data": "photos", "n_test": 20, "order": "class", "profile": "zipf", "drop_empty_classes": True},
        {"data": "photos", "imbalance_factor": 50.0, "order": "class", "profile": "zipf", "n_validation": 5},
        {"data": "photos", "zoo": "PHOTO ZOO", "imbalance_factor": 20.0, "profile": "zipf", "n_test": 9},
        {"strata": ("clip", "openclip"), "stratum_prior": (0.25, 0.75), "fusion": "logit"},
        {"learning_rates": (0.01, 0.02)},
    ],
)
def test_the_command_of_a_page_makes_the_same_run(given: dict[str, Any], tmp_path: Path) -> None:
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


def test_changed_tuning_is_printed_and_the_usual_is_not() -> None:
    tuning = {"loss": "CE", "lr": 0.02, "epochs": 3, "batch_size": 64, "augmentation": "flip", "seed": 0}
    config = {"strata": ["clip", "openclip", "metaclip"], "data": "creatures-lt", "zoo": "mini"}
    line = fit_command({**config, "tuning": tuning}, "a")
    read = settings_of(line).tuning
    assert {name: getattr(read, name) for name in tuning} == tuning
    usual = asdict(default_tuning("mini"))
    assert fit_command({**config, "tuning": usual}, "a") == "causalft fit --out a"
