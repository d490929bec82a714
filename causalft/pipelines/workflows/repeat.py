"""The command that makes a ``fit`` run again, from its configuration."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from causalft.data.tails import PRIOR_ORDERS
from causalft.methods.adaptation.settings import Tuning, default_tuning
from causalft.methods.estimators.settings import FitSettings

__all__ = ["fit_command"]

_OPTIONS = {
    "data": "--data",
    "zoo": "--zoo",
    "control": "--control",
    "control_of": "--control-of",
    "fusion": "--fusion",
    "imbalance_factor": "--imbalance-factor",
    "profile": "--profile",
    "order": "--order",
    "order_by": "--order-by",
    "n_validation": "--n-validation",
    "n_test": "--n-test",
    "seed": "--seed",
    "n_seeds": "--seeds",
}
_TUNING_OPTIONS = {
    field.name: f"--{field.name.replace('_', '-')}"
    for field in fields(Tuning)
    if field.name not in ("lr", "seed", "momentum")
}


def fit_command(config: Mapping[str, Any], out: str) -> str:
    """The command that makes a ``fit`` run again, from its configuration: only what ``fit`` would not do by itself.

    Examples
    --------
    >>> fit_command({"strata": ["clip"], "data": "my photos", "seed": 1, "tuning": {"lr": 0.05}}, "runs/a")
    "causalft fit --strata clip --data 'my photos' --seed 1 --lr 0.05 --out runs/a"
    """
    default = FitSettings(data=config.get("data", FitSettings.data))
    zoo = config.get("zoo") or default.zoo_name
    left_out = _decided_elsewhere(config, default.data, zoo)
    words = ["causalft", "fit"]
    if tuple(config["strata"]) != default.strata:
        words += ["--strata", ",".join(config["strata"])]
    usual = {**vars(default), "data": FitSettings.data, "zoo": default.zoo_name}
    for key, option in _OPTIONS.items():
        value = config.get(key)
        if value is not None and value != usual[key] and key not in left_out:
            words += [option, str(value)]
    if config.get("stratum_prior"):
        prior = config["stratum_prior"]
        words += ["--stratum-prior", prior if isinstance(prior, str) else ",".join(map(str, prior))]
    if config.get("calibrate_strata"):
        words.append("--calibrate-strata")
    for name, file in (config.get("weights") or {}).items():
        words += ["--weights", f"{name}={file}"]
    for flag in ("gla", "offline", "allow_pickle", "tensorboard"):
        if config.get(flag):
            words.append(f"--{flag.replace('_', '-')}")
    if not config.get("cache", True):
        words.append("--no-cache")
    for key, value in (config.get("data_options") or {}).items():
        option = f"--{key.replace('_', '-')}"
        if isinstance(value, Mapping):
            words += [word for split, other in value.items() for word in (option, f"{split}={other}")]
        else:
            words += [option, str(value)]
    if config.get("drop_empty_classes") and "drop_empty_classes" not in left_out:
        words.append("--drop-empty-classes")
    tuning = config.get("tuning") or {}
    recipe = default_tuning(zoo)
    for key, option in _TUNING_OPTIONS.items():
        if tuning.get(key) is not None and tuning[key] != getattr(recipe, key):
            words += [option, str(tuning[key])]
    rates = config.get("learning_rates") or (
        [tuning["lr"]] if tuning.get("lr", recipe.lr) != recipe.lr else []
    )
    if rates:
        words += ["--lr", ",".join(f"{rate:g}" for rate in rates)]
    return shlex.join([*words, "--out", out])


def _decided_elsewhere(config: Mapping[str, Any], data: str, zoo: str) -> set[str]:
    """Options that ``fit`` refuses, because the data, the zoo or another option decides them."""
    left_out: set[str] = set()
    if data == FitSettings.data:
        left_out |= {"n_validation", "n_test", "profile", "order", "drop_empty_classes"}
    elif (Path(zoo) / "manifest.parquet").exists():
        left_out |= {"n_validation", "n_test"}
        left_out |= set() if config.get("order") in PRIOR_ORDERS else {"order"}
    if config.get("imbalance_factor") is None:
        left_out |= {"profile", "order", "order_by"}
    if config.get("control", "none") == "none":
        left_out.add("control_of")
    return left_out
