"""The frame of the experiments, and the analysis of Table 8 on members whose priors are known."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from causalft.analysis.diagnosis import diagnose
from causalft.errors import CausalFTError
from causalft.runs.folder import Run
from experiments import EXPERIMENTS, Experiment, tab8
from tests.command_line import run

STRATA, SEEDS_OF_ONE = ("clip", "openclip", "metaclip"), ("clip", "clip@1", "clip@2")
MODULES = sorted(p.stem for p in Path(tab8.__file__).parent.glob("[!_]*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_each_file_holds_one_experiment_of_its_name(name: str) -> None:
    module = importlib.import_module(f"experiments.{name}")
    experiment = EXPERIMENTS[name]
    functions = ("study", "claims", "compute", "page", "plans")
    plain = dict.fromkeys(functions)
    assert vars(replace(experiment, **plain)) == vars(replace(module.EXPERIMENT, **plain))
    for name in functions:
        assert getattr(getattr(experiment, name), "__wrapped__", None) is getattr(module.EXPERIMENT, name)
    assert (experiment.study is None) == (experiment.compute is not None)
    assert experiment.command.startswith(f"causalft experiment run {experiment.name}")
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
    also = [name for experiment in EXPERIMENTS.values() for name in experiment.also]
    assert sorted(row["name"] for row in document) == sorted([*MODULES, *also])
    assert {row["name"]: row["also"] for row in document}["tab3"] == ["tab2"]


def test_a_further_name_gives_the_same_experiment() -> None:
    assert EXPERIMENTS["tab3"] is EXPERIMENTS["tab2"] and "tab3" not in list(EXPERIMENTS)
    with pytest.raises(CausalFTError, match="did you mean 'tab6'"):
        EXPERIMENTS.get_or_refuse("tab66")


@pytest.mark.parametrize("name", [name for name, each in EXPERIMENTS.items() if each.study])
def test_contrasts_and_claims_name_what_the_study_measures(name: str) -> None:
    from experiments.frame.scales import Roles

    experiment = EXPERIMENTS[name]
    assert experiment.study is not None
    study = experiment.study(Roles(STRATA, SEEDS_OF_ONE, "pre-training", "clip-wide", "", True))
    arms = {arm.name for arm in study.arms}
    paired = {contrast.words: contrast for contrast in study.contrasts}
    assert all({*contrast.plus, *contrast.minus} <= arms for contrast in paired.values())
    assert study.conclude(lambda words: words if words in paired else pytest.fail(words)) is not None
    for claim in experiment.claims() if experiment.claims else ():
        assert (claim.objection is None) != (not claim.section), claim
        root, *at = claim.at.split("/")
        assert root != "paired" or at[0] in paired, claim
        assert root != "methods" or (at[0] in arms and at[1] in study.measures), claim


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

    fake = Experiment("fake", "Tab. 0", "it rises", "tiny", 0.1, compute=compute, page=page, seeds=5)
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
    priors = {name: rng.permutation(profile / profile.sum()) for name in STRATA}
    signal = 3.5 * np.eye(n_classes)[labels]
    probs = {}
    for name in dict.fromkeys(STRATA + SEEDS_OF_ONE):
        bias = 0.3 * np.log(priors[name.split("@")[0]])
        noise = 1.5 * rng.normal(size=(n_seeds, len(labels), n_classes))
        probs[name] = softmax(signal + bias + noise, axis=-1)
    counts = np.rint(200 * profile).astype(int)
    return {"labels": labels, "class_counts": counts, "probs": probs, "priors": priors}


def measured(world: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Table 8 on the made-up members."""
    from experiments.frame.answers import answer
    from experiments.frame.measures import Answered, compare_arms
    from experiments.frame.scales import Roles

    roles = Roles(STRATA, SEEDS_OF_ONE, "pre-training", None, "none", True)
    study = tab8.study(roles)
    labels, probs = world["labels"], world["probs"]

    def right(model: Any) -> np.ndarray:
        found = []
        for seed in range(len(probs["clip"])):
            members = [SimpleNamespace(test_logits=np.log(probs[m.name][seed])) for m in model.members]
            found.append(answer(members, model.rule, model.stratum_prior, None, seed) == labels)  # type: ignore[arg-type]
        return np.stack(found)

    arms = {
        arm.name: Answered(
            np.stack([right(model) for model in arm.models]),
            [sorted({STRATA.index(m.name.split("@")[0]) for m in model.members}) for model in arm.models],
        )
        for arm in study.arms
    }
    priors = np.stack([world["priors"][name] for name in STRATA])
    baseline = arms["1 stratum"].correct
    return compare_arms(
        labels, world["class_counts"], priors, baseline, arms, study.measures, study.contrasts
    )


def test_table_8_tells_priors_from_ensembling(world: dict[str, Any]) -> None:
    methods, paired = measured(world)
    of_strata = ("1 stratum", "2 strata", "3 strata")
    for family in (of_strata, ("1 seed of one", "2 seeds of one", "3 seeds of one")):
        accuracies = [methods[name]["accuracy"].estimate for name in family]
        assert accuracies == sorted(accuracies)
    gaps = [methods[name]["own_gap"].estimate for name in of_strata]
    assert gaps == sorted(gaps, reverse=True) and gaps[2] < 0.6 * gaps[0]
    assert paired["gap fall, strata"].low > 0
    # Noise shrinks the gap of any ensemble a little; other priors shrink it much more.
    assert paired["gap fall, strata"].estimate > 2.5 * abs(paired["gap fall, seeds"].estimate)
    gain = methods["3 strata"]["accuracy"].estimate - methods["1 stratum"]["accuracy"].estimate
    less = methods["3 seeds of one"]["accuracy"].estimate - methods["1 seed of one"]["accuracy"].estimate
    assert paired["gain, strata minus seeds"].estimate == pytest.approx(gain - less)


def test_a_chosen_stratum_has_no_gap_of_its_own(world: dict[str, Any]) -> None:
    """Averaged over the priors of all strata, the gap of one of them would look as small as that of the fusion."""
    from experiments.frame.arms import best_single
    from experiments.frame.measures import Answered, compare_arms
    from experiments.frame.scales import Roles
    from experiments.frame.tested import owned_by

    roles = Roles(STRATA, SEEDS_OF_ONE, "pre-training", None, "none", True)
    (model,) = best_single("best", roles).models
    owned = owned_by(model, roles)
    labels = world["labels"]
    right = np.stack([world["probs"][name].argmax(-1) == labels for name in STRATA])
    priors = np.stack([world["priors"][name] for name in STRATA])
    answered = {"best": Answered(right[:1], [owned])}
    methods, _ = compare_arms(
        labels, world["class_counts"], priors, right, answered, ["accuracy", "own_gap", "prior_slope"], []
    )
    assert owned == [] and methods["best"]["accuracy"].exists
    assert not methods["best"]["own_gap"].exists and not methods["best"]["prior_slope"].exists


def test_arms_are_measured_as_the_diagnosis_measures_them(world: dict[str, Any]) -> None:
    from causalft.methods.estimators.fusion import fuse

    methods, _ = measured(world)
    members = {name: world["probs"][name] for name in STRATA}
    fused = fuse(np.stack(list(members.values())))
    same = diagnose(world["labels"], world["class_counts"], members, fused, world["priors"], n_boot=100)
    for arm, when in (("1 stratum", "before"), ("3 strata", "after")):
        expected, found = getattr(same.own_minus_off_gap, when), methods[arm]["own_gap"]
        assert found.estimate == pytest.approx(expected.estimate)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-4)
    assert methods["3 strata"]["accuracy"].estimate == pytest.approx(same.fused.accuracy.estimate)
