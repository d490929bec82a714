"""``verify-confounder --design all``: every design in its folder, one table, one figure, one paragraph."""

from __future__ import annotations

import json

import pytest

from causalft.pipelines.pages.confounder import (
    COLUMNS,
    closed_sentence,
    draw_side_by_side,
    table_rows,
    what_follows_from,
)
from causalft.pipelines.workflows.verify_confounder import verify_confounder
from synthetic.designs import DESIGNS
from tests.command_line import run


@pytest.fixture(scope="module")
def results():
    small = {"classes": ["cat", "truck"], "n_per_class": 8, "seeds": 2, "quick": True, "progress": False}
    found = {**verify_confounder("confounded", adjust=False, **small).metrics(), "verdict": "verified"}
    return {"confounded": found, "null": found}


def test_paragraph_counts_expected_verdicts(results):
    text = what_follows_from(results)
    assert "1 of 2 designs came out as their laws say. Otherwise: null (verified)." in text
    good = {"null": {**results["null"], "verdict": "not detected"}}
    assert what_follows_from(good).endswith("1 of 1 designs came out as their laws say.")


def test_the_table_and_the_figure_have_every_design(results):
    rows = table_rows(results)
    assert [row[0] for row in rows] == list(results) and {len(row) for row in rows} == {len(COLUMNS)}
    ticks = [label.get_text() for label in draw_side_by_side(results).axes[0].get_xticklabels()]
    assert ticks == ["confounded\nverified", "null\nverified"]


@pytest.mark.slow
def test_all_designs_from_the_command_line(tmp_path):
    words = "verify-confounder --design all --classes cat,truck --n-per-class 6 --seeds 1 --quick --no-adjust"
    first = run(*words.split(), "--out", str(tmp_path / "all"))
    assert first.exit_code == 0, first.output
    metrics = json.loads((tmp_path / "all" / "metrics.json").read_text())
    assert set(metrics["verdicts"]) == set(DESIGNS) and set(metrics["verdicts"].values()) == {"inconclusive"}
    for name in DESIGNS:
        page = (tmp_path / "all" / name / "report.html").read_text()
        assert f"--design {name}" in page and name in first.output
    assert "side by side" in (tmp_path / "all" / "report.html").read_text()
    # an interrupted run reads what is complete, and takes nothing away
    kept = (tmp_path / "all" / "paper" / "metrics.json").stat().st_mtime_ns
    (tmp_path / "all" / "metrics.json").unlink()
    resumed = run(*words.split(), "--out", str(tmp_path / "all"))
    assert resumed.exit_code == 0, resumed.output
    assert (tmp_path / "all" / "paper" / "metrics.json").stat().st_mtime_ns == kept
    again = run(*words.split(), "--out", str(tmp_path / "all"))
    assert again.exit_code == 2 and "already holds a complete" in again.output


def test_no_share_of_a_gap_that_may_be_zero():
    found = {"share_of_gap_closed": {"estimate": 3.6, "ci95": [None, None]}}
    assert closed_sentence(found) == ""
    assert (
        closed_sentence({"share_of_gap_closed": {"estimate": 3.6, "ci95": [float("-inf"), float("inf")]}})
        == ""
    )
    assert closed_sentence({"share_of_gap_closed": None}) == ""
    known = {"share_of_gap_closed": {"estimate": 0.755, "ci95": [0.706, 0.803]}}
    assert closed_sentence(known) == "Adjustment closes 75.5 [70.6, 80.3] % of the gap on A"
