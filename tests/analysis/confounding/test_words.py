"""The words of a run: what the sets are, what follows, the estimand and the verdict, also for a user's own design."""

from __future__ import annotations

import pytest

from causalft.analysis.confounding.statistics import CONTRASTS
from causalft.analysis.confounding.verdict import PATH_TESTS, Verdict
from causalft.analysis.confounding.words import (
    TEST_NAMES,
    VERDICT_WORDS,
    estimand,
    explain_sets,
    verdict_line,
    what_follows,
)
from synthetic.designs import DESIGNS


def document(design: str, **changes):
    return {
        "design": design,
        "design_meaning": DESIGNS.get(design, "C is {odd} here"),
        "classes": ["cat", "dog"],
        "class_parts": [["head", "body"], ["head", "body"]],
        "ratio": 0.8,
        "mutual_information_nats": {"B_train": 0.1234},
        "truth": {"tv": 0.25, "kl": 0.5},
        "verdict": "verified",
        "reason": "R",
        **changes,
    }


@pytest.mark.parametrize("design", DESIGNS)
def test_every_design_is_explained(design):
    lines = explain_sets(document(design))
    assert [line[:2] for line in lines] == ["Y:", "C:", "A:", "B:"]
    assert "cat head or cat body" in lines[1]
    assert ("80 %" in lines[3]) == (design != "label-noise")
    assert lines[3] != f"B: {DESIGNS[design]}" and "{" not in " ".join(lines)
    assert "user" not in what_follows(document(design)) and "{" not in what_follows(document(design))


def test_a_users_design_is_explained_by_its_own_text():
    lines = explain_sets(document("mine"))
    assert lines[2] == "A: as the file says." and lines[3] == "B: C is {odd} here"
    assert "user's" in what_follows(document("mine"))


def test_what_follows_tells_shift_selection_and_confounding_apart():
    assert "it is not confounding" in what_follows(document("paper"))
    assert "0.12 nats" in what_follows(document("confounded"))
    assert "P(Y|X) differs from P(Y|do(X))" in what_follows(document("confounded"))
    assert "only among the rows that were kept" in what_follows(document("selection"))


def test_the_estimand_is_named_with_its_exact_distance():
    text = estimand(document("confounded"))
    assert "P(Y | do(X))" in text and "25.0 points" in text and "KL 0.500 nats" in text
    assert "KL" not in estimand(document("confounded", truth={"tv": 0.25, "kl": None}))


def test_the_verdict_says_what_it_means_and_why():
    for verdict, words in VERDICT_WORDS.items():
        assert verdict_line(document("confounded", verdict=verdict)) == f"{verdict}: {words.meaning}. R"


def test_every_verdict_and_every_test_has_its_words():
    assert set(VERDICT_WORDS) == set(Verdict)
    assert {*CONTRASTS, *PATH_TESTS, "gap_closed", "placebo_c", "unobserved_confounder"} <= set(TEST_NAMES)
