"""``fit`` draws labelled and unlabelled images of one set, and lists every image that it used."""

from __future__ import annotations

import pandas as pd
import pytest

from causalft.data.protocol import labelled_counts
from causalft.methods.estimators.fit_command import fit_command
from causalft.methods.estimators.run_documents import open_fit
from causalft.methods.estimators.settings import FitSettings
from causalft.pipelines.workflows.fit import run_fit
from causalft.pipelines.workflows.fit_data import load_splits
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit

DRAW = ["--labeled-per-class", 6, "--unlabeled-per-class", 9, "--gamma-l", 3, "--unlabeled-order", "reversed"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, tiny_zoo, photos):
    folder = tmp_path_factory.mktemp("drawn") / "run"
    return fit(
        folder, tiny_zoo, photos, "--fusion", "adjusted", "--tolerance", 100, "--order", "class", *DRAW
    )


def test_labelled_and_unlabelled_images_are_drawn_and_listed(drawn):
    metrics = open_fit(drawn).metrics
    assert list(metrics["class_counts"].values()) == labelled_counts(4, 6, 3).tolist()
    assert (
        metrics["adjustment"]["chosen_on"] == "unlabelled"
        and metrics["adjustment"]["n_images"] == 3 + 4 + 6 + 9
    )
    table = pd.read_parquet(drawn / "images.parquet")
    assert table["split"].value_counts()["unlabelled"] == 22 and not table["file"].duplicated().any()
    assert (table.loc[table["split"] == "unlabelled", "label"] == "").all()


def test_the_run_says_how_to_make_it_again(drawn):
    config = open_fit(drawn).config
    words = fit_command(config, "again")
    assert "--labeled-per-class 6 --unlabeled-per-class 9 --gamma-l 3" in words
    assert "--unlabeled-order reversed" in words and "--order class" in words
    settings = FitSettings.from_config(config)
    one, two = load_splits(settings, 0), load_splits(settings, 1)
    assert (
        one.test.files == two.test.files
        and one.train.class_counts.tolist() == two.train.class_counts.tolist()
    )
    assert set(one.train.files) != set(two.train.files) and one.unlabelled.hidden is not None
    assert not set(one.train.files) & set(one.unlabelled.images.files)


def test_every_seed_leaves_its_own_training_images_out(tiny_zoo, photos, tmp_path, monkeypatch):
    """The unlabelled images of another seed may be its labelled ones."""
    seen = []
    from causalft.pipelines.workflows import fit as workflow

    usual = workflow._classifier

    def watched(*given):
        model = usual(*given)
        fitted = model.fit

        def fit_it(train, *, unlabeled=None, **others):
            seen.append((set(train.files), set(unlabeled.images.files)))
            return fitted(train, unlabeled=unlabeled, **others)

        model.fit = fit_it
        return model

    monkeypatch.setattr(workflow, "_classifier", watched)
    beside = {"labeled_per_class": 3, "unlabeled_per_class": 6, "gamma_l": 3.0}
    settings = FitSettings(
        strata=("clip",),
        data=str(photos),
        zoo=str(tiny_zoo),
        fusion="adjusted",
        tolerance=100,
        n_seeds=2,
        n_test=4,
        n_validation=3,
        unlabelled_options=beside,
    )
    settings = FitSettings(**{**vars(settings), "tuning": settings.tuning.__class__(epochs=1)})
    run_fit(settings, tmp_path / "run")
    assert len(seen) == 2 and seen[0] != seen[1]
    assert all(not train & unlabelled for train, unlabelled in seen)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labeled-per-class", 40, "--gamma-l", 3], "lower --labeled-per-class"),
        (["--gamma-l", 3], "--gamma-l goes with --labeled-per-class"),
        (["--labeled-per-class", 5, "--imbalance-factor", 4], "give one of the two draws"),
        (["--labeled-per-class", 5, "--profile", "zipf"], "--profile goes with --imbalance-factor"),
    ],
)
def test_draws_that_cannot_be_are_refused(tiny_zoo, photos, tmp_path, words, message):
    words = [
        "fit",
        "--strata",
        "clip",
        "--zoo",
        tiny_zoo,
        "--data",
        photos,
        "--n-test",
        4,
        "--n-validation",
        3,
        *words,
    ]
    result = run(*words, "--out", tmp_path / "run")
    assert result.exit_code == 2 and message in said(result) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--imbalance-factor", 4], "--gamma-l gives"),
        (["--n-test", 4], "creatures-ltssl brings its splits"),
        (["--fusion", "adjusted", "--unlabeled", "creatures-lt"], "brings its own unlabelled images"),
    ],
)
def test_options_that_creatures_ltssl_decides_are_refused(tmp_path, words, message):
    result = run("fit", "--data", "creatures-ltssl", *words, "--out", tmp_path / "run")
    assert result.exit_code == 2 and message in said(result)


def test_unlabelled_images_that_are_in_a_split_are_refused_with_strict(tiny_zoo, photos, tmp_path):
    words = ["fit", "--strata", "clip", "--zoo", tiny_zoo, "--data", photos, "--fusion", "adjusted"]
    words += [
        "--n-test",
        4,
        "--n-validation",
        3,
        "--unlabeled",
        photos,
        "--strict",
        "--out",
        tmp_path / "run",
    ]
    assert "unlabelled images of" in said(run(*words)) and "leave --strict out to drop them" in said(
        run(*words)
    )


@pytest.mark.parametrize("foreign", [0, 60])
def test_images_that_look_like_no_class_are_dropped_if_there_is_evidence(
    tiny_zoo, photos, monkeypatch, foreign
):
    from types import SimpleNamespace

    import numpy as np

    from causalft.data.hidden import Unlabelled
    from causalft.data.image_set import ImageSet
    from causalft.data.splits import Splits
    from causalft.pipelines.workflows import unlabelled_images as workflow

    rng = np.random.default_rng(0)

    def logits(labels):  # sure of its own classes, not of others (-1)
        eye = np.vstack([np.eye(4), np.zeros(4)])
        return 4 * eye[labels] + rng.normal(size=(len(labels), 4))

    known, hidden = np.arange(400) % 4, np.concatenate([np.arange(200) % 4, np.full(foreign, -1)])
    names = ["a", "b", "c", "d"]
    validation = ImageSet.from_arrays(np.zeros((400, 2, 2, 3), np.uint8), known, names)
    images = ImageSet.from_arrays(
        np.zeros((len(hidden), 2, 2, 3), np.uint8), np.zeros(len(hidden), int), ["?"]
    )
    found = SimpleNamespace(logits=(logits(known), logits(hidden)))
    monkeypatch.setattr(workflow, "encode_zero_shot", lambda *_, **__: found)
    settings = FitSettings(strata=("clip",), zoo=str(tiny_zoo), data=str(photos), cache=False)
    splits = Splits(train=validation, validation=validation, test=validation)
    kept, line = workflow.without_outliers(
        settings, settings.open_zoo(), splits, Unlabelled.of(images, known=False)
    )
    if not foreign:
        assert len(kept) == 200 and "no evidence of other classes" in line
    else:
        assert 180 <= len(kept) <= 203 and "look like no labelled class" in line


def test_images_on_which_the_strata_disagree_count_as_outliers(tiny_zoo, photos, monkeypatch):
    from types import SimpleNamespace

    import numpy as np

    from causalft.data.hidden import Unlabelled
    from causalft.data.image_set import ImageSet
    from causalft.data.splits import Splits
    from causalft.pipelines.workflows import unlabelled_images as workflow

    rng = np.random.default_rng(0)
    known, hidden = np.arange(400) % 4, np.concatenate([np.arange(200) % 4, np.full(100, -1)])
    validation = ImageSet.from_arrays(np.zeros((400, 2, 2, 3), np.uint8), known, ["a", "b", "c", "d"])
    images = ImageSet.from_arrays(np.zeros((300, 2, 2, 3), np.uint8), np.zeros(300, int), ["?"])

    def encode(
        stratum, *_, **__
    ):  # each is as sure of the foreign images as of its own, of a class of its own
        seen = np.where(hidden < 0, ["clip", "openclip"].index(stratum.name), hidden)
        logits = (6 * np.eye(4)[labels] + rng.normal(size=(len(labels), 4)) for labels in (known, seen))
        return SimpleNamespace(logits=tuple(logits))

    monkeypatch.setattr(workflow, "encode_zero_shot", encode)
    splits = Splits(train=validation, validation=validation, test=validation)
    left = {}
    for strata in (("clip",), ("clip", "openclip")):
        settings = FitSettings(strata=strata, zoo=str(tiny_zoo), data=str(photos), cache=False)
        kept, _ = workflow.without_outliers(
            settings, settings.open_zoo(), splits, Unlabelled.of(images, known=False)
        )
        left[len(strata)] = 300 - len(kept)
    assert left[1] == 0 and 90 <= left[2] <= 115
