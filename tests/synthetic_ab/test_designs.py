"""The laws of the A/B designs: counts, positivity, and whether C and Y are independent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.errors import CausalFTError
from synthetic.designs import DESIGNS, SETS, make_design
from synthetic.objects import CLASSES


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(DESIGNS)),
    st.integers(4, 300),
    st.floats(0.55, 0.99),
    st.lists(st.sampled_from(CLASSES), min_size=2, max_size=6, unique=True),
)
def test_counts_add_up_and_keep_positivity(name, n, ratio, classes):
    design = make_design(name, classes, ratio)
    for which in SETS:
        table = design.counts(which, n)
        assert table.shape == (len(classes), 2)
        assert (table.sum(1) == n).all() and (table >= 1).all()
        wanted = 0.5 if which.startswith("A") else ratio
        if which.startswith("A"):
            assert np.abs(table[:, 0] - table[:, 1]).max() <= 1
        else:
            major = table[np.arange(len(classes)), list(design.majority)]
            assert np.abs(major - wanted * n).max() <= 1
        assert design.law(which).sum(1) == pytest.approx(np.ones(len(classes)))


def test_what_each_design_is():
    paper, confounded, null = (make_design(name) for name in ("paper", "confounded", "null"))
    assert set(paper.majority) == {0} and set(confounded.majority) == {0, 1}
    assert null.majority == confounded.majority and not null.drawn and confounded.drawn
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert paper.dependence("B_train") == pytest.approx(0, abs=1e-12)
    assert confounded.dependence("A_train") == pytest.approx(0, abs=1e-12)
    assert confounded.dependence("B_test") == pytest.approx(np.log(2) - entropy)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("papper",), "did you mean 'paper'"),
        (("paper", ["cat", "dgo"]), "no class 'dgo'.*did you mean 'dog'"),
        (("paper", ["cat"]), "one class only .cat."),
        (("paper", []), "one class only"),
        (("paper", ["cat", "dog", "cat"]), "'cat' is named twice"),
        (("paper", None, 1.0), "ratio 1 is out of range"),
        (("paper", None, 0.5), "ratio 0.5 is out of range"),
        (("paper", None, float("nan")), "out of range"),
    ],
)
def test_bad_designs_are_named(arguments, message):
    with pytest.raises(CausalFTError, match=message):
        make_design(*arguments)


def test_bad_sets_and_sizes_are_named():
    with pytest.raises(CausalFTError, match="no image set 'A_tset'.*A_test"):
        make_design("paper").counts("A_tset", 10)
    with pytest.raises(CausalFTError, match="n_per_class 3 is too small"):
        make_design("paper").counts("A_test", 3)
