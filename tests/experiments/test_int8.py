"""The experiment on int8: agreement and accuracy of logits made by hand, and its claims."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import EXPERIMENTS
from experiments.frame.claims import judge
from experiments.frame.rounded import compare_precisions


def logits(classes):
    return 9.0 * np.eye(4)[classes]


def made(n, wrong):
    """Two strata, two seeds; int8 answers another class for the first ``wrong`` images of every seed."""
    labels = np.arange(n) % 4
    moved = np.where(np.arange(n) < wrong, (labels + 1) % 4, labels)
    precisions = {"fp32": labels, "int8": moved}
    return {
        p: {name: [logits(c)] * 2 for name in ("clip", "openclip")} for p, c in precisions.items()
    }, labels


def test_agreement_and_accuracy_count_the_images_that_changed():
    found = compare_precisions(*made(400, 8))
    assert found["agreement"].keys() == found["difference"].keys() == {"fused", "clip", "openclip"}
    for name in ("fused", "clip"):
        assert found["agreement"][name]["estimate"] == pytest.approx(0.98)
        assert found["accuracy"]["fp32"][name] == 1 and found["accuracy"]["int8"][name] == pytest.approx(0.98)
        assert found["difference"][name]["estimate"] == pytest.approx(-0.02)
        low, high = found["difference"][name]["ci95"]
        assert low < -0.02 < high < 0


def test_one_stratum_that_changes_leaves_a_surer_fusion():
    both, labels = made(40, 40)
    both["int8"]["openclip"] = [0.1 * each for each in both["int8"]["openclip"]]
    both["int8"]["clip"] = both["fp32"]["clip"]
    found = compare_precisions(both, labels)
    assert found["agreement"]["fused"]["estimate"] == found["agreement"]["clip"]["estimate"] == 1
    assert found["agreement"]["openclip"]["estimate"] == 0


@pytest.mark.parametrize(("n", "wrong", "verdicts"), [(20_000, 20, 2), (400, 40, 0)])
def test_claims_are_judged_by_the_fused_numbers(n, wrong, verdicts):
    metrics = {"int8": compare_precisions(*made(n, wrong))}
    judged = [judge(claim, metrics) for claim in EXPERIMENTS["int8"].claims()]
    assert all(one.numbers for one in judged)
    assert sum(one.verdict == "supported" for one in judged) == verdicts
    assert (wrong == 20) or all(one.verdict == "contradicted" for one in judged)
