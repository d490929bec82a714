"""Statistics as functions of a few products of class accuracies: the same intervals as from the accuracies."""

from __future__ import annotations

import numpy as np
import pytest

from causalft.analysis.diagnosis.intervals import bootstrap
from causalft.analysis.diagnosis.parameter_imbalance import PriorSlope, group_vectors
from causalft.analysis.diagnosis.statistics import DiagnosisStatistics
from causalft.data.groups import data_groups

N_CLASSES, N_STRATA = 12, 3


def priors_of(rng: np.random.Generator) -> np.ndarray:
    return rng.dirichlet(np.ones(N_CLASSES), size=N_STRATA)


def test_slopes_from_products_are_those_from_accuracies() -> None:
    rng = np.random.default_rng(0)
    priors, tested = priors_of(rng), np.arange(N_CLASSES) != 4
    priors[1, 7] = np.nan
    slope = PriorSlope(priors, tested)
    strata, model = rng.random((5, N_STRATA, N_CLASSES)), rng.random((5, N_CLASSES))
    products = strata @ slope.vectors.T
    np.testing.assert_allclose(slope.before_from(products), slope.before(strata), rtol=1e-9)
    np.testing.assert_allclose(
        slope.of_model_from(model @ slope.vectors.T, products), slope.of_model(model, strata), rtol=1e-9
    )


def test_slopes_that_do_not_exist_are_not_numbers() -> None:
    prior = np.random.default_rng(0).dirichlet(np.ones(N_CLASSES))
    slope = PriorSlope(np.stack([prior, prior]), np.ones(N_CLASSES, bool))
    products = np.zeros((1, 2, 4))
    assert np.isnan(slope.before_from(products)).all()
    assert np.isnan(slope.of_model_from(products[:, 0], products)).all()


@pytest.mark.parametrize("counts", [[500, 60, 5] * 4, [500, 5] * 6])  # the second without medium classes
def test_intervals_from_products_are_those_from_accuracies(counts: list[int]) -> None:
    rng = np.random.default_rng(1)
    priors = priors_of(rng)
    labels = np.repeat(np.arange(N_CLASSES - 1), 8)  # the last class has no test image
    names = ["fused", "logit_mean", "control seeds: a", "control seeds: b", "control seeds"]
    row = {name: N_STRATA + number for number, name in enumerate(names)}
    correct = rng.random((N_STRATA + len(names), 2, len(labels))) < rng.random((N_STRATA + len(names), 1, 1))
    tested = np.bincount(labels, minlength=N_CLASSES) > 0
    shares = np.stack([tested / tested.sum()] * 2)
    groups = np.stack([group_vectors(data_groups(counts), tested)] * (N_STRATA + 1))
    control_rows = {"seeds": [row["control seeds: a"], row["control seeds: b"]]}
    statistics = DiagnosisStatistics(priors, tested, shares, groups, row, {"seeds": 0}, control_rows)

    def of_accuracies(accuracies: np.ndarray) -> dict[str, np.ndarray]:
        return statistics(np.nan_to_num(accuracies) @ statistics.vectors.T)

    expected = bootstrap(of_accuracies, correct, labels, N_CLASSES, n_boot=200)
    found = bootstrap(statistics, correct, labels, N_CLASSES, vectors=statistics.vectors, n_boot=200)
    assert set(found) == set(expected)
    for name, value in expected.items():
        for one, other in zip(np.ravel(found[name]), np.ravel(value), strict=True):
            assert one.reason == other.reason, name
            pairs = [
                (one.estimate, other.estimate),
                (one.low, other.low),
                (one.high, other.high),
                (one.p, other.p),
            ]
            for got, wanted in pairs:
                assert got == pytest.approx(wanted, abs=1e-9, nan_ok=True), name
