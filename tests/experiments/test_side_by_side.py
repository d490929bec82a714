"""``experiment run --jobs``: the same members and numbers, trained in several processes."""

from __future__ import annotations

import json
import os

import psutil
import pytest
import torch

from causalft.data.image_set import usable_cores
from causalft.models.tuning import processes
from experiments.frame.side_by_side import usual_jobs
from tests.command_line import run, said


def test_usual_jobs_are_bounded_by_cores_and_memory(monkeypatch):
    monkeypatch.setattr(processes, "pick_device", lambda _: torch.device("cpu"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_cores() == 8
    for gib, expected in ((64, 8), (7, 3), (1, 1)):
        free = type("Memory", (), {"available": gib * 2**30})
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: free)
        assert usual_jobs("mini") == usual_jobs("photo") == expected
        assert usual_jobs("full") == 1
    monkeypatch.setattr(processes, "pick_device", lambda _: torch.device("cuda"))
    assert usual_jobs("mini") == 1


def test_jobs_of_an_experiment_without_members_are_refused(tmp_path):
    line = said(run("experiment", "run", "fig12", "--jobs", 2, "--out", tmp_path / "run"))
    assert line == "causalft: error: fig12 tunes no members, so --jobs has no effect; leave it out"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tab8", "joint"])
def test_two_processes_find_what_one_finds(name, tmp_path):
    found = []
    for jobs in (1, 2):
        out = tmp_path / f"jobs-{jobs}" / "run"
        result = run("experiment", "run", name, "--quick", "--jobs", jobs, "--out", out, "--json")
        assert result.exit_code == 0, result.output
        found.append(json.loads(result.stdout)["methods"])
    one, two = found
    for arm, of in one.items():
        assert two[arm]["accuracy"]["estimate"] == pytest.approx(of["accuracy"]["estimate"], abs=0.01), arm
