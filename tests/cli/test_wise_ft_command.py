"""`causalft wise-ft`: from initial to tuned weights, alpha chosen on validation."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from causalft.errors import CausalFTError
from causalft.pipelines.workflows import wise_ft as module
from causalft.pipelines.workflows.wise_ft import wise_ft_curve
from causalft.runs.folder import Run, read_json
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit

MORE = ["--seed", 3, "--epochs", 12, "--lr", 0.02, "--no-cache"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    return fit(tmp_path_factory.mktemp("wise") / "run", tiny_zoo, photos, *MORE)


@pytest.fixture(scope="module")
def walked(fitted, tmp_path_factory):
    out = tmp_path_factory.mktemp("walked") / "out"
    result = run("wise-ft", fitted, "--alphas", "0.4,0.7", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    return out, json.loads(result.stdout)


def at(document, alpha):
    return next(point for point in document["curve"] if point["alpha"] == alpha)


def test_end_points_are_the_zero_shot_model_and_the_run(fitted, walked):
    metrics, saved = walked[1], read_json(fitted / "metrics.json")
    assert metrics["alphas"] == [0, 0.4, 0.7, 1]
    for name, found in metrics["strata"].items():
        assert found["start_difference"] < 1e-4 and found["end_difference"] < 1e-6
        assert at(found, 0.0)["accuracy"] == saved["strata"][name]["zero_shot"]["accuracy"]
        assert at(found, 1.0)["accuracy"] == saved["strata"][name]["accuracy"]
        kept = load_file(fitted / "strata" / name / "predictions.safetensors")
        right = kept["validation_logits"].argmax(1) == kept["validation_labels"]
        assert at(found, 1.0)["validation_accuracy"] == pytest.approx(right.mean())
    assert at(metrics["fused"], 1.0)["accuracy"] == saved["fused"]["accuracy"]


@pytest.mark.parametrize(
    "more",
    [
        [],
        pytest.param(["--tuner", "lora", "--gla"], marks=pytest.mark.slow),
        pytest.param(["--head-start", "class-mean", "--head", "l2"], marks=pytest.mark.slow),
    ],
)
def test_interpolated_point_agrees_with_fit(fitted, walked, tiny_zoo, photos, tmp_path, more):
    """The start of another seed, or another head, would lead elsewhere."""
    metrics = walked[1]
    if more:
        whole = fit(tmp_path / "whole", tiny_zoo, photos, *MORE, *more)
        metrics = wise_ft_curve(Run.open(whole), [0.4], progress=False)
        assert metrics["strata"]["clip"]["end_difference"] < 1e-6
    part = fit(tmp_path / "part", tiny_zoo, photos, *MORE, *more, "--wise-ft", 0.4)
    saved = read_json(part / "metrics.json")
    for name, found in metrics["strata"].items():
        point = at(found, 0.4)
        assert point["accuracy"] == saved["strata"][name]["accuracy"]
        logits = load_file(part / "strata" / name / "predictions.safetensors")
        labels = logits["validation_labels"]
        shifted = logits["validation_logits"] - logits["validation_logits"].max(1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        assert point["validation_nll"] == pytest.approx(
            -log_p[np.arange(len(labels)), labels].mean(), rel=1e-4
        )
        assert abs(point["validation_nll"] - at(found, 1.0)["validation_nll"]) > 1e-4
    assert at(metrics["fused"], 0.4)["accuracy"] == saved["fused"]["accuracy"]


def test_validation_chooses_alpha_and_gain_is_at_that_alpha(walked):
    metrics = walked[1]
    for found in [*metrics["strata"].values(), metrics["fused"]]:
        best = max(found["curve"], key=lambda p: (p["validation_accuracy"], -p["validation_nll"]))
        assert found["chosen"] == best["alpha"]
        gain = best["accuracy"] - at(found, 1.0)["accuracy"]
        assert found["chosen_minus_tuned"]["estimate"] == pytest.approx(gain, abs=1e-12)
    own = metrics["fused_at_own_alphas"]
    assert own["alphas"] == {name: found["chosen"] for name, found in metrics["strata"].items()}
    if len(set(own["alphas"].values())) == 1:
        assert own["accuracy"] == at(metrics["fused"], own["alphas"]["clip"])["accuracy"]


def test_choices_do_not_depend_on_test_labels(fitted, walked, monkeypatch):
    whole = module.load_splits

    def spoilt(settings, seed):
        splits = whole(settings, seed)
        splits.test.labels = (splits.test.labels + 1) % 4
        return splits

    opened = Run.open(fitted)
    monkeypatch.setattr(module, "load_splits", spoilt)
    opened.config["data_fingerprint"][2] = spoilt(
        module.FitSettings.from_config(opened.config), 3
    ).test.fingerprint
    other = wise_ft_curve(opened, [0.4, 0.7], progress=False)
    assert other["fused"]["chosen"] == walked[1]["fused"]["chosen"]
    assert at(other["fused"], 1.0)["accuracy"] != at(walked[1]["fused"], 1.0)["accuracy"]


def test_out_holds_the_curve_and_its_command(walked, fitted):
    out, metrics = walked
    assert Run.open(out, kind="wise-ft").metrics == metrics
    assert (out / "figures" / "wise_ft.png").stat().st_size > 10_000
    page = (out / "report.html").read_text()
    assert f"causalft wise-ft {fitted} --alphas 0.4,0.7 --out {out}" in page.replace("&#39;", "'")
    assert "already holds a complete wise-ft run" in said(run("wise-ft", fitted, "--out", out))


def test_tables_show_every_alpha_and_the_choice(fitted):
    shown = run("wise-ft", fitted, "--alphas", "0.5")
    assert shown.exit_code == 0, shown.output
    assert "fused" in shown.stdout and "gain (points)" in shown.stdout and "0.5" in shown.stdout
    assert shown.stdout.count(" * |") >= 1 and "Validation chooses" in shown.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wise_ft": 0.5}, "was fitted with --wise-ft 0.5: what it keeps is that far along the line already"),
        ({"tuner": "zero-shot"}, "tuned nothing"),
    ],
)
def test_run_without_both_end_points_is_refused(fitted, tmp_path, change, message):
    other = shutil.copytree(fitted, tmp_path / "run")
    document = read_json(other / "config.json")
    document["config"]["tuning"] |= change
    (other / "config.json").write_text(json.dumps(document))
    assert message in said(run("wise-ft", other))


def test_mistakes_are_refused_in_one_line(fitted, tmp_path):
    assert "'--alphas': '1.5' is out of range" in said(run("wise-ft", fitted, "--alphas", "0.5,1.5"))
    assert "'--alphas': 'half' is not a number" in said(run("wise-ft", fitted, "--alphas", "half"))
    assert "no such run folder" in said(run("wise-ft", tmp_path / "gone"))
    opened = Run.open(fitted)
    opened.config["data_fingerprint"][1] = "0" * 64
    with pytest.raises(CausalFTError, match="the validation images of .* have changed since"):
        wise_ft_curve(opened, progress=False)
