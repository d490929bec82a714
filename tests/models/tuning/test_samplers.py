"""Samplers: class frequencies against their expectation, and randomness from the generator alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from causalft.errors import CausalFTError
from causalft.models.tuning.losses import make_loss
from causalft.models.tuning.samplers import SAMPLERS, expected_counts, make_sampler

COUNTS = np.array([900, 90, 0, 9, 1])
LABELS = torch.from_numpy(np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS)))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_expected_counts_by_hand():
    assert expected_counts("uniform", COUNTS).tolist() == COUNTS.tolist()
    assert expected_counts("class-balanced", COUNTS).tolist() == [250, 250, 0, 250, 250]
    root = np.sqrt(COUNTS)
    assert expected_counts("square-root", COUNTS) == pytest.approx(1000 * root / root.sum())


@pytest.mark.parametrize("name", ["class-balanced", "square-root"])
def test_class_frequencies_match_expected_counts(name):
    sampler = make_sampler(name, LABELS)
    drawn = torch.cat([LABELS[sampler(generator(seed))] for seed in range(20)])
    found = np.bincount(drawn, minlength=5)
    expected = 20 * expected_counts(name, COUNTS)
    assert found[2] == expected[2] == 0
    assert chisquare(found[expected > 0], expected[expected > 0]).pvalue > 1e-3
    # and not as often as another sampler would have it
    other = 20 * expected_counts("square-root" if name == "class-balanced" else "class-balanced", COUNTS)
    assert chisquare(found[other > 0], other[other > 0]).pvalue < 1e-9


def test_images_of_a_class_are_drawn_uniformly():
    sampler = make_sampler("class-balanced", LABELS)
    drawn = torch.cat([sampler(generator(seed)) for seed in range(20)])
    rare = (LABELS == 3).nonzero().flatten()
    found = torch.bincount(drawn, minlength=len(LABELS))[rare]
    assert chisquare(found.numpy()).pvalue > 1e-3


def test_uniform_sampler_is_none():
    assert make_sampler("uniform", LABELS) is None


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.sampled_from(list(SAMPLERS)[1:]),
    st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_an_epoch_has_as_many_indices_as_samples_and_follows_the_seed(labels, name, seed):
    sampler = make_sampler(name, labels)
    order = sampler(generator(seed))
    assert order.shape == (len(labels),) and order.dtype == torch.int64
    assert 0 <= order.min() and order.max() < len(labels)
    assert torch.equal(order, sampler(generator(seed)))


def test_la_with_expected_counts_does_not_correct_twice():
    """Balanced sampling leaves nothing for LA to do: with the expected counts it is cross-entropy."""
    counts = np.array([900, 90, 9, 1])
    logits, labels = torch.randn(6, 4, generator=generator()), torch.tensor([0, 1, 2, 3, 0, 1])
    told = make_loss("LA", expected_counts("class-balanced", counts))(logits, labels)
    assert float(told) == pytest.approx(float(make_loss("CE", counts)(logits, labels)), rel=1e-6)
    assert abs(float(make_loss("LA", counts)(logits, labels) - told)) > 0.1


def test_bad_samplers_are_refused():
    with pytest.raises(
        CausalFTError, match="no sampler is named 'class-balance'; did you mean 'class-balanced'"
    ):
        make_sampler("class-balance", LABELS)
    with pytest.raises(CausalFTError, match="no sampler is named"):
        expected_counts("sqrt", COUNTS)
    for wrong in ([[0, 1]], [0.5, 1.0], []):
        with pytest.raises(CausalFTError, match="labels must be a vector of class indices"):
            make_sampler("uniform", wrong)
