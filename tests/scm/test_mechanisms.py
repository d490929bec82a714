"""Discrete models: sampling follows the tables, interventions cut arrows, and wrong tables are refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from causalft.errors import CausalFTError
from causalft.scm import DiscreteSCM, PartSCM
from tests.scm.random_scms import dags, joint_table, random_scm


def small(**changes):
    tables = {
        "C": [0.5, 0.5],
        "X": [[0.9, 0.1], [0.2, 0.8]],
        "Y": [[[1, 0], [0.5, 0.5]], [[0.4, 0.6], [0, 1]]],
    }
    states = {"C": ["head", "body"], "X": ["0", "1"], "Y": ["cat", "dog"]}
    return DiscreteSCM([("C", "X"), ("C", "Y"), ("X", "Y")], states, {**tables, **changes})


def test_parents_come_in_the_order_of_the_graph():
    assert small().parents("Y") == ("C", "X")
    assert PartSCM().parents("X") == ("C", "U")
    assert PartSCM().parents("Y") == ("C", "B")


@given(graph=dags(max_nodes=4), seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_samples_follow_the_joint_distribution(graph, seed):
    scm = random_scm(graph, seed)
    drawn = scm.sample(20_000, np.random.default_rng(seed))
    joint = joint_table(scm)
    cells = np.ravel_multi_index([drawn[name] for name in graph], joint.shape)
    counts = np.bincount(cells, minlength=joint.size)
    assert chisquare(counts, joint.ravel() * 20_000).pvalue > 1e-6


def test_the_same_seed_gives_the_same_sample_and_another_gives_another():
    first, again, other = (small().sample(100, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


def test_do_sets_the_node_and_leaves_what_is_not_below_it_alone():
    world = PartSCM()
    seen = world.sample(500, np.random.default_rng(3))
    x = world.states["X"][7]
    done = world.sample(500, np.random.default_rng(3), do={"X": x})
    assert (done["X"] == 7).all() and (done["B"] == world.content_of_x[7]).all()
    for name in ("D", "C", "U"):
        assert (seen[name] == done[name]).all()
    unchanged = seen["X"] == 7  # units that had this appearance anyway keep their label: the noise is theirs
    assert (seen["Y"][unchanged] == done["Y"][unchanged]).all()


def test_do_with_a_distribution_draws_from_it_whatever_the_parents_are():
    drawn = small().sample(20_000, np.random.default_rng(0), do={"X": np.array([0.3, 0.7])})
    for c in (0, 1):
        assert abs(drawn["X"][drawn["C"] == c].mean() - 0.7) < 0.02


def test_do_leaves_the_model_itself_alone():
    scm = small()
    cut = scm.do({"X": "1"})
    assert cut.parents("X") == () and scm.parents("X") == ("C",)
    assert scm.tables["X"].shape == (2, 2)
    with pytest.raises(ValueError, match="read-only"):
        scm.tables["X"][0] = 0


def test_a_state_of_probability_zero_is_never_drawn():
    scm = DiscreteSCM([("A", "B")], {"A": "xyz", "B": "01"}, {"A": [0, 1, 0], "B": [[1, 0], [0, 1], [1, 0]]})
    drawn = scm.sample(5000, np.random.default_rng(0))
    assert (drawn["A"] == 1).all() and (drawn["B"] == 1).all()
    assert scm.sample(0, np.random.default_rng(0))["A"].shape == (0,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": [[0.9, 0.1]]}, r"table of 'X' has shape \(1, 2\); it needs \(2, 2\)"),
        ({"X": [[0.9, 0.2], [0.2, 0.8]]}, "table of 'X' holds no distributions"),
        ({"C": [1.5, -0.5]}, "table of 'C' holds no distributions"),
        ({"C": [np.nan, 1]}, "table of 'C' holds no distributions"),
        ({"Z": [1.0]}, "node 'Z' is not a node"),
    ],
)
def test_wrong_tables_are_refused(changes, message):
    with pytest.raises(CausalFTError, match=message):
        small(**changes)


def test_missing_tables_states_and_unknown_values():
    with pytest.raises(CausalFTError, match="node 'B' has no table"):
        DiscreteSCM([("A", "B")], {"A": "01", "B": "01"}, {"A": [0.5, 0.5]})
    with pytest.raises(CausalFTError, match="node 'A' has no states"):
        DiscreteSCM([("A", "B")], {"B": "01"}, {})
    with pytest.raises(CausalFTError, match="node 'A' needs at least one state"):
        DiscreteSCM([("A", "B")], {"A": "00", "B": "01"}, {"A": [0.5, 0.5], "B": [[1, 0], [0, 1]]})
    with pytest.raises(CausalFTError, match=r"C has no state 'heat'; did you mean 'head'"):
        small().do({"C": "heat"})
    with pytest.raises(CausalFTError, match="intervened node 'Q'"):
        small().do({"Q": "1"})
    with pytest.raises(CausalFTError, match="n=-1"):
        small().sample(-1, np.random.default_rng(0))
