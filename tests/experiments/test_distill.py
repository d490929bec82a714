"""Students in an experiment: shares of a gain against a known one, soups, and a student that is trained once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from causalft.data.creatures import creatures_longtail
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import default_tuning
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.methods.estimators.member import fit_member
from causalft.models.features.encoder import Crops
from causalft.models.strata.zoo import open_zoo
from experiments import distill
from experiments.frame import students, unlabelled
from experiments.frame.claims import judge
from experiments.frame.lab import Lab
from experiments.frame.members import Member
from experiments.frame.study import study_metrics
from tests.experiments.made_up import ROLES, MadeUpLab


def test_students_that_answer_as_their_teacher_keep_its_gain_and_others_do_not(
    monkeypatch: pytest.MonkeyPatch, fewer_resamples: None
) -> None:
    lab = MadeUpLab({"LA": (0.0, 0.5)})

    def student(lab: Any, members: Any, lesson: Any, seed: int) -> Any:
        logits = [lab.prediction(member, seed).test_logits for member in members]
        if lesson.label_weight == 1:
            return logits[0]
        noise = np.random.default_rng(seed).normal(size=logits[0].shape)
        taught = students._mixing(lab, members, lesson.fusion, seed)(logits, kind="logits")
        return np.log(taught) + (not lesson.unlabelled) * 12 * noise

    monkeypatch.setattr(students, "student", student)
    monkeypatch.setattr(students, "soup", lambda lab, members, seed: student(lab, members[:1], LABELS, seed))
    one = {"student over one stratum": {"estimate": 0.9, "ci95": [0.9, 0.9]}}
    monkeypatch.setattr(students, "student_cost", lambda lab: one)
    metrics = study_metrics(distill.study(ROLES), lab)  # type: ignore[arg-type]
    verdicts = {claim.at: judge(claim, metrics).verdict for claim in distill.claims()}
    assert metrics["gain_share"][distill.MORE]["estimate"] == pytest.approx(1.0)
    assert metrics["paired"]["student over teacher"]["estimate"] == 0
    assert verdicts["cost/student over one stratum"] == "supported"
    assert verdicts["paired/student over no teacher"] == "supported"
    assert verdicts[f"gain_share/{distill.FEWER_LONG}"] == "contradicted"


LABELS = students.STUDENTS["labels alone"]


def test_share_of_the_gain_is_the_ratio_of_differences_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(6000) % 20
    right = {share: rng.random((2, 6000)) < 0.4 + 0.2 * share for share in (0.0, 0.5, 1.0)}
    found = students.gain_shares(labels, 20, right[1.0], right[0.0], {"half": right[0.5]})["half"]
    means = [right[share].mean() for share in (0.0, 0.5, 1.0)]
    assert found["estimate"] == pytest.approx((means[1] - means[0]) / (means[2] - means[0]))
    assert found["ci95"][0] < 0.5 < found["ci95"][1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A lab of two minis on a few images of the built-in world."""
    splits = creatures_longtail(n_max=3, imbalance_factor=3, n_validation=1, n_test=1)
    zoo, folder = open_zoo("mini"), tmp_path_factory.mktemp("members")
    settings = SimpleNamespace(
        tuning=replace(default_tuning("mini"), epochs=1, precision="fp32"),
        data="creatures-lt",
        device="cpu",
        zoo_name="mini",
    )

    def place(member: Member, seed: int) -> Path:
        return folder / f"{member.label}-{seed}"

    def tuned(member: Member, seed: int) -> Any:
        name = member.name.partition("#")[0]
        return fit_member(splits, name, zoo, member.tuning(settings.tuning, seed), folder=place(member, seed))

    world = SimpleNamespace(settings=settings, splits=lambda seed, draw=None: splits, zoo=zoo, roles=ROLES)
    made = SimpleNamespace(
        world=world,
        quick=True,
        folder=place,
        tuned=tuned,
        prediction=lambda member, seed: tuned(member, seed)[0],
    )
    made.together = MethodType(Lab.together, made)
    return made


def test_finished_student_is_read_and_asks_its_teacher_nothing(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlabelled, "_QUICK", 60)
    members = (Member("clip"), Member("openclip"))
    lesson = students.STUDENTS["student, unlabelled"]
    logits = students.student(lab, members, lesson, 0)
    monkeypatch.setattr(students, "_fused", None)
    assert np.array_equal(students.student(lab, members, lesson, 0), logits)
    cost = students.student_cost(lab)
    assert cost["student over one stratum"]["estimate"] < 1  # no adapters


def test_soup_is_the_model_of_the_mean_weights(lab: Any) -> None:
    first, again = Member("clip"), Member("clip#1")
    found = students.soup(lab, (first, again), 0)
    models: list[TunedStratum] = [lab.tuned(member, 0)[1] for member in (first, again)]
    states = [model.trained_state() for model in models]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    models[0].load_trained_state({name: (states[0][name] + states[1][name]) / 2 for name in states[0]})
    test = lab.world.splits(0).test
    assert np.array_equal(found, models[0].logits(Crops(test, models[0].stratum)))
    alone = students.soup(lab, (first, first), 0)
    assert np.array_equal(alone, lab.prediction(first, 0).test_logits)
    with pytest.raises(CausalFTError, match="members of one backbone"):
        students.soup(lab, (first, Member("openclip")), 0)
