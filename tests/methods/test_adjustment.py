"""The adjusted fusion: a known share of the priors is found, the null stays, the guard holds, wrong input is named."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad
from scipy.special import log_softmax, softmax

from causalft.data.groups import class_accuracy, gap_vectors
from causalft.errors import CausalFTError
from causalft.methods.estimators import adjustment as module
from causalft.methods.estimators.adjustment import Adjusting, fit_adjustment, fit_fusion
from causalft.methods.estimators.fusion import fuse
from causalft.methods.estimators.guard import STEPS, choose_guarded, guard_notes
from causalft.methods.estimators.mixing import Mixing, fit_mixing
from causalft.methods.estimators.pool import Pool, Priors, StrataRows, _risk, fit_pool, pooled

K, M = 12, 3
RNG = np.random.default_rng(0)
PROFILE = 50.0 ** (-np.arange(K) / (K - 1))
PRIORS = np.stack([RNG.permutation(PROFILE / PROFILE.sum()) for _ in range(M)])


def made_up(left=0.4, per_class=40, seed=0, priors=PRIORS, weaker=0.0, m=M):
    """Labels and logits: evidence for the label, noise, and a share ``left`` of each log prior.

    With ``weaker`` the evidence for a class grows with its log prior, as features do that saw it seldom.
    """
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(K), per_class)
    log_q = np.log(priors[:m])
    centred = log_q - log_q.mean(axis=1, keepdims=True)
    signal = 2.0 * (1 + weaker * centred)[:, labels]
    logits = signal[:, :, None] * np.eye(K)[labels] + 1.5 * rng.normal(size=(m, len(labels), K))
    return logits + left * log_q[:, None], labels


def gap(decided, labels, priors, logits):
    """Own P gap beyond difficulty."""
    vectors = gap_vectors(priors, np.ones(K, bool))
    fused = class_accuracy(decided == labels, labels, K) @ vectors.T
    single = class_accuracy(logits.argmax(2) == labels, labels, K) @ vectors.T
    return float(np.mean(fused - (single.sum(0) - np.diagonal(single)) / (len(priors) - 1)))


@pytest.mark.parametrize("left", [0.3, 0.6])
def test_the_share_of_the_priors_that_is_left_in_the_logits_is_found(left):
    logits, labels = made_up(left)
    found = fit_adjustment(logits, labels, PRIORS, kind="logits")
    assert found.strength == pytest.approx(left, abs=0.1)
    assert found.ci95[0] <= left <= found.ci95[1] and found.guard.decision == "kept"
    fresh, truth = made_up(left, per_class=200, seed=7)
    before = gap(fuse(fresh, fusion="product", kind="logits").argmax(1), truth, PRIORS, fresh)
    mixing, again = fit_fusion(logits, labels, Adjusting(PRIORS), kind="logits")
    after = gap(mixing(fresh, kind="logits").argmax(1), truth, PRIORS, fresh)
    assert again == found and before > 0.08 and abs(after) < 0.04


def test_images_without_labels_choose_nearly_the_same_strength():
    logits, labels = made_up(0.5, per_class=80)
    other, _ = made_up(0.5, per_class=100, seed=3)
    found = fit_adjustment(logits, labels, PRIORS, unlabeled=other, kind="logits")
    assert found.strength == pytest.approx(0.5, abs=0.15) and found.chosen_on == "unlabelled"
    assert found.n_images == 12 * 100


def test_the_null_changes_nothing():
    logits, labels = made_up(0.4)
    shuffled = np.stack([np.random.default_rng(c).permutation(q) for c, q in enumerate(PRIORS)])
    found = fit_adjustment(logits, labels, shuffled, kind="logits")
    assert found.ci95[0] < 0.05 and found.strength < 0.2
    plain, none_left = made_up(0.0)
    mixing, adjustment = fit_fusion(plain, none_left, Adjusting(PRIORS), kind="logits")
    assert adjustment.strength < 0.1
    fresh, truth = made_up(0.0, per_class=200, seed=5)
    adjusted, product = (
        (each.argmax(1) == truth).mean()
        for each in (mixing(fresh, kind="logits"), fuse(fresh, fusion="product", kind="logits"))
    )
    assert abs(adjusted - product) < 0.01


def test_a_strength_of_zero_cannot_be_lowered():
    chosen = np.ones((STEPS + 1, 200), dtype=bool)
    chosen[1:, :50] = False  # the folds chose strengths that cost a quarter of the images
    judged = SimpleNamespace(chosen=chosen, product=chosen[0], mixture=chosen[0])
    for strength, decision in ((0.3, "lowered"), (0.0, "kept")):
        guard, share = choose_guarded(judged, strength, 0.01, np.ones(200))
        assert (guard.decision, share) == (decision, 0.0)
        assert bool(guard_notes(guard)) == (decision == "lowered")


def test_a_strength_that_is_printed_as_nothing_is_not_lowered():
    right = np.ones((STEPS + 1, 20), dtype=bool)  # so few images that no interval lies above -0.01
    judged = SimpleNamespace(chosen=right, product=right[0], mixture=right[0])
    guard, share = choose_guarded(judged, 2.5e-9, 0.01, np.ones(20))
    assert (guard.decision, share, guard_notes(guard)) == ("kept", 0.0, [])


def test_too_few_images_to_judge_a_strength_are_named_and_its_interval_stays():
    logits, labels = made_up(0.4, per_class=3)
    found = fit_adjustment(logits, labels, PRIORS, kind="logits")
    (note,) = found.notes
    assert f"took the strength of {found.guard.before:.2f} back: so few validation images" in note
    assert "give more of them, or a larger --tolerance" in note
    assert found.strength == 0 and found.ci95[0] == 0 and found.ci95[1] >= found.guard.before


def test_the_guard_lowers_a_strength_that_may_cost_more_than_the_tolerance():
    logits, labels = made_up(0.0, weaker=0.25)
    free = fit_adjustment(logits, labels, PRIORS, tolerance=100, kind="logits")
    strict = fit_adjustment(logits, labels, PRIORS, tolerance=0.5, kind="logits")
    assert free.guard.decision == "kept" and free.strength > 0.2
    assert strict.guard.decision == "lowered" and strict.strength < free.strength
    assert strict.guard.before == free.strength and strict.guard.difference[1] >= -0.005
    assert "--tolerance" in strict.notes[0]


def test_nothing_is_adjusted_where_the_pool_is_shown_to_be_worse_than_the_product(monkeypatch):
    logits, labels = made_up(0.0)
    monkeypatch.setattr(module, "fit_pool", lambda *_: Pool(1.0, 1.0, 0.0, -1.0))
    found = fit_adjustment(logits, labels, PRIORS, class_counts=1e4 * PROFILE, tolerance=1.0, kind="logits")
    assert found.guard.decision == "nothing adjusted" and found.strength == 0
    assert np.allclose(found.class_weights, 1 / M) and not found.offsets.any()
    assert "nothing is adjusted" in found.notes[-1]


def test_a_strength_at_its_bound_is_said():
    logits, labels = made_up(2.0)
    found = fit_adjustment(logits, labels, PRIORS, kind="logits", tolerance=100)
    assert found.strength == 1 and "at its bound" in found.notes[0]


def test_the_frontier_is_cross_fitted_and_falls_from_the_gap_to_below_zero():
    logits, labels = made_up(0.5)
    found = fit_adjustment(logits, labels, PRIORS, kind="logits")
    document = json.loads(json.dumps(found.to_json()))
    assert {"strength", "ci95", "frontier", "guard"} <= set(document)
    assert [set(point) for point in document["frontier"]] == [{"strength", "accuracy", "gap"}] * 11
    gaps = [point["gap"] for point in document["frontier"]]
    assert gaps[0] > 0.1 and gaps[-1] < 0 and document["guard"]["decision"] == "kept"
    assert abs(document["validation"]["gap"]) < 0.06


def test_members_that_share_a_prior_need_others_for_the_difficulty():
    logits, labels = made_up(0.5)
    same = np.stack([PRIORS[0]] * 2)
    seeds = np.stack([made_up(0.5, seed=s, m=1)[0][0] for s in (1, 2)])
    found = fit_adjustment(seeds, labels, same, others=logits[1:], kind="logits")
    assert found.strength == pytest.approx(0.5, abs=0.15)
    assert np.allclose(found.class_weights, 0.5)


def test_one_stratum_takes_its_strength_from_likelihood():
    logits, labels = made_up(0.5, m=1)
    found = fit_adjustment(logits, labels, PRIORS[:1], kind="logits")
    assert found.strength == pytest.approx(0.5, abs=0.15) and "one stratum" in found.notes[0]
    assert all(np.isnan(point.gap) for point in found.frontier) and found.to_json()["by_labels"] is None


def test_a_target_law_moves_the_predicted_classes_to_it():
    logits, labels = made_up(0.3, per_class=80)
    law = PROFILE / PROFILE.sum()
    mixing, _ = fit_fusion(logits, labels, Adjusting(PRIORS, target_law=law), kind="logits")
    fresh, truth = made_up(0.3, per_class=400, seed=9)
    drawn = np.random.default_rng(0).choice(len(truth), 4000, p=law[truth] / law[truth].sum())
    shares = mixing(fresh[:, drawn], kind="logits").mean(axis=0)
    assert np.abs(shares - law).max() < 0.03


@pytest.mark.parametrize("seed", range(3))
def test_a_target_law_is_judged_by_itself_and_costs_no_adjustment(seed):
    """Every rule decides for the law, and accuracy is that of images that follow it."""
    logits, labels = made_up(0.4, per_class=200, seed=seed)
    law = 100.0 ** (-np.arange(K) / (K - 1))
    found = fit_adjustment(logits, labels, PRIORS, target_law=law / law.sum(), kind="logits")
    assert found.guard.decision == "kept" and found.strength == pytest.approx(0.4, abs=0.1)
    fresh, truth = made_up(0.4, per_class=400, seed=100 + seed)
    follows = law[truth]
    score = pooled(log_softmax(fresh, axis=-1), found.class_weights, found.offsets)
    product = log_softmax(fresh, axis=-1).sum(axis=0) + np.log(law) / found.pool.sharpness
    mixture = np.log(fuse(fresh, kind="logits")) + np.log(law)
    ours, *others = (
        np.average(each.argmax(axis=1) == truth, weights=follows) for each in (score, product, mixture)
    )
    assert found.accuracy == pytest.approx(ours, abs=0.05)
    for over, other in zip((found.guard.over_product, found.guard.over_mixture), others, strict=True):
        assert over[1] - 0.02 < ours - other < over[2] + 0.02 and over[0] > -0.02


def test_labelled_images_show_the_recall_that_a_decision_for_a_law_has():
    """Their expected gap is that of classes alike, not of images drawn by the law."""
    logits, labels = made_up(0.4, per_class=200)
    law = 100.0 ** (-np.arange(K) / (K - 1))
    found = fit_adjustment(logits, labels, PRIORS, target_law=law / law.sum(), kind="logits")
    assert found.by_labels == pytest.approx(found.strength, abs=0.08)


def test_a_target_law_weights_the_images_that_calibrate_a_fusion_without_adjustment():
    logits, labels = made_up(0.3, m=1)
    law = PROFILE / PROFILE.sum()
    found, _ = fit_fusion(
        logits, labels, Adjusting(PRIORS[:1], target_law=law), fusion="product", kind="logits"
    )
    weighted = fit_mixing(logits, labels, fusion="product", weights=law[labels], kind="logits")
    assert found.offsets is None and found.temperature == pytest.approx(weighted.temperature)
    assert found.temperature != pytest.approx(
        fit_mixing(logits, labels, fusion="product", kind="logits").temperature
    )


def test_few_rows_of_a_large_set_fit_the_pool(monkeypatch):
    logits, labels = made_up(0.4, per_class=80)
    whole = fit_adjustment(logits, labels, PRIORS, kind="logits")
    monkeypatch.setattr(module, "_FIT_ENTRIES", 600 * M * K)
    few = fit_adjustment(logits, labels, PRIORS, kind="logits")
    assert few.pool != whole.pool and few.strength == pytest.approx(whole.strength, abs=0.1)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_handful_of_images_gives_an_adjustment_or_none(n):
    logits, labels = made_up(0.4)
    rows = np.random.default_rng(0).choice(len(labels), n, replace=False)
    mixing, found = fit_fusion(logits[:, rows], labels[rows], Adjusting(PRIORS), kind="logits")
    assert 0 <= found.strength <= 1 and np.isfinite(mixing(logits, kind="logits")).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": []}, "needs labelled images"),
        ({"priors": PRIORS[:2]}, "priors have shape"),
        ({"priors": np.zeros((M, K))}, "a positive number for each stratum and class"),
        ({"target_law": np.ones(5)}, "the target law has 5 entries, and there are 12 classes"),
        ({"target_law": np.arange(K)}, "a positive share for every class"),
        ({"class_counts": np.ones(3)}, "one per class"),
        ({"unlabeled": np.zeros((2, 4, K))}, "give the same models"),
        ({"others": np.zeros((2, 4, K))}, "others hold 4 images"),
        ({"tolerance": -1.0}, "0 or more"),
    ],
)
def test_wrong_input_is_one_line(change, message):
    logits, labels = made_up()
    given_ = {"labels": labels, "priors": PRIORS, **change}
    if not len(given_["labels"]):
        logits = logits[:, :1]
    with pytest.raises(CausalFTError, match=message):
        fit_adjustment(logits, kind="logits", **given_)


def test_an_adjusted_fusion_without_its_priors_is_refused():
    logits, labels = made_up()
    for call in (
        lambda: fuse(logits, fusion="adjusted", kind="logits"),
        lambda: fit_mixing(logits, labels, fusion="adjusted", kind="logits"),
    ):
        with pytest.raises(CausalFTError, match="fit_fusion"):
            call()


def test_a_fusion_that_is_not_adjusted_is_that_of_fit_mixing():
    logits, labels = made_up()
    found = fit_fusion(logits, labels, Adjusting(PRIORS), fusion="product", kind="logits")
    assert found == (fit_mixing(logits, labels, fusion="product", kind="logits"), None)


def test_the_mixing_is_the_formula_and_survives_json():
    logits, labels = made_up()
    counts = np.arange(1, K + 1) ** 2
    mixing, found = fit_fusion(
        logits, labels, Adjusting(PRIORS, counts), kind="logits", calibrate_strata=True
    )
    t = np.array(mixing.stratum_temperatures)[:, None, None]
    log_p = log_softmax(log_softmax(logits, axis=2) / t, axis=2)
    centred = [np.log(q) - np.log(q).mean(axis=-1, keepdims=True) for q in (PRIORS, counts)]
    w, d = found.pool.expertise, found.pool.train_share
    weights = PRIORS**w / np.exp(np.log(PRIORS).mean(axis=1, keepdims=True)) ** w
    weights = M * weights / weights.sum(axis=0)
    inside = log_p - found.strength * centred[0][:, None] - d * centred[1]
    by_hand = softmax((weights[:, None] * inside).sum(axis=0) / mixing.temperature, axis=1)
    assert np.allclose(mixing(logits, kind="logits"), by_hand)
    back = Mixing.from_metrics(json.loads(json.dumps(mixing.to_metrics())))
    assert back == mixing and np.array_equal(back(logits, kind="logits"), mixing(logits, kind="logits"))


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_a_pool_of_equal_weights_is_the_product_and_its_risk_has_the_gradient_given(seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(M, 9, 5)), rng.integers(0, 5, 9)
    priors = Priors.of(rng.dirichlet(np.ones(5), M), rng.integers(0, 50, 5))
    rows, share = StrataRows(logits, "logits"), rng.dirichlet(np.ones(9))
    log_p = log_softmax(logits, axis=2)
    plain = softmax(pooled(log_p, Pool().class_weights(priors)), axis=1)
    assert np.allclose(plain, fuse(logits, fusion="product", kind="logits"))
    at = np.array([rng.normal(), *rng.uniform(0, 1, 3)])

    def risk(values):
        return _risk(Pool(np.exp(values[0]), *values[1:]), rows, labels, share, priors)

    assert check_grad(lambda v: risk(v)[0], lambda v: risk(v)[1], at) < 1e-5 * (1 + np.abs(risk(at)[1]).max())
    assert np.allclose(Pool(1.0, at[1]).class_weights(priors).sum(axis=0), 1)


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_the_likeliest_pool_does_not_depend_on_the_order_of_classes_or_on_constants(seed):
    rng = np.random.default_rng(seed)
    logits, labels = made_up(0.3, per_class=5, seed=seed)
    order = rng.permutation(K)
    weights = np.ones(len(labels))
    counts = rng.integers(1, 100, K)
    one = fit_pool(StrataRows(logits, "logits"), labels, weights, Priors.of(PRIORS, counts))
    moved = logits[..., order] + rng.normal(size=(M, len(labels), 1))
    other = fit_pool(
        StrataRows(moved, "logits"),
        np.argsort(order)[labels],
        weights,
        Priors.of(PRIORS[:, order], 3 * counts[order]),
    )
    assert np.allclose(list(vars(one).values()), list(vars(other).values()), atol=2e-3)


def test_the_guard_does_not_lower_a_strength_of_zero():
    """Strengths of the folds may be above 0, and cost accuracy, where that of all images is 0."""
    right = np.repeat([True, False], [80, 20])
    chosen = np.array([right] + [np.zeros(100, dtype=bool)] * STEPS)
    judged = SimpleNamespace(chosen=chosen, product=right, mixture=right)
    found, share = choose_guarded(judged, 0.0, 0.03, np.full(100, 0.01))
    assert (found.decision, share, found.difference[0], guard_notes(found)) == ("kept", 0.0, 0.0, [])
    assert choose_guarded(judged, 0.2, 0.03, np.full(100, 0.01))[0].decision == "lowered"
