"""The experiment on the gap-closing adjustment, with members of which it is known what the tuning left in them."""

from __future__ import annotations

import numpy as np
import pytest

from causalft.runs.folder import Run
from experiments import EXPERIMENTS
from experiments.adjusted import NULL, OURS, SEEDS_OURS
from experiments.frame.adjusting import ADJUSTING, AT, Fused
from experiments.frame.claims import judge
from experiments.frame.members import Member
from experiments.frame.study import study_metrics, study_page
from tests.experiments.made_up import ROLES, STRATA, MadeUpLab


@pytest.fixture(scope="module")
def lab():
    return MadeUpLab({"LA": (0.1, 0.4)})


@pytest.fixture(scope="module")
def metrics(lab):
    return study_metrics(EXPERIMENTS["adjusted"].study(ROLES), lab)


def test_the_adjustment_closes_the_gap_that_is_there_and_its_null_does_not(metrics):
    gaps = {name: of["own_gap"]["estimate"] for name, of in metrics["methods"].items()}
    assert gaps["product"] > 0.08 and abs(gaps[OURS]) < 0.04 and abs(gaps[NULL] - gaps["product"]) < 0.04
    assert gaps[AT.format(0)] > gaps[AT.format(0.2)] > gaps[AT.format(0.5)]
    for rule in ("product, equal recall", "mixture, equal recall", "product, optimal transport"):
        assert abs(gaps[rule]) < 0.06 < gaps["product"]
    assert abs(gaps[SEEDS_OURS]) < 0.15
    assert all(0.25 < found["strength"] < 0.75 for found in metrics["adjustment"])


def test_its_claims_are_judged_by_numbers_that_are_there(metrics):
    judged = [judge(claim, metrics) for claim in EXPERIMENTS["adjusted"].claims()]
    assert all(one.numbers for one in judged)
    by_text = {one.claim.text: one.verdict for one in judged}
    assert by_text["It loses no accuracy to the product"] == "supported"
    assert {one.claim.objection for one in judged} >= {4, 5, 9}


def test_its_page_shows_the_frontier_and_what_was_chosen(metrics, tmp_path):
    page = study_page(EXPERIMENTS["adjusted"].study(ROLES), Run(tmp_path, "experiment", {}), metrics)
    assert page["sections"][-1].title == "What validation images chose"
    assert (tmp_path / "figures" / "figure.png").is_file()


@pytest.mark.parametrize("rule", ["product, optimal transport", "product, equal marginals"])
def test_the_marginals_of_the_chosen_decision_are_near_the_target_law(lab, rule):
    members = [lab.prediction(Member(name), 0) for name in STRATA]
    fused = Fused(members, (), lab.world.splits(0), 0)
    n_classes = lab.splits.test.n_classes
    shares, plain = (
        np.bincount(found, minlength=n_classes) / len(found)
        for found in (
            ADJUSTING[rule](fused),
            sum(np.asarray(each.test_logits) for each in members).argmax(axis=1),
        )
    )
    log_q = np.log(fused.priors)
    before, after = (
        np.abs((log_q - log_q.mean(axis=1, keepdims=True)) @ each).max() for each in (plain, shares)
    )
    assert after < before / 2
