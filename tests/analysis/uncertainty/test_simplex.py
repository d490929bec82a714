"""Sensitivity of predictions to P(c), against linear programs, a grid of the simplex, and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from causalft.analysis.uncertainty.grid import GridBlock, corners_of_box, grid_of_simplex, points_of
from causalft.analysis.uncertainty.simplex import (
    NONE,
    at_prior,
    resolution_of,
    sensitivity_to_prior,
    winners,
)
from causalft.errors import CausalFTError
from causalft.methods.estimators import FUSIONS
from causalft.methods.estimators.mixing import Mixing
from causalft.methods.estimators.pool import Pool, Priors


def grid_of(n_strata, steps=20):
    """Every P(c) in multiples of 1 / steps."""
    if n_strata == 1:
        return np.ones((1, 1))
    rest = [grid_of(n_strata - 1, steps - k) * (steps - k) / steps for k in range(steps)]
    rows = [np.c_[np.full(len(part), k / steps), part] for k, part in enumerate(rest)]
    return np.concatenate([*rows, [[1.0] + [0.0] * (n_strata - 1)]])


def scores_of(p, fusion):
    return p if fusion == "mixture" else np.log(p)


def radius_by_program(lead, prior):
    """Least total variation to a P(c) at which a lead is gone, as a linear program; infinite if there is none."""
    m = len(prior)
    found = linprog(
        np.r_[np.zeros(m), np.full(2 * m, 0.5)],
        A_ub=[np.r_[lead, np.zeros(2 * m)]],
        b_ub=[0.0],
        A_eq=np.r_[np.c_[np.eye(m), -np.eye(m), np.eye(m)], [np.r_[np.ones(m), np.zeros(2 * m)]]],
        b_eq=np.r_[prior, 1.0],
        bounds=[(0, None)] * (3 * m),
    )
    return found.fun if found.status == 0 else np.inf


def wins_by_program(scores, k):
    """Whether class k of scores (M, K) has the largest mean at some P(c), by a linear program."""
    n_strata, n_classes = scores.shape
    others = np.delete(scores, k, axis=1)
    found = linprog(
        np.r_[np.zeros(n_strata), -1.0],
        A_ub=np.c_[(others - scores[:, [k]]).T, np.ones(n_classes - 1)],
        b_ub=np.zeros(n_classes - 1),
        A_eq=[np.r_[np.ones(n_strata), 0.0]],
        b_eq=[1.0],
        bounds=[(0, 1)] * n_strata + [(None, None)],
    )
    return -found.fun > 1e-9


def drawn(seed, n_strata, n=6, n_classes=6):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(n_classes, 0.5), size=(n_strata, n)), rng.dirichlet(np.ones(n_strata))


@pytest.mark.parametrize("fusion", ["mixture", "logit", "product"])
@pytest.mark.parametrize("n_strata", [1, 2, 3, 4])
def test_radius_flip_and_possible_classes_are_those_of_linear_programs(fusion, n_strata):
    p, prior = drawn(n_strata, n_strata)
    found = sensitivity_to_prior(p, Mixing(fusion, tuple(prior), 2.0), possible=True)
    for i, best in enumerate(found.prediction):
        scores = scores_of(p[:, i], fusion)
        others = [k for k in range(scores.shape[1]) if k != best]
        radii = [radius_by_program(scores[:, best] - scores[:, k], prior) for k in others]
        assert found.radius[i] == pytest.approx(min(radii), abs=1e-7)
        assert found.flips_to[i] == (others[int(np.argmin(radii))] if np.isfinite(min(radii)) else NONE)
        assert found.possible[i].tolist() == [k for k in range(scores.shape[1]) if wins_by_program(scores, k)]


@settings(max_examples=25, derandomize=True, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["mixture", "logit", "product"]), st.sampled_from([2, 3]))
def test_no_point_of_a_grid_contradicts_what_is_stated(seed, fusion, n_strata):
    p, prior = drawn(seed, n_strata)
    intervals = np.c_[np.maximum(prior - 0.1, 0), np.minimum(prior + 0.15, 1)]
    found = sensitivity_to_prior(p, Mixing(fusion, tuple(prior), 1.0), intervals=intervals, possible=True)
    grid = grid_of(n_strata)
    fused = np.stack([FUSIONS[fusion].fuse(np.log(p), point) for point in grid])  # (points, n, K)
    same = fused.argmax(2) == found.prediction
    distance = np.abs(grid - prior).sum(1) / 2
    inside = ((grid >= intervals[:, 0]) & (grid <= intervals[:, 1])).all(1)
    assert same[:, found.certain].all()
    assert same[distance[:, None] < found.radius - 1e-9].all()
    assert same[inside][:, found.within].all()
    for i, possible in enumerate(found.possible):
        assert set(fused[:, i].argmax(1)) <= set(possible.tolist())
    if fusion == "mixture":
        own = np.take_along_axis(fused, found.prediction[None, :, None], 2)[..., 0]
        others = fused.copy()
        np.put_along_axis(others, found.prediction[None, :, None], -np.inf, 2)
        assert ((own - others.max(2)).min(0) >= found.margin - 1e-12).all()  # corners are in the grid


def test_prediction_changes_at_the_radius_and_not_before():
    # Leads of class 0: .8, .2 and -.4. Mass of the first stratum is worth most: moving x takes 1.2 x from the mean.
    p = np.array([[[0.9, 0.1]], [[0.6, 0.4]], [[0.3, 0.7]]])
    prior = np.array([0.2, 0.5, 0.3])
    found = sensitivity_to_prior(p, Mixing("mixture", tuple(prior), 1.0))
    lead = 0.2 * 0.8 + 0.5 * 0.2 - 0.3 * 0.4
    assert found.radius == pytest.approx(lead / 1.2)
    for x, expected in ((lead / 1.2 - 1e-6, 0), (lead / 1.2 + 1e-6, 1)):
        assert np.tensordot(prior + [-x, 0, x], p, 1).argmax() == expected


def test_one_stratum_is_always_certain():
    found = sensitivity_to_prior([[[0.6, 0.4], [0.2, 0.8]]], possible=True)
    assert found.certain.all() and np.isinf(found.radius).all()
    assert [part.tolist() for part in found.possible] == [[0], [1]]


def test_class_level_with_the_prediction_makes_it_uncertain():
    found = sensitivity_to_prior([[[0.5, 0.5]], [[0.6, 0.4]]])
    assert not found.certain[0] and found.flips_to[0] == 1 and found.radius[0] == pytest.approx(0.5)


def test_sum_and_mean_of_logits_have_one_sensitivity_and_temperatures_of_strata_count():
    p, prior = drawn(7, 3, n=40)
    of = {name: sensitivity_to_prior(p, Mixing(name, tuple(prior), 1.0)) for name in ("logit", "product")}
    assert of["logit"].radius.tolist() == of["product"].radius.tolist()
    cooled = sensitivity_to_prior(p, Mixing("mixture", tuple(prior), 1.0, (0.2, 1.0, 5.0)))
    assert (
        cooled.radius.tolist()
        != sensitivity_to_prior(p, Mixing("mixture", tuple(prior), 1.0)).radius.tolist()
    )


def test_compromise_class_is_listed_though_no_stratum_predicts_it():
    p = np.array([[[0.6, 0.0, 0.4]], [[0.0, 0.6, 0.4]]])
    assert sensitivity_to_prior(p, possible=True).possible[0].tolist() == [0, 1, 2]
    assert winners([[0.6, 0.0], [0.0, 0.6], [0.25, 0.25]]).tolist() == [0, 1]
    assert winners([[0.6, 0.0], [0.6, 0.0], [0.0, 0.6], [0.4, 0.4]]).tolist() == [
        0,
        2,
        3,
    ]  # two equal classes


def adjusted(p, prior, trust, offsets, temperature=1.0):
    """An adjusted fusion with P(c | y) in proportion to P(c) r_c(y)."""
    weights = prior[:, None] * trust / (prior @ trust)
    tables = [tuple(map(tuple, table.tolist())) for table in (weights, offsets)]
    return Mixing("adjusted", tuple(prior), temperature, class_weights=tables[0], offsets=tables[1])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize(
    "fusion", ["mixture", "logit", "product", "adjusted", "adjusted without class weights"]
)
def test_e_value_is_that_of_the_probability_that_predict_shows(fusion, temperature):
    from causalft.scm import bounding_factor, confounding_bounds

    p, prior = drawn(11, 3, n=8)
    rng = np.random.default_rng(2)
    if fusion.startswith("adjusted"):
        trust = np.exp(rng.normal(size=(3, 6))) if fusion == "adjusted" else np.ones((3, 6))
        rule = adjusted(p, prior, trust, rng.normal(size=(3, 6)), temperature)
    else:
        rule = Mixing(fusion, tuple(prior), temperature, (0.8, 1.0, 1.3))
    found = sensitivity_to_prior(p, rule)
    for row, strength in zip(rule(p), found.e_value, strict=True):
        two = np.sort(row)[:-3:-1]
        factor = float(bounding_factor(strength, strength))
        assert two[0] / factor == pytest.approx(two[1] * factor, rel=1e-6)
        low, high = confounding_bounds(two, 0.999 * strength, 0.999 * strength)
        assert strength < 1.001 or low[0] > high[1]


def test_e_value_of_a_prediction_is_the_strength_at_which_two_bounds_meet():
    from causalft.scm import confounding_bounds

    found = sensitivity_to_prior([[[0.6, 0.3, 0.1]], [[0.4, 0.3, 0.3]]])
    strength = found.e_value[0]
    low, high = confounding_bounds([0.5, 0.3], strength, strength)
    assert low[0] == pytest.approx(high[1])
    low, high = confounding_bounds([0.5, 0.3], strength - 0.01, strength - 0.01)
    assert low[0] > high[1]


def test_adjusted_fusion_with_one_weight_per_stratum_is_exact_with_its_offsets():
    p, prior = drawn(3, 3, n=40)
    offsets = np.random.default_rng(0).normal(size=(3, 6))
    rule = adjusted(p, prior, np.ones((3, 6)), offsets)
    shifted = np.log(p) + offsets[:, None]
    same = sensitivity_to_prior(shifted, Mixing("logit", tuple(prior), 1.0), kind="logits", possible=True)
    found = sensitivity_to_prior(p, rule, possible=True)
    assert found.radius == pytest.approx(same.radius) and (found.prediction == same.prediction).all()
    assert [a.tolist() for a in found.possible] == [a.tolist() for a in same.possible]
    assert resolution_of(rule) is None


def test_class_weights_are_followed_over_a_grid():
    p, prior = drawn(5, 3, n=60)
    trust = np.exp(np.random.default_rng(1).normal(size=(3, 6)))
    rule = adjusted(p, prior, trust, np.zeros((3, 6)))
    limits = np.c_[np.maximum(prior - 0.1, 0), np.minimum(prior + 0.1, 1)]
    found = sensitivity_to_prior(p, rule, intervals=limits, possible=True)
    assert resolution_of(rule) == pytest.approx(1 / 30)
    assert (found.prediction == rule(p).argmax(1)).all()
    grid = points_of(3, (limits[:, 0], limits[:, 1]))
    assert {tuple(point) for point in grid_of_simplex(3)} < {tuple(point) for point in grid}
    answers = np.stack([at_prior(rule, point)(p).argmax(1) for point in grid])
    same = answers == found.prediction
    assert (same.all(0) == found.certain).all()
    distance = np.abs(grid - prior).sum(1) / 2
    inside = ((grid >= limits[:, 0] - 1e-9) & (grid <= limits[:, 1] + 1e-9)).all(1)
    assert (same[inside].all(0) == found.within).all()
    for i in np.flatnonzero(~found.certain):
        first = np.flatnonzero(~same[:, i])[distance[~same[:, i]].argmin()]
        assert found.radius[i] == pytest.approx(distance[first]) and found.flips_to[i] == answers[first, i]
        assert set(answers[:, i]) == set(found.possible[i].tolist())


def test_box_between_two_points_of_the_grid_is_searched():
    p = np.array([[[0.8, 0.2]], [[0.25, 0.75]]])
    rule = adjusted(p, np.array([0.5, 0.5]), np.array([[1.0, 1.0], [0.5, 1.0]]), np.zeros((2, 2)))
    answers = [int(at_prior(rule, [x, 1 - x])(p).argmax()) for x in (0.361, 0.369, 0.411, 0.419)]
    assert answers == [1, 0, 0, 0]  # the grid has .36, .37, .41 and .42
    for low, high, expected in ((0.361, 0.369, False), (0.411, 0.419, True)):
        found = sensitivity_to_prior(p, rule, intervals=[[low, high], [1 - high, 1 - low]])
        assert found.within is not None and found.within.tolist() == [expected]


@pytest.mark.parametrize("n_strata", [3, 4, 5])
@pytest.mark.parametrize("half", [0.004, 0.05])
def test_no_random_point_of_a_narrow_box_changes_what_holds_within_it(n_strata, half):
    rng = np.random.default_rng(n_strata)
    p = rng.dirichlet(np.ones(6), size=(n_strata, 200))
    prior = rng.dirichlet(np.full(n_strata, 5.0))
    rule = adjusted(p, prior, np.exp(rng.normal(size=(n_strata, 6))), np.zeros((n_strata, 6)))
    middle = rng.dirichlet(np.full(n_strata, 5.0))
    limits = np.c_[np.maximum(middle - half, 0), np.minimum(middle + half, 1)]
    found = sensitivity_to_prior(p, rule, intervals=limits, possible=True)
    at_middle = at_prior(rule, middle)(p).argmax(1) == found.prediction
    assert found.within is not None and 0 < found.within.mean() < 1
    assert not found.within[~at_middle].any()
    assert not (found.certain & ~found.within).any()
    points = middle + rng.uniform(-half, half, size=(600, n_strata))
    points = points / points.sum(axis=1, keepdims=True)
    points = points[((points >= limits[:, 0]) & (points <= limits[:, 1])).all(axis=1)]
    assert len(points) > 30
    for point in points:
        same = at_prior(rule, point)(p).argmax(1) == found.prediction
        assert same[found.within].all()


def test_corners_of_a_box_are_those_of_its_part_of_the_simplex():
    corners = corners_of_box(np.array([0.2, 0.1, 0.0]), np.array([0.6, 0.5, 0.3]))
    expected = [[0.2, 0.5, 0.3], [0.5, 0.5, 0.0], [0.6, 0.1, 0.3], [0.6, 0.4, 0.0]]
    assert corners.round(9).tolist() == expected
    many = corners_of_box(np.full(9, 0.1), np.full(9, 0.15))
    assert (
        many.sum(axis=1) == pytest.approx(1) and (many >= 0.1 - 1e-12).all() and (many <= 0.15 + 1e-12).all()
    )
    assert corners_of_box(np.array([0.4, 0.6]), np.array([0.4, 0.6])).tolist() == [[0.4, 0.6]]


def test_grid_of_equal_trust_agrees_with_the_exact_answer():
    p, prior = drawn(9, 2, n=80)
    exact = sensitivity_to_prior(p, Mixing("mixture", tuple(prior), 1.0))
    block = GridBlock(p, prior, np.ones((2, 6)))
    radius, _ = block.nearest()
    assert (np.isinf(radius) >= exact.certain).all()
    assert (radius >= exact.radius - 1e-12).all()
    finite = np.isfinite(radius)
    assert (radius[finite] - exact.radius[finite]).max() <= 1 / 100 + 1e-12  # one step of the grid


def test_class_weights_at_another_prior_are_those_of_the_pool_and_unknown_for_a_prior_of_zero():
    q = np.random.default_rng(0).dirichlet(np.ones(8), 3)
    pool = Pool(expertise=0.5)

    def at(prior):
        priors = Priors.of(q, stratum_prior=prior)
        weights, offsets = (
            tuple(map(tuple, each.tolist())) for each in (pool.class_weights(priors), pool.offsets(priors))
        )
        return Mixing("adjusted", tuple(prior), 1.0, class_weights=weights, offsets=offsets)

    moved = at_prior(at((0.5, 0.4, 0.1)), (0.2, 0.3, 0.5))
    assert np.allclose(moved.class_weights, at((0.2, 0.3, 0.5)).class_weights)
    logits = np.random.default_rng(1).normal(size=(3, 4, 8))
    for ask in (
        lambda mixing: at_prior(mixing, (0.2, 0.3, 0.5)),
        lambda mixing: sensitivity_to_prior(logits, mixing, kind="logits"),
        resolution_of,
    ):
        with pytest.raises(CausalFTError, match=r"P\(c\) of stratum 3 of 3 is 0.*fit with a small share"):
            ask(at((0.5, 0.5, 0.0)))


def test_wrong_arguments_are_refused():
    p = np.full((2, 1, 2), 0.5)
    with pytest.raises(CausalFTError, match="no P.c. that sums to 1 lies in the intervals"):
        sensitivity_to_prior(p, intervals=[[0.0, 0.3], [0.0, 0.3]])
    with pytest.raises(CausalFTError, match="give low and high for each of 2 strata"):
        sensitivity_to_prior(p, intervals=[[0.0, 1.0]])
    with pytest.raises(CausalFTError, match="holds -0.5 for class 1"):
        sensitivity_to_prior([[[1.5, -0.5]]], kind="probabilities")
