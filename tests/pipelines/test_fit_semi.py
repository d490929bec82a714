"""``fit --method``: labelled and unlabelled images, pseudo-labels reported, everything after a fit works on it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import softmax

from causalft.methods.estimators.fit_command import fit_command
from causalft.methods.estimators.member_prediction import open_prediction
from causalft.methods.estimators.run_documents import open_fit
from causalft.pipelines.workflows import outcome
from causalft.pipelines.workflows import semi as semi_module
from causalft.pipelines.workflows.semi import laws_of_unlabelled
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit

DRAW = ["--labeled-per-class", 4, "--unlabeled-per-class", 10, "--gamma-l", 2, "--order", "class"]


@pytest.fixture(scope="module")
def semi(tmp_path_factory, tiny_zoo, photos):
    folder = tmp_path_factory.mktemp("semi") / "run"
    return fit(folder, tiny_zoo, photos, *DRAW, "--method", "lp-fixmatch", "--threshold", 0.2)


def test_the_interface_of_the_entry_semi(semi):
    found = json.loads((semi / "metrics.json").read_text())["semi"]
    assert found["method"] == "lp-fixmatch"
    assert found["unlabelled"]["n"] == 28
    assert {"n", "law", "law_ci95", "setting"} <= set(found["unlabelled"])
    rows = found["pseudo_labels"]
    assert [set(row) for row in rows] == [{"epoch", "group", "n", "precision"}] * 4
    everyone = rows[0]
    assert everyone["group"] == "all" and everyone["n"] == sum(row["n"] for row in rows[1:])
    assert 0 <= everyone["precision"] <= 1  # drawn of labelled images, so the truth is known to the report


def test_the_counts_of_the_strata_add_up(semi):
    found = json.loads((semi / "metrics.json").read_text())["semi"]
    each = [part["pseudo_labels"][0]["n"] for part in found["strata"].values()]
    assert len(each) == 2 and sum(each) == found["pseudo_labels"][0]["n"]
    kept, _ = open_prediction(semi / "strata" / "clip" / "predictions.safetensors")
    assert kept.pseudo_labels is not None and kept.pseudo_labels.kept.sum() == each[0]
    assert kept.pseudo_labels.confidence.sum() == 28  # every unlabelled image once per epoch


def test_the_page_shows_the_unlabelled_images(semi):
    page = (semi / "report.html").read_text(encoding="utf-8")
    assert "Unlabelled images" in page and "FixMatch with a linear probe" in page
    assert (semi / "figures" / "pseudo-labels.png").is_file()


def test_the_command_names_the_method_and_not_what_follows_from_it(semi):
    words = fit_command(open_fit(semi).config, "again")
    assert "--method lp-fixmatch --threshold 0.2" in words
    assert "--head" not in words and "--tuner" not in words


def test_the_run_predicts_what_it_predicted(semi, photos, tmp_path):
    out = tmp_path / "answers.jsonl"
    result = run("predict", semi, photos, "--out", out)
    assert result.exit_code == 0, result.output
    assert len(out.read_text().splitlines()) > 0


def test_strata_share_pseudo_labels(tiny_zoo, photos, tmp_path):
    folder = fit(
        tmp_path / "run",
        tiny_zoo,
        photos,
        *DRAW,
        "--method",
        "lp-fixmatch",
        "--threshold",
        0.2,
        "--share-labels",
    )
    found = json.loads((folder / "metrics.json").read_text())["semi"]
    one, two = found["strata"].values()
    assert one["pseudo_labels"] == two["pseudo_labels"] == found["pseudo_labels"]
    assert np.isclose(one["believed_law"], two["believed_law"]).all()


def test_a_control_that_shares_labels_answers_for_the_unlabelled_images_itself(
    tiny_zoo, photos, tmp_path, monkeypatch
):
    given, usual = [], outcome.fit_fusions

    def fit_fusions(*arguments, **options):
        given.append(options.get("unlabeled") or arguments[5:])
        return usual(*arguments, **options)

    monkeypatch.setattr(outcome, "fit_fusions", fit_fusions)
    options = ["--method", "lp-fixmatch", "--threshold", 0.2, "--share-labels", "--control", "seeds"]
    fit(tmp_path / "run", tiny_zoo, photos, *DRAW, *options)
    strata, (control,) = given[:2]
    assert set(strata) == {"clip", "openclip"} and set(control) > set(strata)
    # ``clip`` learnt with other company there
    assert not np.array_equal(strata["clip"][0], control["clip"][0])
    assert np.array_equal(strata["openclip"][0], control["openclip"][0])


def test_unseen_classes_are_told_by_the_energy_of_each_stratum_and_of_their_mean_logits(monkeypatch):
    given = {}
    monkeypatch.setattr(
        semi_module, "estimate_law", lambda *tables, scores: given.update({len(given): scores}) or scores
    )
    rng = np.random.default_rng(0)
    logits = {name: rng.normal(size=(2, 5, 3)) for name in ("clip", "openclip")}
    images = SimpleNamespace(labels=np.zeros(5, int), class_counts=np.ones(3, int))
    laws_of_unlabelled(
        SimpleNamespace(validation=images, train=images),
        {name: [SimpleNamespace(validation_logits=of[0])] for name, of in logits.items()},
        {name: [of[1]] for name, of in logits.items()},
        lambda stacked, kind: softmax(stacked, axis=-1).mean(axis=0),
    )
    for scores, expected in zip(given.values(), [*logits.values(), sum(logits.values()) / 2], strict=True):
        assert np.allclose(scores, np.log(np.exp(expected).sum(axis=-1)))


def test_a_figure_without_a_line_is_not_drawn(tiny_zoo, photos, tmp_path):
    folder = fit(tmp_path / "run", tiny_zoo, photos, *DRAW, "--method", "lp-fixmatch", "--threshold", 1)
    found = json.loads((folder / "metrics.json").read_text())["semi"]
    assert found["pseudo_labels"][0]["n"] == 0 and (folder / "figures" / "confidence.png").is_file()
    assert not (folder / "figures" / "pseudo-labels.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "fixmatch"], "learns from unlabelled images: give --unlabeled PATH"),
        (["--method", "fixmach", *DRAW], "did you mean 'fixmatch'"),
        (["--threshold", 0.9], "--threshold goes with a semi-supervised method"),
        (["--method", "fixmatch", *DRAW, "--gla"], "--gla does not go with the method fixmatch"),
        (["--method", "fixmatch", *DRAW, "--joint"], "strata learn together with --share-labels"),
        (
            ["--method", "lp-fixmatch", *DRAW, "--tuner", "lora"],
            "stands for the tuner linear-probe; leave --tuner lora out, or take --method fixmatch",
        ),
        (["--method", "lft", "--tuner", "lora"], "leave --tuner lora out, or leave --method out"),
        (["--method", "fft", "--tuner", "adaptformer"], "which stands for the tuner full; leave it out"),
        (
            ["--method", "fixmatch", *DRAW, "--head", "cosine"],
            "fixmatch, which has heads of its own; leave it out",
        ),
        (["--method", "acr", *DRAW, "--loss", "LA"], "acr, which has its own remedy for the long tail"),
        (
            ["--method", "crest", *DRAW, "--method-setting", "generations=0"],
            "generations is 0; give 1 or more",
        ),
        (
            ["--method", "channel-ensemble", *DRAW, "--method-setting", "agree=6"],
            "5 heads of which 6 must agree",
        ),
        (
            ["--method", "loft", *DRAW, "--threshold", 0.2],
            "outliers; give a threshold above that, not 0.2",
        ),
        (
            ["--fusion", "mixture", "--strict"],
            "--strict is about unlabelled images, and nothing here uses any",
        ),
        (
            ["--method", "lp", "--fusion", "mixture", "--drop-outliers"],
            "--drop-outliers is about unlabelled images",
        ),
        (["--unlabeled-ratio", 2], "--unlabeled-ratio goes with a semi-supervised method"),
        (
            [*DRAW, "--fusion", "product"],
            "--unlabeled-per-class goes with --fusion adjusted, or a --method that learns from unlabelled images",
        ),
        (
            ["--method", "lp", *DRAW, "--fusion", "mixture"],
            "learns from unlabelled images; lp learns from labelled images alone",
        ),
        (
            ["--method", "fixmatch", *DRAW[:2], *DRAW[2:4], "--order", "class"],
            "--labeled-per-class 4 is smaller than --gamma-l 100",
        ),
        (["--method", "fixmatch", *DRAW, "--head", "linear"], "has heads of its own"),
        (["--method", "fixmatch", *DRAW, "--loss", "Focal"], "learns labelled images by LA or CE"),
        (
            ["--method", "fixmatch", *DRAW, "--loss-setting", "tau=0.5"],
            "by LA without settings; leave --loss-setting out",
        ),
        (
            ["--method", "fixmatch", *DRAW, "--tuner", "full", "--bottleneck", 4],
            "(--bottleneck) does nothing with the tuner 'full'",
        ),
        (
            ["--method", "lp-fixmatch", *DRAW, "--bottleneck", 4],
            "(--bottleneck) does nothing with the tuner 'linear-probe'",
        ),
        (["--method", "fixmatch", *DRAW, "--tuner", "zero-shot"], "trains nothing"),
        (
            ["--method", "lp", "--fusion", "logit", "--unlabeled", "creatures-lt"],
            "a --method that learns from unlabelled images",
        ),
        (["--method", "fixmatch", *DRAW, "--strata", "clip", "--share-labels"], "two strata or more"),
    ],
)
def test_what_does_not_go_together_is_refused(tiny_zoo, photos, tmp_path, options, message):
    words = ["--zoo", tiny_zoo, "--data", photos, "--n-test", 4, "--n-validation", 3, "--out", tmp_path / "r"]
    result = run("fit", *words, *options)
    assert result.exit_code == 2, result.output
    assert message in said(result)
    assert not (tmp_path / "r").exists()
