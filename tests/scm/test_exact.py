"""Exact queries against the multiplied-out joint, and overlap: what does not exist is named, never divided by zero."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.errors import CausalFTError
from causalft.scm import (
    DiscreteSCM,
    PartSCM,
    PositivityError,
    backdoor_adjustment,
    conditional,
    frontdoor_adjustment,
    interventional,
    query,
)
from tests.scm.random_scms import dags, joint_table, random_scm


@given(graph=dags(max_nodes=5), data=st.data(), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_queries_equal_the_multiplied_out_joint(graph, data, seed):
    scm = random_scm(graph, seed)
    names = list(graph)
    asked, *others = data.draw(st.permutations(names))
    given_ = {name: str(data.draw(st.integers(0, 1))) for name in others if data.draw(st.booleans())}
    done = {name: given_.pop(name) for name in list(given_) if data.draw(st.booleans())}
    joint = joint_table(scm.do(done) if done else scm)
    index = tuple(int(given_[name]) if name in given_ else slice(None) for name in names)
    left = [name for name in names if name not in given_]
    expected = joint[index].sum(tuple(i for i, name in enumerate(left) if name != asked))
    found = query(scm, asked, given=given_, do=done)
    np.testing.assert_allclose(found.p, expected / expected.sum(), atol=1e-12)


def test_a_joint_has_its_axes_in_the_order_asked_for():
    world = PartSCM()
    assert query(world, ("Y", "C")).p.shape == (15, 3)
    np.testing.assert_allclose(query(world, ("Y", "C")).p, query(world, ("C", "Y")).p.T)


def test_a_distribution_reads_well_and_answers_by_name():
    found = query(PartSCM(), ("C", "D"))
    assert repr(found).startswith("P(C, D): head, clip: 0.2667")
    assert found["head", "clip"] == pytest.approx(0.8 / 3)
    with pytest.raises(CausalFTError, match="not a cell"):
        found["head"]
    with pytest.raises(CausalFTError, match="not a cell"):
        found["nose", "clip"]


def chain(p_x_given_c):
    tables = {"C": [0.5, 0.5], "X": p_x_given_c, "Y": [[[0.9, 0.1], [0.6, 0.4]], [[0.3, 0.7], [0.2, 0.8]]]}
    return DiscreteSCM(
        [("C", "X"), ("C", "Y"), ("X", "Y")], {"C": ["head", "body"], "X": "01", "Y": "01"}, tables
    )


def test_adjusting_without_overlap_names_the_cell():
    scm = chain([[1.0, 0.0], [0.5, 0.5]])
    with pytest.raises(PositivityError, match=r"P\(X, C\) > 0, but it is 0 at \(X=1, C=head\)") as error:
        backdoor_adjustment(scm, "Y", "X", ["C"])
    assert error.value.cells == (("1", "head"),)
    interventional(scm, "Y", "X")  # the truth exists all the same: it is only not identified from these data


def test_a_stratum_that_never_occurs_needs_no_overlap():
    scm = chain([[0.5, 0.5], [1.0, 0.0]])
    scm = DiscreteSCM(scm.graph, scm.states, {**scm.tables, "C": [1.0, 0.0]})
    np.testing.assert_allclose(backdoor_adjustment(scm, "Y", "X", ["C"]), interventional(scm, "Y", "X"))


def test_conditioning_on_what_never_happens_names_it():
    scm = chain([[1.0, 0.0], [1.0, 0.0]])
    with pytest.raises(PositivityError, match=r"\(X=1\)"):
        conditional(scm, "Y", "X")
    with pytest.raises(PositivityError, match=r"the query needs P\(X\) > 0, but it is 0 at \(X=1\)"):
        query(scm, "Y", given={"X": "1"})
    with pytest.raises(PositivityError, match=r"P\(C, X\) > 0, but it is 0 at \(C=head, X=1\)"):
        query(chain([[1.0, 0.0], [0.5, 0.5]]), "Y", given={"C": "head", "X": "1"})
    np.testing.assert_allclose(query(scm, "Y", do={"X": "1"}).p, [0.4, 0.6])


def test_the_front_door_needs_a_representation_that_sometimes_errs():
    read = PartSCM(reading_error=0.2)
    np.testing.assert_allclose(frontdoor_adjustment(read, "Y", "X", "B"), read.p_y_do_x(), atol=1e-10)
    with pytest.raises(PositivityError, match="front-door formula over B"):
        frontdoor_adjustment(PartSCM(), "Y", "X", "B")


def test_adjusting_for_a_set_that_does_not_block_is_refused():
    with pytest.raises(CausalFTError, match="X <- C -> Y open"):
        backdoor_adjustment(PartSCM(), "Y", "X", [])


@pytest.mark.parametrize(
    ("variables", "given_", "message"),
    [
        ("Q", {}, "variable 'Q'"),
        ("Y", {"Y": "object0"}, "both asked for and given"),
        ("Y", {"C": "heat"}, "did you mean 'head'"),
        ((), {}, "name one variable"),
        (("Y", "Y"), {}, "each once"),
    ],
)
def test_wrong_queries_are_refused(variables, given_, message):
    with pytest.raises(CausalFTError, match=message):
        query(PartSCM(), variables, given=given_)


def test_pgmpy_is_quiet_and_adds_nothing_to_zero_over_zero():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(query(PartSCM(), "Y", given={"C": "head"}).p).all()
