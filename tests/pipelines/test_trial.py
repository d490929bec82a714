"""The networks of the experiment: what each is trained on, what comes out, and that resuming changes nothing."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from causalft.analysis.confounding.verdict import Trial
from causalft.models.tuning.train import Recipe
from causalft.pipelines.workflows import trial
from causalft.pipelines.workflows.trial import (
    has_overlap,
    roles_of,
    run_trial,
    seconds_stored,
    train_side_by_side,
    usual_jobs,
)
from causalft.runs.folder import Run
from synthetic.designs import make_design
from synthetic.generate import make_set

RECIPE = Recipe(epochs=1, batch_size=32, lr=0.1)
DESIGN = make_design("confounded", ["cat", "dog", "truck"])


def small(design=DESIGN, seeds=(0, 3), n=8, **options) -> Trial:
    return run_trial(design, "resnet8", RECIPE, seeds, n, size=12, progress=False, **options)


def small_of(seeds, roles=None, progress=None, run=None) -> Trial:
    """As :func:`small`; another process imports it."""
    return small(seeds=seeds, roles=roles, run=run)


@pytest.fixture(scope="module")
def found() -> Trial:
    return small()


def test_which_designs_have_overlap():
    assert {
        name: has_overlap(make_design(name, ["cat", "dog"])) for name in ("confounded", "null", "paper")
    } == {
        "confounded": True,
        "null": True,
        "paper": False,
    }


def test_every_model_is_tested_on_both_sets_of_every_seed(found):
    models = ("A", "B", "adjusted", "ipw", "frontdoor")
    assert set(found.correct) == {f"{model}->{tested}" for model in models for tested in "AB"}
    assert all(cell.shape == (2, 24) and cell.dtype == bool for cell in found.correct.values())
    assert len(found.weights) == 2 and all(0 < each["effective_share"] <= 1 for each in found.weights)


def test_table_describes_the_drawn_images(found):
    lengths = {name: len(column) for name, column in found.table.items()}
    assert set(lengths.values()) == {2 * 5 * 2 * 24}
    table = {name: np.array(column) for name, column in found.table.items()}
    for seed in (0, 3):
        test = make_set(DESIGN, "A_test", 8, seed, size=12)
        mine = (table["seed"] == seed) & (table["model"] == "B") & (table["tested_on"] == "A")
        assert np.array_equal(table["label"][mine], np.array(DESIGN.classes)[test.labels])
        assert np.array_equal(table["factor"][mine], test.factors)
        right = table["label"][mine] == table["prediction"][mine]
        assert np.array_equal(right, found.correct["B->A"][(0, 3).index(seed)])
    assert np.array_equal(found.strata["A"], 2 * test.labels + test.factors)


def test_distributions_by_code_are_distributions(found):
    assert set(found.by_code) == {"naive", "backdoor", "ipw", "frontdoor"}
    for name, tables in found.by_code.items():
        assert tables.shape == (2, 6, 3), name
        sums = tables.sum(2)
        assert np.allclose(sums[~np.isnan(sums)], 1)


def test_code_without_images_is_nan(monkeypatch):
    test = make_set(DESIGN, "A_test", 8, 0, size=12)
    p = np.full((24, 3), 1 / 3)
    assert trial._by_code(p, test, 3)[0] == pytest.approx([1 / 3] * 3)
    keep = (test.looks != 0) | (test.parts != 0)
    fewer = type(test)(**{name: getattr(test, name)[keep] for name in vars(test)})
    assert trial._by_code(p[keep], fewer, 3)[0] == [None] * 3


def test_networks_are_trained_on_their_sets(monkeypatch):
    seen, train = [], trial._one_model

    def spy(role, pictures, tests, *rest, **named):
        seen.append((role, pictures, tests))
        return train(role, pictures, tests, *rest, **named)

    monkeypatch.setattr(trial, "_one_model", spy)
    small(seeds=(1,))
    sets = {
        which: make_set(DESIGN, which, 8, 1, size=12) for which in ("A_train", "B_train", "A_test", "B_test")
    }
    for (role, pictures, tests), which in zip(seen, ("A_train", "B_train", "B_train"), strict=True):
        assert np.array_equal(pictures.pixels, sets[which].pixels), role
        assert all(np.array_equal(tests[t].pixels, sets[f"{t}_test"].pixels) for t in "AB")
    everything = [picture.tobytes() for each in sets.values() for picture in each.pixels]
    assert len(set(everything)) == len(everything), "no picture is in two sets"


def test_positive_scores_are_taken_as_logits(monkeypatch):
    monkeypatch.setattr(
        trial,
        "outputs",
        lambda model, x: (np.abs(np.random.default_rng(0).normal(size=(len(x), 3))) + 1, None),
    )
    found = small(adjust=False)
    assert np.allclose(np.nansum(found.by_code["naive"], 2), 1)


@pytest.mark.parametrize("roles", [(), roles_of(DESIGN)])
def test_networks_side_by_side_are_the_same_and_none_is_trained_twice(tmp_path, monkeypatch, found, roles):
    run = Run.create(tmp_path / "run", kind="verify-confounder", config={})
    assert seconds_stored(run, (0, 3)) == seconds_stored(None, (0, 3)) == 0
    train_side_by_side(partial(small_of, run=run), (0, 3), 2, "networks", roles=roles, progress=False)
    monkeypatch.setattr(trial, "train", None)
    again = small(run=run)
    for name in found.correct:
        assert np.mean(again.correct[name] == found.correct[name]) > 0.9, (
            name
        )  # other sums with other threads
    stored = [
        json.loads(file.read_text())["seconds"] for file in (tmp_path / "run" / "models").glob("*.json")
    ]
    assert len(stored) == 6 and seconds_stored(run, (0, 3)) == pytest.approx(sum(stored))
    assert seconds_stored(run, (1,)) == 0


def test_processes_are_one_per_core_but_for_quick_runs_models_and_launches(monkeypatch):
    monkeypatch.setattr("causalft.data.image_set.usable_cores", lambda: 6)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert usual_jobs(False) == 6 and usual_jobs(True) == usual_jobs(False, object()) == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert usual_jobs(False) == 1


def test_a_resumed_trial_is_the_same_and_trains_only_what_is_missing(tmp_path, monkeypatch, found):
    whole = Run.create(tmp_path / "run", kind="verify-confounder", config={})
    first = small(run=whole)
    for name in first.correct:
        assert np.array_equal(first.correct[name], found.correct[name]), name
    (tmp_path / "run" / "models" / "seed3-B.json").unlink()
    labels, train = [], trial.train
    monkeypatch.setattr(
        trial, "train", lambda *given, **named: labels.append(named["label"]) or train(*given, **named)
    )
    again = small(run=Run.create(tmp_path / "run", kind="verify-confounder", config={}))
    assert labels == ["model 5 of 6 (trained on B, seed 3)"]
    for name in first.correct:
        assert np.array_equal(again.correct[name], first.correct[name])
    for name in first.by_code:
        assert np.array_equal(again.by_code[name], first.by_code[name], equal_nan=True)
    assert again.table == first.table
    kept = json.loads((tmp_path / "run" / "models" / "seed0-B.json").read_text())
    assert kept["trained_on"] == "B" and set(kept["predictions"]["B"]) == {"A", "B"}


def test_the_adjusted_network_is_left_out_without_overlap_or_on_request():
    for options in ({"design": make_design("paper", ["cat", "dog"])}, {"adjust": False}):
        found = small(seeds=(0,), **options)
        assert set(found.correct) == {"A->A", "A->B", "B->A", "B->B"} and found.weights == []
