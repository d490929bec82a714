"""The verdicts of many runs: put together from replications, each judged as a single run is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from causalft.errors import CausalFTError
from causalft.pipelines.workflows.verdict_rates import VerdictRates, verdict_rates
from causalft.pipelines.workflows.verify_confounder import Plan, verify_confounder
from causalft.runs.folder import Run
from synthetic.designs import make_design

SMALL = Plan("resnet8", 2, 12, 24, 400)


@pytest.fixture(scope="module")
def design():
    return make_design("confounded", ["cat", "truck"])


def test_a_run_is_judged_as_verify_confounder_judges_it(design, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "causalft.pipelines.workflows.verify_confounder.plan_for", lambda design, quick: SMALL
    )
    single = verify_confounder(design, adjust=False, progress=False)
    found = verdict_rates(design, SMALL, 3, progress=False)
    assert found.verdicts[0] == single.verdict and len(found.verdicts) == 3
    assert found.apart == found.verdicts[:1]
    assert found.gaps["gap_B"][:2] == pytest.approx(single.gaps["gap_B"].per_seed)


@pytest.mark.slow
def test_several_processes_and_a_second_call_give_the_same(design, tmp_path):
    run = Run.create(tmp_path / "run", kind="verdict-rates", config={})
    several = verdict_rates(design, SMALL, 3, run=run, n_jobs=2, progress=False)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "models").iterdir()}
    again = verdict_rates(design, SMALL, 3, run=run, progress=False)
    assert again == several and len(kept) == 6
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "models").iterdir()}


def test_the_interval_is_of_the_runs_apart():
    found = VerdictRates(("verified",) * 30, ("verified",) * 10, {"gap_B": (0.1, 0.2)})
    # Clopper and Pearson with 10 of 10: (0.05 / 2) ** (1 / 10)
    assert found.rate("verified") == (1.0, (round(0.025**0.1, 3), 1.0))
    assert found.rate("null") == (0.0, (0.0, round(1 - 0.025**0.1, 3)))
    assert found.to_metrics()["verdicts"] == {"verified": 30}


def test_too_few_replications_are_refused(design):
    with pytest.raises(CausalFTError, match="1 replications for runs of 2 seeds"):
        verdict_rates(design, SMALL, 1)
    with pytest.raises(CausalFTError, match="2 seeds or more"):
        verdict_rates(design, replace(SMALL, seeds=1), 5)
