"""Splits are disjoint, balanced or long-tailed as requested, and share no image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.data.duplicates import duplicate_groups
from causalft.data.image_set import ImageSet
from causalft.data.longtail import class_order, draw_longtail
from causalft.data.opening import open_images
from causalft.data.splits import Splits, cut_splits, pool_splits
from causalft.errors import CausalFTError


def numbered(counts: list[int], side: int = 4) -> ImageSet:
    """A set of these counts, of different images."""
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = np.zeros((len(labels), side, side, 3), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = np.arange(len(labels)) % 256, np.arange(len(labels)) // 256
    return ImageSet.from_arrays(pixels, labels, [f"class{k}" for k in range(len(counts))])


def assert_disjoint(indices: dict[str, np.ndarray]) -> None:
    rows = np.concatenate(list(indices.values()))
    assert len(rows) == len(set(rows.tolist()))


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(8, 40), min_size=2, max_size=6),
    n_validation=st.integers(0, 3),
    n_test=st.integers(0, 4),
    seed=st.integers(0, 10_000),
    imbalance=st.none() | st.floats(1, 50),
    profile=st.sampled_from(["exponential", "zipf"]),
    order=st.sampled_from(["random", "class", "size"]),
)
def test_any_cut_is_disjoint_and_balanced(
    counts, n_validation, n_test, seed, imbalance, profile, order
) -> None:
    images = numbered(counts)
    options = {
        "n_validation": n_validation,
        "n_test": n_test,
        "seed": seed,
        "imbalance_factor": imbalance,
        "profile": profile,
        "order": order,
    }
    splits = cut_splits(images, **options)
    assert_disjoint(splits.indices)
    assert (splits.test.class_counts == n_test).all() and (
        splits.validation.class_counts == n_validation
    ).all()
    train = splits.train.class_counts
    assert train.min() >= 1
    for part in ("train", "validation", "test"):
        assert getattr(splits, part).files == [images.files[i] for i in splits.indices[part]]
    if imbalance is None:
        assert (train == np.array(counts) - n_validation - n_test).all() and splits.order is None
    else:
        head_first = train[[images.class_names.index(name) for name in splits.order]]
        assert (np.diff(head_first) <= 0).all()
    again = cut_splits(images, **options)
    assert all(np.array_equal(again.indices[part], rows) for part, rows in splits.indices.items())


def test_long_tail_has_the_requested_counts() -> None:
    splits = cut_splits(
        numbered([130] * 5), n_validation=10, n_test=20, seed=0, imbalance_factor=100, order="class"
    )
    assert splits.train.class_counts.tolist() == [100, 32, 10, 3, 1]
    assert repr(splits) == (
        "Splits('arrays': 5 classes; train 146 (1 to 100 per class, imbalance 100), validation 50, test 100)"
    )


def test_order_by_names_and_by_numbers() -> None:
    images = numbered([60] * 3)
    names, numbers = ["class2", "class0", "class1"], [2, 0, 1]
    for order in (names, numbers, np.array(numbers)):
        splits = cut_splits(images, n_validation=0, n_test=10, seed=0, imbalance_factor=25, order=order)
        assert splits.train.class_counts.tolist() == [10, 2, 50] and splits.order == tuple(names)


def test_order_by_size() -> None:
    images = numbered([20, 60, 40])
    assert class_order(images, "size", np.random.default_rng(0)).tolist() == [1, 2, 0]
    assert draw_longtail(images, imbalance_factor=3, order="size", seed=0).class_counts.tolist() == [
        20,
        60,
        35,
    ]


def test_default_head_is_as_large_as_the_classes_allow() -> None:
    # Order 0, 1, 2 with factor 4 asks n, n/2, n/4; class 1 has 10 images only.
    drawn = draw_longtail(numbered([100, 10, 100]), imbalance_factor=4, order="class", seed=0)
    assert drawn.class_counts.tolist() == [21, 10, 5]


def test_test_split_is_shared_by_all_imbalances_and_draws_nest() -> None:
    images = numbered([60] * 4)
    cuts = [
        cut_splits(images, n_validation=v, n_test=9, seed=5, imbalance_factor=f, n_max=40, order="class")
        for v, f in ((5, 2), (5, 10), (5, 40), (3, 10))
    ]
    assert all(np.array_equal(cut.indices["test"], cuts[0].indices["test"]) for cut in cuts)
    assert set(cuts[2].indices["train"]) < set(cuts[1].indices["train"]) < set(cuts[0].indices["train"])
    other = cut_splits(images, n_validation=5, n_test=9, seed=6)
    assert not np.array_equal(other.indices["test"], cuts[0].indices["test"])


def test_splits_of_the_folder_are_kept(write_folder) -> None:
    files = [
        f"{split}/{kind}/{i}.png"
        for split, n in (("train", 9), ("test", 4))
        for kind in "ab"
        for i in range(n)
    ]
    images = open_images(write_folder(files))
    splits = cut_splits(images, n_validation=2, n_test=99, seed=0, imbalance_factor=7)
    assert splits.test.class_counts.tolist() == [4, 4]
    assert all(name.startswith("test/") for name in splits.test.files)
    assert all(name.startswith("train/") for name in splits.train.files + splits.validation.files)
    assert splits.validation.class_counts.tolist() == [2, 2]
    assert sorted(splits.train.class_counts.tolist()) == [1, 7]


# Duplicates ---------------------------------------------------------------------------------------------------------


def with_copies(counts: list[int], copies: list[tuple[int, int]]) -> ImageSet:
    """Different images, except that ``second`` repeats ``first``."""
    images = numbered(counts)
    pixels = images.pixels.copy()
    for first, second in copies:
        pixels[second] = pixels[first]
    return ImageSet.from_arrays(pixels, images.labels, images.class_names)


def sides(images: ImageSet, indices: dict[str, np.ndarray]) -> dict[bytes, set[str]]:
    """The split of each image."""
    found: dict[bytes, set[str]] = {}
    for part, rows in indices.items():
        for i in rows:
            found.setdefault(images.read_bytes(int(i)), set()).add(part)
    return found


@pytest.mark.parametrize("kind", ["bytes", "pixels"])
@pytest.mark.parametrize("seed", range(10))
def test_no_image_is_in_two_splits(kind: str, seed: int) -> None:
    images = with_copies([30, 30], [(0, 5), (0, 45), (1, 2), (33, 44), (44, 50)])
    splits = cut_splits(images, n_validation=8, n_test=10, seed=seed, duplicates=kind)
    assert all(len(where) == 1 for where in sides(images, splits.indices).values())
    parts, report = pool_splits(images, n_validation=5, n_test=6, seed=seed, duplicates=kind)
    assert all(len(where) == 1 for where in sides(images, parts).values())
    assert len(report.groups) == 3 and len(report.conflicts) == 1
    assert_disjoint(parts)
    assert sum(map(len, parts.values())) == 60
    assert len(parts["pool"]) == 30


def test_copies_are_kept_without_a_search_for_duplicates() -> None:
    images = with_copies([30, 30], [(i, i + 15) for i in range(15)])
    splits = cut_splits(images, n_validation=0, n_test=15, seed=0, duplicates=None)
    assert splits.duplicates is None
    assert any(len(where) == 2 for where in sides(images, splits.indices).values())


def test_earlier_duplicate_report_is_used() -> None:
    images = with_copies([30, 30], [(0, 5)])
    report = duplicate_groups(images, "pixels")
    splits = cut_splits(images, n_validation=4, n_test=9, seed=0, duplicates=report)
    assert splits.duplicates is report and {0, 5} <= set(splits.indices["train"].tolist())
    with pytest.raises(CausalFTError, match="report is about 60 images, the set has 59"):
        cut_splits(images.subset(range(59)), n_validation=4, n_test=9, seed=0, duplicates=report)


def test_training_copies_of_existing_test_images_are_left_out(write_folder, picture) -> None:
    files = {
        f"{split}/{kind}/{i}.png": None
        for split in ("train", "val", "test")
        for kind in "ab"
        for i in range(5)
    }
    files["train/a/0.png"] = files["test/a/0.png"] = picture(500)
    files["val/b/1.png"] = files["train/b/1.png"] = picture(501)
    files["val/b/2.png"] = files["test/b/2.png"] = picture(502)
    images = open_images(write_folder(files))
    splits = cut_splits(images, n_validation=0, n_test=0, seed=0)
    assert [splits.train.class_counts.tolist(), splits.validation.class_counts.tolist()] == [[4, 4], [5, 4]]
    assert splits.test.class_counts.tolist() == [5, 5]
    assert any("1 validation images out" in note and "val/b/2.png" in note for note in splits.notes)
    assert any("2 train images out" in note and "train/a/0.png" in note for note in splits.notes)
    assert all(len(where) == 1 for where in sides(images, splits.indices).values())


# Pools --------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(12, 40), min_size=2, max_size=5),
    fraction=st.floats(0.1, 0.6),
    seed=st.integers(0, 1000),
)
def test_any_pool_is_disjoint(counts: list[int], fraction: float, seed: int) -> None:
    images = numbered(counts)
    parts, _ = pool_splits(
        images, n_test=2, n_validation=1, pool_fraction=fraction, seed=seed, duplicates="bytes"
    )
    assert_disjoint(parts)
    assert list(parts) == ["pool", "downstream", "validation", "test"]
    assert sum(map(len, parts.values())) == len(images)
    assert images.subset(parts["pool"]).class_counts.tolist() == [max(1, round(fraction * n)) for n in counts]
    assert (images.subset(parts["test"]).class_counts == 2).all()
    assert (images.subset(parts["validation"]).class_counts == 1).all()
    again, _ = pool_splits(
        images, n_test=2, n_validation=1, pool_fraction=fraction, seed=seed, duplicates="bytes"
    )
    assert all(np.array_equal(parts[name], again[name]) for name in parts)


def test_a_group_too_large_for_the_pool_goes_downstream_whole() -> None:
    images = with_copies([20, 20], [(0, i) for i in range(1, 14)])
    parts, _ = pool_splits(images, n_test=1, n_validation=0, seed=0, duplicates="bytes")
    assert set(range(14)) <= set(parts["downstream"].tolist())


def test_class_of_one_image_cannot_be_pooled() -> None:
    images = with_copies([10, 10], [(0, i) for i in range(1, 10)])
    with pytest.raises(CausalFTError, match="class 'class0' has so many duplicates .* for the pool part"):
        pool_splits(images, n_test=0, n_validation=0, seed=0, duplicates="bytes")


# Bad input ----------------------------------------------------------------------------------------------------------


def test_class_with_too_few_images_is_named() -> None:
    images = numbered([50, 12, 50])
    with pytest.raises(
        CausalFTError,
        match="class 'class1' has 12 images in arrays; 10 for test, 5 for validation and at least 1",
    ):
        cut_splits(images, n_validation=5, n_test=10, seed=0)
    with pytest.raises(
        CausalFTError,
        match="class 'class1' has 12 images .* at least 7 to learn from are needed; use .*n_test=2, n_valid",
    ):
        pool_splits(images, n_validation=2, n_test=4, seed=0, duplicates="pixels")


def test_smallest_class_is_named_beside_the_first_that_fails() -> None:
    """Sizes that suit the named class should suit the smallest as well."""
    with pytest.raises(
        CausalFTError, match=r"class 'class0' has 12 images in arrays \('class2' 3\); 10 for test"
    ):
        cut_splits(numbered([12, 9, 3]), n_validation=5, n_test=10, seed=0)


def test_too_few_images_because_of_duplicates() -> None:
    images = with_copies([50, 12], [(50, i) for i in range(51, 58)])
    with pytest.raises(CausalFTError, match="class 'class1' has 12 images, 4 of them without a duplicate,"):
        cut_splits(images, n_validation=2, n_test=4, seed=0)


def test_head_too_large_for_a_class_is_refused() -> None:
    with pytest.raises(
        CausalFTError, match=r"class 'class1' has 10 images left .* place 2 .* needs 50; lower n_max to 21"
    ):
        draw_longtail(numbered([100, 10, 100]), imbalance_factor=4, n_max=100, order="class", seed=0)


def test_empty_class_is_named_or_dropped() -> None:
    images = numbered([9, 9, 9]).subset(np.r_[0:9, 18:27])
    with pytest.raises(CausalFTError, match=r"class 'class1' has no image in arrays \(found 2 of 3"):
        cut_splits(images, n_validation=1, n_test=2, seed=0)
    assert cut_splits(images, n_validation=1, n_test=2, seed=0, drop_empty_classes=True).class_names == (
        "class0",
        "class2",
    )
    with pytest.raises(CausalFTError, match="one class only"):
        cut_splits(images.subset(range(9)), n_validation=1, n_test=2, seed=0, drop_empty_classes=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"order": "randm"}, "no class order named 'randm': did you mean 'random'"),
        ({"order": ["class0", "clas1"]}, "'clas1' in the order is not in arrays: did you mean 'class1'"),
        ({"order": ["class0"]}, "each of the 2 classes once; 'class1' is missing"),
        ({"order": [0, 1, 1]}, "a class stands twice"),
        ({"profile": "cubic"}, "no long-tail profile named 'cubic'"),
        ({"imbalance_factor": 0.5}, "below 1"),
        ({"imbalance_factor": None, "n_max": 5}, "n_max needs an imbalance factor"),
        ({"n_test": -1}, "cannot have -1 images"),
        ({"duplicates": "exact"}, "no kind of duplicate named 'exact'"),
    ],
)
def test_unknown_kinds_and_limits_are_refused(change: dict, words: str) -> None:
    options = {"n_validation": 1, "n_test": 2, "seed": 0, "imbalance_factor": 2, **change}
    with pytest.raises(CausalFTError, match=words):
        cut_splits(numbered([9, 9]), **options)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0])
def test_invalid_pool_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(CausalFTError, match="pool_fraction"):
        pool_splits(numbered([9, 9]), n_test=1, n_validation=1, seed=0, pool_fraction=fraction)


def test_splits_share_class_names() -> None:
    splits = cut_splits(numbered([9, 9]), n_validation=1, n_test=2, seed=0)
    assert isinstance(splits, Splits)
    assert (
        splits.class_names == splits.validation.class_names == splits.test.class_names == ("class0", "class1")
    )
