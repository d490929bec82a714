"""The diagnosis on members whose class accuracies, priors and difficulties are known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.analysis.diagnosis import BeforeAfter, Diagnosis, Interval, bootstrap, change, diagnose, points
from causalft.analysis.diagnosis.parameter_imbalance import UNIT, PriorSlope, off_gap, own_gap
from causalft.data.groups import GROUPS, class_accuracy, gap_vectors, group_accuracy, prior_groups
from causalft.errors import CausalFTError
from causalft.runs.folder import to_json

Simulate = Callable[..., Diagnosis]
ROUNDING = 0.004  # accuracies are multiples of 1 / per_class


def test_difficulty_alone_is_no_parameter_imbalance(simulated: Simulate) -> None:
    found = simulated(beta=0.0, difficulty=0.3)
    assert max(abs(g.estimate) for row in found.gap.values() for g in row.values()) > 0.05  # raw gaps mislead
    assert abs(found.own_minus_off_gap.before.estimate) < ROUNDING
    assert abs(found.own_minus_off_gap.after.estimate) < ROUNDING
    assert abs(found.prior_slope.before.estimate) < ROUNDING
    assert abs(found.prior_slope.after.estimate) < ROUNDING
    assert not found.own_minus_off_gap.before.excludes_zero
    assert "no parameter imbalance is shown" in found.conclusion()[0]


def test_known_slope_is_recovered_under_difficulty(simulated: Simulate) -> None:
    found = simulated(beta=0.2, difficulty=0.2)
    assert found.prior_slope.before.estimate == pytest.approx(0.2, abs=ROUNDING)
    assert found.prior_slope.before.excludes_zero and found.own_minus_off_gap.before.excludes_zero
    assert "before" not in found.conclusion()[0] and "parameter imbalance" in found.conclusion()[0].lower()


def test_a_negative_slope_is_a_gain_of_the_rare_classes(simulated: Simulate) -> None:
    text = simulated(beta=-0.2).conclusion()[1]
    assert "gains 20." in text or "gains 19." in text
    assert "loses" not in text


def test_a_missing_control_is_mentioned_and_tuning_seeds_are_called_weaker() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 20)
    a, b = rng.dirichlet(np.ones(10), (2, 1, 200))
    priors = {"a": np.arange(1, 11) / 55, "b": np.arange(10, 0, -1) / 55}

    def run(**options: Any) -> Diagnosis:
        return diagnose(labels, np.full(10, 50), {"a": a, "b": b}, (a + b) / 2, priors, n_boot=100, **options)

    assert "No one-prior control" in " ".join(run().conclusion())
    assert "No one-prior control" not in " ".join(run(mention_missing_control=False).conclusion())
    control = {"members": {"a": a, "a@1": b}, "fused": (a + b) / 2, "prior_of": "a"}
    for kind, weaker in (("tuning", True), ("pre-training", False), (None, False)):
        found = run(controls={"seeds": control if kind is None else {**control, "kind": kind}})
        assert found.to_metrics()["controls"]["seeds"]["kind"] == kind
        assert ("weaker control" in " ".join(found.conclusion())) == weaker
    with pytest.raises(CausalFTError, match="did you mean 'tuning'"):
        run(controls={"seeds": {**control, "kind": "tunning"}})


def test_averaging_m_models_leaves_one_mth_of_the_own_gap(simulated: Simulate) -> None:
    """a_fused = mean_i a_i gives exactly gap_fused = mean_i gap_i, so own-minus-off falls to 1/M."""
    found = simulated(beta=0.3, difficulty=0.15, gain=0.0, per_class=1000, n_boot=100)
    measure = found.own_minus_off_gap
    assert measure.after.estimate == pytest.approx(measure.before.estimate / 3, abs=0.002)
    assert measure.fall.estimate == pytest.approx(2 / 3, abs=0.02)
    assert abs(found.fused_minus_members_gap.estimate) < 0.002


def test_slope_after_averaging_follows_the_closed_form(simulated: Simulate) -> None:
    """The fused slope on prior j is beta * cov(mean_i x_i, x_j) / var(x_j): 1/M for uncorrelated priors."""
    found = simulated(beta=0.3, difficulty=0.15, gain=0.05, per_class=1000, n_boot=100)
    x = np.log(np.stack(list(found.priors.values())))
    x = x - x.mean(1, keepdims=True)
    expected = 0.3 * np.mean([x.mean(0) @ x_j / (x_j @ x_j) for x_j in x])
    assert found.prior_slope.after.estimate == pytest.approx(expected, abs=0.003)
    orthogonal = np.exp(np.kron([[1, 1, -1, -1], [1, -1, 1, -1]], np.ones(2)))
    slope = PriorSlope(orthogonal, np.ones(8, bool))
    accuracy = 0.5 + 0.1 * np.log(orthogonal)
    np.testing.assert_allclose(slope.of_model(accuracy.mean(0)[None], accuracy[None]) / UNIT, [[0.05, 0.05]])


def test_a_fusion_that_removes_more_than_averaging_is_told_apart(simulated: Simulate) -> None:
    found = simulated(beta=0.3, fused_beta=0.0, per_class=400)
    assert abs(found.prior_slope.after.estimate) < ROUNDING
    assert found.fused_minus_members_gap.high < 0
    assert any("more than averaging" in sentence for sentence in found.conclusion())


def test_the_control_keeps_its_gap_and_shares_the_gain(simulated: Simulate) -> None:
    found = simulated(beta=0.2, difficulty=0.1, gain=0.1, control=True, per_class=400)
    control = found.controls["seeds"]
    assert abs(control.P_gap.fall.estimate) < 0.03 and abs(control.own_minus_off_gap.fall.estimate) < 0.04
    assert control.prior_slope.before.estimate == pytest.approx(
        control.prior_slope.after.estimate, abs=ROUNDING
    )
    assert control.gain.estimate == pytest.approx(0.05, abs=ROUNDING)
    assert control.ensemble_share.estimate == pytest.approx(0.5, abs=0.05)
    assert found.paired["fused_minus_control_gain"].estimate == pytest.approx(0.05, abs=2 * ROUNDING)
    assert found.paired["fused_minus_control"].excludes_zero
    text = " ".join(found.conclusion())
    assert text.index("Parameter imbalance") < text.index("Control 'seeds'") < text.index("Accuracy")
    assert "50 % is an ordinary ensemble's" in text or "49 %" in text or "51 %" in text


def test_cross_table_and_groups_are_those_of_the_class_tables(found: Diagnosis) -> None:
    for model, score in found.strata.items():
        for prior, q in found.priors.items():
            groups = group_accuracy(score.class_accuracy, prior_groups(q))
            assert score.P[prior] == groups
            assert found.gap[model][prior].estimate == pytest.approx(groups["many"] - groups["few"])
    before = np.mean([found.gap[m][m].estimate for m in found.strata])
    assert found.P_gap.before.estimate == pytest.approx(before)
    assert found.P_gap.after.estimate == pytest.approx(
        np.mean([g.estimate for g in found.gap["fused"].values()])
    )


def test_metrics_have_the_documented_layout(found: Diagnosis) -> None:
    metrics = json.loads(to_json(found.to_metrics()))
    groups = set(GROUPS)
    assert {
        "strata",
        "cross_P",
        "own_minus_off_gap",
        "prior_slope",
        "fused",
        "controls",
        "class_counts",
    } <= set(metrics)
    stratum = metrics["strata"]["clip"]
    assert {"accuracy", "ci95", "D", "P", "DxP", "label_prior"} <= set(stratum)
    assert (
        set(stratum["D"]) == set(stratum["P"]) == set(stratum["DxP"]) == set(stratum["DxP"]["few"]) == groups
    )
    assert set(metrics["cross_P"]["clip"]["metaclip"]) == groups
    assert metrics["cross_P"]["clip"]["clip"] == stratum["P"]
    fused = metrics["fused"]
    assert {"fusion", "stratum_prior", "temperature", "accuracy", "ci95", "nll", "D", "P", "DxP"} <= set(
        fused
    )
    assert set(fused["P"]) == set(fused["DxP"]) == {"clip", "openclip", "metaclip"}
    assert set(fused["DxP"]["clip"]["many"]) == groups
    for measure in ("own_minus_off_gap", "prior_slope"):
        for when in ("before", "after"):
            low, high = metrics[measure][when]["ci95"]
            assert low <= metrics[measure][when]["estimate"] <= high
    for name in ("best_single", "logit_mean", "seeds"):
        assert 0 <= metrics["controls"][name]["accuracy"] <= 1 and "P" in metrics["controls"][name]
    assert metrics["controls"]["best_single"]["chosen_on"] == "validation"
    assert set(metrics["controls"]["seeds"]["P"]) == groups
    assert metrics["class_accuracy"]["fused"] == pytest.approx(found.fused.class_accuracy.tolist())
    low, high = stratum["ci95"]
    assert low < stratum["accuracy"] < high and len(stratum["per_seed"]) == 2


def test_a_class_without_test_images_changes_no_other_number() -> None:
    rng = np.random.default_rng(0)
    priors = {name: rng.dirichlet(np.ones(10)) for name in "ab"}
    labels = np.repeat(np.delete(np.arange(10), 4), 20)
    probs = {name: rng.dirichlet(np.ones(10), (1, len(labels))) for name in "ab"}
    found = diagnose(labels, np.full(10, 50), probs, probs["a"], priors, n_boot=100)
    assert np.isnan(found.strata["a"].class_accuracy[4])
    expected = group_accuracy(found.strata["a"].class_accuracy, prior_groups(priors["b"]))
    assert found.strata["a"].P["b"] == expected
    metrics = json.loads(to_json(found.to_metrics()))
    assert metrics["class_accuracy"]["a"][4] is None
    assert metrics["strata"]["a"]["D"] == {
        "many": None,
        "medium": pytest.approx(np.nanmean(found.strata["a"].class_accuracy)),
        "few": None,
    }


def test_an_untested_p_group_gives_null_with_a_reason() -> None:
    priors = {"a": np.arange(10, 0, -1) / 55, "b": np.arange(1, 11) / 55}
    labels = np.repeat(np.arange(3, 10), 10)  # no class of a's P-many is tested
    probs = np.random.default_rng(0).dirichlet(np.ones(10), (1, 70))
    found = diagnose(labels, np.full(10, 50), {"a": probs, "b": probs}, probs, priors, n_boot=100)
    metrics = json.loads(to_json(found.to_metrics()))
    assert metrics["own_minus_off_gap"]["before"] is None and metrics["cross_gap"]["b"]["a"] is None
    assert metrics["strata"]["a"]["P"]["many"] is None
    assert "cannot be told" in found.conclusion()[1]


def test_one_stratum_has_a_raw_gap_only() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 10)
    probs = rng.dirichlet(np.ones(10), (1, 100))
    found = diagnose(labels, np.full(10, 50), {"a": probs}, probs, {"a": np.arange(1, 11) / 55}, n_boot=100)
    assert found.P_gap.before.exists and not found.own_minus_off_gap.before.exists
    assert not found.prior_slope.before.exists and "one stratum alone" in found.conclusion()[1]
    json.loads(to_json(found.to_metrics()))


@pytest.mark.parametrize(("factor", "told"), [(1.1, False), (1.9, False), (2.1, True)])
def test_no_slope_is_told_along_a_prior_that_is_nearly_flat(factor: float, told: bool) -> None:
    """A factor of 100 would multiply what a tenth more images do, noise and all, by fifty."""
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 6
    long_tail = np.geomspace(1.0, 0.01, 6)
    flat = np.geomspace(factor, 1.0, 6)[[2, 0, 5, 1, 4, 3]]
    priors = {"a": long_tail / long_tail.sum(), "b": flat / flat.sum()}
    probs = {name: (rng.dirichlet(np.ones(6), 600) + np.eye(6)[labels]) / 2 for name in priors}
    fused = (probs["a"] + probs["b"]) / 2
    found = diagnose(labels, np.full(6, 50), probs, fused, priors, n_boot=100)
    sentences = " ".join(found.conclusion())
    assert ("told: that of b spans less than a factor of 2" in sentences) != told
    assert ("a hundred times rarer" in sentences) == told


def test_slope_is_not_identified_for_equal_priors() -> None:
    prior = np.array([0.5, 0.3, 0.2])
    slope = PriorSlope(np.stack([prior, prior]), np.ones(3, bool))
    assert not slope.identified and np.isnan(slope.before(np.zeros((1, 2, 3)))).all()


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_cross_table_is_equivariant_and_blind_to_difficulty(seed: int) -> None:
    rng = np.random.default_rng(seed)
    priors, accuracy = rng.dirichlet(np.ones(12), 3), rng.random((3, 12))
    difficulty, skill = rng.random(12), rng.random((3, 1))
    tested = np.ones(12, bool)

    def measures(q: np.ndarray, a: np.ndarray) -> np.ndarray:
        gap = a @ gap_vectors(q, tested).T
        return np.array([(own_gap(gap) - off_gap(gap)).mean(), PriorSlope(q, tested).before(a)])

    base = measures(priors, accuracy)
    np.testing.assert_allclose(measures(priors, accuracy + difficulty + skill), base, atol=1e-10)
    models, classes = rng.permutation(3), rng.permutation(12)
    np.testing.assert_allclose(measures(priors[models], accuracy[models]), base, atol=1e-10)
    np.testing.assert_allclose(measures(priors[:, classes], accuracy[:, classes]), base, atol=1e-10)


def test_bootstrap_intervals_cover_the_truth() -> None:
    """95 % intervals of a cross-table contrast hold the truth in 90 to 99 of 100 simulated test sets."""
    n_classes, per_class, repeats = 12, 40, 200
    rng = np.random.default_rng(7)
    truth_acc = rng.uniform(0.2, 0.9, (2, n_classes))
    vectors = gap_vectors(rng.dirichlet(np.ones(n_classes), 2), np.ones(n_classes, bool))
    labels = np.repeat(np.arange(n_classes), per_class)

    def contrast(a: np.ndarray) -> dict[str, np.ndarray]:
        gap = a @ vectors.T
        return {"contrast": (own_gap(gap) - off_gap(gap)).mean(axis=-1)}

    truth = float(contrast(truth_acc[None])["contrast"][0])
    covered = 0
    for repeat in range(repeats):
        correct = rng.random((2, 1, len(labels))) < truth_acc[:, None, labels]
        interval = bootstrap(contrast, correct, labels, n_classes, n_boot=300, seed=repeat)["contrast"]
        covered += interval.low <= truth <= interval.high
    assert 0.90 <= covered / repeats <= 0.99


@pytest.mark.parametrize(("shared", "most"), [(True, 0.99), (False, 1.0)], ids=["same errors", "own errors"])
def test_intervals_of_three_seeds_cover_the_truth(shared: bool, most: float) -> None:
    """Training moves a seed by 3 points. Errors on images that other seeds get right count twice: rather too wide."""
    rng = np.random.default_rng(11)
    labels, repeats, covered, significant = np.zeros(400, int), 600, 0, 0
    for repeat in range(repeats):
        accuracy = 0.7 + 0.03 * rng.normal(size=(1, 3, 1))
        correct = rng.random((1, 1 if shared else 3, 400)) < accuracy
        found = bootstrap(lambda a: {"m": a[:, 0, 0] - 0.7}, correct, labels, 1, n_boot=300, seed=repeat)["m"]
        covered += found.low <= 0 <= found.high
        significant += found.p < 0.05
    assert 0.90 <= covered / repeats <= most
    assert covered + significant == repeats


def test_bootstrap_standard_error_is_the_binomial_one_and_pairs_models() -> None:
    rng = np.random.default_rng(0)
    right = rng.random((1, 1, 900)) < 0.7
    labels = np.zeros(900, int)
    twice = np.concatenate([right, right])
    found = bootstrap(
        lambda a: {"mean": a[:, 0, 0], "difference": a[:, 0, 0] - a[:, 1, 0]}, twice, labels, 1, n_boot=2000
    )
    p = right.mean()
    assert found["mean"].high - found["mean"].low == pytest.approx(
        2 * 1.96 * np.sqrt(p * (1 - p) / 900), rel=0.08
    )
    # Two models that agree on 900 images may differ on the next one: by the rule of three, on 1 in 300 or so.
    assert found["difference"].estimate == 0 and found["difference"].p == 1
    assert 2.5 / 900 < found["difference"].high == -found["difference"].low < 3.7 / 900
    assert found["mean"].p == 0


def test_seeds_widen_the_interval() -> None:
    labels = np.zeros(400, int)
    right = np.zeros((1, 3, 400), bool)
    for seed, share in enumerate((0.5, 0.6, 0.7)):
        right[0, seed, : int(share * 400)] = True
    wide = bootstrap(lambda a: {"mean": a[:, 0, 0]}, right, labels, 1, n_boot=500)["mean"]
    narrow = bootstrap(lambda a: {"mean": a[:, 0, 0]}, right[:, 1:2], labels, 1, n_boot=500)["mean"]
    assert wide.estimate == pytest.approx(0.6)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_the_same_seed_gives_the_same_intervals_and_blocks_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import causalft.analysis.diagnosis.intervals as module

    rng = np.random.default_rng(0)
    labels, right = np.repeat(np.arange(3), 90), rng.random((2, 2, 270)) < 0.8

    def run(seed: int) -> Interval:
        def ratio(a: np.ndarray) -> dict[str, np.ndarray]:  # not linear, so resampled
            return {"m": a[:, 0].mean(1) / a[:, 1].mean(1)}

        return bootstrap(ratio, right, labels, 3, n_boot=400, seed=seed)["m"]

    assert run(1) == run(1) and run(1) != run(2)
    monkeypatch.setattr(module, "_BLOCK", 60)
    small = run(1)
    assert small.estimate == run(2).estimate and small.low == pytest.approx(run(2).low, abs=0.03)


def test_inputs_that_do_not_fit_are_named() -> None:
    labels, probs = np.array([0, 1]), np.full((1, 2, 2), 0.5)
    prior, counts = np.array([0.5, 0.5]), [10, 10]
    with pytest.raises(CausalFTError, match="'clip' has no label prior"):
        diagnose(labels, counts, {"clip": probs}, probs, {"clap": prior})
    with pytest.raises(CausalFTError, match=r"'clip' have shape \(1, 2, 3\)"):
        diagnose(labels, counts, {"clip": np.zeros((1, 2, 3))}, probs, {"clip": prior})
    with pytest.raises(CausalFTError, match="'clip' has 2 seeds, the fused model 1"):
        diagnose(labels, counts, {"clip": np.concatenate([probs, probs])}, probs, {"clip": prior})
    with pytest.raises(CausalFTError, match="did you mean 'clip'"):
        diagnose(labels, counts, {"clip": probs}, probs, {"clip": prior}, best_single="clipp")
    control = {"seeds": {"members": {"x": probs}, "fused": probs, "prior_of": "openclip"}}
    with pytest.raises(CausalFTError, match="prior of 'openclip', which is no stratum"):
        diagnose(labels, counts, {"clip": probs}, probs, {"clip": prior}, controls=control)
    with pytest.raises(CausalFTError, match="at least 100"):
        diagnose(labels, counts, {"clip": probs}, probs, {"clip": prior}, n_boot=10)


def test_results_have_a_readable_repr(found: Diagnosis) -> None:
    text = repr(found)
    assert "clip" in text and "own-minus-off gap" in text and "2 seeds" in text
    assert points(Interval(0.1234, 0.1, 0.15, 0.01), sign=True) == "+12.3 [10.0, 15.0]"
    nan = float("nan")
    assert points(Interval(nan, 0, 0, 1)) == "not measurable"
    assert points(Interval(0.1234, nan, nan, nan)) == "12.3"
    some = Interval(0.2, 0.1, 0.3, 0.01)
    assert change(BeforeAfter(some, some, some)) == "-20 % [-30, -10]"
    assert change(BeforeAfter(Interval(0.2, -0.1, 0.5, 0.3), some, some)) == ""
    assert change(BeforeAfter(some, some, Interval(0.2, nan, nan, nan))) == ""
    assert Interval.from_json(some.to_json()) == some and not Interval.from_json(None).exists
    assert dataclasses.is_dataclass(found)


def test_class_table_of_a_model_is_the_mean_over_seeds(found: Diagnosis) -> None:
    assert len(found.fused.per_seed) == 2
    assert found.fused.accuracy.estimate == pytest.approx(np.mean(found.fused.per_seed))
    table = class_accuracy(np.ones((1, 3)), [0, 0, 1], 3)
    assert table[0, :2].tolist() == [1, 1] and np.isnan(table[0, 2])


def test_group_intervals_hold_their_group_and_difficulty_is_the_known_one(simulated: Simulate) -> None:
    found = simulated(beta=0.2, difficulty=0.2)
    for score in (*found.strata.values(), found.fused):
        for group in GROUPS:
            interval = score.D_interval[group]
            assert interval.low < interval.estimate < interval.high
            assert interval.estimate == pytest.approx(score.D[group])
            assert score.P_interval["clip"][group].estimate == pytest.approx(score.P["clip"][group])
    known = -0.2 * np.linspace(-1, 1, len(found.class_difficulty))
    assert np.std(found.class_difficulty - known) < ROUNDING
