"""The measure of big lists runs at a small size, and gives what `make bench` keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from causalft.data.duplicates import duplicate_groups
from causalft.data.opening import open_images

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def big_lists(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import big_lists

    return big_lists


def test_list_names_different_images_in_a_long_tail(big_lists, tmp_path: Path) -> None:
    images = open_images(big_lists.make_list(tmp_path, 300, 20))
    assert len(images) == 300 and images.n_classes == 20
    assert images.class_counts.min() >= 2 and images.class_counts.max() > 40
    assert images.image(7).size[0] == 16
    assert duplicate_groups(images, "bytes").groups == ()


@pytest.mark.slow
def test_measure_gives_seconds_and_memory(big_lists) -> None:
    found = big_lists.open_list_seconds(1, 400, 20)
    assert found["unit"] == "seconds" and found["repeats"] == 1
    assert 0 < found["peak_gb"] < 1 and 0 < found["splits"]["gb"] < 1
    assert found["splits"]["training_images"] < 400
