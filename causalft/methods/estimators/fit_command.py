"""The command that makes a ``fit`` run again, from its configuration."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from causalft.data.tails import PRIOR_ORDERS
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.semi.settings import SemiSettings
from causalft.models.strata.zoo import has_manifest
from causalft.runs.limits import BUILT_IN
from causalft.runs.settings import Choice, choices_of

__all__ = ["fit_command"]


def fit_command(config: Mapping[str, Any], out: str) -> str:
    """Return the command that makes a ``fit`` run again, from its configuration: only what differs from the defaults.

    Examples
    --------
    >>> fit_command({"strata": ["clip"], "data": "my photos", "seed": 1, "tuning": {"lr": 0.05}}, "runs/a")
    "causalft fit --strata clip --data 'my photos' --lr 0.05 --seed 1 --out runs/a"
    >>> from causalft.methods.adaptation.presets import preset
    >>> fit_command({"preset": "lift+", "tuning": {**vars(preset("lift+")), "epochs": 15}}, "runs/b")
    'causalft fit --preset lift+ --epochs 15 --out runs/b'
    """
    if config.get("distilled"):
        return shlex.join([*config["distilled"]["command"], "--out", out])
    default = FitSettings(data=config.get("data", FitSettings.data))
    zoo = config.get("zoo") or default.zoo_name
    semi = SemiSettings(**(config.get("semi") or {}))
    recipe = FitSettings(data=default.data, zoo=zoo, preset=config.get("preset"), semi=semi).tuning
    usual = {
        **vars(recipe),
        **vars(SemiSettings()),
        **vars(default),
        "data": FitSettings.data,
        "zoo": default.zoo_name,
    }
    tuning = config.get("tuning") or {}
    nests = ("data_options", "unlabelled_options", "semi", "known_priors")
    found = {
        **tuning,
        **{name: value for nest in nests for name, value in (config.get(nest) or {}).items()},
        **config,
    }
    found["zoo"] = zoo
    if not found.get("learning_rates") and tuning.get("lr", recipe.lr) != recipe.lr:
        found["learning_rates"] = [tuning["lr"]]
    left_out = _decided_elsewhere(config, default.data, zoo) | {"device"}
    words = ["causalft", "fit"]
    for choice in choices_of(FitSettings):
        value = found.get(choice.name)
        value = tuple(value) if isinstance(value, list) else value
        if choice.name not in left_out and value is not None and value != usual.get(choice.name):
            words += _as_typed(choice, value)
    return shlex.join([*words, "--out", out])


def _as_typed(choice: Choice, value: Any) -> list[str]:
    """An option with its value as words of a command line."""
    option = choice.flag
    if isinstance(value, bool):
        return [option if value else f"--no-{option[2:]}"]
    if isinstance(value, Mapping):
        return [word for key, each in value.items() for word in (option, f"{key}={each}")]
    if isinstance(value, tuple):
        return [option, ",".join(f"{each:g}" if isinstance(each, float) else str(each) for each in value)]
    return [option, str(value)]


def _decided_elsewhere(config: Mapping[str, Any], data: str, zoo: str) -> set[str]:
    """Settings that ``fit`` refuses as options, because the data, the zoo or another option decides them."""
    left_out: set[str] = set()
    if data in BUILT_IN:
        left_out |= {"n_validation", "n_test", "profile", "order", "drop_empty_classes"}
    elif has_manifest(zoo):
        left_out |= {"n_validation", "n_test"}
        left_out |= set() if config.get("order") in PRIOR_ORDERS else {"order"}
    if config.get("imbalance_factor") is None:
        drawn = (config.get("unlabelled_options") or {}).get("labeled_per_class")
        left_out |= {"profile"} if drawn else {"profile", "order", "order_by"}
    if config.get("control", "none") == "none":
        left_out.add("control_of")
    return left_out
