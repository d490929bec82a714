"""Long tails have the requested counts and order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalft.data.image_set import ImageSet
from causalft.data.longtail import benchmark_counts, draw_longtail, order_against, profile_counts, spearman
from causalft.data.splits import cut_splits
from causalft.data.tails import PROFILES
from causalft.errors import CausalFTError


@given(
    n_classes=st.integers(2, 400),
    tail=st.integers(1, 50),
    factor=st.integers(1, 300),
    profile=st.sampled_from(sorted(PROFILES)),
)
def test_first_and_last_counts_are_exact(n_classes: int, tail: int, factor: int, profile: str) -> None:
    counts = profile_counts(n_classes, tail * factor, factor, profile)
    assert counts[0] == tail * factor and counts[-1] == tail
    assert (np.diff(counts) <= 0).all() and len(counts) == n_classes


def test_pareto_is_the_density_that_its_docstring_gives() -> None:
    counts = profile_counts(1000, 1280, 256, "pareto")
    x = np.linspace(0, 256 ** (1 / 7) - 1, 1000)
    assert np.array_equal(counts, np.rint(1280 * (1 + x) ** -7.0).astype(int))
    # Between the two other profiles everywhere: Zipf is the extreme of a heavy head.
    exponential, zipf = (profile_counts(1000, 1280, 256, name) for name in ("exponential", "zipf"))
    assert (zipf <= counts).all() and (counts <= exponential).all()


@pytest.mark.parametrize(
    ("n_classes", "n_max", "factor", "total"),
    [
        (10, 5000, 100, 12406),
        (10, 5000, 50, 13996),
        (100, 500, 100, 10847),
        (100, 500, 50, 12608),
        (100, 500, 10, 19573),
    ],
)
def test_benchmark_sizes_are_the_published_ones(n_classes: int, n_max: int, factor: int, total: int) -> None:
    counts = benchmark_counts(n_classes, n_max, factor)
    assert counts.sum() == total and counts[0] == n_max and counts[-1] == n_max // factor


def test_invalid_profiles_are_refused() -> None:
    with pytest.raises(CausalFTError, match="no long-tail profile named 'paretto': did you mean 'pareto'"):
        profile_counts(3, 10, 2, "paretto")
    with pytest.raises(CausalFTError, match="below 1"):
        profile_counts(3, 10, 0.5, "pareto")
    with pytest.raises(CausalFTError, match="below 1"):
        benchmark_counts(3, 10, 0.5)


def rank_correlation(order: np.ndarray, prior: np.ndarray) -> float:
    return float(spearman([order, np.argsort(-prior, kind="stable")])[0, 1])


@pytest.mark.parametrize("n_classes", [20, 60, 1000])
def test_orders_against_a_prior(n_classes: int) -> None:
    prior = np.random.default_rng(1).dirichlet(np.full(n_classes, 0.3)) + 1e-9 * np.arange(n_classes)
    assert rank_correlation(order_against(prior, "consistency", 0), prior) == pytest.approx(1)
    assert rank_correlation(order_against(prior, "reverse", 0), prior) == pytest.approx(-1)
    sets = [order_against(prior, "balance", seed) for seed in range(3)]
    assert max(abs(rank_correlation(order, prior)) for order in sets) < 0.02
    assert not np.array_equal(sets[0], sets[1]) and np.array_equal(
        sets[0], order_against(prior, "balance", 0)
    )
    for order in sets:
        assert sorted(order.tolist()) == list(range(n_classes))


def test_classes_of_equal_prior_are_ordered_by_the_seed() -> None:
    flat = np.ones(30)
    assert len({tuple(order_against(flat, "consistency", seed).tolist()) for seed in range(5)}) == 5


@pytest.mark.parametrize("prior", [[0.5], [[0.5, 0.5]], [0.5, float("nan")]])
def test_invalid_priors_are_refused(prior: list) -> None:
    with pytest.raises(CausalFTError, match="a prior must be a vector"):
        order_against(prior, "reverse", 0)


def test_a_set_is_drawn_in_these_orders() -> None:
    k = 12
    images = ImageSet.from_arrays(
        np.zeros((100 * k, 2, 2, 3), np.uint8), np.arange(100 * k) % k, [f"c{i}" for i in range(k)]
    )
    prior = np.random.default_rng(0).permutation(k) + 1.0
    for kind, sign in (("consistency", 1), ("reverse", -1)):
        counts = draw_longtail(images, imbalance_factor=50, seed=0, order=kind, prior=prior).class_counts
        assert (
            np.diff(counts[np.argsort(-prior)]) * sign <= 0
        ).all() and counts.max() == 100 == 50 * counts.min()
    balance = [
        cut_splits(
            images,
            n_validation=0,
            n_test=5,
            seed=s,
            imbalance_factor=9,
            order="balance",
            prior=prior,
            duplicates=None,
        )
        for s in (0, 1)
    ]
    for splits in balance:
        ranked = np.array([images.class_names.index(name) for name in splits.order])
        assert abs(rank_correlation(ranked, prior)) < 0.05
    assert balance[0].order != balance[1].order
    pareto = draw_longtail(images, imbalance_factor=100, seed=0, order="class", profile="pareto").class_counts
    assert pareto.tolist() == profile_counts(k, 100, 100, "pareto").tolist()
    with pytest.raises(CausalFTError, match="order 'reverse' stands against a label prior"):
        draw_longtail(images, imbalance_factor=2, seed=0, order="reverse")
    with pytest.raises(CausalFTError, match="a prior goes with the orders consistency, reverse, balance"):
        draw_longtail(images, imbalance_factor=2, seed=0, order="class", prior=prior)
    with pytest.raises(CausalFTError, match=r"the prior has shape \(3,\) for 12 classes"):
        draw_longtail(images, imbalance_factor=2, seed=0, order="reverse", prior=[1, 2, 3])
    with pytest.raises(CausalFTError, match="did you mean 'balance'"):
        draw_longtail(images, imbalance_factor=2, seed=0, order="balanced", prior=None)


def test_a_set_without_a_training_part_cannot_be_cut() -> None:
    images = ImageSet.from_arrays(np.zeros((4, 2, 2, 3), np.uint8), [0, 1, 0, 1], ["a", "b"])
    images.splits = {"test": np.arange(4)}
    with pytest.raises(CausalFTError, match=r"has no train split \(it has test\)"):
        cut_splits(images, n_validation=0, n_test=1, seed=0)
