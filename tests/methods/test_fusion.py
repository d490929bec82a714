"""Fusion and calibration against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from causalft.errors import CausalFTError
from causalft.methods.estimators.fusion import (
    FUSIONS,
    apply_stratum_temperatures,
    apply_temperature,
    expected_calibration_error,
    fit_stratum_temperatures,
    fit_temperature,
    fuse,
    label_log_probabilities,
    nll,
    stratum_weights,
)
from causalft.methods.estimators.mixing import check_mixing

UNFITTED = [name for name, rule in FUSIONS.items() if not rule.adjusts]


def random_strata(seed: int, n_strata: int = 3, n: int = 7, n_classes: int = 5) -> np.ndarray:
    return softmax(2 * np.random.default_rng(seed).normal(size=(n_strata, n, n_classes)), axis=-1)


def test_mixture_is_equation_7() -> None:
    probs, weights = random_strata(0), np.array([0.5, 0.3, 0.2])
    expected = sum(weights[c] * probs[c] for c in range(3))
    np.testing.assert_allclose(fuse(probs, weights), expected, rtol=1e-12)
    np.testing.assert_allclose(fuse(probs), probs.mean(0), rtol=1e-12)


def test_logit_is_the_normalised_geometric_mean() -> None:
    probs, weights = random_strata(1), np.array([0.5, 0.3, 0.2])
    geometric = probs[0] ** 0.5 * probs[1] ** 0.3 * probs[2] ** 0.2
    np.testing.assert_allclose(
        fuse(probs, weights, "logit"), geometric / geometric.sum(-1, keepdims=True), rtol=1e-12
    )


def test_logit_at_temperature_one_over_m_is_the_released_sum_of_logits() -> None:
    logits = np.random.default_rng(2).normal(size=(3, 6, 4))
    released = softmax(logits.sum(0), axis=-1)
    fused = fuse(softmax(logits, axis=-1), fusion="logit")
    np.testing.assert_allclose(apply_temperature(fused, 1 / 3), released, rtol=1e-10)
    np.testing.assert_array_equal(fused.argmax(1), released.argmax(1))


def test_product_is_the_product_of_experts_and_the_released_sum_of_logits() -> None:
    logits = np.random.default_rng(2).normal(size=(3, 6, 4))
    probs = softmax(logits, axis=-1)
    product = probs.prod(0)
    fused = fuse(probs, fusion="product")
    np.testing.assert_allclose(fused, product / product.sum(-1, keepdims=True), rtol=1e-10)
    np.testing.assert_allclose(fused, softmax(logits.sum(0), axis=-1), rtol=1e-10)
    root = fuse(probs, fusion="logit")
    np.testing.assert_allclose(fused, apply_temperature(root, 1 / 3), rtol=1e-10)
    weights = np.array([0.5, 0.25, 0.25])
    powers = probs[0] ** 1.5 * probs[1] ** 0.75 * probs[2] ** 0.75
    np.testing.assert_allclose(
        fuse(probs, weights, "product"), powers / powers.sum(-1, keepdims=True), rtol=1e-10
    )


def test_the_product_is_bayes_optimal_for_independent_views_and_the_mixture_is_not() -> None:
    """Views that are independent given the class, uniform prior: P(y|x1,x2) is the product of the P(y|x)."""
    rng = np.random.default_rng(9)
    labels, centres = rng.integers(0, 4, 4000), rng.normal(size=(2, 4, 2))
    x = centres[:, labels] + rng.normal(size=(2, 4000, 2))
    probs = softmax(-0.5 * ((x[:, :, None] - centres[:, None]) ** 2).sum(-1), axis=-1)
    scores = {fusion: nll(fuse(probs, fusion=fusion), labels) for fusion in UNFITTED}
    assert scores["product"] < scores["logit"] and scores["product"] < scores["mixture"]
    assert fit_temperature(fuse(probs, fusion="product"), labels) == pytest.approx(1, abs=0.06)


@given(st.integers(0, 10_000), st.sampled_from(UNFITTED))
@settings(max_examples=25, deadline=None)
def test_fusion_is_a_distribution_and_commutes_with_permutations(seed: int, fusion: str) -> None:
    probs = random_strata(seed)
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(3))
    fused = fuse(probs, weights, fusion)
    np.testing.assert_allclose(fused.sum(-1), 1)
    order, classes = rng.permutation(3), rng.permutation(5)
    np.testing.assert_allclose(fuse(probs[order][..., classes], weights[order], fusion), fused[:, classes])
    np.testing.assert_allclose(
        fuse(np.log(probs) + rng.normal(size=(3, 7, 1)), weights, fusion, kind="logits"), fused, rtol=1e-9
    )
    same = probs[0] if fusion != "product" else apply_temperature(probs[0], 1 / 3)
    np.testing.assert_allclose(fuse(np.stack([probs[0]] * 3), weights, fusion), same, rtol=1e-9)


def test_zero_probabilities_stay_finite_and_normalised() -> None:
    probs = np.array([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]])
    for fusion in UNFITTED:
        np.testing.assert_allclose(fuse(probs, fusion=fusion), [[0.5, 0.5, 0.0]], atol=1e-12)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(fuse(np.log(probs)), [[0.5, 0.5, 0.0]], atol=1e-12)
    assert np.isfinite(nll(probs[0], [2]))


def test_seeds_are_fused_separately() -> None:
    probs = random_strata(3, n=10).reshape(3, 2, 5, 5)
    fused = fuse(probs, fusion="logit")
    np.testing.assert_allclose(fused[1], fuse(probs[:, 1], fusion="logit"))


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 3.0])
def test_temperature_is_recovered(true_temperature: float) -> None:
    rng = np.random.default_rng(4)
    log_p = log_softmax(2 * rng.normal(size=(20_000, 6)), axis=1)
    cumulative = softmax(log_p / true_temperature, axis=1).cumsum(1)
    labels = (rng.random((20_000, 1)) > cumulative).sum(1).clip(0, 5)
    assert fit_temperature(log_p, labels) == pytest.approx(true_temperature, rel=0.05)
    assert fit_temperature(np.exp(log_p), labels) == pytest.approx(true_temperature, rel=0.05)


def test_a_weight_counts_like_repeated_rows() -> None:
    rng = np.random.default_rng(8)
    log_p, labels, weights = rng.normal(size=(60, 3)), rng.integers(0, 3, 60), rng.integers(0, 3, 60)
    repeated = np.repeat(np.arange(60), weights)
    weighted = fit_temperature(log_p, labels, weights, kind="logits")
    unweighted = fit_temperature(log_p[repeated], labels[repeated], kind="logits")
    assert weighted == pytest.approx(unweighted, rel=1e-5)
    with pytest.raises(CausalFTError, match="weights must be 60 numbers"):
        fit_temperature(log_p, labels, weights[:5], kind="logits")


def test_temperature_of_two_classes_in_closed_form() -> None:
    """Nine of ten right at p = 0.6: the best beta satisfies beta * logit(0.6) = logit(0.9)."""
    expected = np.log(0.6 / 0.4) / np.log(9)
    assert fit_temperature([[0.6, 0.4]] * 10, [0] * 9 + [1]) == pytest.approx(expected, rel=1e-4)


def test_each_stratum_has_its_own_temperature() -> None:
    rng = np.random.default_rng(6)
    log_p = log_softmax(2 * rng.normal(size=(8000, 5)), axis=1)
    labels = (rng.random((8000, 1)) > np.exp(log_p).cumsum(1)).sum(1).clip(0, 4)
    strata = np.stack([3.0 * log_p, 0.5 * log_p])
    temperatures = fit_stratum_temperatures(strata, labels, kind="logits")
    np.testing.assert_allclose(temperatures, [3.0, 0.5], rtol=0.1)
    scaled = apply_stratum_temperatures(strata, temperatures, kind="logits")
    np.testing.assert_allclose(scaled[0], scaled[1], atol=0.03)
    np.testing.assert_allclose(scaled[1], apply_temperature(strata[1], temperatures[1], kind="logits"))


def test_a_stratum_of_logits_beside_one_of_probabilities() -> None:
    probs, labels = random_strata(7, n_strata=2), np.arange(7) % 5
    mixed = np.stack([np.log(probs[0]), probs[1]])
    expected = np.log(probs[:, np.arange(7), labels])
    np.testing.assert_allclose(label_log_probabilities(mixed, labels), expected, rtol=1e-9)


def test_temperature_keeps_the_order_and_raises_the_likelihood() -> None:
    rng = np.random.default_rng(5)
    probs = softmax(3 * rng.normal(size=(2000, 4)), axis=1)
    labels = np.where(rng.random(2000) < 0.5, probs.argmax(1), rng.integers(0, 4, 2000))
    temperature = fit_temperature(probs, labels)
    scaled = apply_temperature(probs, temperature)
    assert temperature > 1 and nll(scaled, labels) < nll(probs, labels)
    assert expected_calibration_error(scaled, labels) < expected_calibration_error(probs, labels)
    np.testing.assert_array_equal(scaled.argmax(1), probs.argmax(1))


def test_calibration_error_closed_form() -> None:
    assert expected_calibration_error([[0.9, 0.1]] * 10, [0] * 6 + [1] * 4) == pytest.approx(0.3)
    two_bins = [[0.9, 0.1]] * 5 + [[0.6, 0.4]] * 5
    assert expected_calibration_error(two_bins, [0] * 5 + [1] * 5) == pytest.approx((0.1 + 0.6) / 2)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: fuse(random_strata(0), fusion="mixtur"), "did you mean 'mixture'"),
        (lambda: fuse(random_strata(0), [0.5, 0.5]), "2 numbers for 3 strata"),
        (lambda: fuse(random_strata(0), [0.5, 0.2, 0.2]), "sum to 1"),
        (lambda: fuse(random_strata(0) * 2), "member 0: .* sums to 2"),
        (lambda: apply_temperature([np.nan, 1.0], 1), "not a finite number"),
        (lambda: apply_stratum_temperatures(random_strata(0), [1.0]), "each of 3 strata"),
        (lambda: fit_stratum_temperatures(random_strata(0)[0], [0] * 7), "n_strata, n, n_classes"),
        (lambda: fuse([0.5, 0.5]), "n_strata"),
        (lambda: apply_temperature([[0.5, 0.5]], 0), "positive number"),
        (lambda: nll([[0.5, 0.5]], [2]), "from 0 to 1"),
        (lambda: nll([[0.5, 0.5]], [0, 1]), "must be"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CausalFTError, match=message):
        call()


def test_uniform_weights_by_default() -> None:
    np.testing.assert_array_equal(stratum_weights(None, 2), [0.5, 0.5])


ONE, OTHER = [[0.9, 0.1]], [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ([ONE, np.log(OTHER)], None),
        ([np.log(ONE), OTHER], None),
        ([ONE, np.log(OTHER)], ["probabilities", "log-probabilities"]),
        ([np.log(ONE) + 40, OTHER], ["logits", "probabilities"]),
        ([np.log(ONE) + 40, np.log(OTHER) + 7], "logits"),
        ([np.log(ONE), np.log(OTHER)], "logits"),
        (np.array([ONE, OTHER], dtype=np.float32), None),
    ],
)
def test_each_member_is_read_by_its_own_kind(members, kind) -> None:  # type: ignore[no-untyped-def]
    """Eq. 7: (0.9 + 0.5) / 2, whatever form the members come in."""
    np.testing.assert_allclose(fuse(members, kind=kind), [[0.7, 0.3]], rtol=1e-6)


def test_every_function_of_probabilities_takes_the_kind() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(2, 40, 3)) + 10.0  # non-negative
    labels, probs = rng.integers(0, 3, 40), softmax(logits, axis=-1)
    for kind, said in (("logits", logits), ("log-probabilities", np.log(probs))):
        assert nll(said[0], labels, kind=kind) == pytest.approx(nll(probs[0], labels))
        assert expected_calibration_error(said[0], labels, kind=kind) == pytest.approx(
            expected_calibration_error(probs[0], labels)
        )
        assert fit_temperature(said[0], labels, kind=kind) == pytest.approx(fit_temperature(probs[0], labels))
        for function, more in (
            (apply_stratum_temperatures, ([1.0, 2.0],)),
            (fit_stratum_temperatures, (labels,)),
            (label_log_probabilities, (labels,)),
        ):
            np.testing.assert_allclose(function(said, *more, kind=kind), function(probs, *more), rtol=1e-9)
        np.testing.assert_allclose(
            apply_temperature(said, 2.0, kind=kind), apply_temperature(probs, 2.0), rtol=1e-9
        )


@pytest.mark.parametrize(
    ("members", "kind", "message"),
    [
        ([ONE, [[2.0, 3.0]]], None, r"member 1: rows are neither .*row 0 sums to 5.*say kind='logits'"),
        ([ONE, [[-0.1, 1.1]]], None, r"member 1: .*kind='logits'"),
        ([ONE, [[-0.1, 1.1]]], "probabilities", r"member 1: row 0 holds -0.1 for class 0"),
        ([ONE, [[0.7, 0.7]]], "probabilities", r"member 1: the probabilities of row 0 sum to 1.4"),
        ([ONE * 2, ONE + [[0.2, 0.2]]], "probabilities", r"member 1: the probabilities of row 1 sum to 0.4"),
        (
            [np.log(ONE), [[-1.0, -1.0]]],
            "log-probabilities",
            r"member 1: the exponentials .* row 0 sum to 0.7358",
        ),
        ([ONE, [[np.nan, 1.0]]], None, r"member 1: row 0 holds nan for class 0"),
        ([ONE, [[np.inf, 1.0]]], "logits", r"member 1: row 0 holds inf for class 0"),
        ([ONE, [[0.0, -np.inf]]], "logits", r"member 1: row 0 holds -inf for class 1"),
        ([ONE, ONE], "logit", r"no kind named 'logit'; did you mean 'logits'"),
        ([ONE, ONE], ["logits"], r"1 kinds; give one, or one for each of 2 members"),
        ([ONE, ONE * 2], None, r"member 1 has the shape \(2, 2\)"),
        ([[[0.5, 0.5], [1.0]], ONE], None, r"member 0: rows must be numbers"),
    ],
)
def test_rows_that_are_not_of_their_kind_are_named(members, kind, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CausalFTError, match=message):
        fuse(members, kind=kind)


def test_log_probability_of_an_impossible_class_may_be_minus_infinity() -> None:
    with np.errstate(divide="ignore"):
        fused = fuse([np.log([[1.0, 0.0]]), OTHER], kind=["log-probabilities", "probabilities"])
    np.testing.assert_allclose(fused, [[0.75, 0.25]])


def test_a_stratum_prior_of_another_length_names_the_strata() -> None:
    with pytest.raises(
        CausalFTError, match="has 2 numbers for 3 strata: clip, openclip, metaclip; give one for each"
    ):
        check_mixing("mixture", (0.5, 0.5), 3, ("clip", "openclip", "metaclip"))
    with pytest.raises(CausalFTError, match="has 1 number for 2 strata; give one for each"):
        stratum_weights([1.0], 2)
