"""The laws of the part world: who is made of what, how often a class is seen, and which part a stratum sees."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalft.errors import CausalFTError
from synthetic.creatures import (
    CLASS_NAMES,
    FACTORS,
    N_CLASSES,
    N_TYPES,
    PARTS,
    exponential_prior,
    factor_law,
    part_table,
)


def test_one_part_leaves_four_classes_and_two_parts_identify_one():
    table = part_table()
    assert table.shape == (N_CLASSES, 3)
    for part in range(3):
        assert np.bincount(table[:, part]).tolist() == [4] * N_TYPES
    for a, b in itertools.combinations(range(3), 2):
        assert len({(row[a], row[b]) for row in table.tolist()}) == N_CLASSES


def test_names_are_one_word_each_and_all_different():
    assert len(set(CLASS_NAMES)) == N_CLASSES
    assert all(name.isalpha() and name.islower() for name in CLASS_NAMES)


@given(n=st.integers(2, 80), factor=st.floats(1, 1000), seed=st.integers(0, 99))
def test_the_exponential_prior_falls_by_its_factor_along_the_order(n, factor, seed):
    order = np.random.default_rng(seed).permutation(n)
    prior = exponential_prior(n, factor, order)
    assert prior.sum() == pytest.approx(1)
    assert prior[order[0]] / prior[order[-1]] == pytest.approx(factor)
    ratios = prior[order[:-1]] / prior[order[1:]]
    assert np.allclose(ratios, ratios[0])


@pytest.mark.parametrize("favourite", PARTS)
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_stratum_favours_one_part_and_sees_the_others(favourite, share):
    law = factor_law(favourite, share)
    assert law.sum() == pytest.approx(1)
    assert law[FACTORS.index(favourite)] == share
    assert law[FACTORS.index("whole")] == 0
    others = [law[FACTORS.index(part)] for part in PARTS if part != favourite]
    assert others == [pytest.approx((1 - share) / 2)] * 2  # positive: overlap between strata


def test_errors():
    with pytest.raises(CausalFTError, match="unknown part 'wing'"):
        factor_law("wing")
    with pytest.raises(CausalFTError, match="below 1"):
        exponential_prior(5, 0.5, np.arange(5))
