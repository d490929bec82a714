"""`causalft fit --order`: the tail stands against what a stratum was trained on, true where known, else estimated."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from causalft.data.longtail import spearman
from causalft.methods.estimators.settings import FitSettings
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.runs.folder import read_json
from tests.command_line import run, said

# The prior of clip in the tiny zoo falls from ant to doe; that of openclip is rolled by two (its seed).
KINDS = ["ant", "bee", "cow", "doe"]


def settings(photos, tiny_zoo, **given):
    usual = {"strata": ("clip", "openclip"), "imbalance_factor": 6.0, "n_test": 4, "n_validation": 3}
    return FitSettings(data=str(photos), zoo=str(tiny_zoo), cache=False, **usual | given)


def by_size(splits):
    counts = splits.train.class_counts
    return [splits.class_names[k] for k in np.argsort(-counts, kind="stable")]


@pytest.mark.parametrize(
    ("order", "by", "wanted"),
    [
        ("consistency", None, KINDS),
        ("reverse", None, KINDS[::-1]),
        ("consistency", "openclip", ["cow", "doe", "ant", "bee"]),
        (
            "reverse",
            "metaclip",
            ["cow", "bee", "ant", "doe"],
        ),  # any name of the zoo, also no stratum of the run
    ],
)
def test_the_tail_follows_the_true_prior_of_the_card(photos, tiny_zoo, order, by, wanted):
    splits = load_splits(settings(photos, tiny_zoo, order=order, order_by=by), seed=0)
    assert list(splits.order) == by_size(splits) == wanted
    assert len(set(splits.train.class_counts.tolist())) == 4
    assert f"the true label prior of {by or 'clip'}" in splits.notes[-1]


def test_balance_order_is_uncorrelated_with_the_prior(photos, tiny_zoo):
    splits = load_splits(settings(photos, tiny_zoo, order="balance"), seed=0)
    order = [KINDS.index(name) for name in splits.order]
    assert abs(spearman([order, range(4)])[0, 1]) <= 0.2  # of 4 classes no order has exactly 0


def test_without_a_card_that_knows_the_classes_the_prior_is_estimated(
    photos, tiny_zoo, tmp_path, monkeypatch
):
    """A card of other classes says nothing; what is estimated is that of the zero-shot logits, from validation only."""
    zoo = shutil.copytree(tiny_zoo, tmp_path / "zoo")
    card = read_json(zoo / "clip.json")
    card["class_names"] = ["w", "x", "y", "z"]
    (zoo / "clip.json").write_text(json.dumps(card))
    from causalft.pipelines.workflows import fit_data as module

    seen = []
    whole = module.prior_on_validation

    def watched(logits, labels, *rest):
        seen.append((logits.shape, np.bincount(labels).tolist()))
        return whole(logits, labels, *rest)

    monkeypatch.setattr(module, "prior_on_validation", watched)
    orders = {
        order: load_splits(settings(photos, zoo, order=order), seed=0) for order in ("consistency", "reverse")
    }
    assert seen == [((12, 4), [3, 3, 3, 3])] * 2
    assert (
        orders["consistency"].order == orders["reverse"].order[::-1] == tuple(by_size(orders["consistency"]))
    )
    assert "the estimated label prior of clip" in orders["reverse"].notes[-1]
    # The two differ in the training images and in nothing else.
    one, other = orders.values()
    assert one.validation.files == other.validation.files and one.test.files == other.test.files


def test_a_zoo_of_the_same_images_can_be_ordered_against(photos, tmp_path):
    """The card of a mini holds the prior that it was made with, and its manifest the images that it never saw."""
    words = [
        "zoo",
        "pretrain",
        "--data",
        photos,
        "--out",
        tmp_path / "zoo",
        "--member",
        "clip=upper",
        "--jobs",
        1,
    ]
    words += ["--n-test", 6, "--n-validation", 3, "--epochs", 1, "--image-size", 16, "--imbalance-factor", 5]
    assert run(*words).exit_code == 0
    found = {
        order: load_splits(
            FitSettings(("clip",), data=str(photos), zoo=str(tmp_path / "zoo"), **given, order=order), seed=0
        )
        for order, given in (
            ("random", {}),
            ("reverse", {"imbalance_factor": 4.0}),
        )
    }
    card = read_json(tmp_path / "zoo" / "clip.json")
    prior = dict(zip(card["class_names"], card["prior"], strict=True))
    assert list(found["reverse"].order) == sorted(prior, key=prior.get)
    assert found["reverse"].test.files == found["random"].test.files
    assert set(found["reverse"].train.files) < set(found["random"].train.files)
    assert "true label prior of clip" in found["reverse"].notes[-1]


def test_one_order_for_all_seeds(photos, tiny_zoo):
    chosen = settings(photos, tiny_zoo, order="balance")
    one, other = (load_splits(chosen, seed) for seed in (0, 1))
    assert one.order == other.order and one.train.files != other.train.files


def test_fit_takes_the_order_and_names_the_prior(photos, tiny_zoo, tmp_path):
    words = ["fit", "--strata", "clip", "--zoo", tiny_zoo, "--data", photos, "--epochs", 1, "--n-test", 4]
    words += ["--n-validation", 3, "--imbalance-factor", 6, "--out", tmp_path / "run"]
    found = run(*words, "--order", "reverse", "--order-by", "openclip", "--json")
    assert found.exit_code == 0, found.output
    metrics = json.loads(found.stdout)
    counts = metrics["class_counts"]
    assert sorted(counts, key=lambda name: -counts[name]) == ["bee", "ant", "doe", "cow"]
    assert "the reverse of the true label prior of openclip" in metrics["data"]["notes"][-1]
    assert "--order reverse --order-by openclip" in (tmp_path / "run" / "report.html").read_text()
    again = run("evaluate", tmp_path / "run", "--data", photos, "--json")
    assert json.loads(again.stdout)["fused"]["accuracy"] == metrics["fused"]["accuracy"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--order", "reverse"], "--order goes with --imbalance-factor"),
        (
            ["--imbalance-factor", 6, "--order-by", "clip"],
            "--order-by goes with --order consistency, reverse",
        ),
        (
            ["--imbalance-factor", 6, "--order", "reverse", "--order-by", "opnclip"],
            "no stratum 'opnclip'; did you mean 'openclip'",
        ),
    ],
)
def test_wrong_orders_are_refused_in_one_line(photos, tiny_zoo, tmp_path, options, message):
    words = ["fit", "--zoo", tiny_zoo, "--data", photos, "--n-test", 4, "--n-validation", 3]
    assert message in said(run(*words, *options, "--out", tmp_path / "run"))


def test_the_built_in_data_has_its_order():
    assert "brings its splits and its order" in said(run("fit", "--order", "reverse"))
