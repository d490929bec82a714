"""Figures 2 and 3 on arms whose class accuracies are known: groups, slopes, rank correlations, agreement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from experiments import fig2, fig3
from experiments.frame.agreement import agreement, mean_agreement
from experiments.frame.claims import judge
from experiments.frame.curves import curve_metrics, curve_table, draw_curves
from experiments.frame.groups import draw_groups, group_metrics
from experiments.frame.measures import Answered, Contrast
from experiments.frame.tested import Tested

K, PER_CLASS, SEEDS = 20, 40, 3


@pytest.fixture(scope="module")
def found() -> Tested:
    """Two strata whose accuracy rises by .1 per factor e of the own prior, and a fusion without a slope."""
    rng = np.random.default_rng(0)
    profile = 20.0 ** (-np.arange(K) / (K - 1))
    counts = np.rint(200 * rng.permutation(profile)).astype(int)
    priors = np.stack([rng.permutation(profile / profile.sum()) for _ in range(2)])
    labels = np.repeat(np.arange(K), PER_CLASS)

    def right(accuracy: np.ndarray) -> np.ndarray:
        return rng.random((SEEDS, len(labels))) < accuracy[labels]

    biased = np.stack([right(0.9 + 0.1 * np.log(prior)) for prior in priors])
    by_count = np.stack([right(0.1 + 0.15 * np.log(counts)) for _ in priors])
    flat = right(np.full(K, 0.6))[None]
    arms = {
        "CE": Answered(by_count, [[0], [1]]),
        "LA": Answered(biased, [[0], [1]]),
        "fused": Answered(flat, [[0, 1]]),
    }
    return Tested(labels, counts, priors * rng.uniform(0.9, 1.1, priors.shape), priors, biased, arms)


def test_groups_are_mean_class_accuracies_and_the_rarest_in_both_is_compared(found: Tested) -> None:
    from causalft.data.groups import class_accuracy, cross_groups, data_groups, prior_groups

    metrics = group_metrics(found)
    accuracy = class_accuracy(found.arms["LA"].correct, found.labels, K).mean(axis=1)
    tables = [
        cross_groups(a, data_groups(found.counts), prior_groups(p))
        for a, p in zip(accuracy, found.estimated, strict=True)
    ]
    for d in ("many", "medium", "few"):
        for p in ("many", "medium", "few"):
            there = [value for t in tables if (value := t[d][p]) is not None]
            cell = metrics["cells"]["LA"][d][p]
            if there:
                assert cell["estimate"] == pytest.approx(np.mean(there))
                assert cell["ci95"][0] < cell["estimate"] < cell["ci95"][1]
            else:
                assert cell is None
    assert sum(sum(of.values()) for of in metrics["classes"].values()) == pytest.approx(K)
    lowest = {name: metrics["tail_tail"][name]["estimate"] for name in found.arms}
    assert lowest["CE"] < 0.1 and metrics["tail_tail"]["fused"]["ci95"][1] > 0
    assert len(draw_groups(metrics)) == 3


def test_slopes_and_ranks_find_the_known_truth(found: Tested) -> None:
    metrics = curve_metrics(found, [Contrast("fall", ("LA",), ("fused",), "prior_slope")])
    true = 0.1 * np.log(100)  # per factor 100
    slope = metrics["slopes"]["known prior"]["LA"]
    assert slope["ci95"][0] < true < slope["ci95"][1] and slope["ci95"][1] - slope["ci95"][0] < 0.5
    flat = metrics["slopes"]["known prior"]["fused"]
    assert flat["ci95"][0] < 0 < flat["ci95"][1]
    assert metrics["slopes"]["training count"]["CE"]["ci95"][0] > 0.3
    assert metrics["known"]["fall"]["ci95"][0] > 0.2
    accuracy = found.arms["LA"].correct.reshape(2, SEEDS, K, PER_CLASS).mean(axis=(1, 3))
    expected = np.mean([spearmanr(np.round(a, 10), p)[0] for a, p in zip(accuracy, found.known, strict=True)])  # type: ignore[arg-type]
    rank = metrics["ranks"]["known prior"]["LA"]
    assert rank["estimate"] == pytest.approx(expected) and rank["ci95"][0] < expected < rank["ci95"][1]
    assert metrics["rank_changes"]["estimated prior"]["fall"]["ci95"][0] > 0
    curve = metrics["curves"]["known prior"]["LA"]
    assert len(curve) == 20 and np.mean(curve[:5]) > np.mean(curve[-5:]) + 0.1
    assert [len(curve_table(metrics)["rows"]), len(draw_curves(metrics))] == [3, 3]


def test_agreement_has_an_interval_over_validation_images() -> None:
    rng = np.random.default_rng(1)
    known = np.exp(rng.normal(size=8))
    labels = np.repeat(np.arange(8), 25)
    logits = 3 * np.eye(8)[labels] + rng.normal(size=(200, 8)) + np.log(known)
    one = agreement(logits, labels, known, n_boot=20)
    assert one["ci95"][0] < one["estimate"] < one["ci95"][1] <= 1 and one["estimate"] > 0.7
    assert one["kl"] < one["kl_of_uniform"]
    both = mean_agreement({"a": one, "b": one})
    assert both["estimate"] == pytest.approx(one["estimate"]) and both["ci95"] == pytest.approx(one["ci95"])


@pytest.mark.parametrize("module", [fig2, fig3])
def test_claims_point_at_what_the_study_measures(module: Any) -> None:
    from experiments.frame.scales import Roles

    roles = Roles(("clip", "openclip"), ("clip", "clip@1"), "pre-training", None, "none", True)
    study = module.study(roles)
    words = {contrast.words for contrast in study.contrasts}
    for claim in module.claims():
        kind, _, rest = claim.at.partition("/")
        if kind == "paired":
            assert rest in words
        assert judge(claim, {}).verdict == "open"
    assert study.conclude(lambda words: "1.0") and study.measure is not None
