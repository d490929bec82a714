"""bench/prior_world.py at a tiny size: the truths that it holds against the intervals, and the table that it writes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def prior_world(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import prior_world

    return prior_world


@pytest.mark.slow
def test_the_table_has_a_row_for_each_number_of_images(prior_world, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(prior_world, "POOL", 4)
    monkeypatch.setattr(prior_world, "BLOCK", 2)
    monkeypatch.setattr(prior_world, "IMAGES", (1, 3))
    monkeypatch.setattr(prior_world, "TABLE", tmp_path / "table.csv")
    minis, labels = prior_world.members()
    assert len(minis) == 9 and len(labels) == 4 * 60
    for mini in minis:
        assert mini.logits.shape == (240, 60)
        np.testing.assert_allclose([np.exp(mini.known).sum(), np.exp(mini.limit).sum()], 1, atol=1e-6)
        assert np.ptp(mini.known) == pytest.approx(np.log(100), rel=1e-3)
    monkeypatch.setattr(prior_world, "members", lambda: (minis, labels))
    prior_world.main(10)
    header, *rows = csv.reader((tmp_path / "table.csv").open())
    assert tuple(header) == prior_world.COLUMNS and [row[:2] for row in rows] == [["1", "10"], ["3", "10"]]


def test_errors_are_those_of_means_over_draws_and_over_minis(prior_world) -> None:
    shares = np.array([0.9, 1.0, 0.8, 1.0])  # of two minis in turn
    error = 100 * shares.std(ddof=1) / 2
    between = 100 * np.std([0.85, 1.0], ddof=1) / np.sqrt(2)
    assert prior_world._with_error(shares, 2) == f"92.5 ± {error:.1f} ({between:.1f})"
