"""The share of a teacher's gain that a student keeps, and what is said where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from causalft.analysis.diagnosis.gain_share import GainShare, share_of_gain
from causalft.pipelines.pages.distill import distilled_sentences

N, K = 4000, 10
PRIOR = np.geomspace(1.0, 0.02, K)


def compared(teacher: float, own: str | None, strata: tuple[str, ...] = ("a", "b")) -> GainShare:
    rng = np.random.default_rng(0)
    labels = np.arange(N) % K
    right = {name: rng.random(N) < 0.5 for name in strata}
    priors = {name: np.roll(PRIOR, 3 * place) for place, name in enumerate(strata)}
    return share_of_gain(
        labels, priors, right, rng.random(N) < teacher, rng.random(N) < 0.55, best_single="a", own=own
    )


def document(found: GainShare) -> dict[str, Any]:
    who: dict[str, Any] = {
        name: {"name": name, "cost_per_image": {"flops": 1, "seconds": 1.0}, "gap": found.gap[name].to_json()}
        for name in ("teacher", "student", "best_single")
    }
    who["student"]["own_gap"] = found.gap["student_own"].to_json()
    return {
        **who,
        "gain_share": found.gain_share.to_json(),
        "student_minus_teacher": found.minus_teacher.to_json(),
        "student_minus_best_single": found.minus_best_single.to_json(),
        "images": {"labelled": 10, "unlabelled": 0},
    }


def test_a_teacher_that_gains_nothing_leaves_no_share() -> None:
    gains, none = compared(0.6, "a").gain_share, compared(0.5, "a").gain_share
    assert 0.2 < gains.estimate < 0.8 and gains.bounded
    assert np.isnan(none.estimate) and not none.bounded
    assert none.reason.startswith("the teacher is not more accurate")


@pytest.mark.parametrize(("own", "told"), [("a", True), (None, False), ("c", False)])
def test_the_own_gap_is_told_of_a_student_that_started_from_a_stratum(own: str | None, told: bool) -> None:
    found = compared(0.6, own)
    assert found.gap["student_own"].exists == told
    if not told:
        assert "started from none of the teacher's strata" in found.gap["student_own"].reason
    sentences = " ".join(distilled_sentences(document(found)))
    assert ("Its gap along the prior of its own pre-training is" in sentences) == told


def test_one_stratum_has_no_gap_of_its_own() -> None:
    found = compared(0.6, "a", strata=("a",))
    assert "one stratum cannot tell its prior from class difficulty" in found.gap["student_own"].reason
    assert "own pre-training" not in " ".join(distilled_sentences(document(found)))
