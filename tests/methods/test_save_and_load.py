"""A fitted classifier as a folder: every setting and every probability comes back, also of runs from before."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace

import networkx as nx
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from causalft.data.hidden import Unlabelled
from causalft.data.opening import open_images
from causalft.data.splits import cut_splits
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.estimators.fitted import stored_settings
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.estimators.strata import StrataClassifier
from causalft.methods.semi.settings import SemiSettings
from causalft.models.strata.zoo import PretrainedZoo, open_zoo
from causalft.scm import causal_graph
from tests.command_line import run

FAST = Tuning(epochs=1, lr=0.01, batch_size=16, seed=3)


@pytest.fixture(scope="module")
def splits(photos):
    return cut_splits(open_images(photos), n_validation=4, n_test=4, seed=0)


def unusual(zoo) -> dict[str, object]:
    """A value other than the default for every parameter; a new parameter must be added here."""
    graph = causal_graph()
    graph.add_edge("C", "B")
    return {
        "strata": ("clip", "openclip"),
        "zoo": str(zoo),
        "weights": None,  # belongs to the pretrained zoo; tested below
        "tuning": FAST,
        "learning_rates": (0.01, 0.02),
        "gla": True,
        "fusion": "logit",
        "tolerance": 1.5,
        "target_law": None,  # of the adjusted fusion; tested with it
        "stratum_prior": (0.25, 0.75),
        "calibrate_strata": True,
        "semi": SemiSettings(),  # a method goes without GLA-FT; tested below
        "joint": False,  # does without GLA-FT and calibrated strata; tested below
        "graph": graph,
        "device": "cpu",
        "progress": False,
        "offline": True,
        "allow_pickle": True,
    }


@pytest.fixture(scope="module")
def saved(tiny_zoo, splits, tmp_path_factory):
    model = StrataClassifier(**unusual(tiny_zoo)).fit(splits.train, validation=splits.validation)
    return model, model.save(tmp_path_factory.mktemp("saved") / "model")


def assert_same_settings(found: StrataClassifier, expected: dict[str, object]) -> None:
    params = found.get_params()
    assert params.keys() == expected.keys()
    for name, value in expected.items():
        if name == "graph" and value is not None:
            assert nx.utils.graphs_equal(params[name], value)
        else:
            assert params[name] == value and type(params[name]) is type(value), name


def test_every_setting_round_trips(saved, tiny_zoo):
    defaults, chosen = StrataClassifier().get_params(), unusual(tiny_zoo)
    assert defaults.keys() == chosen.keys()
    untried = ("weights", "graph", "joint", "semi", "target_law")
    assert [n for n in defaults if n not in untried and defaults[n] == chosen[n]] == []
    assert_same_settings(StrataClassifier.load(saved[1]), chosen)


def test_a_loaded_classifier_predicts_the_same_and_its_clone_fits_the_same(saved, splits):
    model, folder = saved
    loaded = StrataClassifier.load(folder)
    expected = model.predict_proba(splits.test)
    np.testing.assert_array_equal(loaded.predict_proba(splits.test), expected)
    assert loaded.classes_.tolist() == model.classes_.tolist() and loaded.mixing_ == model.mixing_
    again = clone(loaded).fit(splits.train, validation=splits.validation)
    np.testing.assert_array_equal(again.predict_proba(splits.test), expected)


def test_strata_tuned_together_are_saved_and_loaded(tiny_zoo, splits, tmp_path):
    quick = StrataClassifier(("clip", "openclip"), zoo=str(tiny_zoo), tuning=FAST, joint=True, progress=False)
    model = quick.fit(splits.train, validation=splits.validation)
    loaded = StrataClassifier.load(model.save(tmp_path / "model"))
    assert loaded.joint
    np.testing.assert_array_equal(loaded.predict_proba(splits.test), model.predict_proba(splits.test))


def test_the_method_of_a_classifier_is_saved_and_loaded(tiny_zoo, splits, tmp_path):
    settings = SemiSettings(
        method="fixmatch", threshold=0.3, method_setting={"unlabelled_weight": 2}, unlabeled_ratio=3
    )
    model = StrataClassifier(("clip",), zoo=str(tiny_zoo), tuning=FAST, semi=settings, progress=False)
    beside = Unlabelled.of(splits.test)
    model.fit(splits.train, validation=splits.validation, unlabeled=beside)
    loaded = StrataClassifier.load(model.save(tmp_path / "model"))
    assert loaded.semi == settings
    np.testing.assert_array_equal(loaded.predict_proba(splits.test), model.predict_proba(splits.test))


def test_the_command_predicts_with_a_saved_classifier(saved, splits, photos):
    result = run("predict", saved[1], photos / "ant" / "000.png", "--json")
    assert result.exit_code == 0, result.output
    [said] = json.loads(result.stdout)
    expected = saved[0].predict_proba(open_images(photos).subset([0]))[0]
    assert list(said["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-6)
    refused = run("card", saved[1])
    assert refused.exit_code == 2 and "is a classifier run; a fit run is needed" in refused.stderr


def test_save_refuses_an_unfitted_classifier_and_a_taken_folder(saved, tmp_path):
    with pytest.raises(NotFittedError):
        StrataClassifier().save(tmp_path / "a")
    with pytest.raises(CausalFTError, match="already holds a complete classifier run"):
        saved[0].save(saved[1])


def test_load_accepts_another_device_precision_and_progress(saved, monkeypatch):
    loaded = StrataClassifier.load(saved[1], device="auto", precision="fp32", progress=True)
    assert (loaded.device, loaded.progress, loaded.tuning) == ("auto", True, replace(FAST, precision="fp32"))


# --- what is in config.json of a fit run -----------------------------------------------------------------------


def test_every_parameter_but_the_graph_and_the_bar_is_a_setting_of_fit():
    assert set(StrataClassifier().get_params()) - {f.name for f in fields(FitSettings)} == {
        "graph",
        "progress",
    }


def test_settings_of_a_fit_run_round_trip(tiny_zoo):
    chosen = {**unusual(tiny_zoo), "weights": {"clip": "/a.safetensors"}}
    in_run = {name: value for name, value in chosen.items() if name not in ("graph", "progress")}
    settings = FitSettings(**in_run, seed=7)
    config = json.loads(json.dumps({**asdict(settings), "zoo": settings.zoo_name}))
    found = StrataClassifier(**stored_settings(config, list(chosen)))
    expected = {**chosen, "tuning": replace(FAST, seed=7), "graph": None, "progress": None}
    assert_same_settings(found, expected)


def test_settings_absent_from_older_configs_get_their_defaults():
    old = {"strata": ["clip"], "zoo": "mini", "tuning": asdict(FAST), "fusion": "adjusted", "weights": {}}
    found = StrataClassifier(**stored_settings(old, list(StrataClassifier().get_params())))
    assert_same_settings(found, {**StrataClassifier().get_params(), "strata": ("clip",), "tuning": FAST})


def test_an_absent_device_becomes_auto(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert stored_settings({"device": "cuda:1"}, ["device"])["device"] == "auto"
    assert stored_settings({"device": "cpu"}, ["device"])["device"] == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    for device, found in (("cuda:1", "auto"), ("cuda:0", "cuda:0"), ("cuda", "cuda"), ("mps", "auto")):
        assert stored_settings({"device": device}, ["device"])["device"] == found


def test_the_zoo_is_opened_as_the_settings_say(tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"")
    model = StrataClassifier(
        ("clip",), zoo="pretrained", weights={"clip": str(file)}, offline=True, allow_pickle=True
    )
    zoo = model.check()
    assert isinstance(zoo, PretrainedZoo) and (zoo.offline, zoo.allow_pickle) == (True, True)


def test_an_opened_zoo_is_saved_by_its_name(tiny_zoo, splits, tmp_path):
    zoo = open_zoo(tiny_zoo)
    model = StrataClassifier(("clip",), zoo=zoo, tuning=FAST, progress=False)
    model.fit(splits.train, validation=splits.validation).save(tmp_path / "model")
    assert StrataClassifier.load(tmp_path / "model").zoo == str(tiny_zoo)
