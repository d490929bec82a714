"""50,000 real photographs in a zip, if available: opening, decoding, splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from causalft.data.duplicates import duplicate_groups
from causalft.data.image_set import decode
from causalft.data.opening import open_images
from causalft.data.splits import cut_splits, pool_splits

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def test_opening_lists_and_reads_no_photograph(photographs: Path, members_read: list[str]) -> None:
    images = open_images(photographs)
    assert images.class_names == CLASSES and (images.class_counts == 5000).all() and images.notes == ()
    assert members_read == []
    assert len(images.fingerprint) == 64
    assert members_read == []


def test_long_tailed_cut_of_photographs(photographs: Path) -> None:
    images = open_images(photographs)
    splits = cut_splits(images, n_validation=50, n_test=1000, seed=0, imbalance_factor=100, n_max=1000)
    assert sorted(splits.train.class_counts.tolist()) == [10, 17, 28, 46, 77, 129, 215, 359, 599, 1000]
    assert (splits.test.class_counts == 1000).all() and splits.duplicates.groups == ()


def test_decoded_photographs_are_in_order(photographs: Path) -> None:
    images = open_images(photographs)
    chosen = np.random.default_rng(0).choice(len(images), 300, replace=False)
    pixels = decode(images, chosen, threads=2)
    assert pixels.shape == (300, 32, 32, 3) and pixels.std() > 40
    for j in (0, 1, 63, 64, 65, 299):
        assert np.array_equal(pixels[j], np.asarray(images.image(int(chosen[j]))))


@pytest.mark.slow
def test_near_duplicates_among_photographs(photographs: Path) -> None:
    images = open_images(photographs)
    report = duplicate_groups(images, "near", threads=2)
    assert 300 < len(report.groups) < 600 and not report.conflicts
    parts, _ = pool_splits(images, n_test=1000, n_validation=50, seed=0, duplicates=report)
    assert {name: len(rows) for name, rows in parts.items()} == {
        "pool": 25_000,
        "downstream": 14_500,
        "validation": 500,
        "test": 10_000,
    }
    for rows in report.groups:
        homes = {name for name, part in parts.items() if np.isin(rows, part).any()}
        assert len(homes) == 1 and homes <= {"pool", "downstream"}
