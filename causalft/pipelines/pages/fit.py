"""The page of a ``fit`` run: facts, diagnosis, and the command that repeats it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from causalft.analysis.diagnosis.classes import ClassReport
from causalft.data.splits import Splits
from causalft.data.tails import PRIOR_ORDERS
from causalft.methods.adaptation.settings import default_tuning
from causalft.methods.estimators.settings import FitSettings
from causalft.models.strata.zoo import has_manifest
from causalft.pipelines.pages.diagnosis import class_section, diagnosis_sections, headline
from causalft.report.html import made_line, place_name, render_report
from causalft.runs.folder import Run
from causalft.runs.progress import named
from causalft.runs.settings import Choice, choices_of

__all__ = ["fit_command", "write_fit_report"]

Metrics = Mapping[str, Any]


@named("writing the report")
def write_fit_report(
    run: Run, metrics: Metrics, classes: Sequence[ClassReport] = (), splits: Splits | None = None
) -> Path:
    """Write ``report.html`` and the figures of a ``fit`` run; return the path of the page.

    Parameters
    ----------
    run : Run
    metrics : mapping
        Content of its ``metrics.json``.
    classes : sequence of ClassReport
        The worst classes.
    splits : Splits, optional
        Their images, to be shown.
    """
    strata = ", ".join(metrics["strata"])
    first, *others = diagnosis_sections(metrics, run.path / "figures")
    by_class = []
    if classes or splits is not None:
        images = (None, None) if splits is None else (splits.test, splits.train)
        by_class = [class_section(classes, metrics["controls"]["best_single"]["name"], *images)]
    page = render_report(
        title=f"{strata} on {place_name(metrics['data']['name'])}",
        verdict=headline(metrics),
        details=metrics["conclusion"],
        made=made_line(metrics),
        facts=_facts(metrics, run.config["tuning"]),
        sections=[first, *by_class, *others],
        command=fit_command(run.config, str(run.path)),
    )
    return run.write_page(page)


def _tuning_words(tuning: Metrics, metrics: Metrics) -> str:
    """Describe the tuning in one line."""
    tuning = {**vars(default_tuning(str(metrics["zoo"]))), **tuning}
    rates = sorted({found["lr"] for found in metrics["strata"].values() if "lr" in found})
    precision = sorted({found["precision"] for found in metrics["strata"].values() if "precision" in found})
    gla = any(found.get("gla") for found in metrics["strata"].values())
    added = "; debiased zero-shot logits are added (GLA-FT)" if gla else ""
    return (
        f"{tuning['tuner']}, {tuning['head']} head from {tuning['head_start']}, loss {tuning['loss']}, sampler "
        f"{tuning['sampler']}, {tuning['epochs']} epochs of batches of {tuning['batch_size']}, learning rate "
        f"{', '.join(f'{rate:g}' for rate in rates)}; {', '.join(precision)}{added}"
    )


def _facts(metrics: Metrics, tuning: Metrics) -> dict[str, str]:
    data, fused = metrics["data"], metrics["fused"]
    prior = ", ".join(f"{name} {p:.3g}" for name, p in fused["stratum_prior"].items())
    weights = ", ".join(f"{name} {digest[:12]}" for name, digest in metrics["weights"].items())
    zoo = str(metrics["zoo"])
    if zoo == "mini":
        zoo = "mini: small models that this project pre-trained on the embedded world, not the real weights"
    facts = {
        "zoo": zoo,
        "weights (sha256)": weights,
        "data": f"{data['name']}: {len(metrics['class_counts'])} classes",
        "images": f"{data['n_train']} train, {data['n_validation']} validation, {data['n_test']} test",
        "seeds": str(metrics["n_seeds"]),
        "tuning": _tuning_words(tuning, metrics),
        "fusion": f"{fused['fusion']}, P(c): {prior}; temperature {fused['temperature']:.3f}",
        "negative log-likelihood": f"{fused['nll']:.3f} nats, calibration error {100 * fused['ece']:.1f} %",
    }
    if data.get("imbalance_factor") is not None:
        facts["images"] += f"; imbalance factor {data['imbalance_factor']:.3g}"
    if data.get("notes"):
        facts["notes"] = "; ".join(data["notes"])
    return facts


def fit_command(config: Mapping[str, Any], out: str) -> str:
    """Return the command that makes a ``fit`` run again, from its configuration: only what differs from the defaults.

    Examples
    --------
    >>> fit_command({"strata": ["clip"], "data": "my photos", "seed": 1, "tuning": {"lr": 0.05}}, "runs/a")
    "causalft fit --strata clip --data 'my photos' --lr 0.05 --seed 1 --out runs/a"
    """
    default = FitSettings(data=config.get("data", FitSettings.data))
    zoo = config.get("zoo") or default.zoo_name
    recipe = default_tuning(zoo)
    usual = {**vars(recipe), **vars(default), "data": FitSettings.data, "zoo": default.zoo_name}
    tuning = config.get("tuning") or {}
    found = {**tuning, **(config.get("data_options") or {}), **config, "zoo": zoo}
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
    if data == FitSettings.data:
        left_out |= {"n_validation", "n_test", "profile", "order", "drop_empty_classes"}
    elif has_manifest(zoo):
        left_out |= {"n_validation", "n_test"}
        left_out |= set() if config.get("order") in PRIOR_ORDERS else {"order"}
    if config.get("imbalance_factor") is None:
        left_out |= {"profile", "order", "order_by"}
    if config.get("control", "none") == "none":
        left_out.add("control_of")
    return left_out
