"""Every verdict from constructed findings: which gaps, which path and which graph lead to which word."""

from __future__ import annotations

import pytest

from causalft.analysis.confounding.statistics import CELLS, Estimate, Evidence
from causalft.analysis.confounding.verdict import PATH_TESTS, Verdict, blocks_backdoor, judge
from synthetic.designs import make_design

CLASSES = ["cat", "dog"]


def made(mean: float, half: float = 0.03) -> Estimate:
    return Estimate(mean, (mean - half, mean + half), 0.5, (mean,), (mean - half, mean + half))


def verdict(
    design, gap=0.15, *, accuracy=0.9, p=0.001, half=0.03, without=(), n_seeds=5, smallest=20, **options
):
    chosen = design if not isinstance(design, str) else make_design(design, CLASSES, **options)
    gaps = {
        "gap_B": made(gap, half),
        "gap_A": made(0.0),
        "A_minus_B_on_A": made(gap, half),
        "gap_B_minus_gap_A": made(gap, half),
    }
    path = {
        name: Evidence(0.1, (0.05, 0.15), p, f"words of {name}") for name in PATH_TESTS if name not in without
    }
    p_holm = {name: (p[name] if isinstance(p, dict) else p) for name in path}
    found = judge(
        chosen,
        {name: made(accuracy) for name in CELLS},
        gaps,
        path,
        p_holm,
        n_seeds=n_seeds,
        smallest_group=smallest,
    )
    return found.verdict, found.reason


def test_a_clear_gap_gets_a_different_verdict_in_each_design():
    found = {name: verdict(name) for name in ("confounded", "paper", "selection")}
    assert {name: word for name, (word, _) in found.items()} == {
        "confounded": "verified",
        "paper": "shift of C",
        "selection": "selection",
    }
    assert "words of open_backdoor_path" in found["confounded"][1]
    assert "P(C)" in found["paper"][1] and "not confounding" in found["paper"][1]
    assert "kept by C and Y" in found["selection"][1]
    assert {word for word, _ in found.values()} <= set(Verdict)


@pytest.mark.parametrize("missing", PATH_TESTS)
def test_one_insignificant_path_test_makes_the_verdict_inconclusive(missing):
    p = {name: 0.2 if name == missing else 0.001 for name in PATH_TESTS}
    word, reason = verdict("confounded", p=p)
    assert word == "inconclusive" and f"words of {missing}" in reason


@pytest.mark.parametrize("p", [float("nan"), 0.051])
def test_a_p_value_that_is_missing_or_too_large_is_no_evidence(p):
    assert verdict("confounded", p=p)[0] == "inconclusive"
    assert verdict("confounded", p=0.049)[0] == "verified"


def test_a_test_that_was_not_made_is_no_evidence():
    word, reason = verdict("confounded", without=("c_to_x",))
    assert word == "inconclusive" and "c_to_x not significant" in reason


def test_rows_alone_do_not_verify_against_the_graph():
    word, reason = verdict("null")
    assert word == "inconclusive" and "no backdoor path through C" in reason


@pytest.mark.parametrize("design, options", [("label-noise", {}), ("confounded", {"strength": 0.0})])
def test_a_gap_that_c_cannot_explain_is_inconclusive(design, options):
    word, reason = verdict(design, **options)
    assert word == "inconclusive" and "C cannot be the reason" in reason


@pytest.mark.parametrize("design", ["confounded", "paper", "selection", "null"])
def test_without_a_gap_every_design_is_not_detected_or_inconclusive(design):
    assert verdict(design, 0.0)[0] == "not detected"
    word, reason = verdict(design, 0.06, half=0.1)
    assert word == "inconclusive" and "too wide" in reason


@pytest.mark.parametrize(
    "options, words", [({"n_seeds": 1}, "one seed"), ({"smallest": 4}, "too few images")]
)
def test_too_little_data_is_inconclusive(options, words):
    for gap in (0.0, 0.15):
        word, reason = verdict("confounded", gap, **options)
        assert word == "inconclusive" and words in reason


def test_which_graphs_have_a_path_that_c_blocks():
    blocked = {name: blocks_backdoor(make_design(name, CLASSES)) for name in ("confounded", "paper", "null")}
    assert blocked == {"confounded": True, "paper": False, "null": False}


def test_models_have_learned_above_the_middle_of_chance_and_the_best_possible():
    best = make_design("confounded", CLASSES).best_accuracy()
    needed = {cell: (0.5 + best[cell]) / 2 for cell in ("A->A", "B->B")}
    assert max(needed.values()) < 0.7, "1.5 times chance, 0.75, would ask for nearly all that can be learned"
    assert verdict("confounded", accuracy=max(needed.values()) + 0.031)[0] == "verified"
    word, reason = verdict("confounded", accuracy=min(needed.values()) + 0.029)
    assert word == "inconclusive" and "did not learn" in reason
