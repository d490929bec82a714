"""The part world: its closed forms are the exact truth, and its mechanisms do what the paper says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from causalft.errors import CausalFTError
from causalft.scm import PartSCM, conditional, interventional, part_types, query

WORLDS = {
    "default": {},
    "uneven strata": {"stratum_prior": [0.7, 0.2, 0.1]},
    "long-tailed objects": {"object_prior": 0.8 ** np.arange(15) / (0.8 ** np.arange(15)).sum()},
    "misread": {"reading_error": 0.3},
    "two parts, two models": {
        "types": np.array([[0, 0], [0, 1], [1, 0], [1, 1]]),
        "parts": ("head", "body"),
        "strata": ("a", "b"),
        "factor_law": [[0.9, 0.1], [0.3, 0.7]],
    },
}


@pytest.mark.parametrize("name", WORLDS)
def test_closed_forms_equal_exact_inference(name):
    world = PartSCM(**WORLDS[name])
    np.testing.assert_allclose(world.p_y_given_x(), conditional(world, "Y", "X"), atol=1e-12)
    np.testing.assert_allclose(world.p_y_do_x(), interventional(world, "Y", "X"), atol=1e-12)
    np.testing.assert_allclose(world.p_c(), query(world, "C").p, atol=1e-12)
    np.testing.assert_allclose(world.p_c_given_x(), conditional(world, "C", "X"), atol=1e-12)


def test_seeing_and_doing_differ_exactly_by_the_weights_of_c():
    world = PartSCM()
    difference = world.p_y_given_x() - world.p_y_do_x()
    weights = world.p_c_given_x() - world.p_c()
    np.testing.assert_allclose(difference, np.einsum("xcy,xc->xy", world.p_y_given_xc(), weights), atol=1e-12)
    assert abs(difference).max() > 0.1


@pytest.mark.parametrize("change", [{"imbalance": 1.0}, {"factor_law": [[1.0, 0.0, 0.0]] * 3}])
def test_without_the_edge_c_y_or_without_variation_of_c_there_is_no_confounding(change):
    world = PartSCM(**change)
    np.testing.assert_allclose(world.p_y_given_x(), world.p_y_do_x(), atol=1e-12)


def test_where_only_one_object_is_possible_seeing_and_doing_agree():
    world = PartSCM()
    two_parts = (world.contents[world.content_of_x] >= 0).sum(1) >= 2
    np.testing.assert_allclose(world.p_y_given_x()[two_parts], world.p_y_do_x()[two_parts], atol=1e-12)
    assert (world.p_y_do_x()[two_parts].max(1) == 1).all()


def test_every_visible_subset_has_positive_probability_under_every_c():
    world = PartSCM()
    visible = world.contents[world.content_of_x] >= 0
    assert len(np.unique(visible, axis=0)) == 7
    for subset in itertools.product((False, True), repeat=3):
        here = (visible == subset).all(1)
        chance = world.tables["X"][:, :, here].sum(-1)  # (n_parts, n_objects)
        assert (chance > 0).all() if any(subset) else not here.any()
    np.testing.assert_allclose(world.tables["X"].sum(-1), 1)


def test_the_part_in_view_is_seen_and_dominates_more_often():
    world = PartSCM()
    visible = world.contents[world.content_of_x] >= 0
    dominant = np.eye(3)[world.dominant_of_x]
    for table in (
        np.einsum("cux,xp->cp", world.tables["X"], visible),
        np.einsum("cux,xp->cp", world.tables["X"], dominant),
    ):
        for c in range(3):
            others = [p for p in range(3) if p != c]
            assert (table[c, c] > table[c, others] + 0.2).all()


def test_an_appearance_shows_the_types_of_its_object_and_its_dominant_part():
    world = PartSCM()
    drawn = world.sample(2000, np.random.default_rng(0))
    contents = world.contents[world.content_of_x[drawn["X"]]]
    shown = contents >= 0
    assert (contents[shown] == world.types[drawn["U"]][shown]).all()
    assert shown[np.arange(2000), world.dominant_of_x[drawn["X"]]].all()
    assert world.possible[drawn["B"], drawn["Y"]].all()


def test_labels_lean_as_the_tilt_says():
    world = PartSCM(label_tilt=np.stack([np.ones(15), np.arange(1, 16), np.ones(15)]))
    b = world.state_index("B", "head:0")
    np.testing.assert_allclose(world.tables["Y"][0, b, [0, 5, 10]], 1 / 3)
    np.testing.assert_allclose(world.tables["Y"][1, b, [0, 5, 10]], np.array([1, 6, 11]) / 18)


def test_the_seed_decides_the_tilt_and_nothing_else():
    first, second, again = PartSCM(seed=0), PartSCM(seed=1), PartSCM(seed=0)
    assert (first.label_tilt == again.label_tilt).all() and (first.label_tilt != second.label_tilt).any()
    assert (first.tables["X"] == second.tables["X"]).all()
    np.testing.assert_allclose(first.label_tilt.max(1) / first.label_tilt.min(1), 20)


def test_an_estimate_from_samples_comes_near_the_truth():
    world = PartSCM(
        types=np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), parts=("head", "body"), strata=("a", "b")
    )
    seen = world.sample(200_000, np.random.default_rng(0))
    joint = np.zeros((world.n_states("X"), 2, 4))
    np.add.at(joint, (seen["X"], seen["C"], seen["Y"]), 1)
    adjusted = np.einsum("xcy,c->xy", joint / joint.sum(2, keepdims=True), joint.sum((0, 2)) / joint.sum())
    naive = joint.sum(1) / joint.sum((1, 2))[:, None]
    assert abs(adjusted - world.p_y_do_x()).max() < 0.03
    assert abs(naive - world.p_y_do_x()).max() > 0.06


def test_any_two_parts_name_the_object_in_the_large_world_too():
    types = part_types(60, 15)
    assert types.shape == (60, 3) and types.max() == 14
    assert len(PartSCM(types).contents) == 45 + 180 + 60
    for n_objects, n_types in ((26, 5), (6, 3)):
        with pytest.raises(CausalFTError, match="use more types"):
            part_types(n_objects, n_types)


def test_an_object_that_never_occurs_is_named():
    world = PartSCM(
        types=np.array([[0, 0], [1, 1]]), parts=("head", "body"), strata=("a", "b"), object_prior=[1.0, 0.0]
    )
    with pytest.raises(CausalFTError, match="head:1 @head"):
        world.p_c_given_x()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"visibility": (1.0, 0.4)}, "visibility"),
        ({"dominance": 0.0}, "dominance"),
        ({"imbalance": 0.5}, "imbalance"),
        ({"reading_error": 1.0}, "reading_error"),
        ({"label_tilt": np.zeros((3, 15))}, "label_tilt"),
        ({"types": np.zeros((3, 2), int)}, "types has shape"),
        ({"types": np.zeros((3, 3))}, "types has shape"),
        ({"factor_law": np.eye(2)}, "table of 'C'"),
        ({"object_prior": np.ones(15)}, "table of 'U'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(CausalFTError, match=message):
        PartSCM(**arguments)
