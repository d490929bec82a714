"""GLA's effect, the gap along training counts, the distance of priors, and what strata disagree on: closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from causalft.analysis.before_training.disagreement import find_disagreement
from causalft.analysis.before_training.mend import data_gap, gla_effect
from causalft.analysis.before_training.prior_distance import prior_distance
from causalft.errors import CausalFTError

LABELS = np.repeat(np.arange(4), 25)


def test_gla_effect_is_after_minus_before():
    one, other = (
        np.where(LABELS < 2, LABELS, 0),
        np.where(LABELS > 1, LABELS, 3),
    )  # right on the own classes only
    priors = {"a": [0.4, 0.3, 0.2, 0.1], "b": [0.1, 0.2, 0.3, 0.4]}
    found = gla_effect(LABELS, {"a": one, "b": other}, {"a": LABELS, "b": LABELS}, one, LABELS, priors)
    assert found.strata["a"].before.estimate == 0.5 and found.strata["a"].after.estimate == 1.0
    assert found.mean.difference.estimate == 0.5 and found.fused.difference.estimate == 0.5
    # P-many is the first class by a prior, P-few the last two: gap 1 - 0 on the own groups, the reverse on the other's
    assert found.P_gap.before.estimate == pytest.approx(1.0)
    assert found.P_gap.after.estimate == pytest.approx(0.0)
    assert found.own_minus_off_gap.before.estimate == pytest.approx(2.0)
    assert found.own_minus_off_gap.after.estimate == pytest.approx(
        1.0
    )  # less the baseline of zero-shot models


def test_gla_effect_of_one_stratum_has_no_difficulty_baseline():
    found = gla_effect(LABELS, {"a": LABELS}, {"a": LABELS}, LABELS, LABELS, {"a": [0.4, 0.3, 0.2, 0.1]})
    assert not found.own_minus_off_gap.before.exists and found.P_gap.before.exists
    assert found.to_json()["own_minus_off_gap"]["before"] is None


def test_data_gap_is_many_minus_few_mean_over_models():
    correct = np.stack([LABELS < 1, LABELS < 4])
    found = data_gap(correct, LABELS, [200, 50, 30, 5])
    assert found.estimate == pytest.approx((1 + 0) / 2)
    assert not data_gap(correct, LABELS, [50, 50, 30, 5]).exists


@pytest.mark.parametrize("n_strata", [2, 3, 5])
def test_averaging_unrelated_priors_takes_out_all_but_one_share(n_strata):
    x = np.zeros((n_strata, 2**n_strata))
    for row in range(n_strata):  # orthogonal columns of plus and minus one
        x[row] = np.where(np.arange(2**n_strata) >> row & 1, 1.0, -1.0)
    q = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    found = prior_distance({str(row): q[row] for row in range(n_strata)})
    assert found.averaged == pytest.approx(1 - 1 / n_strata)
    assert len(found.pairs) == n_strata * (n_strata - 1) // 2


def test_kl_is_in_the_order_of_the_pair():
    found = prior_distance({"a": [0.5, 0.5], "b": [0.9, 0.1]}).pairs[0]
    assert found.kl == pytest.approx(0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1))
    assert found.kl_back == pytest.approx(0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5))


def test_disagreement_counts_images_and_orders_classes():
    one, other = LABELS.copy(), LABELS.copy()
    one[LABELS == 2] = 0
    other[:5] = 1
    priors = {"a": [0.4, 0.3, 0.2, 0.1], "b": [0.1, 0.2, 0.3, 0.4]}
    found = find_disagreement(LABELS, {"a": one, "b": other}, priors, ["k", "l", "m", "n"])
    assert found.pairs == {("a", "b"): 0.3}
    assert (found.all_right, found.some_right) == (0.7, 1.0)
    assert [each.name for each in found.classes] == ["m", "k"]
    assert found.classes[0].best == "b" and found.classes[0].difference == 1.0
    assert found.classes[0].P == {"a": "few", "b": "medium"}


def test_predictions_of_other_images_are_refused():
    with pytest.raises(CausalFTError, match="'a' has predictions of shape"):
        find_disagreement([0, 1], {"a": [0]}, {"a": [0.5, 0.5]}, ["k", "l"])
