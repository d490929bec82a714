"""Chosen class orders are permutations, repeatable, and nearly uncorrelated."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from causalft.data.longtail import choose_orders, spearman
from causalft.errors import CausalFTError


@settings(max_examples=40, deadline=None)
@given(n_classes=st.integers(2, 15), n_orders=st.integers(1, 4), seed=st.integers(0, 99), fix=st.booleans())
def test_permutations_with_a_true_correlation_matrix(
    n_classes: int, n_orders: int, seed: int, fix: bool
) -> None:
    fixed = [np.random.default_rng(seed).permutation(n_classes)] if fix else []
    chosen = choose_orders(n_classes, n_orders, seed, fixed)
    assert (np.sort(chosen.orders, axis=1) == np.arange(n_classes)).all() and len(chosen) == n_orders
    assert np.array_equal(chosen.orders, choose_orders(n_classes, n_orders, seed, fixed).orders)
    every = [*chosen, *fixed]
    for i, j in itertools.combinations(range(len(every)), 2):
        rho = spearmanr(np.argsort(every[i]), np.argsort(every[j])).statistic
        assert chosen.correlation[i, j] == pytest.approx(rho, abs=1e-9)


@pytest.mark.parametrize(
    ("n_classes", "n_orders", "limit"), [(10, 3, 0.05), (10, 6, 0.15), (60, 6, 0.011), (1000, 3, 0.011)]
)
@pytest.mark.parametrize("seed", range(5))
def test_correlation_is_low(n_classes: int, n_orders: int, limit: float, seed: int) -> None:
    down = np.random.default_rng(seed + 50).permutation(n_classes)
    chosen = choose_orders(n_classes, n_orders, seed, fixed=[down])
    assert chosen.max_abs_correlation < limit
    assert np.array_equal(chosen.fixed[0], down)


@pytest.mark.parametrize("n_classes", [2, 3, 4, 5])
def test_few_classes_reach_the_optimum(n_classes: int) -> None:
    permutations = list(itertools.permutations(range(n_classes)))
    best = min(abs(spearman([permutations[0], other])[0, 1]) for other in permutations)
    chosen = choose_orders(n_classes, 1, seed=1, fixed=[range(n_classes)])
    assert chosen.max_abs_correlation == pytest.approx(best, abs=1e-9)


def test_seeds_differ() -> None:
    assert len({choose_orders(10, 1, seed).orders.tobytes() for seed in range(10)}) > 5


def test_spearman_correlates_ranks_of_classes() -> None:
    # Head first: class 2 leads the first order and ends the second.
    assert spearman([[2, 0, 1], [0, 1, 2]])[0, 1] == pytest.approx(-0.5)


def test_invalid_sizes_and_orders_are_refused() -> None:
    for arguments, words in (
        ((1, 1, 0), "at least 2 classes"),
        ((5, 0, 0), "at least 1 order"),
        ((3, 1, 0, [[0, 1, 1]]), "each of the 3 classes once"),
        ((3, 1, 0, [[0, 1]]), "each of the 3 classes once"),
    ):
        with pytest.raises(CausalFTError, match=words):
            choose_orders(*arguments)


def test_repr_shows_the_largest_correlation() -> None:
    assert (
        repr(choose_orders(2, 1, 0, [[0, 1]]))
        == "Orders(1 of 2 classes beside 1 fixed, largest |Spearman| 1.00)"
    )
