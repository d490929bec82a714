"""All tests of a design's rows under their names, and the share of the gap that adjustment closes."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy import stats

from causalft.analysis.confounding import battery
from causalft.analysis.confounding.battery import run_battery
from causalft.analysis.confounding.statistics import Estimate, closed_share, gap_closed
from causalft.analysis.confounding.verdict import PATH_TESTS
from synthetic.designs import Rows, make_design

CLASSES = ["cat", "dog"]


@pytest.fixture(autouse=True)
def few_simulations(monkeypatch):
    monkeypatch.setattr(battery, "refute", partial(battery.refute, simulations=10))


def run(name: str, n: int = 300, **options):
    design = make_design(name, CLASSES, **options)
    return run_battery(design, design.rows("B_train", n, seed=0), seed=0)


def seen(found) -> dict[str, bool]:
    return {name: found.path[name].p < 0.05 for name in PATH_TESTS}


def test_the_path_is_found_exactly_where_it_exists():
    assert seen(run("confounded")) == dict.fromkeys(PATH_TESTS, True)
    assert seen(run("label-noise")) == {"c_to_x": True, "c_to_y": False, "open_backdoor_path": False}
    assert seen(run("confounded", strength=0.0)) == {
        "c_to_x": True,
        "c_to_y": False,
        "open_backdoor_path": False,
    }
    null = run("null")
    assert not null.path["c_to_x"].p < 0.05 and not null.path["open_backdoor_path"].p < 0.05


def test_rows_of_a_selected_sample_look_confounded():
    found = run("selection")
    assert seen(found) == dict.fromkeys(PATH_TESTS, True), "which is why the verdict asks the graph"
    assert found.refutation is not None and found.refutation.truth is None


def test_the_refuters_pass_the_adjusted_effect_and_the_naive_one_is_off():
    found = run("confounded", n=600).refutation
    assert found is not None and found.truth is not None
    assert abs(found.adjusted - found.truth) < 0.05 < abs(found.naive - found.truth)
    assert all(test.p > 0.05 for test in found.tests.values())


def test_an_image_that_determines_c_leaves_the_path_undecided_with_a_reason():
    found = run("paper")
    assert (
        found.path["open_backdoor_path"].p == 1.0
        and "cannot be told" in found.path["open_backdoor_path"].words
    )


def test_a_constant_factor_is_reported_and_the_run_continues():
    rows = make_design("confounded", CLASSES).rows("B_train", 50, seed=0)
    constant = Rows(rows.labels, np.zeros_like(rows.factors), rows.looks, rows.parts, rows.contents)
    found = run_battery(make_design("confounded", CLASSES), constant)
    assert all(
        found.path[name].p == 1.0 and "one value only" in found.path[name].words for name in PATH_TESTS
    )
    assert found.refutation is None and "C" in found.why_not


@pytest.mark.slow
def test_tables_with_four_rows_per_class_are_tested():
    for name in ("confounded", "paper", "selection", "null", "label-noise"):
        found = run(name, n=4)
        assert set(PATH_TESTS) <= set(found.path)
        assert found.refutation is not None or found.why_not


def cells(gap: np.ndarray, gained: np.ndarray, n: int = 1000) -> dict[str, np.ndarray]:
    """Predictions whose accuracies are 0.5 for B->A, and higher by the gap and by the gain."""
    rank = np.arange(n)[None]
    return {
        "B->A": np.broadcast_to(rank < 0.5 * n, (len(gap), n)),
        "A->A": rank < np.round((0.5 + gap[:, None]) * n),
        "adjusted->A": rank < np.round((0.5 + gained[:, None]) * n),
    }


def test_the_share_and_its_interval_are_those_of_fieller():
    gap, gained = np.array([0.20, 0.24, 0.18, 0.22]), np.array([0.12, 0.18, 0.11, 0.15])
    share, (low, high) = closed_share(cells(gap, gained))
    assert share == pytest.approx(gained.sum() / gap.sum()) and low < share < high
    for limit in (low, high):  # a share on the limit is rejected at exactly 5 %
        assert stats.ttest_1samp(gained - limit * gap, 0.0).pvalue == pytest.approx(0.05, abs=1e-6)


def test_the_interval_covers_the_true_share():
    rng = np.random.default_rng(3)
    hits, trials = 0, 400
    for _ in range(trials):
        gap = 0.15 + 0.04 * rng.standard_normal(5)
        gained = 0.6 * gap + 0.02 * rng.standard_normal(5)
        low, high = closed_share(cells(gap, gained))[1]
        hits += low <= 0.6 <= high
    assert abs(hits / trials - 0.95) < 3 * np.sqrt(0.95 * 0.05 / trials) + 0.005


def test_without_a_clear_gap_the_share_is_unbounded_and_the_words_say_so():
    for gap in ([0.01, -0.01, 0.02], [0.0, 0.0, 0.0], [0.2]):
        share, limits = closed_share(cells(np.array(gap), np.full(len(gap), 0.1)))
        assert limits == (float("-inf"), float("inf"))
        gained = Estimate(0.1, (0.05, 0.15), 0.01, (0.1,), (0.05, 0.15))
        words = gap_closed(gained, (share, limits)).words
        assert "cannot be told" in words and "inf" not in words and "nan" not in words
    assert "75 % of the gap [60, 90]" in gap_closed(gained, (0.75, (0.6, 0.9))).words
