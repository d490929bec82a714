"""GLA-FT beside the tuned strata: the numbers of a run are those of its arrays, and the page shows them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from causalft.data.opening import open_images
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning, check_gla
from causalft.methods.adaptation.tuned import prior_left_in_logits
from causalft.methods.estimators.gla import gla_finetuned
from causalft.methods.estimators.member import MemberPrediction, gla_members
from causalft.methods.estimators.strata import StrataClassifier
from causalft.methods.priors import estimate_prior
from causalft.runs.folder import read_json
from tests.command_line import run, said

STRATA = ("clip", "openclip")


@pytest.fixture(scope="module")
def words(tiny_zoo, photos):
    given = {"n-test": 6, "n-validation": 3, "imbalance-factor": 5, "epochs": 3, "batch-size": 16}
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    return ["fit", "--strata", ",".join(STRATA), "--zoo", tiny_zoo, "--data", photos, *options]


@pytest.fixture(scope="module")
def fit(tmp_path_factory, words):
    def fitted(*options):
        folder = tmp_path_factory.mktemp("gla") / "run"
        result = run(*words, "--out", folder, *options)
        assert result.exit_code == 0, result.output
        return folder

    return fitted


def arrays(folder, name):
    return load_file(folder / "strata" / name / "predictions.safetensors")


@pytest.mark.parametrize("loss", ["LA", "CE"])
def test_gla_scores_agree_with_arrays_and_subtract_the_class_prior_if_present(fit, loss):
    folder = fit("--loss", loss, "--lr", "0.05")
    metrics = read_json(folder / "metrics.json")
    counts = np.array([metrics["class_counts"][name] for name in metrics["classes"]])
    left = counts / counts.sum() if loss == "CE" else None
    labels = np.repeat(np.arange(4), 6)
    for name in STRATA:
        found = arrays(folder, name)
        logits = gla_finetuned(found["zero_shot_test"], found["test_logits"], found["prior"], left)
        right = logits.argmax(1) == labels
        score = metrics["strata"][name]["gla_ft"]
        assert score["accuracy"] == pytest.approx(right.mean())
        tuned = (found["test_logits"].argmax(1) == labels).mean()
        assert tuned == pytest.approx(metrics["strata"][name]["accuracy"])
        assert score["difference"]["estimate"] == pytest.approx(right.mean() - tuned)
        by_class = right.reshape(4, 6).mean(1)
        few = counts < 20
        assert score["D"]["few"] == pytest.approx(by_class[few].mean())
        best = np.argmax(metrics["strata"][name]["label_prior"])
        assert score["P"]["many"] == pytest.approx(by_class[best])  # 30 % of four classes is one
    fused = metrics["fused"]["gla_ft"]
    low, high = fused["ci95"]
    assert low <= fused["accuracy"] <= high and set(fused["P"]) == set(STRATA)
    gained = fused["accuracy"] - metrics["fused"]["accuracy"]
    assert fused["difference"]["estimate"] == pytest.approx(gained)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "What the strata look at in these images" in page and ", taken for " in page
    assert "GLA-FT minus tuned" in page and "GLA-ZS" in page


def test_zero_shot_has_no_gla_ft(fit):
    folder = fit("--tuner", "zero-shot")
    metrics = read_json(folder / "metrics.json")
    assert "gla_ft" not in metrics["fused"]
    assert all("gla_ft" not in scores and "zero_shot" in scores for scores in metrics["strata"].values())
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "GLA-ZS" in page and "GLA-FT" not in page


# --- strata that predict so --------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [pytest.param("fp32", marks=pytest.mark.slow), "bf16"])
def test_saved_and_exported_strata_include_gla(fit, photos, tmp_path, precision):
    usual = ["--loss", "CE", "--tuner", "lora+adaptformer", "--lr", "0.05,0.01", "--precision", precision]
    plain, folder = fit(*usual), fit(*usual, "--gla")
    before, metrics = read_json(plain / "metrics.json"), read_json(folder / "metrics.json")
    counts = np.array([metrics["class_counts"][name] for name in metrics["classes"]])
    for name in STRATA:
        tuned, found = arrays(plain, name), arrays(folder, name)
        assert np.array_equal(tuned["zero_shot_test"], found["zero_shot_test"])
        for part in ("validation", "test"):
            expected = gla_finetuned(
                tuned[f"zero_shot_{part}"], tuned[f"{part}_logits"], tuned["prior"], counts / counts.sum()
            )
            np.testing.assert_allclose(found[f"{part}_logits"], expected, atol=1e-3)
        scores = metrics["strata"][name]
        assert scores["gla"] and "gla_ft" not in scores
        assert scores["accuracy"] == pytest.approx(before["strata"][name]["gla_ft"]["accuracy"])
        assert scores["lr"] == before["strata"][name]["lr"]
    assert metrics["fused"]["accuracy"] == pytest.approx(before["fused"]["gla_ft"]["accuracy"])
    assert "so all strata of this run predict" in (folder / "report.html").read_text(encoding="utf-8")

    # read back from disk, streamed, and exported (which checks the file against the classifier)
    table = pd.read_parquet(folder / "predictions.parquet")
    rows = json.loads(run("predict", folder, *(photos / file for file in table["file"]), "--json").stdout)
    assert [row["prediction"] for row in rows] == table["prediction"].tolist()
    if precision == "fp32":
        model = StrataClassifier.load(folder, device="cpu", progress=False)
        pictures = open_images(photos)
        shown = pictures.subset([pictures.files.index(file) for file in table["file"]])
        apart = model.stratum_proba(shown)
        for member in model.members_.values():
            member.tuned.merge()  # must not reach the weights of the untouched tower
        np.testing.assert_allclose(model.stratum_proba(shown), apart, atol=1e-5)
        result = run("export", folder, "--to", "single-file", "--out", tmp_path / "model.safetensors")
        assert result.exit_code == 0, result.output


def without_seconds(document):
    if isinstance(document, dict):
        return {key: without_seconds(value) for key, value in document.items() if key != "seconds"}
    return document


@pytest.mark.slow
def test_an_interrupted_run_with_gla_ends_with_the_same_numbers(fit, words, tmp_path):
    options = ["--gla", "--loss", "CE", "--lr", "0.05,0.01", "--seeds", 2]
    whole = fit(*options)
    part = shutil.copytree(whole, tmp_path / "part")
    (part / "metrics.json").unlink()
    gone = [part / "strata" / "clip", part / "seeds" / "1" / "strata" / "openclip"]
    for folder in gone:
        shutil.rmtree(folder)
    kept = part / "strata" / "openclip" / "predictions.safetensors"
    before = kept.stat().st_mtime_ns
    again = run(*words, "--out", part, *options)
    assert again.exit_code == 0, again.output
    assert kept.stat().st_mtime_ns == before
    for folder in gone:
        one, other = (
            load_file(place / "predictions.safetensors")
            for place in (folder, whole / folder.relative_to(part))
        )
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)
        one, other = (
            load_file(place / "gla.safetensors") for place in (folder, whole / folder.relative_to(part))
        )
        assert all(np.array_equal(one[name], other[name]) for name in ("anchors", "shift"))
    found, expected = (without_seconds(read_json(place / "metrics.json")) for place in (part, whole))
    assert found == expected
    found, expected = (pd.read_parquet(place / "predictions.parquet") for place in (part, whole))
    assert np.array_equal(np.stack(found["probabilities"]), np.stack(expected["probabilities"]))


def test_obstacles_to_gla_are_refused_in_one_line(fit, photos, tiny_zoo, tmp_path):
    words = [
        "fit",
        "--strata",
        "clip",
        "--zoo",
        tiny_zoo,
        "--data",
        photos,
        "--gla",
        "--out",
        tmp_path / "run",
    ]
    assert "the tuner zero-shot tunes nothing" in said(run(*words, "--tuner", "zero-shot"))
    line = said(run(*words, "--loss", "focal"))
    assert "those of the loss Focal are no posterior; use the loss CE, CB, GRW, BS, LA, LADE or LA-PW" in line
    assert "the loss GLA-Train has used it in training" in said(run(*words, "--loss", "GLA-Train"))
    assert not (tmp_path / "run").exists()
    folder = fit("--gla")
    (folder / "strata" / "clip" / "gla.safetensors").unlink()
    assert "gla.safetensors cannot be read" in said(run("predict", folder, photos / "ant" / "000.png"))
    save_file(
        {"anchors": np.ones((3, 2), "f4"), "shift": np.ones(3, "f4")}, folder / "strata/clip/gla.safetensors"
    )
    assert "is not of 4 classes" in said(run("predict", folder, photos / "ant" / "000.png"))


def member(n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), 20)
    logits = [rng.normal(np.eye(n_classes)[labels]) for _ in range(4)]
    prior = estimate_prior(logits[0], labels)
    return MemberPrediction("clip", *logits, prior, None, "0" * 64, "made", 0.05, 7, 1.0)


def test_subtracted_prior_is_that_of_the_sampler():
    counts = [81, 9, 9]
    assert prior_left_in_logits(Tuning(loss="LA"), counts) is None
    assert prior_left_in_logits(Tuning(loss="CE"), counts).tolist() == pytest.approx([9 / 11, 1 / 11, 1 / 11])
    even = prior_left_in_logits(Tuning(loss="CE", sampler="class-balanced"), counts)
    assert even.tolist() == pytest.approx([1 / 3] * 3)
    found = member()
    balanced = gla_members(Tuning(loss="CE", sampler="class-balanced"), counts, {"clip": [found]})["clip"][0]
    without = gla_members(Tuning(loss="LA"), counts, {"clip": [found]})["clip"][0]
    np.testing.assert_allclose(balanced.test_probs, without.test_probs)  # an even prior moves nothing


@pytest.mark.parametrize("loss", ["Focal", "LDAM", "GLA-Train", "LA-DRO"])
def test_losses_without_posterior_logits_have_no_gla_ft(loss):
    found = {"clip": [member()]}
    assert gla_members(Tuning(loss=loss), [9, 3, 1], found) == {}
    with pytest.raises(CausalFTError, match=f"GLA-FT .*{loss}"):
        check_gla(Tuning(loss=loss))


def test_empty_class_has_no_prior_to_subtract():
    found = {"clip": [member()]}
    assert gla_members(Tuning(loss="CE"), [9, 3, 0], found) == {}
    assert set(gla_members(Tuning(loss="LA"), [9, 3, 0], found)) == {"clip"}
