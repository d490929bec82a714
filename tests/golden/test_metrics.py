"""``metrics.json`` and ``config.json`` of ``fit`` and ``verify-confounder``. Refresh: see `tests.golden.stored`.

Every field and its type are compared. Values are compared where they are the same on every machine; what a training
gives differs between processors, so accuracies may be off by some images, and other numbers by anything.
"""

from __future__ import annotations

import json

import pytest

from tests.command_line import run
from tests.golden.old_folders import FIT, copy_old_folders
from tests.golden.stored import stored_json

# Fields whose values, with all below them, follow from the command and the data alone.
FIT_EXACT = (
    "weights data.n_train data.n_validation data.n_test data.fingerprint data.imbalance_factor data.notes classes "
    "n_test test_counts n_seeds class_counts strata.clip.n_tuned strata.clip.lr strata.clip.precision "
    "strata.clip.true_label_prior strata.clip.zero_shot strata.clip.pretraining_loss strata.clip.gla"
).split()
VERIFY_EXACT = (
    "design design_meaning strength generator provenance classes class_parts ratio p_c_given_y tables best_accuracy "
    "backbone quick seeds n_per_class truth"
).split()
# Accuracies of test images, with the tolerance of as many as may be classified otherwise.
FIT_NEAR = {"strata.clip.accuracy": 0.25, "strata.openclip.accuracy": 0.25, "fused.accuracy": 0.25}


def shape(value):
    """The fields of a document and their types; a list is described by its first element that says most."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return max(([shape(item)] for item in value), key=lambda found: len(json.dumps(found)), default=[])
    if value is None or isinstance(value, bool | str):
        return type(value).__name__
    return "number"


def differences(stored, found, where="document"):
    """The fields of two shapes that differ; null and an empty list stand for any value that is not there."""
    if "NoneType" in (stored, found) or (
        isinstance(stored, list) and isinstance(found, list) and not (stored and found)
    ):
        return []
    if isinstance(stored, dict) and isinstance(found, dict):
        lost = [f"{where}.{key}: only in one" for key in stored.keys() ^ found.keys()]
        both = [key for key in stored if key in found]
        return lost + [
            line for key in both for line in differences(stored[key], found[key], f"{where}.{key}")
        ]
    if isinstance(stored, list) and isinstance(found, list):
        return differences(stored[0], found[0], f"{where}[]")
    return [] if stored == found else [f"{where}: {found} instead of {stored}"]


def value_at(document, field):
    for key in field.split("."):
        document = document[key]
    return document


def near(value):
    """The value, in which numbers equal others up to rounding."""
    if isinstance(value, dict):
        return {key: near(item) for key, item in value.items()}
    if isinstance(value, list):
        return [near(item) for item in value]
    return pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value


def check(verb, folder, exact, loose):
    metrics, config = (json.loads((folder / f"{name}.json").read_text()) for name in ("metrics", "config"))
    found = {
        "values": {field: value_at(metrics, field) for field in exact},
        "near": {field: value_at(metrics, field) for field in loose},
        "metrics": shape(metrics),
        "config": shape(config),
    }
    stored = stored_json(f"{verb}.json", found)
    assert differences(stored["metrics"], found["metrics"], "metrics.json") == []
    assert differences(stored["config"], found["config"], "config.json") == []
    assert list(found["metrics"]) == list(stored["metrics"])
    assert found["values"] == near(stored["values"])
    for field, tolerance in loose.items():
        assert found["near"][field] == pytest.approx(stored["near"][field], abs=tolerance), field


def test_documents_of_fit_are_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(copy_old_folders(tmp_path / "old"))
    made = run(*FIT, "--epochs", 1, "--control", "seeds", "--no-cache", "--out", tmp_path / "run")
    assert made.exit_code == 0, made.output
    check("fit", tmp_path / "run", FIT_EXACT, FIT_NEAR)


def test_documents_of_verify_confounder_are_unchanged(tmp_path):
    options = "--quick --classes bird,truck --n-per-class 6 --seeds 1".split()
    made = run("verify-confounder", *options, "--out", tmp_path / "run")
    assert made.exit_code == 0, made.output
    check("verify-confounder", tmp_path / "run", VERIFY_EXACT, {})
