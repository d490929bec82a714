"""A class whose prior is not known is in no P group and in no slope, and counts in everything else."""

from __future__ import annotations

import numpy as np
import pytest

from causalft.analysis.diagnosis import Diagnosis, diagnose
from causalft.analysis.diagnosis import figures as draw
from causalft.analysis.diagnosis.parameter_imbalance import PriorSlope
from causalft.data.groups import group_accuracy, prior_groups
from causalft.errors import CausalFTError
from tests.analysis.diagnosis.conftest import N_CLASSES, exponential_priors, one_hot_predictions

UNKNOWN = {"a": [0, 7, 11], "b": [7, 20]}


def found(priors: dict[str, np.ndarray], **options: object) -> Diagnosis:
    rng = np.random.default_rng(3)
    accuracy = rng.uniform(0.2, 0.9, (3, N_CLASSES))
    labels = one_hot_predictions(accuracy[0], 20)[0]
    a, b, fused = (one_hot_predictions(row, 20, seed)[1][None] for seed, row in enumerate(accuracy))
    counts = np.full(N_CLASSES, 50)
    return diagnose(labels, counts, {"a": a, "b": b}, fused, priors, n_boot=100, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def partly() -> Diagnosis:
    priors = dict(zip("ab", exponential_priors(2)))
    for name, unknown in UNKNOWN.items():
        priors[name][unknown] = np.nan
        priors[name] /= np.nansum(priors[name])
    return found(priors, prior_from={"a": "known"})


def test_groups_and_slopes_are_those_of_the_known_classes(partly: Diagnosis) -> None:
    accuracy = np.stack([partly.strata[name].class_accuracy for name in "ab"])
    for name in "ab":
        known = ~np.isnan(partly.priors[name])
        groups = prior_groups(partly.priors[name][known])
        assert known.sum() == N_CLASSES - len(UNKNOWN[name])
        assert partly.fused.P[name] == pytest.approx(
            group_accuracy(partly.fused.class_accuracy[known], groups)
        )
    both = np.setdiff1d(np.arange(N_CLASSES), [0, 7, 11, 20])
    priors = np.stack([partly.priors[name][both] for name in "ab"])
    slope = PriorSlope(priors, np.ones(len(both), bool)).before(accuracy[:, both])
    assert partly.prior_slope.before.estimate == pytest.approx(float(slope))
    assert np.flatnonzero(np.isnan(partly.class_difficulty)).tolist() == [0, 7, 11, 20]


def test_accuracies_and_difference_do_not_depend_on_the_priors(partly: Diagnosis) -> None:
    whole = found(dict(zip("ab", exponential_priors(2))))
    assert whole.fused.accuracy == partly.fused.accuracy and whole.paired == partly.paired


def test_the_document_has_null_for_an_unknown_prior_and_says_which_are_known(partly: Diagnosis) -> None:
    strata = partly.to_metrics()["strata"]
    assert [k for k, value in enumerate(strata["a"]["label_prior"]) if value is None] == UNKNOWN["a"]
    assert strata["a"]["prior_from"] == "known" and "prior_from" not in strata["b"]
    assert draw.prior_words(partly.to_metrics()) == "known or estimated"


def test_figures_leave_unknown_classes_out(partly: Diagnosis) -> None:
    panel = draw.class_profiles(partly.to_metrics())[0]
    assert len(panel.lines[0].get_xdata()) == N_CLASSES - len(UNKNOWN["a"])
    left = draw.slope_plot(partly.to_metrics())[0]
    assert np.isfinite(left.lines[-2].get_ydata()).all() and left.get_xlabel().startswith(
        "known or estimated"
    )


def test_one_model_with_no_class_in_common_has_no_slope() -> None:
    priors = np.array([[0.5, 0.5, np.nan, np.nan], [np.nan, np.nan, 0.5, 0.5]])
    slope = PriorSlope(priors, np.ones(4, bool))
    assert not slope.identified and not slope.tested.any() and np.isnan(slope.before(np.zeros((2, 4))))


def test_a_prior_of_no_class_is_refused() -> None:
    with pytest.raises(CausalFTError, match="the label prior of 'a' must hold 30 positive numbers"):
        found({"a": np.full(N_CLASSES, np.nan), "b": exponential_priors(1)[0]})
    with pytest.raises(CausalFTError, match="the prior of no class is known"):
        prior_groups([np.nan, np.nan])
