"""The fusion learnt on validation images: what it is made of, and that it survives JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import softmax

from causalft.errors import CausalFTError
from causalft.methods.estimators.fusion import apply_temperature, fit_temperature, fuse
from causalft.methods.estimators.mixing import Mixing, fit_mixing


@pytest.fixture(scope="module")
def members():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    sharp = softmax(3 * (np.eye(4)[labels] + 0.5 * rng.normal(size=(200, 4))), axis=1)
    noise = softmax(rng.normal(size=(200, 4)), axis=1)
    return np.stack([sharp, noise]), labels


def test_by_default_it_is_the_mixture_calibrated_once(members):
    probs, labels = members
    found = fit_mixing(probs, labels)
    mixed = fuse(probs)
    assert found.stratum_prior == (0.5, 0.5) and found.stratum_temperatures is None
    assert found.temperature == fit_temperature(mixed, labels)
    assert np.allclose(found(probs), apply_temperature(mixed, found.temperature))


def test_em_favours_the_better_member_with_an_interval(members):
    probs, labels = members
    found = fit_mixing(probs, labels, stratum_prior="em", seed=1)
    assert found.stratum_prior[0] > 0.9 and found.stratum_prior_ci95 is not None
    (low, high), _ = found.stratum_prior_ci95
    assert low <= found.stratum_prior[0] <= high


@pytest.mark.parametrize("fusion", ["mixture", "logit", "product"])
def test_a_mixing_round_trips_through_json(members, fusion):
    probs, labels = members
    found = fit_mixing(probs, labels, fusion=fusion, stratum_prior="em", calibrate_strata=True)
    back = Mixing.from_metrics(json.loads(json.dumps(found.to_metrics())))
    assert back == found and np.array_equal(back(probs), found(probs))
    assert np.allclose(found(probs).sum(1), 1)


def test_a_temperature_for_each_stratum_is_applied_before_the_fusion(members):
    probs, labels = members
    found = fit_mixing(probs, labels, calibrate_strata=True)
    assert (
        found.stratum_temperatures is not None
        and found.stratum_temperatures[1] > 3 > found.stratum_temperatures[0]
    )
    by_hand = [apply_temperature(p, t) for p, t in zip(probs, found.stratum_temperatures)]
    assert np.allclose(found(probs), apply_temperature(fuse(by_hand), found.temperature))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"fusion": "mixtur"}, "no fusion is named 'mixtur'; did you mean 'mixture'"),
        ({"stratum_prior": "EM?"}, "use uniform, em, or numbers"),
        ({"stratum_prior": (0.5, 0.3, 0.2)}, "3"),
    ],
)
def test_a_wrong_choice_is_one_line(members, choice, message):
    with pytest.raises(CausalFTError, match=message):
        fit_mixing(*members, **choice)
