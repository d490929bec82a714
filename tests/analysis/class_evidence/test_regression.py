"""The slope with class and model effects: closed forms, known truths, coverage of its intervals."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from causalft.analysis.class_evidence import Draws, Regression, likeness, regression
from causalft.analysis.class_evidence.regression import image_variance, within
from tests.analysis.class_evidence.made_up import counts_and_accuracy


def test_slope_of_two_models_is_the_regression_of_the_accuracy_difference_on_the_log_count_difference():
    x, y = counts_and_accuracy(n_models=2, n_classes=50)
    dx, dy = x[0] - x[1], y[0] - y[1]
    expected = np.polyfit(dx, dy, 1)[0]
    assert Regression(y, [x]).estimate()[0] == pytest.approx(expected, rel=1e-9)


def dummies(n_models, n_classes, *, of_classes=True):
    models = np.repeat(np.eye(n_models), n_classes, axis=0)
    classes = np.tile(np.eye(n_classes), (n_models, 1))[:, 1:]
    return np.hstack([models, classes]) if of_classes else models


@pytest.mark.parametrize("of_classes", [True, False])
def test_coefficients_are_those_of_least_squares_with_dummies(of_classes):
    x, y = counts_and_accuracy(n_models=3, n_classes=25)
    second = np.random.default_rng(1).normal(size=x.shape)
    full = np.column_stack([x.ravel(), second.ravel(), dummies(3, 25, of_classes=of_classes)])
    expected = np.linalg.lstsq(full, y.ravel(), rcond=None)[0][:2]
    found = Regression(y, [x, second], class_effects=of_classes)
    if of_classes:
        assert found.estimate() == pytest.approx(expected, rel=1e-8)
        assert np.einsum("pmk,mk->p", found.linear_map(), y) == pytest.approx(expected, rel=1e-8)
    else:
        assert found.estimate() == pytest.approx(expected, rel=1e-8)


def test_weights_of_classes_are_repetitions_of_classes():
    x, y = counts_and_accuracy(n_classes=20)
    times = np.random.default_rng(2).multinomial(20, np.full(20, 1 / 20))
    again = np.repeat(np.arange(20), times)
    expected = Regression(y[:, again], [x[:, again]]).estimate()
    assert Regression(y, [x]).on(times[None])[0] == pytest.approx(expected, rel=1e-8)


def test_noise_free_slope_is_recovered_exactly_whatever_the_class_difficulty():
    x, y = counts_and_accuracy(noise=0.0, slope=0.374)
    [found] = Regression(y, [x]).estimates(Draws(300, 50, 0))
    assert found.value == pytest.approx(0.374, rel=1e-9)


def test_a_constant_factor_of_the_counts_changes_nothing():
    x, y = counts_and_accuracy()
    moved = x + np.array([[0.0], [3.0], [-2.0]])
    assert Regression(y, [moved]).estimate() == pytest.approx(Regression(y, [x]).estimate(), rel=1e-9)


@pytest.mark.parametrize("other", [0.0, 1.7])
def test_proportional_priors_identify_no_slope(other):
    x, y = counts_and_accuracy(n_models=2)
    same = np.stack([x[0], x[0] + other])
    fitted = Regression(y, [same])
    [found] = fitted.estimates(Draws(300, 50, 0))
    assert not fitted.identified and not found.classes.exists
    assert "do not differ" in found.to_json()["reason"]
    alike = likeness(same, found.classes, np.full(50, np.nan))
    assert alike.too_alike and alike.left == pytest.approx(0, abs=1e-12) and alike.condition > 1e6
    assert alike.to_json(["a", "b"])["detectable_slope"] is None


@pytest.mark.parametrize(("n_classes", "n_test"), [(10, 1000), (150, 50)])
def test_intervals_over_classes_cover_the_slope_with_the_noise_of_test_images_in_it(n_classes, n_test):
    inside, images = 0, 0
    for seed in range(200):
        x, p = counts_and_accuracy(3, n_classes, slope=0.2, noise=0.04, seed=seed, apart=0.4)
        p = np.clip(p, 0.02, 0.98)
        y = np.random.default_rng(seed).binomial(n_test, p) / n_test
        [found] = Regression(y, [x]).estimates(
            Draws(n_classes, 200, seed), image_variance(y, np.float64(n_test))
        )
        truth = 2 * Regression(p, [x]).estimate()[0]
        inside += found.classes.low <= 0.2 <= found.classes.high
        images += found.images.low <= truth <= found.images.high
    assert 0.90 <= inside / 200 <= 0.99
    assert 0.91 <= images / 200 <= 0.99


def test_without_test_counts_the_reason_is_given():
    x, y = counts_and_accuracy()
    [found] = Regression(y, [x]).estimates(Draws(300, 50, 0))
    document = found.to_json()
    assert document["ci95_images"] is None and "over classes only" in document["reason"]
    assert document["ci95"][0] < document["estimate"] < document["ci95"][1]


def test_detectable_slope_is_the_one_found_with_80_percent_power():
    x, _ = counts_and_accuracy(2, 60, apart=0.3)
    rng = np.random.default_rng(5)
    error = 0.1

    def found(slope):
        y = slope / 2 * x + error * rng.standard_normal(x.shape)
        dx, dy = x[0] - x[1], y[0] - y[1]
        return sm.OLS(dy, sm.add_constant(dx)).fit().pvalues[1] < 0.05

    samples = []
    for seed in range(40):
        y = error * np.random.default_rng(seed).standard_normal(x.shape)
        fitted = Regression(y, [x])
        draws = Draws(60, 100, seed)
        slope = 2 * draws.sample(fitted.on)[:, 0]
        samples.append(likeness(x, fitted.estimates(draws)[0].classes, slope).detectable)
    power = np.mean([found(float(np.mean(samples))) for _ in range(400)])
    assert 0.70 <= power <= 0.90


def test_within_leaves_neither_class_nor_model_means():
    rest = within(np.random.default_rng(0).normal(size=(3, 8)))
    assert np.abs(rest.mean(axis=0)).max() < 1e-12 and np.abs(rest.mean(axis=1)).max() < 1e-12


def test_draws_do_not_depend_on_the_parts_in_which_they_are_made(monkeypatch):
    [whole] = Draws(30, 50, 3).weights()
    monkeypatch.setattr(regression, "_AT_ONCE", 30 * 7)
    parts = list(Draws(30, 50, 3).weights())
    assert len(parts) == 8 and np.array_equal(np.concatenate(parts), whole)


def test_blocks_of_neighbours_are_drawn_together_and_widen_the_interval_of_akin_classes():
    [weights] = Draws(40, 200, 0, block=4).weights()
    assert (weights.sum(axis=1) == 40).all()
    together = np.corrcoef(weights[:, 10], weights[:, 11])[0, 1]
    assert together > 0.5 and abs(np.corrcoef(weights[:, 10], weights[:, 30])[0, 1]) < 0.3

    rng = np.random.default_rng(0)
    akin = np.repeat(
        rng.normal(0, 0.5, (2, 20)), 20, axis=1
    )  # differences and errors are shared by twenty classes
    x = np.stack([np.zeros(400), akin[0]])
    y = np.stack([0.1 * akin[1], np.zeros(400)]) + 0.01 * rng.standard_normal(x.shape)
    wide, narrow = (Regression(y, [x]).estimates(Draws(400, 200, 0, block))[0].classes for block in (20, 1))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


@pytest.mark.filterwarnings("error")
def test_draws_of_one_class_alone_are_left_out_without_a_warning() -> None:
    x = np.array([[0.1, 1.3, 2.7], [0.2, 2.1, 0.9]])
    model = Regression(0.3 + 0.1 * x, [x])
    of_one_class, of_all = 3 * np.eye(3), np.ones((1, 3))
    found = model.on(np.concatenate([of_one_class, of_all]))[:, 0]
    assert np.isnan(found[:3]).all() and found[3] == pytest.approx(0.1)
