"""The plan of an experiment that trains networks on A/B sets, against what such an experiment trains."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from causalft.methods.adaptation.cost import count_flops
from causalft.models.resnet import resnet
from causalft.pipelines.workflows.trial import roles_of, run_trial
from causalft.pipelines.workflows.verify_confounder import plan_for
from causalft.runs.folder import Run
from experiments import EXPERIMENTS
from experiments.frame.networks import plan_networks
from synthetic.designs import make_design
from tests.command_line import run


def test_what_is_planned_is_what_a_trial_trains(tmp_path):
    design = make_design("confounded", None, None)
    size = replace(plan_for(design, True), n_per_class=6, passes=36, size=8)
    roles = roles_of(design)
    assert roles == ("A", "B", "adjusted")

    def planned():
        return plan_networks({"case": (design, size, tmp_path / "case")}, 2, {"case": roles}).rows[0]

    before = planned()
    assert (before.networks, before.finished) == (6, 0) and before.flops > 0
    folder = Run.create(tmp_path / "case", kind="verify-confounder", config={})
    trained = size.recipe(before.images)
    trial = run_trial(design, size.backbone, trained, (0,), 6, size=size.size, run=folder, progress=False)
    assert before.tested == sum(found.shape[1] for name, found in trial.correct.items() if name[0] == "A")
    after = planned()
    assert (after.networks, after.finished) == (6, 3)
    assert after.flops == pytest.approx(before.flops / 2)


def test_operations_are_between_two_and_three_times_those_of_the_forward(tmp_path):
    design = make_design("null", None, None)
    size = plan_for(design, True)
    row = plan_networks({"null": (design, size, tmp_path)}, 1, {"null": ("A",)}).rows[0]
    model = resnet(size.backbone, len(design.classes), 0).train()
    with torch.no_grad():
        forward = count_flops(lambda: model(torch.zeros(2, 3, size.size, size.size))) / 2
    passes = size.recipe(row.images).epochs * row.images
    assert 2 * forward * passes < row.flops < 3 * forward * passes


@pytest.mark.parametrize("name", ["fig12", "verdict_rates"])
def test_show_tells_networks_images_and_operations(name, tmp_path):
    shown = run("experiment", "show", name, "--out", tmp_path / "out", "--json")
    assert shown.exit_code == 0, shown.output
    plan = json.loads(shown.stdout)["plan"]
    assert len(plan["networks"]) == 3 and plan["flops"] == sum(row["flops"] for row in plan["networks"])
    printed = run("experiment", "show", name, "--out", tmp_path / "out").output
    total = sum(row["networks"] for row in plan["networks"])
    assert printed.splitlines()[-2].split()[:5] == ["in", "all", str(total), "of", str(total)]
    assert "TFLOP" in printed and "networks left" in printed and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", [name for name, of in EXPERIMENTS.items() if of.study is None and of.plans is None]
)
def test_what_trains_nothing_says_so(name):
    assert name in {"real_priors", "unobserved"}
    assert "nothing is trained" in run("experiment", "show", name).output
