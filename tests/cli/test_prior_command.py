"""``causalft prior estimate``: every kind of file, a fitted run, what is printed and written, and wrong input."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from causalft.methods.priors import estimate_prior, kl_divergence
from tests import command_line
from tests.command_line import said

K = 5
NAMES = ["ant", "bee", "cow", "doe", "eel"]
QUICK = ["--n-boot", "20", "--json"]


run = partial(command_line.run, "prior", "estimate")


def found(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["estimates"]


@pytest.fixture(scope="module")
def sample():
    """Logits that lean towards class 0, and balanced labels."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(K), 12)
    logits = rng.normal(size=(60, K)) + 1.5 * np.eye(K)[labels] + np.array([2.0, 1, 0, -1, -2])
    return logits.astype(np.float32), labels


def write(folder: Path, kind: str, logits: np.ndarray, labels: np.ndarray) -> list:
    """Write the sample as one kind of file; return the options that read it."""
    path = folder / f"sample.{kind.split('-')[0]}"
    if kind == "npz":
        np.savez(path, logits=logits, label=labels)
    elif kind == "npy":
        np.save(path, logits)
        (folder / "labels.txt").write_text("\n".join(map(str, labels)))
        return ["--logits", path, "--labels", folder / "labels.txt"]
    elif kind == "safetensors":
        save_file({"zero_shot": logits, "y": labels}, path)
        return ["--logits", path, "--logits-name", "zero_shot", "--labels-name", "y"]
    elif kind == "parquet-lists":
        pd.DataFrame({"logits": list(logits), "label": labels}).to_parquet(path)
    else:
        table = pd.DataFrame(logits, columns=NAMES)
        table.insert(0, "file", [f"{i}.jpg" for i in range(len(table))])
        table["label"] = [NAMES[k] for k in labels]
        table.to_parquet(path) if kind == "parquet" else table.to_csv(path, index=False)
    return ["--logits", path]


@pytest.mark.parametrize("kind", ["npz", "npy", "safetensors", "parquet-lists", "parquet", "csv"])
def test_every_file_format_gives_the_same_estimate(tmp_path, sample, kind):
    (document,) = found(run(*write(tmp_path, kind, *sample), *QUICK))
    expected = estimate_prior(*sample, l2="cv")
    rows = document["classes"]
    np.testing.assert_allclose([row["prior"] for row in rows], expected.prior, rtol=1e-4)
    assert [row["class"] for row in rows] == (NAMES if kind in ("parquet", "csv") else list("01234"))
    assert document["l2"] == expected.l2 and document["converged"] and document["target"] == "balanced"
    assert "NOT the class frequency" in document["caveat"] and document["pretraining_loss"] == "unknown"
    for row in rows:
        assert row["ci95"][0] < row["prior"] < row["ci95"][1] and row["n_labelled"] == 12
        assert sum(row["group_probability"].values()) == pytest.approx(1)


def test_the_table_leads_with_the_highest_prior_and_ends_with_the_caveat(tmp_path, sample):
    classes = tmp_path / "names.txt"
    classes.write_text("\n".join(NAMES))
    options = [*write(tmp_path, "npz", *sample), "--classes", classes, "--n-boot", 20]
    result = run(*options, "--pretraining-loss", "caption-bank", "--out", tmp_path / "prior.csv")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].strip() == "label prior of sample" and lines[2].startswith("ant") and "many" in lines[2]
    text = " ".join(result.stdout.split())
    assert "by cross-validation" in text and "q estimates the pre-training prior P_P(Y), but only" in text
    table = pd.read_csv(tmp_path / "prior.csv")
    assert table["class"].tolist() == NAMES and table["prior"].sum() == pytest.approx(1)
    np.testing.assert_allclose(table[["p_many", "p_medium", "p_few"]].sum(axis=1), 1)
    short = run(*options, "--rows", 2)
    assert "... 3 more" in short.stdout and "bee" not in short.stdout


def test_unbalanced_labels_use_empirical_shares(tmp_path, sample):
    logits, labels = sample
    keep = np.concatenate(
        [np.flatnonzero(labels == 0), *(np.flatnonzero(labels == k)[:2] for k in range(1, K))]
    )
    keep = np.concatenate([np.repeat(keep[:12], 4), keep[12:]])
    options = [*write(tmp_path, "npz", logits[keep], labels[keep]), *QUICK]
    (auto,), (told,) = found(run(*options)), found(run(*options, "--target", "shares"))
    (forced,) = found(run(*options, "--target", "balanced"))
    assert auto == told and auto["target"] == "shares"
    # Taken for balanced, the crowd of class 0 is read as a model that names it too rarely.
    assert forced["classes"][0]["prior"] < auto["classes"][0]["prior"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, photos, tiny_zoo):
    folder = tmp_path_factory.mktemp("prior") / "run"
    options = ["fit", "--data", photos, "--zoo", tiny_zoo, "--strata", "clip,openclip", "--epochs", 1]
    options += ["--lr", "0.01", "--n-validation", 4, "--n-test", 4, "--out", folder]
    result = command_line.run(*options)
    assert result.exit_code == 0, result.output
    return folder


def test_a_run_gives_every_stratum_with_the_caveat_of_its_card(fitted):
    documents = found(run("--run", fitted, *QUICK))
    metrics = json.loads((fitted / "metrics.json").read_text())
    assert [document["name"] for document in documents] == ["clip", "openclip"]
    for document in documents:
        known = metrics["strata"][document["name"]]["label_prior"]
        np.testing.assert_allclose([row["prior"] for row in document["classes"]], known, rtol=1e-5)
        assert document["pretraining_loss"] == "caption-bank" and document["n"] == 16
        assert [row["class"] for row in document["classes"]] == metrics["classes"]
        truth = np.array(metrics["strata"][document["name"]]["true_label_prior"])
        assert [row["true_prior"] for row in document["classes"]] == truth.tolist()
        said = document["truth"]
        assert said["imbalance"] == pytest.approx(truth.max() / truth.min()) == pytest.approx(0.7 / 0.03)
        assert said["kl"] == pytest.approx(kl_divergence(truth, known)) and said["n_inside_ci95"] <= 4
        assert said["kl"] == pytest.approx(metrics["strata"][document["name"]]["prior_kl"])
    (one,) = found(run("--run", fitted, "--stratum", "openclip", *QUICK))
    assert one == documents[1]


def test_prior_from_eight_images_is_reported_as_unknown(tmp_path):
    logits = 12 * np.random.default_rng(3).normal(size=(8, 8))
    np.savez(tmp_path / "s.npz", logits=logits, label=np.arange(8))
    result = run("--logits", tmp_path / "s.npz", "--n-boot", 20, "--pretraining-loss", "caption-bank")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "caveat The 8 labelled images (median 1 per class) do not show that the classes differ" in text


def test_known_prior_is_shown_beside_the_estimate(fitted, tmp_path):
    result = run("--run", fitted, "--stratum", "clip", "--n-boot", 20, "--out", tmp_path / "prior.parquet")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "known %" in text and "known this zoo knows it: imbalance 23.3; Spearman" in text
    assert pd.read_parquet(tmp_path / "prior.parquet")["true_prior"].max() == pytest.approx(0.7)


def test_the_imbalance_is_corrected_for_the_noise_that_raises_it(tmp_path):
    rng = np.random.default_rng(1)
    prior = 100.0 ** (-np.arange(60) / 59)
    prior = rng.permutation(prior / prior.sum())
    centres, labels = 1.5 * rng.normal(size=(60, 10)), np.repeat(np.arange(60), 10)
    x = centres[labels] + rng.normal(size=(600, 10))
    logits = -0.5 * ((x[:, None] - centres) ** 2).sum(-1) + np.log(prior)
    np.savez(tmp_path / "s.npz", logits=logits, label=labels)
    (document,) = found(run("--logits", tmp_path / "s.npz", "--l2", 0, *QUICK))
    low, high = document["imbalance_ci95"]
    assert document["imbalance_of_estimate"] > 300 and 50 < document["imbalance"] < 200
    assert low < 100 < high and document["imbalance_reason"] is None and document["truth"] is None


def test_older_run_takes_the_caveat_from_its_cards(fitted, tmp_path):
    old = shutil.copytree(fitted, tmp_path / "old")
    metrics = json.loads((old / "metrics.json").read_text())
    for stratum in metrics["strata"].values():
        del stratum["pretraining_loss"]
    (old / "metrics.json").write_text(json.dumps(metrics))
    (one,) = found(run("--run", old, "--stratum", "clip", *QUICK, "--l2", 0))
    assert one["pretraining_loss"] == "caption-bank"


def test_stratum_with_a_slash_in_its_name_is_found(fitted, tmp_path):
    """ARCH/TAG of open_clip and timm:NAME stand in folders without slash and colon."""
    copy = shutil.copytree(fitted, tmp_path / "copy")
    (copy / "strata" / "clip").rename(copy / "strata" / "ViT-B-16_mine")
    for name in ("config.json", "metrics.json"):
        (copy / name).write_text((copy / name).read_text().replace('"clip"', '"ViT-B-16/mine"'))
    documents = found(run("--run", copy, *QUICK, "--l2", 0))
    assert [document["name"] for document in documents] == ["ViT-B-16/mine", "openclip"]


def test_run_without_logits_is_refused_with_a_hint(fitted, tmp_path):
    """As after push and pull, which leave the predictions behind."""
    copy = shutil.copytree(fitted, tmp_path / "copy")
    (copy / "strata" / "clip" / "predictions.safetensors").unlink()
    line = said(run("--run", copy))
    assert (
        "no logits of the validation images" in line and "where it was fitted" in line and "--logits" in line
    )


def test_labels_kept_in_the_run_are_used(fitted, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(fitted, copy)
    config = json.loads((copy / "config.json").read_text())
    config["config"]["data"] = str(tmp_path / "gone")
    (copy / "config.json").write_text(json.dumps(config))
    assert len(found(run("--run", copy, *QUICK))) == 2
    for path in copy.glob("strata/*/predictions.safetensors"):
        arrays = load_file(path)
        del arrays["validation_labels"]
        save_file(arrays, path)
    assert run("--run", copy, *QUICK).exit_code == 2


def test_bad_input_is_one_line(tmp_path, sample, fitted):
    logits, labels = sample
    good = write(tmp_path, "npz", logits, labels)
    assert "either --run RUNDIR or --logits FILE" in said(run())
    assert "did you mean 'logits'" in said(run(*good, "--logits-name", "logit"))
    assert "nothing named 'labels'" in said(run(*good, "--labels-name", "labels"))
    assert "no such file" in said(run("--logits", tmp_path / "none.npz"))
    assert "give a number from 0 to 1,000,000,000, or cv" in said(run(*good, "--l2", "strong"))
    assert "use .csv or .parquet" in said(run(*good, "--out", tmp_path / "x.xlsx"))
    assert "did you mean 'caption-bank'" in said(run(*good, "--pretraining-loss", "caption bank"))
    assert "give a whole number from 20 to" in said(run(*good, "--n-boot", 3))
    assert "belongs to --run" in said(run(*good, "--stratum", "clip"))
    assert "belongs to --logits" in said(run("--run", fitted, "--labels", tmp_path / "sample.npz"))
    assert "did you mean 'clip'" in said(run("--run", fitted, "--stratum", "clp"))
    assert "is not a run folder (it has no config.json of a run)" in said(run("--run", tmp_path))
    assert "cannot read .jpg" in said(
        run("--logits", tmp_path.joinpath("a.jpg").touch() or tmp_path / "a.jpg")
    )

    def refused(name, **arrays):
        np.savez(tmp_path / name, **arrays)
        return said(run("--logits", tmp_path / name))

    broken = logits.copy()
    broken[3, 1] = np.nan
    assert "logits of sample 3 are not finite" in refused("nan.npz", logits=broken, label=labels)
    assert "must agree" in refused("short.npz", logits=logits, label=labels[:7])
    assert "from 0 to 4" in refused("high.npz", logits=logits, label=labels + 1)
    assert "not of shape (60,)" in refused("flat.npz", logits=logits[:, 0], label=labels)
    assert "not float64" in refused("float.npz", logits=logits, label=labels / 2)
    assert "pickle" in refused("object.npz", logits=np.array([{}], dtype=object), label=labels)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "sample.npz").read_bytes()[:200])
    assert "cannot be read" in said(run("--logits", tmp_path / "cut.npz"))

    classes = tmp_path / "names.txt"
    classes.write_text("ant\nbee\n")
    assert "2 class names for 5 columns" in said(run(*good, "--classes", classes))
    table = pd.DataFrame(logits, columns=NAMES).assign(label="ant")
    table.loc[4, "label"] = "beee"
    table.to_csv(tmp_path / "t.csv", index=False)
    assert "label 'beee' is no class; did you mean 'bee'" in said(run("--logits", tmp_path / "t.csv"))
    classes.write_text("\n".join([*NAMES[:4], "elk"]))
    assert "no column for class 'elk'" in said(run("--logits", tmp_path / "t.csv", "--classes", classes))
