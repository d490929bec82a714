"""Intervals hold the truth as often as they say, have a width, and are the exact ones where there is an exact one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint

from causalft.analysis.diagnosis import bootstrap
from causalft.analysis.diagnosis.intervals import resampled_accuracies
from causalft.analysis.diagnosis.weights import image_covariance
from causalft.runs.intervals import mean_interval, share_interval, wilson


@pytest.fixture(scope="module")
def measured() -> ModuleType:
    """``bench/coverage.py``, which measures every cell of the table in docs/intervals.md."""
    path = Path(__file__).parents[2] / "bench" / "coverage.py"
    spec = importlib.util.spec_from_file_location("coverage_of_intervals", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("n_classes", "n", "truth"),
    [(6, 3, ".5"), (10, 1, ".98"), (10, 3, "by prior"), (60, 1, ".02")],
)
def test_intervals_hold_the_truth_and_have_a_width(
    measured: ModuleType, n_classes: int, n: int, truth: str
) -> None:
    """100 test sets a cell, where 95 may come out as 88; the table of the docs has 1,000 of each."""
    for name, (held, width) in measured.coverage(n_classes, n, truth, runs=100).items():
        assert held >= 0.88, name
        assert width > 0, name


@pytest.mark.parametrize("n", [1, 3, 10, 80, 700])
def test_a_share_has_the_mid_p_interval_inside_the_exact_one(n: int) -> None:
    hits = np.unique(np.linspace(0, n, 9).round())
    low, high = share_interval(hits / n, n)
    for x, a, b in zip(hits, low, high, strict=True):
        exact = proportion_confint(x, n, method="beta")
        assert a <= x / n <= b and a < b
        assert n > 80 or exact[0] - 1e-9 <= a and b <= exact[1] + 1e-9
        if x > 0:
            assert binom.sf(x, n, a) + binom.pmf(x, n, a) / 2 == pytest.approx(0.022, abs=1e-9)
        if x < n:
            assert binom.cdf(x, n, b) - binom.pmf(x, n, b) / 2 == pytest.approx(0.022, abs=1e-9)
    np.testing.assert_allclose(
        np.transpose(wilson(hits / n, n)),
        [proportion_confint(x, n, method="wilson") for x in hits],
        atol=1e-12,
    )


@pytest.mark.parametrize(("right", "n"), [(0, 8), (1, 8), (8, 8), (33, 80), (400, 400)])
def test_the_accuracy_of_one_class_has_the_interval_of_a_share(right: int, n: int) -> None:
    found = bootstrap(lambda a: {"m": a[:, 0, 0]}, (np.arange(n) < right)[None, None], np.zeros(n, int), 1)[
        "m"
    ]
    low, high = share_interval(right / n, n)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    jeffreys = proportion_confint(right, n, method="jeffreys")
    assert found.low == pytest.approx(jeffreys[0], abs=0.6 / n + 0.03)
    assert found.high == pytest.approx(jeffreys[1], abs=0.6 / n + 0.03)


def test_unequal_counts_weigh_classes_alike_and_leave_out_the_untested_one() -> None:
    """1, 4 and 60 test images: the mean over classes is as uncertain as its single image makes it."""
    labels = np.repeat([0, 1, 3], [1, 4, 60])
    shares = np.array([1, 1, 0, 1]) / 3
    right = np.ones((1, 1, 65), bool)
    right[..., 5:20] = False

    def mean(a: np.ndarray) -> dict[str, np.ndarray]:
        return {"m": np.nan_to_num(a[:, 0]) @ shares, "missing": a[:, 0, 2]}

    found = bootstrap(mean, right, labels, 4)
    assert found["m"].estimate == pytest.approx((1 + 1 + 0.75) / 3)
    # The images count like 1 / ((1 + 1/4 + 1/60) / 9) = 7.1: wider than the 65 images alone would be.
    of_all = share_interval(50 / 65, 65)
    assert found["m"].high - found["m"].low > 2 * (of_all[1] - of_all[0])
    assert not found["missing"].exists
    assert found["missing"].to_json() == {
        "estimate": pytest.approx(float("nan"), nan_ok=True),
        "ci95": None,
        "p": None,
        "reason": "no test image bears on it",
    }


def test_draws_have_the_variance_of_the_closed_form_also_for_one_and_two_images() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(5), [1, 2, 1, 1, 7])
    right = rng.random((2, 1, len(labels))) < 0.5
    covariance = image_covariance(right.mean(1), labels, 5)
    drawn = np.concatenate([block for block, _ in resampled_accuracies(right, labels, 5, 20_000, 0)])
    for k, n in enumerate([1, 2, 1, 1, 7]):
        np.testing.assert_allclose(np.cov(drawn[:, :, k].T), covariance[k] / n, atol=0.012)


def test_a_difference_of_models_that_never_differ_has_the_rule_of_three() -> None:
    right = np.ones((2, 1, 30), bool)
    found = bootstrap(lambda a: {"d": a[:, 0, 0] - a[:, 1, 0]}, right, np.zeros(30, int), 1)["d"]
    assert found.estimate == 0 and found.p == 1
    assert 2.5 / 30 < found.high == -found.low < 3.7 / 30


def test_an_interval_stays_within_what_the_number_can_be() -> None:
    labels = np.repeat([0, 1], 6)
    found = bootstrap(lambda a: {"gap": a[:, 0, 0] - a[:, 0, 1]}, labels[None, None] == 0, labels, 2)["gap"]
    assert found.estimate == found.high == 1 and 0.3 < found.low < 0.7


def test_seeds_that_are_equal_say_nothing_of_seeds() -> None:
    assert np.isnan(mean_interval([0.7, 0.7, 0.7])[1:]).all()
    mean, low, high = mean_interval([0.6, 0.7])
    assert (mean, high - low) == (pytest.approx(0.65), pytest.approx(2 * 12.706 * 0.05, rel=1e-3))
