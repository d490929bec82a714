"""The frame of the experiments, and the analysis of Table 8 on members whose priors are known."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from causalft.analysis.diagnosis import diagnose
from causalft.errors import CausalFTError
from causalft.report.style import figure_style
from causalft.runs.folder import Run
from experiments import EXPERIMENTS, Experiment, tab8
from tests.command_line import run

MODULES = sorted(p.stem for p in Path(tab8.__file__).parent.glob("[!_]*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_each_file_holds_one_experiment_of_its_name(name: str) -> None:
    module = importlib.import_module(f"experiments.{name}")
    experiment = EXPERIMENTS[name]
    plain = {"compute": print, "page": print, "trains": None}
    assert vars(replace(experiment, **plain)) == vars(replace(module.EXPERIMENT, **plain))
    assert experiment.compute.__wrapped__ is module.compute and experiment.page.__wrapped__ is module.page
    assert getattr(experiment.trains, "__wrapped__", None) is module.EXPERIMENT.trains
    assert experiment.command.startswith(f"causalft experiment run {name}")
    assert "control" in experiment.claim and experiment.minutes > 0 and experiment.seeds >= 1
    assert len(Path(module.__file__ or "").read_text().splitlines()) < 260


def test_listing_is_light() -> None:
    code = (
        "import sys, experiments; list(experiments.EXPERIMENTS.values());"
        "print([m for m in ('torch', 'open_clip', 'matplotlib', 'dowhy', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_list_prints_every_experiment_and_its_command() -> None:
    result = run("experiment", "list")
    assert result.exit_code == 0 and all(name in result.output for name in EXPERIMENTS)
    document = json.loads(run("experiment", "list", "--json").output)
    assert {row["name"] for row in document} == set(MODULES)


def test_an_unknown_name_is_met_with_the_nearest(tmp_path: Path) -> None:
    result = run("experiment", "run", "tab9", "--out", str(tmp_path / "x"))
    assert (
        result.exit_code == 2 and "no experiment is named 'tab9'" in result.output and "tab8" in result.output
    )
    assert not (tmp_path / "x").exists()
    with pytest.raises(CausalFTError):
        EXPERIMENTS.get_or_refuse("")


def test_run_passes_options_on_and_prints_the_table_or_json_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[bool, int]] = []

    def compute(create: Any, quick: bool, seeds: int) -> dict[str, Any]:
        create(size=3)
        calls.append((quick, seeds))
        table = {"columns": ["M", "accuracy"], "rows": [["1", "53.1"]], "caption": "Percent."}
        return {"table": table, "conclusion": ["It rises."], "x": float("nan")}

    def page(made: Run, metrics: Any) -> dict[str, Any]:
        return {"title": "Table 0", "verdict": "It rises.", "facts": {}, "sections": []}

    fake = Experiment("fake", "Tab. 0", "it rises", "tiny", 0.1, compute, page, seeds=5)
    monkeypatch.setitem(EXPERIMENTS._found, "fake", fake)
    shown = run("experiment", "run", "fake", "--out", tmp_path / "whole")
    assert shown.exit_code == 0 and "53.1" in shown.output and "It rises." in shown.output
    quick = run("experiment", "run", "fake", "--out", tmp_path / "quick", "--quick", "--json")
    assert json.loads(quick.stdout)["x"] is None
    run("experiment", "run", "fake", "--out", tmp_path / "two", "--seeds", "2")
    assert calls == [(False, 5), (True, 1), (False, 2)]
    made = Run.open(tmp_path / "two", "experiment")
    assert made.config == {"name": "fake", "quick": False, "seeds": 2, "size": 3}
    assert set(made.metrics) == {"table", "conclusion", "x", "seeds", "quick", "made"}
    assert "causalft experiment run fake --seeds 2" in (tmp_path / "two" / "report.html").read_text()
    again = run("experiment", "run", "fake", "--out", tmp_path / "two")
    assert again.exit_code == 2 and "already holds a complete experiment run" in again.stderr
    assert run("experiment", "run", "fake", "--seeds", "0").exit_code == 2


@pytest.fixture(scope="module")
def world() -> dict[str, Any]:
    """Members = signal + their own log prior + noise of their own; seeds of clip share clip's prior."""
    rng = np.random.default_rng(0)
    n_classes, per_class, n_seeds = 30, 60, 2
    labels = np.repeat(np.arange(n_classes), per_class)
    profile = 100.0 ** (-np.arange(n_classes) / (n_classes - 1))
    priors = {name: rng.permutation(profile / profile.sum()) for name in tab8.STRATA}
    signal = 3.5 * np.eye(n_classes)[labels]
    probs = {}
    for name in dict.fromkeys(tab8.STRATA + tab8.SEEDS_OF_ONE):
        bias = 0.3 * np.log(priors[name.split("@")[0]])
        noise = 1.5 * rng.normal(size=(n_seeds, len(labels), n_classes))
        probs[name] = softmax(signal + bias + noise, axis=-1)
    counts = np.rint(200 * profile).astype(int)
    return {"labels": labels, "class_counts": counts, "probs": probs, "priors": priors}


def test_table_8_tells_priors_from_ensembling(world: dict[str, Any]) -> None:
    found = tab8.analyse(**world, n_boot=200)
    strata, seeds = found["rows"]["strata"], found["rows"]["seeds of clip"]
    for family in (strata, seeds):
        accuracies = [family[m]["accuracy"]["estimate"] for m in "123"]
        assert accuracies == sorted(accuracies)
    gaps = [strata[m]["own_minus_off_gap"]["estimate"] for m in "123"]
    assert gaps == sorted(gaps, reverse=True) and gaps[2] < 0.6 * gaps[0]
    falls = {name: found["paired"][f"gap fall, {name}"] for name in tab8.FAMILIES}
    assert falls["strata"]["ci95"][0] > 0
    # Noise shrinks the gap of any ensemble a little; other priors shrink it much more.
    assert falls["strata"]["estimate"] > 2.5 * abs(falls["seeds of clip"]["estimate"])
    assert strata["1"]["D"]["many"]["estimate"] > 0
    assert "Accuracy gains" in found["conclusion"][1]


def test_table_8_agrees_with_the_diagnosis(world: dict[str, Any]) -> None:
    from causalft.methods.estimators.fusion import fuse

    found = tab8.analyse(**world, n_boot=100)["rows"]["strata"]
    members = {name: world["probs"][name] for name in tab8.STRATA}
    fused = fuse(np.stack(list(members.values())))
    same = diagnose(world["labels"], world["class_counts"], members, fused, world["priors"], n_boot=100)
    assert found["1"]["own_minus_off_gap"]["estimate"] == pytest.approx(
        same.own_minus_off_gap.before.estimate
    )
    assert found["3"]["own_minus_off_gap"]["estimate"] == pytest.approx(same.own_minus_off_gap.after.estimate)
    assert found["3"]["accuracy"]["estimate"] == pytest.approx(same.fused.accuracy.estimate)
    mean = np.mean([score.accuracy.estimate for score in same.strata.values()])
    assert found["1"]["accuracy"]["estimate"] == pytest.approx(mean)


def test_table_8_draws_and_tabulates_its_numbers(world: dict[str, Any]) -> None:
    found = tab8.analyse(**world, n_boot=100)
    assert len(found["table"]["rows"]) == 6 and all(len(r) == 7 for r in found["table"]["rows"])
    with figure_style():
        accuracy, gap = tab8.draw(found)
    drawn = np.asarray(accuracy.lines[0].get_ydata(), float)
    np.testing.assert_allclose(
        drawn, [100 * found["rows"]["strata"][m]["accuracy"]["estimate"] for m in "123"]
    )
    assert "gap" in gap.get_ylabel()


def test_show_plans_what_table_8_trains(tmp_path: Path) -> None:
    (tmp_path / "members" / "0" / "clip").mkdir(parents=True)
    (tmp_path / "members" / "0" / "clip" / "predictions.safetensors").write_bytes(b"")
    found = run("experiment", "show", "tab8", "--seeds", 2, "--quick", "--out", tmp_path, "--json")
    assert found.exit_code == 0, found.output
    shown = json.loads(found.stdout)
    assert shown["name"] == "tab8" and shown["seeds"] == 2
    members = {m["name"]: (m["runs"], m["finished"], m["steps"]) for m in shown["plan"]["members"]}
    steps = 3 * -(-shown["plan"]["images"]["0"]["train"] // 128)  # of three epochs
    assert members.pop("clip") == (2, 1, steps)
    assert members == dict.fromkeys(("openclip", "metaclip", "clip@1", "clip@2"), (2, 0, 2 * steps))
    assert not (tmp_path / "config.json").exists()


def test_show_says_where_nothing_is_declared() -> None:
    found = run("experiment", "show", "fig12")
    assert found.exit_code == 0 and "does not declare what it trains" in found.stdout
    assert json.loads(run("experiment", "show", "photographs", "--json").stdout)["plan"] is None
