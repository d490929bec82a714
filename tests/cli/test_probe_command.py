"""`causalft probe`: neighbours and heads on frozen features."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest

from causalft.data.groups import class_accuracy, data_groups, group_accuracy
from causalft.methods.estimators.probes import FeatureKNN, sweep_heads
from causalft.methods.estimators.settings import FitSettings
from causalft.models.features.cache import FeatureCache, cached_features
from causalft.models.strata.prompts import text_weights
from causalft.models.strata.zoo import open_zoo
from causalft.pipelines.workflows import probe as module
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.pipelines.workflows.probe import ProbeSettings, probe, score_correct
from causalft.runs.folder import Run, read_json
from tests.command_line import run, said

GIVEN = ["--strata", "clip,openclip", "--n-test", 6, "--n-validation", 4, "--imbalance-factor", 5]


@pytest.fixture(scope="module")
def words(tiny_zoo, photos):
    return ["probe", "--zoo", tiny_zoo, "--data", photos, *GIVEN, "--epochs", 3, "--seeds", 2]


@pytest.fixture(scope="module")
def made(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe") / "run"
    result = run(*words, "--losses", "ce,LA", "--lr", "0.01,0.1", "--out", folder, "--json")
    assert result.exit_code == 0, result.output
    return folder, json.loads(result.stdout)


@pytest.fixture(scope="module")
def settings(tiny_zoo, photos):
    fit = FitSettings(
        strata=("clip",),
        data=str(photos),
        zoo=str(tiny_zoo),
        imbalance_factor=5.0,
        n_test=6,
        n_validation=4,
        n_seeds=2,
    )
    return ProbeSettings(fit=replace(fit, tuning=replace(fit.tuning, epochs=2)), losses=("CE", "LA"))


def features_of(zoo, splits, name):
    stratum = open_zoo(zoo).load(name)
    parts = (splits.train, splits.validation, splits.test)
    return stratum, [np.array(cached_features(None, stratum, part, progress=False)) for part in parts]


def test_command_agrees_with_the_library(made, tiny_zoo, settings):
    metrics = made[1]
    splits = load_splits(settings.fit, 0)
    groups = data_groups(splits.train.class_counts)
    for name in ("clip", "openclip"):
        stratum, (train, validation, test) = features_of(tiny_zoo, splits, name)
        knn = metrics["strata"][name]["knn"]
        for k, accuracy in knn["tried"].items():
            predicted = FeatureKNN(int(k)).fit(train, splits.train.labels).predict(validation)
            assert accuracy == pytest.approx((predicted == splits.validation.labels).mean())  # it is balanced
        assert knn["tried"][str(knn["k"])] == max(knn["tried"].values())
        right = FeatureKNN(knn["k"]).fit(train, splits.train.labels).predict(test) == splits.test.labels
        assert knn["accuracy"] == pytest.approx(right.mean())
        assert knn["ci95"][0] <= knn["accuracy"] <= knn["ci95"][1]
        assert knn["D"] == pytest.approx(group_accuracy(class_accuracy(right, splits.test.labels, 4), groups))
        tuning = settings.fit.tuning
        sweep = sweep_heads(
            train,
            splits.train.labels,
            losses=["CE", "LA"],
            seeds=[0, 1],
            recipe=replace(tuning.recipe, epochs=3),
            learning_rates=[0.01, 0.1],
            start=text_weights(stratum, splits.class_names, tuning.template),
            evaluate={
                "validation": (validation, splits.validation.labels),
                "test": (test, splits.test.labels),
            },
            progress=False,
        ).table
        for row in metrics["strata"][name]["heads"]:
            tried = sweep[sweep["loss"] == row["loss"]]
            risk = tried.groupby("lr")["validation_nll"].mean()
            assert row["lr"] == risk.idxmin()
            chosen = tried[tried["lr"] == row["lr"]]
            assert row["accuracy"] == pytest.approx(chosen["test_accuracy"].mean())
            assert row["validation_accuracy"] == pytest.approx(chosen["validation_balanced_accuracy"].mean())


def test_choices_do_not_depend_on_test_labels(settings, monkeypatch):
    """With every test label wrong, the same k, rate and head are chosen, and the test accuracies are others."""
    whole = module.load_splits

    def spoilt(fit, seed):
        splits = whole(fit, seed)
        test = splits.test
        test.labels = (test.labels + 1) % test.n_classes
        return splits

    settings = replace(settings, fit=replace(settings.fit, learning_rates=(0.01, 0.1)))
    honest = probe(settings, progress=False)["strata"]["clip"]
    monkeypatch.setattr(module, "load_splits", spoilt)
    other = probe(settings, progress=False)["strata"]["clip"]
    for key in ("k", "validation_accuracy", "tried"):
        assert honest["knn"][key] == other["knn"][key]
    assert honest["chosen_head"] == other["chosen_head"]
    assert [r["validation_nll"] for r in honest["heads"]] == [r["validation_nll"] for r in other["heads"]]
    assert honest["knn"]["accuracy"] != other["knn"]["accuracy"]


def test_ties_go_to_fewer_neighbours(settings, monkeypatch):
    monkeypatch.setattr(module, "mean_class_accuracy", lambda predicted, images: 0.5)
    found = probe(replace(settings, k=(20, 3, 7), losses=()), progress=False)["strata"]["clip"]
    assert found["knn"]["k"] == 3 and found["heads"] == [] and found["chosen_head"] is None


def test_out_is_a_complete_run_with_its_command(made, words):
    folder, metrics = made
    assert Run.open(folder, kind="probe").metrics == read_json(folder / "metrics.json") == metrics
    page = (folder / "report.html").read_text()
    command = shlex.join(["causalft", *map(str, words), "--losses", "ce,LA", "--lr", "0.01,0.1"])
    assert (folder / "figures" / "probe.png").stat().st_size > 10_000
    for word in ("--losses ce,LA", "--lr 0.01,0.1", "--strata clip,openclip", "kNN, k ="):
        assert word in page, command
    assert "already holds a complete probe run" in said(run(*words, "--out", folder))


def test_table_lists_every_classifier_and_marks_the_chosen_head(words):
    shown = run(*words, "--losses", "CE,LA,GLA-Train,LDAM", "--heads", "cosine,l2", "--k", 1, "--seeds", 1)
    assert shown.exit_code == 0, shown.output
    for name in ("zero-shot", "kNN, k = 1", "cosine, GLA-Train", "l2, LDAM", "D-few"):
        assert name in shown.stdout
    assert sum(line.count(" * ") for line in shown.stdout.splitlines()) == 2  # one a stratum


def test_features_are_cached_between_probes(words, tmp_path, monkeypatch):
    monkeypatch.setenv("CAUSALFT_CACHE", str(tmp_path / "cache"))
    words = [*words[:5], *GIVEN]
    one = run(*words, "--losses", "none", "--json")
    kinds = [entry.about["kind"] for entry in FeatureCache().entries()]
    assert kinds.count("features") == 6  # three splits of two strata
    used = {entry.key: entry.made for entry in FeatureCache().entries()}
    monkeypatch.setattr(
        "causalft.models.features.cache.stream_crops", lambda *_: pytest.fail("encoded again")
    )
    two = run(*words, "--losses", "none", "--json")
    assert {entry.key: entry.made for entry in FeatureCache().entries()} == used
    strip = lambda result: json.loads(result.stdout) | {"seconds": None}  # noqa: E731
    assert strip(one) == strip(two)
    monkeypatch.undo()
    fresh = tmp_path / "none"
    monkeypatch.setenv("CAUSALFT_CACHE", str(fresh))
    assert strip(run(*words, "--losses", "none", "--no-cache", "--json")) == strip(one)
    assert not fresh.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--k", "0,5"], "'--k': '0' is out of range; give a whole number from 1"),
        (["--k", "1.5"], "'--k': '1.5' is not a whole number"),
        (["--k", "five"], "'--k': 'five' is not a whole number"),
        (["--losses", "CE,LAA"], "no loss is named 'LAA'"),
        (["--losses", "LA,la"], "a loss is named twice"),
        (["--heads", "cosin"], "no head is named 'cosin'; did you mean 'cosine'"),
        (["--losses", "none", "--seeds", 3], "--seeds is for heads, and --losses none trains none"),
        (["--strata", "clip,clip"], "each once"),
        (["--strata", "clap"], "no stratum 'clap'"),
        (["--epochs", 0], "'--epochs': '0' is out of range"),
        (["--lr", "-1"], "'--lr': '-1' is out of range"),
    ],
)
def test_invalid_settings_are_refused_in_one_line(words, options, message):
    assert message in said(run(*words[:5], *GIVEN, *options))


def test_split_options_are_refused_for_built_in_data():
    assert "brings its splits and its order" in said(run("probe", "--n-test", 3))


def test_too_many_neighbours_are_refused_before_encoding(words, settings, monkeypatch, tmp_path):
    n = len(load_splits(settings.fit, 0).train)
    monkeypatch.setattr(module, "_probe_stratum", lambda *_: pytest.fail("encoded"))
    line = said(run(*words[:5], *GIVEN, "--losses", "none", "--k", "1,5000", "--out", tmp_path / "out"))
    assert f"5000 neighbours of {n} training images; --k takes 1 to {n} here" in line


def test_as_many_neighbours_as_training_images_use_all(settings):
    n_train = len(load_splits(settings.fit, 0).train)
    found = probe(replace(settings, k=(1, n_train), losses=()), progress=False)["strata"]["clip"]
    assert list(found["knn"]["tried"]) == ["1", str(n_train)]


def test_interval_over_disagreeing_seeds_stays_within_0_and_1(settings):
    splits = load_splits(settings.fit, 0)
    right = np.stack([np.ones(len(splits.test), bool), np.zeros(len(splits.test), bool)])
    scores = score_correct(right, splits, seed=0).to_metrics()
    assert scores["accuracy"] == 0.5 and scores["ci95"] == [0, 1]
    assert all(bounds is None or bounds == [0, 1] for bounds in scores["D_ci95"].values())
