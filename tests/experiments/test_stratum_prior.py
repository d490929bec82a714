"""The stratum prior on members whose quality is known: weights, placebo, the best stratum, and the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from causalft.analysis.diagnosis.scores import compare_methods
from causalft.runs.folder import Run
from experiments.stratum_prior import COMPARISONS, ESTIMATED, PLACEBO, UNIFORM, _conclusion, fuse_all, page

LABELS = np.repeat([0, 1], 50)


@pytest.fixture(scope="module")
def fused():
    """One stratum that knows the labels and two that guess, the second a little towards class 0."""
    knows = np.where(np.eye(2)[LABELS] == 1, 0.9, 0.1)
    strata = np.stack([knows, np.full((100, 2), 0.5), np.tile([0.6, 0.4], (100, 1))])
    return fuse_all(strata, LABELS, strata, np.ones(100), seed=0)


def test_the_stratum_that_knows_gets_the_weight_and_the_placebo_gives_it_to_another(fused):
    methods, prior = fused
    assert prior.weights[0] > 0.99
    assert methods["best single stratum"][0].tolist() == pytest.approx([0.9, 0.1])
    assert methods[UNIFORM][0, 0] == pytest.approx((0.9 + 0.5 + 0.6) / 3)
    assert methods[ESTIMATED][0, 0] == pytest.approx(0.9, abs=0.01)
    assert methods[PLACEBO][0, 0] == pytest.approx(0.5, abs=0.01)
    odds = (9 * 1 * 1.5) ** (1 / 3)  # the geometric mean of the odds
    assert methods["logit mean"][0, 0] == pytest.approx(odds / (1 + odds))


def test_the_page_shows_every_fusion_and_its_differences(fused, tmp_path: Path):
    methods, prior = fused
    models = {name: [values[None]] for name, values in methods.items()}
    scores = compare_methods(LABELS, [200, 5], models, COMPARISONS, n_boot=100).to_metrics()
    told = _conclusion(scores["paired"], {"weights": prior.weights, "ci95": prior.ci95})
    run = Run.create(tmp_path / "run", kind="experiment", config={})
    shown = page(run, {**scores, "conclusion": told, "weights": {"clip": "0" * 64}, "seeds": 1})
    methods_table, differences = (section.tables[0] for section in shown["sections"])
    assert [row[0] for row in methods_table.rows] == list(models)
    assert len(differences.rows) == len(COMPARISONS)
    assert (run.path / "figures" / "stratum_prior.png").stat().st_size > 0
