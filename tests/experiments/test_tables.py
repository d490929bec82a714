"""Tables of arms on made-up members, whose class priors are known."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from causalft.errors import CausalFTError
from causalft.report.style import figure_style
from experiments import EXPERIMENTS
from experiments.frame.arms import Model, fused
from experiments.frame.claims import judge
from experiments.frame.measures import Contrast
from experiments.frame.members import Member
from experiments.frame.study import Study, draw_arms, study_metrics
from tests.experiments.made_up import ROLES, MadeUpLab

pytestmark = pytest.mark.usefixtures("fewer_resamples")
LEFT = {"CE": (1.0, 0.4), "LA": (0.0, 0.4), "GLA-Train": (0.0, 0.3)}


def verdicts(name: str, lab: MadeUpLab) -> tuple[dict[str, Any], dict[str, str]]:
    experiment = EXPERIMENTS[name]
    assert experiment.study is not None and experiment.claims is not None
    metrics = study_metrics(experiment.study(ROLES), lab)  # type: ignore[arg-type]
    return metrics, {claim.at: judge(claim, metrics).verdict for claim in experiment.claims()}


def test_table_2_finds_the_prior_that_the_loss_leaves_and_the_logits_lose() -> None:
    metrics, found = verdicts("tab2", MadeUpLab(LEFT))
    assert found["methods/GLA-Train/own_gap"] == found["paired/gap fall, GLA-FT"] == "supported"
    assert found["paired/GLA-FT over GLA-Train"] == found["paired/known over estimated prior"] == "supported"
    cured = {**LEFT, "GLA-Train": (0.0, 0.0)}
    assert verdicts("tab2", MadeUpLab(cured))[1]["methods/GLA-Train/own_gap"] != "supported"
    overdone = {**LEFT, "GLA-Train": (0.0, -0.4)}  # the gap of the other sign is no cure
    reversed_, judged = verdicts("tab2", MadeUpLab(overdone))
    assert reversed_["methods"]["GLA-Train"]["own_gap"]["estimate"] < 0
    assert judged["methods/GLA-Train/own_gap"] == "supported"
    assert metrics["methods"]["CE"]["few"]["estimate"] < metrics["methods"]["LA"]["few"]["estimate"]


def test_table_5_tells_strata_from_an_ensemble() -> None:
    metrics, found = verdicts("tab5", MadeUpLab(LEFT))
    assert found["paired/over LA"] == found["paired/gap fall beyond seeds"] == "supported"
    assert found["paired/over best single on validation"] == "supported"
    methods = {name: of["accuracy"]["estimate"] for name, of in metrics["methods"].items()}
    assert methods["strata, product"] == pytest.approx(methods["strata, mean of logits"])
    assert methods["best single on test (oracle)"] >= methods["best single on validation"]
    # One stratum that knows more than the others together: the control wins, and the verdict says so.
    uneven = MadeUpLab(LEFT, openclip=0.0, metaclip=0.0)
    assert verdicts("tab5", uneven)[1]["paired/over seeds of one, mixture"] == "contradicted"


def test_an_arm_that_no_contrast_finds_is_refused_before_anything_is_tuned() -> None:
    class Idle:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"the lab's {name} is used")

    study = Study(
        "A study", [fused("strata", ROLES)], contrasts=[Contrast("gain", ("stratta",), ("strata",))]
    )
    with pytest.raises(CausalFTError, match="names no arm 'stratta'; did you mean 'strata'"):
        study_metrics(study, Idle())  # type: ignore[arg-type]
    with pytest.raises(CausalFTError, match="no measure is named 'acuracy'; did you mean 'accuracy'"):
        study_metrics(Study("A study", measures=("acuracy",)), Idle())  # type: ignore[arg-type]
    with pytest.raises(CausalFTError, match="no P\\(c\\) of a model is named 'en'; did you mean 'em'"):
        Model((Member("clip"),), stratum_prior="en")


def test_no_label_of_the_arms_leaves_its_panel_or_the_figure() -> None:
    row = {"estimate": 0.1, "ci95": [0.05, 0.2]}
    arm = dict.fromkeys(("accuracy", "few", "own_gap"), row)
    metrics = {
        "methods": {f"student of {number} epochs, labelled images only, as long": arm for number in range(11)}
    }
    with figure_style():
        axes = draw_arms(metrics)
    figure = axes[0].figure
    figure.canvas.draw()
    boxes = [panel.xaxis.label.get_window_extent() for panel in axes]
    assert boxes[-1].x1 < figure.bbox.x1 and axes[0].get_yticklabels()[0].get_window_extent().x0 > 0
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
