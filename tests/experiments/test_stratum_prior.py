"""The stratum prior on members whose quality is known."""

from __future__ import annotations

import pytest

from experiments import stratum_prior
from experiments.frame.answers import estimated
from experiments.frame.members import Member
from experiments.frame.study import study_metrics
from tests.experiments.made_up import ROLES, STRATA, MadeUpLab

LEFT = {"LA": (0.0, 0.0)}


def test_the_stratum_that_knows_gets_the_weight_and_the_placebo_gives_it_to_another(
    fewer_resamples: None,
) -> None:
    lab = MadeUpLab(LEFT, noise=1.0, openclip=0.0, metaclip=0.0)
    metrics = study_metrics(stratum_prior.study(ROLES), lab)  # type: ignore[arg-type]
    for seed in metrics["stratum_prior"]:
        assert seed["weights"][0] > 0.9 and sum(seed["weights"]) == pytest.approx(1)
    accuracy = {name: of["accuracy"]["estimate"] for name, of in metrics["methods"].items()}
    assert accuracy[stratum_prior.ESTIMATED] > accuracy[stratum_prior.UNIFORM] + 0.05
    assert accuracy[stratum_prior.PLACEBO] < 0.5 * accuracy[stratum_prior.UNIFORM]
    found = estimated([lab.prediction(Member(name), 0) for name in STRATA], lab.splits, 0)  # type: ignore[arg-type]
    assert found.weights.tolist() == metrics["stratum_prior"][0]["weights"]
