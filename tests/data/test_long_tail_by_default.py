"""A long-tailed folder by the default path: shown, fitted, predicted, scored; refusals that work and leave nothing."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import numpy as np
import pandas as pd
import pytest

from causalft import downstream_splits
from causalft.data.opening import open_images
from causalft.errors import CausalFTWarning
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.estimators.strata import StrataClassifier
from causalft.models.pretraining.photo_zoo import head_count, plan_photo_zoo
from causalft.models.pretraining.settings import PhotoZooSettings
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.runs.folder import read_json, write_json
from tests.command_line import run, said

COUNTS = {"ant": 40, "bee": 15, "cow": 6, "doe": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pictures):
    return pictures(tmp_path_factory.mktemp("long") / "tail", COUNTS)


@pytest.fixture(scope="module")
def fitted(folder, tiny_zoo, tmp_path_factory):
    """A default fit of one epoch, and its output."""
    out = tmp_path_factory.mktemp("runs") / "fit"
    words = [
        "fit",
        "--data",
        folder,
        "--zoo",
        tiny_zoo,
        "--strata",
        "clip,openclip",
        "--epochs",
        1,
        "--out",
        out,
    ]
    found = run(*words)
    assert found.exit_code == 0, found.output
    return out, " ".join(found.output.split())


def test_data_show_says_what_fit_then_does(folder, fitted):
    plan = json.loads(run("data", "show", folder, "--json").stdout)["fit"]
    assert plan["refused"] is None and plan["not_validated"] == ["doe"] and plan["not_tested"] == []
    whole = plan["groups"][-1]
    metrics = read_json(fitted[0] / "metrics.json")
    for name in ("train", "validation", "test"):
        assert whole[name] == metrics["data"][f"n_{name}"]
    assert metrics["class_counts"] == {"ant": 28, "bee": 10, "cow": 4, "doe": 2}
    assert metrics["test_counts"] == [8, 3, 1, 1]
    shown = " ".join(run("data", "show", folder).output.split())
    for sentence in plan["sentences"]:
        assert sentence in shown and sentence in metrics["data"]["notes"] and f"note {sentence}" in fitted[1]
    assert "1 class (doe) has no validation image" in shown
    assert "known to about medium ± 35, few ± 50, all ± 38 points" in shown


def test_accuracies_of_the_run_are_those_of_its_predictions(fitted):
    metrics = read_json(fitted[0] / "metrics.json")
    table = pd.read_parquet(fitted[0] / "predictions.parquet")
    right = table["prediction"] == table["label"]
    assert metrics["fused"]["accuracy"] == pytest.approx(right.mean())
    assert metrics["fused"]["mean_class_accuracy"] == pytest.approx(
        right.groupby(table["label"]).mean().mean()
    )
    assert "Accuracy (mean over classes)" in " ".join(metrics["conclusion"])
    assert "4 tested classes have 1 to 8 test images" in " ".join(metrics["conclusion"])


def test_the_run_predicts_and_is_scored(folder, fitted):
    image = next((folder / "doe").iterdir())
    assert run("predict", fitted[0], image).exit_code == 0
    found = json.loads(run("evaluate", fitted[0], "--data", folder, "--json").stdout)
    assert found["n_test"] == 13 and found["notes"] == []
    for command in (["prior", "estimate", "--run", fitted[0], "--n-boot", 20], ["card", fitted[0]]):
        assert run(*command).exit_code == 0


def test_the_prior_of_a_run_is_estimated_for_the_law_of_its_validation_images(fitted):
    found = json.loads(run("prior", "estimate", "--run", fitted[0], "--n-boot", 20, "--json").stdout)
    assert {estimate["target"] for estimate in found["estimates"]} == {"shares"}


def test_evaluate_and_score_say_which_images_the_run_was_fitted_on(folder, fitted, tmp_path, pictures):
    splits = pd.read_parquet(fitted[0] / "images.parquet")
    assert splits["split"].value_counts().to_dict() == {"train": 44, "test": 13, "validation": 7}
    copy = shutil.copytree(folder, tmp_path / "copy")
    found = json.loads(run("evaluate", fitted[0], "--data", copy, "--json").stdout)
    assert [note.partition(" images are ")[0] for note in found["notes"]] == ["44 of 64", "7 of 64"]
    assert "44 of 64 images are training images of" in run("evaluate", fitted[0], "--data", copy).output
    model = StrataClassifier.load(fitted[0], device="cpu", progress=False)
    with pytest.warns(CausalFTWarning, match="of 64 images are") as caught:
        model.score(open_images(copy))
    assert [str(warning.message)[:8] for warning in caught] == ["44 of 64", "7 of 64 "]
    other = pictures(tmp_path / "other", {"ant": 2, "bee": 2}, seed=5)
    assert json.loads(run("evaluate", fitted[0], "--data", other, "--json").stdout)["notes"] == []


@pytest.mark.parametrize(
    "words", [["--n-test", 50, "--n-validation", 10], ["--n-test", 6], ["--n-validation", 3]]
)
def test_the_options_that_a_refusal_offers_work(folder, tiny_zoo, tmp_path, words):
    shown = run("data", "show", folder, *words)
    assert shown.exit_code == 0 and "would refuse this: class '" in shown.output
    fit = ["fit", "--data", folder, "--zoo", tiny_zoo, "--strata", "clip", "--epochs", 1]
    message = said(run(*fit, *words, "--out", tmp_path / "refused"))
    assert "'doe' " in message and not (tmp_path / "refused").exists()
    assert " ".join(message.split()).removeprefix("causalft: error: ") in " ".join(shown.output.split())
    offers = re.findall(r"(?:use|or) (--n-\S+ \S+(?: --n-\S+ \S+)?)", message)
    assert len(offers) == 2
    for offer in offers:
        settings = FitSettings(data=str(folder), zoo=str(tiny_zoo), **sizes(offer))
        assert load_splits(settings, 0).train.class_counts.min() >= 1


def sizes(offer: str) -> dict[str, int | str]:
    """``--n-test 2`` as the setting it is."""
    words = shlex.split(offer)
    return {
        option.removeprefix("--").replace("-", "_"): int(value) if value.isdigit() else value
        for option, value in zip(words[::2], words[1::2])
    }


def test_show_and_fit_refuse_the_same_sets(tmp_path, pictures, tiny_zoo):
    small = pictures(tmp_path / "small", {"ant": 2, "bee": 2, "cow": 2, "doe": 1})
    plan = json.loads(run("data", "show", small, "--json").stdout)["fit"]
    assert "no size works here: add images" in plan["refused"]
    words = ["fit", "--data", small, "--zoo", tiny_zoo, "--strata", "clip", "--out", tmp_path / "run"]
    assert plan["refused"] in said(run(*words))
    one = pictures(tmp_path / "one", {"ant": 9})
    assert "one class only" in json.loads(run("data", "show", one, "--json").stdout)["fit"]["refused"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "small"]


def test_a_fit_that_fails_before_its_first_result_leaves_no_folder(tmp_path, pictures, tiny_zoo):
    strangers = pictures(tmp_path / "data", {"emu": 12, "fox": 12})
    words = ["fit", "--data", strangers, "--zoo", tiny_zoo, "--strata", "clip", "--epochs", 1]
    assert run(*words, "--out", tmp_path / "deep" / "run").exit_code == 2
    assert not (tmp_path / "deep").exists()
    (tmp_path / "there").mkdir()
    assert run(*words, "--out", tmp_path / "there").exit_code == 2
    assert list((tmp_path / "there").iterdir()) == []


def test_a_zoo_of_a_long_tailed_folder_is_made_and_fitted(folder, tmp_path):
    words = ["zoo", "pretrain", "--data", folder, "--member", "clip=upper", "--epochs", 1, "--image-size", 16]
    made = run(*words, "--jobs", 1, "--out", tmp_path / "zoo")
    assert made.exit_code == 0, made.output
    text = " ".join(made.output.split())
    assert "pre-training pool is long-tailed (20 to 2 images per class)" in text
    splits = downstream_splits(tmp_path / "zoo", open_images(folder))
    assert splits.train.class_counts.tolist() == [8, 2, 1, 1]
    assert splits.test.class_counts.tolist() == [8, 3, 1, 0]
    fit = ["fit", "--data", folder, "--zoo", tmp_path / "zoo", "--strata", "clip", "--epochs", 1]
    done = run(*fit, "--out", tmp_path / "run", "--json")
    assert done.exit_code == 0, done.output
    notes = json.loads(done.stdout)["data"]["notes"]
    assert any("1 class (doe) has no test image" in note for note in notes)

    (tmp_path / "zoo" / "metrics.json").unlink()  # as after an interruption
    refused = said(run(*fit, "--out", tmp_path / "other"))
    assert "is an unfinished zoo; repeat its `causalft zoo pretrain` command" in refused


def test_failed_pretraining_leaves_no_folder(tmp_path, pictures):
    data = pictures(tmp_path / "data", {"ant": 9, "bee": 1})
    message = said(run("zoo", "pretrain", "--data", data, "--out", tmp_path / "zoo"))
    assert "class 'bee' has 1 image in" in message and "leave the class out" in message
    data = pictures(tmp_path / "more", {"ant": 30, "bee": 12})
    message = said(run("zoo", "pretrain", "--data", data, "--n-test", 9, "--out", tmp_path / "zoo"))
    assert "use --n-test auto" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "more"]


def test_a_member_of_a_long_tailed_pool_has_the_prior_that_it_claims(folder):
    images = open_images(folder)
    zoo = plan_photo_zoo(images, {"clip": "full"}, PhotoZooSettings(imbalance_factor=10.0))
    pool = np.bincount(images.labels[zoo.parts["pool"]], minlength=4)
    assert pool.tolist() == [20, 8, 3, 2]
    head, repeat = head_count(pool, zoo.members[0].order, 10.0, "exponential")
    assert repeat and zoo.settings["repeats"]
    from causalft.models.pretraining.photo_zoo import member_pixels

    _, labels, prior = member_pixels(images, zoo.members[0], zoo, False)
    drawn = np.bincount(labels, minlength=4)
    assert drawn / drawn.sum() == pytest.approx(prior) and drawn.max() == head
    assert drawn.sum() <= pool.sum() < drawn.sum() + 4
    assert zoo.settings["epochs"] == 400  # one step an epoch


def test_settings_of_older_runs_keep_their_meaning(folder, fitted, tmp_path):
    """A run with whole numbers is cut as before."""
    config = read_json(fitted[0] / "config.json")["config"]
    assert config["n_test"] == config["n_validation"] == "auto"
    write_json(tmp_path / "config.json", {**config, "n_test": 1, "n_validation": 1})
    older = FitSettings.from_config(read_json(tmp_path / "config.json"))
    assert load_splits(older, 0).test.class_counts.tolist() == [1, 1, 1, 1]
