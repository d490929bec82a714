"""The table of verdict rates, and the run on a small scale."""

from __future__ import annotations

from experiments.verdict_rates import CASES, EXPERIMENT, tabulate


def test_table_and_sentences_say_what_was_counted() -> None:
    found = {
        "a": {
            "runs": 10,
            "verdicts": {"verified": 9, "inconclusive": 1},
            "runs_apart": 3,
            "verdicts_apart": {"verified": 3},
            "verified": {"estimate": 0.9, "ci95": [0.292, 1.0]},
            "gaps": {
                "gap_B": {"mean": 0.2, "sd": 0.01},
                "A_minus_B_on_A": {"mean": 0.15, "sd": 0.02},
            },
        }
    }
    made = tabulate(found)
    assert made["table"]["rows"] == [
        ["a", "9 of 10", "1", "0", "3 of 3 (29 to 100 %)", "20.0 (1.0)", "15.0 (2.0)"]
    ]
    assert made["conclusion"] == [
        "a: 9 of 10 runs say 'verified' (95 % interval of the rate, from the runs apart: 29 to 100 %)."
    ]


def test_a_small_run_judges_every_case(tmp_path) -> None:
    metrics = EXPERIMENT.run(tmp_path / "run", True, 2)
    assert list(metrics["cases"]) == list(CASES)
    assert all(case["runs"] == 2 and case["runs_apart"] == 1 for case in metrics["cases"].values())
    assert (tmp_path / "run" / "report.html").exists() and "--seeds 2 --quick" in (
        tmp_path / "run" / "report.html"
    ).read_text()
