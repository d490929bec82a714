"""The experiment on training terms, with members of which it is known what each term left in them."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import EXPERIMENTS
from experiments.frame import further
from experiments.frame.answers import EACH, answer
from experiments.frame.claims import judge
from experiments.frame.members import Member
from experiments.frame.study import study_metrics
from tests.experiments.made_up import ROLES, STRATA, MadeUpLab


@pytest.fixture(scope="module")
def metrics():
    left = {"LA": (0.1, 0.4), "LA-DRO": (0.1, 0.0), "LA-PW": (0.1, 0.4)}

    def joint(lab, members, rule, seed):
        """Of these terms the alignment alone takes the prior out."""
        loss = "LA-DRO" if rule == further.ALIGNED else "LA-PW"
        return sum(lab.prediction(Member(member.name, loss), seed).test_logits for member in members)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(further, "joint", joint)
        return study_metrics(EXPERIMENTS["training_terms"].study(ROLES), MadeUpLab(left))


def test_the_term_that_takes_the_prior_out_is_told_from_the_one_that_does_not(metrics):
    judged = {one.claim.at: one.verdict for one in (judge(c, metrics) for c in _claims())}
    assert judged["paired/gap fall, group-DRO"] == "supported"
    assert judged["paired/gap fall, P-few weights"] != "supported"
    assert judged["paired/gap fall, aligned on P-few"] == "supported"
    assert judged["paired/gap fall, disagreeing on P-few"] != "supported"
    assert judged["methods/P-few weights/own_gap"] == "contradicted"
    assert all("control" in c.text for c in _claims() if c.at.startswith("paired"))


def _claims():
    return EXPERIMENTS["training_terms"].claims()


def test_each_stratum_answers_with_the_tuning_that_validation_chose():
    lab = MadeUpLab({"LA": (0.0, 0.0), "CE": (3.0, 0.0)})
    splits = lab.world.splits(0)
    good, bad = ([lab.prediction(Member(name, loss), 0) for name in STRATA] for loss in ("LA", "CE"))
    found = answer([*bad, *good], EACH, "uniform", splits, 0)
    np.testing.assert_array_equal(found, answer(good, "product", "uniform", splits, 0))
    assert (found != answer(bad, "product", "uniform", splits, 0)).mean() > 0.1
