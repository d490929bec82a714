"""The A/B experiment whole: it must say yes where the part in view confounds, and not where it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from causalft.pipelines.workflows import verify_confounder as verify
from causalft.pipelines.workflows.verify_confounder import verify_confounder


@pytest.mark.parametrize("design", ["confounded", pytest.param("null", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_small_confounded_is_verified_and_null_is_not(design, monkeypatch):
    plan_for = verify.plan_for
    monkeypatch.setattr(verify, "plan_for", lambda *given: replace(plan_for(*given), size=16, passes=5000))
    found = verify_confounder(
        design,
        classes=["airplane", "truck", "bird", "automobile"],
        n_per_class=150,
        seeds=4 if design == "confounded" else 3,
        adjust=False,
        quick=True,
        progress=False,
    )
    assert found.verdict == ("verified" if design == "confounded" else "not detected"), found


@pytest.mark.slow
def test_quick_confounded_is_verified():
    assert verify_confounder("confounded", quick=True, progress=False).verdict == "verified"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_null_is_verified_at_most_once_in_twenty():
    verdicts = [
        verify_confounder("null", quick=True, adjust=False, first_seed=first, progress=False).verdict
        for first in range(100, 300, 10)
    ]
    assert verdicts.count("verified") <= 1, verdicts
