"""Groups, long-tail profiles and fixed-length class tables against hand-made values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.data.groups import (
    GROUPS,
    class_accuracy,
    cross_groups,
    data_groups,
    gap,
    group_accuracy,
    imbalance_factor,
    prior_groups,
)
from causalft.data.longtail import profile_counts
from causalft.errors import CausalFTError


def test_imbalance_factor_with_an_empty_class_is_infinite() -> None:
    assert imbalance_factor([100, 5]) == 20
    assert imbalance_factor([3, 0]) == float("inf")
    with pytest.raises(CausalFTError, match="every class count is 0"):
        imbalance_factor([0, 0])
    with pytest.raises(CausalFTError, match="class 1 has a negative count"):
        imbalance_factor([1, -1])


def test_data_groups_at_the_borders() -> None:
    assert data_groups([101, 100, 20, 19, 0]).tolist() == ["many", "medium", "medium", "few", "few"]


@given(st.integers(1, 400), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_prior_groups_have_the_papers_sizes_and_respect_the_order(n_classes: int, seed: int) -> None:
    prior = np.random.default_rng(seed).dirichlet(np.ones(n_classes))
    groups = prior_groups(prior)
    sizes = [int((groups == g).sum()) for g in GROUPS]
    assert sum(sizes) == n_classes
    assert abs(sizes[0] - 0.3 * n_classes) <= 0.7 and abs(sizes[0] + sizes[1] - 0.6 * n_classes) <= 0.6
    many, few = prior[groups == "many"], prior[groups == "few"]
    if len(few):
        assert many.min() >= few.max()


def test_prior_groups_break_ties_by_class_index() -> None:
    assert prior_groups(np.full(10, 0.1)).tolist() == ["many"] * 3 + ["medium"] * 3 + ["few"] * 4
    assert [int((prior_groups(np.ones(60)) == g).sum()) for g in GROUPS] == [18, 18, 24]


@given(st.integers(2, 200), st.integers(1, 3000), st.floats(1, 500), st.sampled_from(["exponential", "zipf"]))
@settings(max_examples=80, deadline=None)
def test_profile_counts_fall_and_reach_the_factor(k: int, n_max: int, factor: float, profile: str) -> None:
    counts = profile_counts(k, n_max, factor, profile)
    assert counts[0] == n_max and counts.min() >= 1 and (np.diff(counts) <= 0).all()
    assert counts[-1] == max(1, round(n_max / factor)) or abs(counts[-1] - n_max / factor) <= 0.5 + 1e-9


def test_profile_counts_of_the_embedded_world() -> None:
    counts = profile_counts(60, 200, 100)
    assert counts[-1] == 2 and [int((data_groups(counts) == g).sum()) for g in GROUPS] == [9, 21, 30]


@pytest.mark.parametrize(
    "arguments, message",
    [((1, 10, 2), "at least 2 classes"), ((5, 0, 2), "at least 1 sample"), ((5, 10, 0.5), "below 1"),
     ((5, 10, 2, "linear"), "no long-tail profile named 'linear'")],
)  # fmt: skip
def test_profile_counts_refuse_bad_numbers(arguments: tuple, message: str) -> None:
    with pytest.raises(CausalFTError, match=message):
        profile_counts(*arguments)


def test_class_accuracy_keeps_a_row_for_an_absent_class() -> None:
    table = class_accuracy(np.array([[1, 0, 1, 1], [0, 0, 0, 1]]), [0, 0, 3, 3], n_classes=5)
    assert table.shape == (2, 5)
    np.testing.assert_array_equal(table[:, [0, 3]], [[0.5, 1.0], [0.0, 0.5]])
    assert np.isnan(table[:, [1, 2, 4]]).all()


def test_class_accuracy_refuses_labels_beyond_k() -> None:
    with pytest.raises(CausalFTError, match="label 5 lies outside the 5 classes"):
        class_accuracy([1], [5], 5)
    with pytest.raises(CausalFTError, match="last axes must agree"):
        class_accuracy([1, 0], [0], 5)
    with pytest.raises(CausalFTError, match="class indices"):
        class_accuracy([1], [0.5], 5)


def test_group_tables_mean_class_accuracies_and_leave_out_absent_classes() -> None:
    accuracy = [1.0, 0.5, np.nan, 0.2, 0.4]
    groups = ["many", "many", "many", "few", "few"]
    table = group_accuracy(accuracy, groups)
    assert table == {"many": 0.75, "medium": None, "few": pytest.approx(0.3)}
    assert gap(table) == pytest.approx(0.45)
    cross = cross_groups(accuracy, groups, ["few", "many", "few", "few", "few"])
    assert cross["many"] == {"many": 0.5, "medium": None, "few": 1.0}
    assert cross["few"] == {"many": None, "medium": None, "few": pytest.approx(0.3)}
    assert gap({"many": None, "few": 1.0}) is None


def test_group_tables_refuse_unknown_groups() -> None:
    with pytest.raises(CausalFTError, match="no group named 'lots'"):
        group_accuracy([1.0], ["lots"])
    with pytest.raises(CausalFTError, match="has 2 classes"):
        group_accuracy([1.0, 0.0], ["many"])
