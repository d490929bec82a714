"""Experiments of what stays uncertain, on made-up members and random worlds."""

from __future__ import annotations

import numpy as np
import pytest

from causalft.analysis.uncertainty.simplex import sensitivity_to_prior
from experiments import EXPERIMENTS
from experiments.frame import uncertain
from experiments.frame.adjusting import Fused, chosen
from experiments.frame.claims import judge, value_at
from experiments.frame.members import Member
from experiments.frame.study import study_metrics
from experiments.frame.uncertain import difference_between
from experiments.frame.worlds import random_world, world_metrics
from tests.experiments.made_up import ROLES, MadeUpLab


def judged(name, lab):
    experiment = EXPERIMENTS[name]
    metrics = study_metrics(experiment.study(ROLES), lab)
    return metrics, {claim.at: judge(claim, metrics).verdict for claim in experiment.claims()}


def test_strata_with_other_priors_leave_more_to_p_of_c_than_seeds_with_one():
    metrics, verdicts = judged("sensitivity", MadeUpLab({"LA": (0.0, 0.8)}, noise=0.8))
    assert verdicts["sensitivity/mixture/strata_less_seeds"] == "supported"
    own = metrics["sensitivity"]["mixture"]["strata"]
    assert own["changed_within_0.05"]["estimate"] < own["changed_within_0.1"]["estimate"]
    assert own["changed_within_0.1"]["estimate"] < 1 - own["certain"]["estimate"]
    assert set(own["groups"]) >= {"P-many", "P-few"}
    # Certain or not is a matter of the strata alone, and both rules decide alike at a corner.
    other = metrics["sensitivity"]["logit"]["strata"]
    assert own["certain"]["estimate"] == pytest.approx(other["certain"]["estimate"])


def test_adjusted_fusion_is_measured_beside_the_mixture():
    lab = MadeUpLab({"LA": (0.0, 0.8)}, noise=0.8)
    metrics, verdicts = judged("sensitivity", lab)
    assert [row[0] for row in metrics["table"]["rows"]] == [
        f"{family}, {fusion}"
        for fusion in ("mixture", "logit", "adjusted")
        for family in ("strata", "seeds of one model")
    ]
    own = metrics["sensitivity"]["adjusted"]["strata"]
    certain = []
    for seed in range(lab.seeds):
        fused = Fused.of(lab, [Member(name) for name in ROLES.strata], seed)
        logits = [m.test_logits for m in fused.members]
        certain.append(sensitivity_to_prior(logits, chosen(fused)[0], kind="logits").certain.mean())
    assert own["certain"]["estimate"] == pytest.approx(np.mean(certain))
    assert own["changed_in_interval"]["estimate"] < 1 - own["certain"]["estimate"]
    told = [at for at in verdicts if at.startswith("sensitivity/adjusted/")]
    assert len(told) == 4 and all("estimate" in value_at(metrics, at) for at in told)


def test_sets_keep_their_coverage_and_one_threshold_does_not():
    lab = MadeUpLab({"LA": (1.0, 0.0)}, noise=1.0)  # the prior of the data is left: rare classes are hard
    lab.quick = True
    metrics, verdicts = judged("conformal", lab)
    found = metrics["sets"]
    large = {name: of for name, of in found["deviation"].items() if of["n_validation"] >= 50}
    assert all(abs(of["estimate"]) < 0.02 for name, of in large.items() if name[0] in "Da")
    assert found["one_threshold"]["D-few"]["estimate"] < -0.05
    assert verdicts["sets/one_threshold/D-few"] == "supported"
    assert found["largest"]["group"] in large
    beside = metrics["adjusted"]
    assert (
        beside["deviation"].keys() == found["deviation"].keys() and beside["deviation"] != found["deviation"]
    )
    assert abs(beside["deviation"]["all"]["estimate"]) < 0.02
    assert {at for at in verdicts if at.startswith("adjusted/")} == {
        f"adjusted/deviation/{kind}-{group}" for kind in "DP" for group in ("many", "medium", "few")
    }
    assert {row[0] for row in metrics["table"]["rows"]} == {"mixture", "adjusted"}


@pytest.mark.parametrize("overfitted", [True, False])
def test_a_fusion_that_knows_its_validation_images_covers_too_few_others(monkeypatch, overfitted):
    lab = MadeUpLab({"LA": (0.0, 0.0)}, noise=1.0)
    lab.quick = True
    usual = uncertain._mixing

    def knowing(fused, fusion):
        seen = {row.tobytes() for row in fused.members[0].validation_logits}

        def fuse(logits, kind):
            probs = usual(fused, fusion)(logits, kind=kind)
            known = np.array([row.tobytes() in seen for row in logits[0]])
            probs[known] = np.eye(probs.shape[1])[lab.splits.test.labels][: known.sum()]
            return probs

        return fuse

    if overfitted:
        monkeypatch.setattr(uncertain, "_mixing", knowing)
    metrics, verdicts = judged("conformal", lab)
    off = metrics["sets"]["deviation"]["all"]["estimate"]
    assert off < -0.05 if overfitted else abs(off) < 0.02
    assert (verdicts["sets/deviation/D-many"] == "contradicted") == overfitted
    assert metrics["sets"]["as_fitted"]["all"]["estimate"] == pytest.approx(off, abs=0.03)


def test_bounds_hold_in_random_worlds_and_the_doors_tell_a_hidden_u():
    graphs = {
        "hidden": [("C", "X"), ("C", "Y"), ("U", "X"), ("U", "Y"), ("X", "B"), ("B", "Y")],
        "none": [("C", "X"), ("C", "Y"), ("U", "X"), ("X", "B"), ("B", "Y")],
    }
    found = {name: world_metrics(edges, 3, True) for name, edges in graphs.items()}
    for of in found.values():
        assert of["held"]["hits"] == of["held"]["n"] > 25
        assert of["reversed"]["needed"] == of["reversed"]["n"]
    assert [found["none"][key] for key in ("width", "gap")] == pytest.approx([0.0, 0.0], abs=1e-9)
    assert found["hidden"]["doors_apart"]["hits"] > found["none"]["doors_apart"]["hits"]
    world = random_world(graphs["hidden"], 3, np.random.default_rng(0))
    assert all(table.min() > 0 for table in world.tables.values())


def test_table_of_worlds_is_judged():
    from experiments import unobserved

    share = {"estimate": 1.0, "ci95": [0.995, 1.0], "hits": 10, "n": 10}
    rare = {"estimate": 0.0, "ci95": [0.0, 0.04], "hits": 0, "n": 10}
    of = {"held": share, "doors_apart": share, "reversed": {"n": 2, "needed": 2}, "width": 0.3, "gap": 0.1}
    graphs = {name: {**of, "worlds": 10} for name in unobserved.GRAPHS}
    graphs["no U to Y (control)"] |= {"doors_apart": rare}
    metrics = unobserved.tabulate(graphs)
    assert [judge(claim, metrics).verdict for claim in unobserved.claims()] == ["supported"] * 4
    assert "30 of 30 cells" in metrics["conclusion"][0]


def test_difference_between_chosen_and_other_images_has_the_interval_of_two_means():
    rng = np.random.default_rng(0)
    chosen = np.arange(400)[None] % 2 == 0
    values = np.where(chosen, 0.3, 0.0) + rng.normal(size=(1, 400))
    found = difference_between(values, chosen)
    one, other = values[chosen], values[~chosen]
    error = np.sqrt(one.var(ddof=1) / 200 + other.var(ddof=1) / 200)
    assert found["estimate"] == pytest.approx(one.mean() - other.mean())
    assert (found["ci95"][1] - found["ci95"][0]) / 2 == pytest.approx(1.966 * error, rel=0.01)
