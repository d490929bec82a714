"""What every page has: a headline of one short sentence, a name for a title, p-values that end at 1e-4."""

from __future__ import annotations

import re
from typing import Any

import pytest

from causalft.analysis.confounding.verdict import Verdict
from causalft.analysis.confounding.words import VERDICT_WORDS
from causalft.pipelines.pages.diagnosis import headline
from causalft.report.html import place_name
from causalft.runs.intervals import p_relation, p_words


def measure(before: tuple[float, ...], after: tuple[float, ...], fall: tuple[float, ...]) -> dict[str, Any]:
    values = (dict(zip(("estimate", "ci95", "p"), (v[0], list(v[1:]), None))) for v in (before, after, fall))
    return {"own_minus_off_gap": dict(zip(("before", "after", "fall"), values))}


FALLS = measure((0.129, 0.10, 0.15), (0.057, 0.02, 0.09), (0.55, 0.34, 0.80))
RISES = measure((0.10, 0.08, 0.12), (0.15, 0.12, 0.18), (-0.5, -0.9, -0.1))
UNCLEAR = measure((0.10, 0.08, 0.12), (0.09, 0.05, 0.13), (0.1, -0.3, 0.5))
NOTHING = measure((0.01, -0.02, 0.04), (0.0, -0.02, 0.02), (1.0, -3.0, 5.0))
UNKNOWN = {"own_minus_off_gap": {"before": None, "after": None, "fall": None}}

CASES = [
    (FALLS, "Fusion lowers parameter imbalance from 12.9 to 5.7 points."),
    (RISES, "Fusion raises parameter imbalance from 10.0 to 15.0 points."),
    (UNCLEAR, "Parameter imbalance: 10.0 points in single models, 9.0 after fusion, no clear change."),
    (NOTHING, "No parameter imbalance is shown here."),
    (UNKNOWN, "Parameter imbalance cannot be told from class difficulty here."),
    (FALLS | {"no_conclusion": ["chance"]}, "This run allows no conclusion on parameter imbalance."),
]


@pytest.mark.parametrize(("metrics", "expected"), CASES)
def test_the_headline_of_fit_is_one_short_sentence(metrics: dict[str, Any], expected: str) -> None:
    assert headline(metrics) == expected
    assert len(expected) <= 100 and expected.count(". ") == 0


def test_every_verdict_of_the_ab_experiment_has_a_headline() -> None:
    assert set(VERDICT_WORDS) == set(Verdict)
    for words in VERDICT_WORDS.values():
        assert len(words.headline) <= 80 and re.fullmatch(r"[^.]+\.", words.headline)


@pytest.mark.parametrize(
    ("p", "words"),
    [(0.0, "< 1e-4"), (9.9e-5, "< 1e-4"), (1e-4, "0.0001"), (0.00123, "0.0012"), (0.5, "0.5"), (1.0, "1")],
)
def test_p_values_end_at_one_in_ten_thousand(p: float, words: str) -> None:
    assert p_words(p) == words
    assert p_relation(p) == (words if words.startswith("<") else f"= {words}")


@pytest.mark.parametrize("place", ["/tmp/a/b/photos", "photos/", "./x/photos", "/tmp/photos"])
def test_a_title_has_no_path(place: str) -> None:
    assert place_name(place) == "photos"
