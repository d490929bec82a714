"""Validation and test sizes: a share of each class, and refusals that name sizes that work."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalft.data.duplicates import DuplicateReport
from causalft.data.image_set import ImageSet
from causalft.data.splits import choose_sizes, cut_splits, pool_splits
from causalft.errors import CausalFTError

COUNTS = st.lists(st.integers(1, 400), min_size=2, max_size=12)


def numbered(counts) -> ImageSet:
    """A set of these counts, of different images."""
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = np.arange(len(labels), dtype=np.uint32)[:, None] >> np.array([0, 8, 16])
    return ImageSet.from_arrays(
        (pixels & 255).astype(np.uint8).reshape(-1, 1, 1, 3),
        labels,
        [f"class{k}" for k in range(len(counts))],
    )


@pytest.mark.parametrize(
    ("n", "train", "validation", "test"),
    [
        (1, 1, 0, 0),
        (2, 2, 0, 0),
        (3, 2, 0, 1),
        (4, 2, 1, 1),
        (5, 3, 1, 1),
        (6, 4, 1, 1),
        (12, 9, 1, 2),
        (15, 10, 2, 3),
        (150, 110, 10, 30),
        (5000, 4940, 10, 50),
    ],
)
def test_a_share_of_a_class_is_a_fifth_and_a_tenth(n, train, validation, test) -> None:
    splits = cut_splits(numbered([n, 150]), seed=0)
    found = [part.class_counts[0] for part in (splits.train, splits.validation, splits.test)]
    assert found == [train, validation, test]


@given(counts=COUNTS)
def test_shares_are_disjoint_monotone_and_leave_every_class_in_training(counts) -> None:
    values = np.array(sorted(counts))
    test, validation = choose_sizes(values, values, np.ones_like(values), n_test="auto", n_validation="auto")
    left = values - test - validation
    assert left.min() >= 1 and (2 * left >= values).all()  # more than half is for training
    for part in (test, validation, left):
        assert (np.diff(part) >= 0).all()  # a larger class has no less of anything
    assert test.max() <= 50 and validation.max() <= 10


def test_a_fixed_size_keeps_its_meaning_beside_a_share() -> None:
    splits = cut_splits(numbered([40, 12, 8]), n_test=3, seed=0)
    assert splits.test.class_counts.tolist() == [3, 3, 3]
    assert splits.validation.class_counts.tolist() == [4, 1, 1]
    splits = cut_splits(numbered([40, 12, 8]), n_validation=2, seed=0)
    assert splits.validation.class_counts.tolist() == [2, 2, 2]
    assert splits.test.class_counts.tolist() == [8, 2, 2]


def test_only_images_without_a_duplicate_are_cut() -> None:
    images = numbered([20, 20])
    group = np.arange(40)
    group[20:38] = 20  # of the second class two images are single
    pairs = tuple(range(20, 38))
    report = DuplicateReport("bytes", group, (pairs,), (), ())
    splits = cut_splits(images, seed=0, duplicates=report)
    assert splits.test.class_counts.tolist() == [4, 2]
    assert splits.validation.class_counts.tolist() == [2, 0]


def test_a_set_too_small_for_shares_is_refused_with_numbers_that_work() -> None:
    with pytest.raises(CausalFTError, match="go to validation .*use n_test=1, n_validation=1$") as caught:
        cut_splits(numbered([3, 3, 3]), seed=0)
    assert caught.value.on_command_line.endswith("use --n-test 1 --n-validation 1")
    assert "--" not in str(caught.value)
    splits = cut_splits(numbered([3, 3, 3]), n_test=1, n_validation=1, seed=0)
    assert splits.train.class_counts.tolist() == [1, 1, 1]
    with pytest.raises(CausalFTError, match="test or validation .*no size works here: add images"):
        cut_splits(numbered([2, 2, 1]), seed=0)


@given(counts=COUNTS, n_test=st.integers(0, 60), n_validation=st.integers(0, 30), pool=st.booleans())
def test_every_size_that_a_refusal_offers_works(counts, n_test, n_validation, pool) -> None:
    images = numbered([max(n, 2) for n in counts] if pool else counts)
    cut = pool_splits if pool else cut_splits
    try:
        cut(images, n_test=n_test, n_validation=n_validation, seed=0, duplicates=None)
        return
    except CausalFTError as error:
        message = str(error)
    offers = re.findall(r"n_test=('auto'|\d+), n_validation=('auto'|\d+)", message.rpartition("; ")[2])
    for offer in offers:
        test, validation = (size.strip("'") if "auto" in size else int(size) for size in offer)
        cut(images, n_test=test, n_validation=validation, seed=0, duplicates=None)
    assert offers or "no size works" in message


def test_a_pool_leaves_one_image_of_every_class_on_each_side() -> None:
    images = numbered([2, 3, 4, 6, 150])
    parts, _ = pool_splits(images, seed=0, duplicates=None)
    found = {name: np.bincount(images.labels[rows], minlength=5).tolist() for name, rows in parts.items()}
    assert found == {
        "pool": [1, 2, 2, 3, 75],
        "downstream": [1, 1, 1, 1, 30],
        "validation": [0, 0, 0, 1, 15],
        "test": [0, 0, 1, 1, 30],
    }
    with pytest.raises(
        CausalFTError, match="class 'class1' has 1 image in arrays .* need one each; add images"
    ):
        pool_splits(numbered([9, 1]), seed=0, duplicates=None)


@pytest.mark.parametrize("size", ["all", 1.5, True, None])
def test_an_invalid_size_is_refused(size) -> None:
    with pytest.raises(CausalFTError, match='n_test=.* give "auto" or a whole number'):
        cut_splits(numbered([9, 9]), n_test=size, seed=0)
