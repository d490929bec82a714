"""Intervals, tests and the verdict's rule against simulations with known truth and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from causalft.analysis.confounding.statistics import CELLS, CONTRASTS, Estimate, estimate, mcnemar
from causalft.analysis.confounding.verdict import judge_gaps

GROUPS = {"A": np.repeat(np.arange(12), 25), "B": np.repeat(np.arange(12), 25)}


def simulate(rng, n_seeds, training_sd, means):
    """Correct answers of models whose true accuracies vary around `means` from seed to seed."""
    correct = {}
    for cell in CELLS:
        truth = np.clip(means[cell] + training_sd * rng.standard_normal(n_seeds), 0, 1)
        correct[cell] = rng.random((n_seeds, 300)) < truth[:, None]
    return correct


@pytest.mark.parametrize("training_sd", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("n_seeds", [3, 5])
def test_intervals_cover_the_truth_at_least_nineteen_times_in_twenty(training_sd, n_seeds):
    rng = np.random.default_rng(11)
    means = {"A->A": 0.8, "A->B": 0.8, "B->A": 0.7, "B->B": 0.8}
    hits, trials = 0, 300
    for _ in range(trials):
        e = estimate(simulate(rng, n_seeds, training_sd, means), CONTRASTS["gap_B"], GROUPS, n_boot=2)
        hits += e.ci95[0] <= 0.1 <= e.ci95[1]
    assert hits / trials > 0.95 - 3 * np.sqrt(0.95 * 0.05 / trials)


def test_between_seed_spread_gives_the_paired_t_test():
    correct = {"A->A": np.zeros((4, 300), bool), "B->A": np.zeros((4, 300), bool)}
    for seed, (first, second) in enumerate([(300, 100), (200, 140), (260, 50), (290, 200)]):
        correct["A->A"][seed, :first] = True
        correct["B->A"][seed, :second] = True
    e = estimate(correct, CONTRASTS["A_minus_B_on_A"], {"A": np.arange(300) % 2})
    differences = np.array([200, 60, 210, 90]) / 300
    assert e.per_seed == pytest.approx(differences)
    assert e.mean == pytest.approx(differences.mean())
    assert e.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    low, high = stats.t.interval(0.95, 3, differences.mean(), stats.sem(differences))
    assert e.ci95 == pytest.approx((low, high))


def test_seeds_that_agree_by_luck_do_not_make_the_interval_narrow():
    one = np.random.default_rng(0).random(300) < 0.8
    e = estimate({"A->A": np.stack([one] * 5)}, {"A->A": 1.0}, {"A": np.zeros(300, int)})
    assert e.ci95[1] - e.ci95[0] == pytest.approx(
        2 * stats.t.ppf(0.975, 4) * one.std(ddof=1) / np.sqrt(300 * 5)
    )
    perfect = estimate({"A->A": np.ones((5, 300), bool)}, {"A->A": 1.0}, {"A": np.zeros(300, int)})
    assert perfect.ci95[0] < 1.0 == perfect.ci95[1]


def test_pairing_by_image_narrows_the_difference():
    rng = np.random.default_rng(1)
    first = rng.random((3, 300)) < 0.7
    second = first.copy()
    second[:, :9] = False
    paired = estimate({"A->A": first, "B->A": second}, CONTRASTS["A_minus_B_on_A"], {"A": np.zeros(300, int)})
    shuffled = np.stack([rng.permutation(row) for row in second])
    loose = estimate(
        {"A->A": first, "B->A": shuffled}, CONTRASTS["A_minus_B_on_A"], {"A": np.zeros(300, int)}
    )
    assert np.ptp(paired.bootstrap95) < 0.5 * np.ptp(loose.bootstrap95)


def test_bootstrap_agrees_with_theory_on_many_seeds():
    rng = np.random.default_rng(2)
    correct = {"A->A": rng.random((40, 300)) < 0.8}
    e = estimate(correct, {"A->A": 1.0}, {"A": np.zeros(300, int)}, n_boot=2000)
    spread = np.sqrt(
        2 * 0.8 * 0.2 / (300 * 40)
    )  # seeds are resampled and pictures are: twice the variance of pictures
    assert np.ptp(e.bootstrap95) == pytest.approx(2 * 1.96 * spread, rel=0.2)


def test_mcnemar_is_the_exact_sign_test():
    first, second = np.zeros(50, bool), np.zeros(50, bool)
    first[:12], second[10:14] = True, True
    assert mcnemar(first, second) == pytest.approx(stats.binomtest(10, 12, 0.5).pvalue)
    assert mcnemar(first, first) == 1.0


def made(mean: float, half: float) -> Estimate:
    return Estimate(mean, (mean - half, mean + half), 0.5, (mean,), (mean - half, mean + half))


def judge(drop, deficit, difference, *, cells=0.9, n_seeds=5, smallest=10):
    accuracy = {name: made(cells, 0.02) for name in CELLS}
    tests = {
        "gap_B": drop,
        "gap_A": made(0.0, 0.01),
        "A_minus_B_on_A": deficit,
        "gap_B_minus_gap_A": difference,
    }
    found = judge_gaps(accuracy, tests, n_classes=6, n_seeds=n_seeds, smallest_group=smallest)
    return found.verdict, found.reason


def test_the_verdict_follows_its_rule():
    big, none, vague = made(0.10, 0.03), made(0.00, 0.03), made(0.06, 0.10)
    assert judge(big, big, big)[0] == "verified"
    assert judge(none, none, none)[0] == "not detected"
    assert judge(big, none, none)[0] == "not detected"
    for triple in ((vague, vague, vague), (big, vague, big), (big, big, vague)):
        verdict, reason = judge(*triple)
        assert verdict == "inconclusive" and "too wide" in reason and "--seeds" in reason
    assert judge(big, big, big, n_seeds=1)[1].startswith("one seed only")
    verdict, reason = judge(big, big, big, smallest=4)
    assert verdict == "inconclusive" and "too few images" in reason and "--n-per-class" in reason
    assert "did not learn" in judge(big, big, big, cells=0.2)[1]


@pytest.mark.slow
def test_equal_models_are_rarely_called_confounded():
    rng = np.random.default_rng(5)
    verdicts = []
    for _ in range(200):
        correct = simulate(rng, 4, 0.015, dict.fromkeys(CELLS, 0.93))
        tests = {name: estimate(correct, weights, GROUPS, n_boot=2) for name, weights in CONTRASTS.items()}
        cells = {name: estimate(correct, {name: 1.0}, GROUPS, n_boot=2) for name in CELLS}
        verdicts.append(judge_gaps(cells, tests, n_classes=6, n_seeds=4, smallest_group=10).verdict)
    assert verdicts.count("verified") <= 5
    assert verdicts.count("not detected") > 150
