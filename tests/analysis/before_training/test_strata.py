"""`diagnose_strata` on zero-shot models whose priors, gaps and confusions are known, and what it says of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from causalft.analysis.before_training import diagnose_strata
from causalft.analysis.before_training.answers import answer_zero_shot
from causalft.analysis.before_training.expectation import METHODS
from causalft.errors import CausalFTError
from causalft.runs.folder import to_json

N_CLASSES = 20
NAMES = tuple(f"class {k:02d}" for k in range(N_CLASSES))
LABELS = np.repeat(np.arange(N_CLASSES), 40)
COUNTS = np.geomspace(200, 4, N_CLASSES).round().astype(int)


def world(seed=0, n_strata=3, lean=1.0, same=False):
    """Logits of softmax models with priors that differ (or not), and these priors."""
    rng = np.random.default_rng(seed)
    truth = np.linspace(0, np.log(100), N_CLASSES)
    orders = [rng.permutation(N_CLASSES) for _ in range(n_strata)]
    priors, logits = {}, {}
    for number, order in enumerate(orders):
        log_q = log_softmax(truth[orders[0] if same else order])
        signal = 2.0 * np.eye(N_CLASSES)[LABELS] + rng.normal(0, 1, (len(LABELS), N_CLASSES))
        logits["abc"[number]] = signal + lean * log_q
        priors["abc"[number]] = np.exp(log_q)
    return logits, priors


@pytest.fixture(scope="module")
def found():
    logits, priors = world()
    return diagnose_strata(LABELS, NAMES, COUNTS, logits, priors, chosen="b")


def said(diagnosis, method):
    return " ".join({each.method: each.sentences for each in diagnosis.expectations}[method])


def test_document_has_the_keys_that_others_read(found):
    document = json.loads(to_json(found.to_metrics()))
    assert {"strata", "cross_table", "slope", "classes"} <= document.keys()
    assert list(document["cross_table"]) == ["a", "b", "c", "fused"]
    assert document["slope"]["estimate"] == pytest.approx(100 * found.zero_shot.prior_slope.before.estimate)
    cell = document["cross_table"]["a"]["b"]
    assert cell["estimate"] == pytest.approx(100 * found.zero_shot.gap["a"]["b"].estimate)
    row = document["classes"][-1]
    assert row["class"] == NAMES[-1] and row["D"] == "few" and row["n_train"] == COUNTS[-1]
    assert set(row["P"]) == {"a", "b", "c"} and set(row["accuracy"]) == {"a", "b", "c", "fused"}
    assert row["taken_for"]["fused"][0]["class"] in NAMES
    assert document["prior_from"]["a"] == "estimated" and row["prior"]["a"] == pytest.approx(
        found.priors["a"][-1]
    )


def test_priors_in_the_logits_are_found_and_gla_takes_them_out(found):
    assert found.zero_shot.own_minus_off_gap.before.low > 0.2
    assert found.gla.own_minus_off_gap.difference.high < -0.2
    assert found.gla.mean.difference.low > 0
    assert found.spread.own_prior.low > 0.5
    assert "GLA changes mean class accuracy by +" in said(found, "GLA")
    assert "parameter imbalance is" in said(found, "backdoor") and "less that of b" in said(found, "backdoor")


def test_every_method_has_its_sentences(found):
    assert [each.method for each in found.expectations] == list(METHODS)
    assert "an imbalance of 50, and 8 of 20 classes have fewer than 20 images" in said(found, "LA")


def test_tail_is_few_by_data_and_by_most_priors(found):
    few = {name for name, count in zip(NAMES, COUNTS, strict=True) if count < 20}
    assert found.has_few and found.tail
    for report in found.tail:
        assert report.name in few
        assert sum(group == "few" for group in report.P.values()) >= 2
    assert [r.fused.estimate for r in found.tail] == sorted(r.fused.estimate for r in found.tail)


def test_without_training_counts_there_are_no_data_groups():
    logits, priors = world()
    found = diagnose_strata(LABELS, NAMES, None, logits, priors)
    document = found.to_metrics()
    assert document["strata"]["a"]["D"] is None and document["classes"][0]["D"] is None
    assert document["D_gap"] is None and document["tail_tail"] == []
    assert said(found, "LA") == "The data have no training split, so nothing can be said of LA."
    assert found.tail and not found.has_few


def test_balanced_counts_leave_la_nothing():
    logits, priors = world()
    found = diagnose_strata(LABELS, NAMES, np.full(N_CLASSES, 50), logits, priors)
    assert "LA has next to nothing to take out" in said(found, "LA")


def test_equal_priors_claim_no_slope():
    logits, priors = world(same=True)
    found = diagnose_strata(LABELS, NAMES, COUNTS, logits, priors)
    assert found.distance.averaged == 0
    assert "too alike" in said(found, "backdoor")
    assert found.to_metrics()["slope"]["claimed"] is False


@pytest.mark.parametrize("flat", ["a", "abc"])
def test_a_flat_prior_has_no_rank_correlation_and_is_named(flat):
    logits, priors = world()
    priors |= {name: np.full(N_CLASSES, 1 / N_CLASSES) for name in flat}
    words = said(diagnose_strata(LABELS, NAMES, COUNTS, logits, priors), "LA")
    assert f"The prior of {', '.join(flat)} is flat" in words and "nan" not in words
    assert ("Rank correlation of the counts with the priors" in words) == (flat == "a")


def test_one_stratum_has_nothing_to_fuse():
    logits, priors = world(n_strata=1)
    found = diagnose_strata(LABELS, NAMES, COUNTS, logits, priors)
    assert said(found, "backdoor").startswith("One stratum alone")
    assert found.to_metrics()["slope"]["estimate"] is None
    assert found.disagreement.pairs == {}


def test_known_priors_take_the_place_of_the_estimates():
    logits, priors = world()
    alike = np.full(N_CLASSES, 1 / N_CLASSES) + 1e-5 * np.arange(N_CLASSES)
    wrong = dict.fromkeys(priors, alike / alike.sum())
    found = diagnose_strata(LABELS, NAMES, COUNTS, logits, wrong, known=priors)
    document = found.to_metrics()
    assert set(document["prior_from"].values()) == {"known"}
    whole = diagnose_strata(LABELS, NAMES, COUNTS, logits, priors)
    right, right_effect = whole.to_metrics(), whole.gla
    assert document["slope"] == right["slope"] and document["classes"] == right["classes"]
    assert document["by_estimate"]["likeness"]["too_alike"] and right["by_estimate"] is None
    assert found.gla.mean.difference.estimate == pytest.approx(0, abs=0.02)  # GLA takes the estimate out
    assert found.gla_known.mean.difference == right_effect.mean.difference
    assert "With known priors in place of the estimates the change is +" in said(found, "GLA")


def test_a_class_without_a_known_prior_is_left_out_of_groups_and_slopes():
    logits, priors = world()
    known = priors["a"].copy()
    known[3] = np.nan
    found = diagnose_strata(LABELS, NAMES, COUNTS, logits, priors, known={"a": known / np.nansum(known)})
    document = found.to_metrics()
    assert document["prior_from"] == {"a": "known", "b": "estimated", "c": "estimated"}
    assert document["left_out"] == [NAMES[3]] and document["classes"][3]["P"]["a"] is None
    assert np.isfinite(document["slope"]["estimate"]) and np.isfinite(document["prior_distance"]["averaged"])
    assert found.spread.own_prior.exists and found.gla.prior_slope.before.exists


def test_logits_of_other_images_are_refused():
    logits, priors = world()
    with pytest.raises(CausalFTError, match="logits of 'b' have shape"):
        diagnose_strata(LABELS, NAMES, COUNTS, {**logits, "b": logits["b"][1:]}, priors)


def test_answers_are_those_of_the_whole_arrays():
    logits, priors = world()
    found = answer_zero_shot(LABELS, N_CLASSES, logits, priors)
    probs = {name: softmax(values, axis=1) for name, values in logits.items()}
    debiased = {name: softmax(values - np.log(priors[name]), axis=1) for name, values in logits.items()}
    for name in logits:
        assert (found.strata[name].predicted[0] == probs[name].argmax(axis=1)).all()
        assert found.strata[name].of_label[0] == pytest.approx(probs[name][np.arange(len(LABELS)), LABELS])
        assert (found.adjusted[0].strata[name] == debiased[name].argmax(axis=1)).all()
    assert (found.fused.predicted[0] == sum(probs.values()).argmax(axis=1)).all()
    assert (found.adjusted[0].fused == sum(debiased.values()).argmax(axis=1)).all()
    assert (found.logit_mean.predicted[0] == sum(map(np.log, probs.values())).argmax(axis=1)).all()
