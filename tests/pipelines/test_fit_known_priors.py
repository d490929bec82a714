"""`causalft fit --prior-of`: groups, slope, GLA and the order of the tail by the counts of a file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from causalft.data.groups import prior_groups
from causalft.methods.estimators.fit_command import fit_command
from causalft.methods.estimators.run_documents import PREDICTIONS, stratum_folder
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.priors import compare_priors, debias
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.runs.folder import read_json, write_json
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit

KINDS = ["ant", "bee", "cow", "doe"]
COUNTS = {"Ant": 10, "BEE": 1000, "cow": 100, "doe": 1}


def write(path: Path, counts: dict[str, float]) -> Path:
    path.write_text("".join(f"{name}\t{count}\n" for name, count in counts.items()))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("counts")
    return write(folder / "clip.txt", COUNTS), write(folder / "openclip.txt", {"ant": 5, "bee": 1, "cow": 20})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos, files) -> Path:
    """A fit with a complete prior of clip, and one of openclip without doe."""
    clip, openclip = files
    options = ("--prior-of", f"clip={clip}", "--prior-of", f"openclip={openclip}")
    return fit(tmp_path_factory.mktemp("run") / "run", tiny_zoo, photos, *options)


def test_groups_slope_and_document_use_the_known_prior(fitted, files):
    metrics = read_json(fitted / "metrics.json")
    clip, openclip = (metrics["strata"][name] for name in ("clip", "openclip"))
    known = np.array(list(COUNTS.values())) / 1111
    np.testing.assert_allclose(clip["label_prior"], known)
    assert clip["prior_from"] == openclip["prior_from"] == "known"
    assert openclip["label_prior"][3] is None and openclip["true_label_prior"][3] is None
    reports = {row["class"]: row["P"] for row in metrics["worst_classes"]}
    for k, kind in enumerate(KINDS):
        if kind in reports:
            assert reports[kind]["clip"] == prior_groups(known)[k]
            assert (reports[kind]["openclip"] == "unknown") == (kind == "doe")
    estimate = np.array(clip["estimated_label_prior"])
    beside = compare_priors(known, estimate)
    assert clip["prior_spearman"] == beside.spearman and clip["prior_groups"] == beside.group_counts
    assert clip["prior_kl"] == pytest.approx(beside.kl)
    assert clip["known_prior"]["source"] == str(files[0]) and len(clip["known_prior"]["sha256"]) == 64
    assert (
        "openclip: no count for 1 class, left out of the P groups and slopes: doe"
        in openclip["known_prior"]["notes"]
    )
    assert metrics["class_difficulty"][3] is None  # in no slope, for want of one prior


def test_gla_subtracts_the_known_prior_only_if_it_has_all_classes(fitted):
    metrics = read_json(fitted / "metrics.json")
    labels = [name for name in KINDS for _ in range(4)]
    for name, which in (("clip", "label_prior"), ("openclip", "estimated_label_prior")):
        scores = metrics["strata"][name]
        assert scores["gla_prior_from"] == ("known" if name == "clip" else "estimated")
        logits = load_file(stratum_folder(fitted, name) / PREDICTIONS)["zero_shot_test"]
        chosen = debias(logits.astype(float), scores[which]).argmax(1)
        right = np.mean([KINDS[k] == label for k, label in zip(chosen, labels, strict=True)])
        assert scores["zero_shot"]["gla_accuracy"] == pytest.approx(right)
        by_estimate = debias(logits.astype(float), scores["estimated_label_prior"]).argmax(1)
        right = np.mean([KINDS[k] == label for k, label in zip(by_estimate, labels, strict=True)])
        assert scores["zero_shot_by_estimate"]["gla_accuracy"] == pytest.approx(right)


def test_page_and_evaluate_say_that_the_prior_is_known(fitted, photos):
    page = (fitted / "report.html").read_text()
    assert "The prior of clip, openclip is known from counts" in page
    assert "GLA-ZS by the estimate" in page
    assert "GLA subtracts it for clip" in page and "group by the known prior" in page
    assert "known pre-training prior (%)" not in page or "estimated pre-training prior" not in page
    shown = run("evaluate", fitted, "--data", photos, "--json")
    assert shown.exit_code == 0, shown.output
    again = json.loads(shown.stdout)
    metrics = read_json(fitted / "metrics.json")
    for name in ("clip", "openclip"):
        assert again["strata"][name]["P"] == metrics["strata"][name]["P"]
        assert again["strata"][name]["label_prior"] == metrics["strata"][name]["label_prior"]
        assert again["strata"][name]["prior_from"] == "known"
    assert "P: by the known pre-training prior" in " ".join(
        run("evaluate", fitted, "--data", photos).output.split()
    )


def test_prior_estimate_of_a_run_takes_the_counts_too(fitted, files):
    found = run(
        "prior", "estimate", "--run", fitted, "--prior-of", f"openclip={files[1]}", "--n-boot", 20, "--json"
    )
    assert found.exit_code == 0, found.output
    clip, openclip = json.loads(found.stdout)["estimates"]
    assert clip["truth"]["source"] == "card" and openclip["truth"]["source"] == str(files[1])
    assert openclip["truth"]["n_known"] == 3 and openclip["classes"][3]["true_prior"] is None


def test_the_command_repeats_the_run_and_a_changed_file_does_not_resume(
    fitted, files, tmp_path, tiny_zoo, photos
):
    config = read_json(fitted / "config.json")["config"]
    assert config["known_priors"] == {"prior_of": {"clip": str(files[0]), "openclip": str(files[1])}}
    assert f"--prior-of clip={files[0]} --prior-of openclip={files[1]}" in fit_command(config, "out")
    options = ("--prior-of", f"clip={files[0]}", "--prior-of", f"openclip={files[1]}")
    copy = shutil.copytree(fitted, tmp_path / "run")
    (copy / "metrics.json").unlink()  # as an interrupted run is
    fit(copy, tiny_zoo, photos, *options)
    assert read_json(copy / "metrics.json")["strata"] == read_json(fitted / "metrics.json")["strata"]
    (copy / "metrics.json").unlink()
    document = read_json(copy / "config.json")
    document["config"]["prior_sha256"]["clip"] = "0" * 64  # as if the file had been another
    write_json(copy / "config.json", document)
    with pytest.raises(AssertionError, match="prior_sha256.clip"):
        fit(copy, tiny_zoo, photos, *options)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"prior_off": {}}, "config.known_priors.prior_off"),
        ({"prior_of": {"clip": 3}}, "config.known_priors.prior_of.clip"),
    ],
)
def test_a_config_changed_by_hand_is_refused(fitted, tmp_path, known, words):
    copy = shutil.copytree(fitted, tmp_path / "run")
    document = read_json(copy / "config.json")
    document["config"]["known_priors"] = known
    write_json(copy / "config.json", document)
    result = run("evaluate", copy, "--data", "creatures-lt")
    assert result.exit_code == 2 and words in said(result)


@pytest.mark.parametrize(
    ("order", "expected"),
    [("consistency", ["bee", "cow", "ant", "doe"]), ("reverse", ["doe", "ant", "cow", "bee"])],
)
@pytest.mark.parametrize("name", ["clip", "laion"])
def test_the_tail_is_ordered_by_a_known_prior_of_a_stratum_or_of_any_name(
    photos, tiny_zoo, files, name, order, expected
):
    settings = FitSettings(
        strata=("clip", "openclip"),
        data=str(photos),
        zoo=str(tiny_zoo),
        imbalance_factor=6.0,
        n_test=4,
        n_validation=3,
        order=order,
        order_by=None if name == "clip" else name,
        known_priors={"prior_of": {name: str(files[0])}},
    )
    splits = load_splits(settings, seed=0)
    assert list(splits.order) == expected
    assert np.argsort(-splits.train.class_counts).tolist() == [KINDS.index(kind) for kind in expected]
    assert f"the known label prior of {name}" in splits.notes[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prior-of", "clp={clip}"], "--prior-of clp: no model is called so; did you mean 'clip'"),
        (["--prior-of", "clip=none.txt"], "no such file or folder"),
        (["--prior-of", "openclip={openclip}", "--gla"], "GLA needs the count of every class"),
        (
            ["--prior-of", "openclip={openclip}", "--gla"],
            "none for 1 class (doe); add them, or leave out --prior-of",
        ),
        (["--prior-of", "openclip={openclip}", "--loss", "GLA-Train"], "GLA needs the count of every class"),
        (
            [
                "--prior-of",
                "x={openclip}",
                "--order",
                "reverse",
                "--order-by",
                "x",
                "--imbalance-factor",
                "4",
            ],
            "the order of the long tail needs the count of every class",
        ),
        (
            ["--prior-of", "clip={clip}", "--zero-counts", "maybe"],
            "unknown zero_counts 'maybe'; known: seen, unknown",
        ),
        (["--prior-map", "{clip}"], "--prior-map goes with --prior-of NAME=FILE"),
    ],
)
def test_wrong_counts_are_refused_before_anything_is_trained(
    tmp_path, photos, tiny_zoo, files, options, words
):
    given = [option.format(clip=files[0], openclip=files[1]) for option in options]
    result = run(
        *("fit", "--strata", "clip,openclip", "--zoo", tiny_zoo, "--data", photos, "--n-test", 4),
        *("--n-validation", 3, "--out", tmp_path / "run", *given),
    )
    assert result.exit_code == 2 and words in said(result)
    assert not (tmp_path / "run").exists()


def test_priors_that_are_equal_leave_no_slope_and_a_page(tiny_zoo, photos, tmp_path):
    """It failed after all training, over a figure of a slope that does not exist."""
    counts = tmp_path / "counts.csv"
    counts.write_text("".join(f"{name},100\n" for name in ("ant", "bee", "cow", "doe")))
    options = ("--prior-of", f"clip={counts}", "--prior-of", f"openclip={counts}")
    folder = fit(tmp_path / "run", tiny_zoo, photos, *options)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["prior_slope"]["before"] is None
    assert not (folder / "figures" / "slope.png").exists()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "a hundred times rarer" not in page and "Parameter imbalance" in page
