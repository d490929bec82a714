"""What may not be concluded is not said: models at chance, collapsed predictions, temperatures and small groups."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from causalft.analysis.diagnosis import Diagnosis, Interval, diagnose
from causalft.analysis.diagnosis.no_conclusion import ModelFacts, facts_of, reasons_of_models
from causalft.pipelines.pages.diagnosis import headline
from causalft.runs.folder import to_json

NAMES = ("clip", "openclip", "metaclip")
CLAIMS = (
    "loses",
    "gains",
    "more than averaging",
    "less than averaging",
    "a change of",
    "ordinary ensemble's",
)


def fit_of(
    accuracy: float, per_class: int, n_classes: int = 8, temperature: float = 1.0, **options: Any
) -> Diagnosis:
    """Three strata that are right on that share of the images of every class, their fusion, and a control."""
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(n_classes), per_class)
    profile = 100.0 ** -np.linspace(0, 1, n_classes)
    priors = {name: rng.permutation(profile / profile.sum()) for name in NAMES}

    def model() -> np.ndarray:
        right = rng.random(len(labels)) < accuracy
        other = (labels + rng.integers(1, n_classes, len(labels))) % n_classes
        logits = rng.normal(0, 1, (len(labels), n_classes))
        logits[np.arange(len(labels)), np.where(right, labels, other)] = 4
        probs = np.exp(logits / temperature)
        return probs / probs.sum(axis=1, keepdims=True)

    members = {name: model() for name in NAMES}
    return diagnose(
        labels,
        np.full(n_classes, 50),
        members,
        np.mean(list(members.values()), axis=0),
        priors,
        controls={
            "seeds": {
                "members": {"clip": members["clip"], "a": model()},
                "fused": model(),
                "prior_of": "clip",
            }
        },
        temperature=temperature,
        **options,
    )


def test_a_model_at_chance_with_temperature_57_yields_no_conclusion() -> None:
    """The case of the report: accuracy 1/8, loss ln 8, fitted temperature 57."""
    found = fit_of(1 / 8, per_class=10, temperature=57.0)
    said = " ".join(found.conclusion())
    assert not [claim for claim in CLAIMS if claim in said]
    assert found.conclusion()[0].startswith(
        "Parameter imbalance, and what fusion does to it: no conclusion, for 2 reasons."
    )
    reasons = json.loads(to_json(found.to_metrics()))["no_conclusion"]
    assert any("the fusion is at chance" in reason and "2.08" in reason for reason in reasons)
    assert any("temperature fitted for the fusion is 57" in reason for reason in reasons)
    told = " ".join(line for line in found.conclusion() if line.startswith("Reason "))
    assert told.count("at chance") == 1 and all(name in told for name in (*NAMES, "the fusion"))
    assert headline(found.to_metrics()) == "This run allows no conclusion on parameter imbalance."
    assert "Control 'seeds' was run" in said  # that it was run is no conclusion


def test_models_above_chance_get_a_conclusion() -> None:
    found = fit_of(0.7, per_class=40)
    assert found.no_conclusion == ()
    assert found.to_metrics()["no_conclusion"] == []
    assert "points in the single models" in found.conclusion()[0]


def test_a_slope_that_may_be_0_is_neither_a_loss_nor_a_gain() -> None:
    found = fit_of(0.7, per_class=40)
    assert not found.prior_slope.before.excludes_zero
    assert "no effect of a class's share in the pre-training is shown" in found.conclusion()[1]


@pytest.mark.parametrize("per_class", [1, 2])
def test_groups_of_a_few_images_are_named(per_class: int) -> None:
    found = fit_of(0.9, per_class=per_class)
    small = [reason for reason in found.no_conclusion if "10 images and 2 classes are needed" in reason]
    assert any(f"P-many by clip has {2 * per_class} test images of 2 classes" in reason for reason in small)
    for name in (*NAMES, "fused"):
        for gap in found.gap[name].values():
            assert gap.high - gap.low > 0.2


def test_every_interval_of_a_tiny_run_has_a_width_or_a_reason() -> None:
    """All images right, one image a class: the run of the report whose intervals were 12.5 [12.5, 12.5]."""

    def walk(value: Any, path: str = "") -> None:
        if isinstance(value, dict):
            if "ci95" in value and value["ci95"] is None:
                assert value.get("reason"), path
            for key, inner in value.items():
                if key.endswith("ci95") and isinstance(inner, list):
                    assert inner[0] < inner[1], f"{path}/{key}"
                walk(inner, f"{path}/{key}")

    for accuracy in (0.0, 1.0):
        walk(json.loads(to_json(fit_of(accuracy, per_class=1).to_metrics())))


def test_a_fall_has_no_interval_if_the_measure_is_about_zero() -> None:
    fall = fit_of(0.7, per_class=40).own_minus_off_gap.fall
    assert not fall.bounded and fall.reason == "the measure is not clearly above 0 before the fusion"


def test_one_stratum_is_not_compared_with_itself() -> None:
    labels = np.repeat(np.arange(10), 20)
    probs = np.eye(10)[np.where(np.arange(200) % 3, labels, (labels + 1) % 10)][None]
    found = diagnose(labels, np.full(10, 50), {"a": probs}, probs, {"a": np.arange(1, 11) / 55})
    paired = found.to_metrics()["paired"]["fused_minus_best_single"]
    assert paired == {
        "estimate": 0.0,
        "ci95": None,
        "p": None,
        "reason": "one stratum alone: the fusion is that stratum",
    }
    assert found.no_conclusion == (
        "parameter imbalance cannot be told from class difficulty with one stratum alone",
    )
    assert found.conclusion()[0].startswith(
        "Parameter imbalance cannot be told from class difficulty with one stratum"
    )
    assert "one stratum alone" in found.to_metrics()["own_minus_off_gap"]["reason"]


def test_predictions_in_one_class_have_collapsed_unless_most_images_are_of_it() -> None:
    above = Interval(0.6, 0.55, 0.65, 0.0)
    balanced, mostly_one = np.repeat([0, 1], 50), np.repeat([0, 1], [90, 10])
    one = np.zeros(100, int)
    assert "into one class" in reasons_of_models([facts_of("m", one, balanced, 2, above)])[0]
    assert not reasons_of_models([facts_of("m", one, mostly_one, 2, above)])


@pytest.mark.parametrize(
    ("temperature", "extreme"), [(0.0101, True), (0.05, False), (3.0, False), (57.0, True)]
)
def test_a_temperature_at_its_bound_is_extreme(temperature: float, extreme: bool) -> None:
    facts = ModelFacts("m", Interval(0.6, 0.5, 0.7, 0.0), 8, 0.2, 0.1, temperatures=(temperature,))
    assert bool(reasons_of_models([facts])) == extreme
