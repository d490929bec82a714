"""Valid JSON of the wrong shape is refused in one line with file and key, by every verb."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil

import pytest

from causalft.errors import CausalFTError
from causalft.methods.estimators.run_documents import open_fit
from causalft.methods.estimators.settings import FitSettings
from causalft.runs.documents import check_shape
from causalft.runs.folder import read_json
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    return fit(tmp_path_factory.mktemp("documents") / "run", tiny_zoo, photos)


@pytest.fixture
def broken(fitted, tmp_path):
    """A function that copies a run and changes a document of it: its text, or the value of a key."""
    folder = tmp_path / "run"
    shutil.copytree(fitted, folder)

    def write(name, value, *at):
        if at:
            document = json.loads((folder / name).read_text())
            inner = document
            for key in at[:-1]:
                inner = inner[key]
            if value is ...:
                del inner[at[-1]]
            else:
                inner[at[-1]] = value
            value = json.dumps(document)
        (folder / name).write_text(value)
        return folder

    return write


WRONG = [
    ("config.json", "x", ("config",), "config is not an object"),
    ("config.json", {}, ("config",), "config.strata is missing"),
    ("config.json", 3, ("config", "strata"), "config.strata is 3, not a list"),
    ("config.json", "clip", ("config", "strata"), 'config.strata is "clip", not a list'),
    ("config.json", [], ("config", "strata"), "does not name each stratum once"),
    ("config.json", [None], ("config", "strata"), "config.strata[0] is null, not a text"),
    ("config.json", ..., ("config", "tuning"), "config.tuning is missing"),
    ("config.json", {"speed": 3}, ("config", "tuning"), "config.tuning.speed is not known here"),
    ("config.json", "0.1", ("config", "tuning", "lr"), 'config.tuning.lr is "0.1", not a finite number'),
    ("config.json", -1, ("config", "tuning", "epochs"), "config.tuning: epochs -1 is out of range"),
    ("config.json", "lion", ("config", "tuning", "head"), "config.tuning"),
    ("config.json", ["a"], ("config", "weights"), "config.weights is a list, not an object"),
    ("config.json", 5, ("config", "colour"), "config.colour is not known here"),
    ("config.json", None, ("config", "zoo"), "config.zoo is null, not a text"),
    ("config.json", ["a", "b"], ("config", "data_fingerprint"), "does not hold three hashes"),
    ("config.json", [1], ("kind",), "is a "),
    ("config.json", "[]", (), "is not a run folder"),
    ("config.json", "{", (), "not valid JSON"),
    ("config.json", "[" * 100_000, (), "nested too deeply"),
    ("metrics.json", "[]", (), "metrics.json: it holds no object"),
    ("metrics.json", "{}", (), "metrics.json: zoo is missing"),
    ("metrics.json", '{"zoo": NaN}', (), "metrics.json: not valid JSON (NaN is no number"),
    ("metrics.json", '{"zoo": 1e999}', (), "metrics.json: weights is missing"),
    ("metrics.json", "9" * 5_000, (), "metrics.json: not valid JSON"),
    ("metrics.json", [], ("strata",), "strata is a list, not an object"),
    ("metrics.json", {}, ("strata",), "strata.clip is missing"),
    ("metrics.json", 3, ("strata", "clip"), "strata.clip is 3, not an object"),
    ("metrics.json", [0.5], ("strata", "clip", "label_prior"), "does not hold 4 numbers, one per class"),
    ("metrics.json", "abc", ("weights", "clip"), "weights.clip is no sha256"),
    ("metrics.json", ["ant", 3, "cow", "doe"], ("classes",), "classes[1] is 3, not a text"),
    ("metrics.json", ..., ("class_counts", "bee"), "class_counts.bee is missing"),
    ("metrics.json", 1.5, ("class_counts", "bee"), "class_counts.bee is 1.5, not a whole number"),
    ("metrics.json", True, ("fused", "accuracy"), "fused.accuracy is true, not a finite number"),
    ("metrics.json", "sum", ("mixing", "fusion"), "mixing.fusion is "),
    ("metrics.json", [1.0], ("mixing", "stratum_prior"), "mixing.stratum_prior does not hold 2 entries"),
    ("metrics.json", 0, ("mixing", "temperature"), "mixing.temperature is not above 0"),
    ("metrics.json", [], ("controls",), "controls is a list, not an object"),
    ("metrics.json", {"name": 3}, ("data",), "data."),
]


@pytest.mark.parametrize(("name", "value", "at", "words"), WRONG)
def test_wrong_shape_is_refused_with_file_and_key(broken, name, value, at, words):
    folder = broken(name, value, *at)
    with pytest.raises(CausalFTError) as caught:
        open_fit(folder)
    assert words in str(caught.value) and (
        name in str(caught.value) or "run folder" in str(caught.value) or at == ("kind",)
    )
    assert len(str(caught.value)) < 500


VERBS = {
    "predict": "predict RUN IMAGE",
    "evaluate": "evaluate RUN --data PHOTOS",
    "card": "card RUN",
    "push": "push RUN --to-folder OUT",
    "export": "export RUN --to single-file --out OUT.safetensors",
    "wise-ft": "wise-ft RUN",
    "prior estimate": "prior estimate --run RUN",
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("name", "value", "at", "words"),
    [WRONG[0], WRONG[2], WRONG[19], WRONG[26]],
    ids=["config", "strata", "list", "stratum"],
)
def test_every_verb_checks_the_shape_of_a_run(broken, verb, name, value, at, words, photos, tmp_path):
    folder = broken(name, value, *at)
    places = {"RUN": folder, "PHOTOS": photos, "IMAGE": photos / "ant" / "000.png", "OUT": tmp_path / "out"}
    line = VERBS[verb].split()
    given = [next((w.replace(k, str(p)) for k, p in places.items() if w.startswith(k)), w) for w in line]
    assert f"{folder / name}: " in (found := said(run(*given))) and words in found
    assert not list(tmp_path.glob("out*"))


def test_card_refuses_unusable_metrics_in_one_line(broken):
    folder = broken("metrics.json", 3, "P_gap")
    line = said(run("card", folder))
    assert f"{folder / 'metrics.json'} is not that of a fit (" in line


def test_settings_absent_from_older_configs_take_their_defaults(broken, fitted):
    whole = FitSettings.from_config(open_fit(fitted).config)
    for name in ("gla", "order_by", "data_fingerprint"):
        folder = broken("config.json", ..., "config", name)
    assert FitSettings.from_config(open_fit(folder).config) == whole


def test_unchanged_run_opens(fitted):
    opened = open_fit(fitted)
    assert opened.config["strata"] == ["clip", "openclip"]


def test_document_that_is_a_pipe_is_refused_at_once(tmp_path):
    import os

    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(CausalFTError, match="is no regular file"):
        read_json(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prior": [0.5]}, "prior does not hold a positive number for each"),
        ({"prior": "x"}, 'prior is "x", not a list'),
        ({"class_names": 3}, "class_names is 3, not a list"),
        ({"recipe": {}}, "recipe.n_images is missing"),
        ({"recipe": []}, "recipe is a list, not an object"),
        ({"architecture": {"width": "wide"}}, 'architecture.width is "wide", not a whole number'),
        ({"mean": None}, "mean is null, not a list"),
        ({"view": 3}, "view is 3, not an object"),
    ],
)
def test_model_card_of_a_mini_is_checked(tiny_zoo, tmp_path, change, words):
    zoo = tmp_path / "zoo"
    shutil.copytree(tiny_zoo, zoo)
    card = json.loads((zoo / "clip.json").read_text())
    (zoo / "clip.json").write_text(json.dumps({**card, **change}))
    for words_of in (["zoo", "show", "clip", "--zoo", zoo], ["zoo", "check", "--zoo", zoo]):
        line = said(run(*words_of))
        assert f"{zoo / 'clip.json'}: " in line and words in line


def test_check_shape_reports_key_and_value():
    @dataclasses.dataclass
    class Inner:
        a: int
        b: list[float] | None = None

    good = {"x": {"a": 1, "b": [1, 2.5]}, "y": {"a": 2}}
    assert check_shape(copy.deepcopy(good), dict[str, Inner], "f") == good
    for document, words in (
        ({"x": {}}, "f: x.a is missing"),
        ({"x": {"a": 1, "b": [1, True]}}, "f: x.b[1] is true, not a finite number"),
        ({"x": {"a": True}}, "f: x.a is true, not a whole number"),
        ({"x": 1}, "f: x is 1, not an object"),
        ([], "f: the document is a list, not an object"),
    ):
        with pytest.raises(CausalFTError) as caught:
            check_shape(document, dict[str, Inner], "f")
        assert str(caught.value).startswith(words + ";")
    with pytest.raises(CausalFTError, match="x.c is not known here"):
        check_shape({"x": {"a": 1, "c": 2}}, dict[str, Inner], "f", strict=True)
