"""The laws of the A/B designs: what each states, computed another way, and that rows and counts follow it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.analysis.confounding.curve import truth
from causalft.cli import generate, graph, verify_confounder
from causalft.errors import CausalFTError
from causalft.scm.exact import query
from synthetic import designs
from synthetic.design import design_tables
from synthetic.designs import AMBIGUITY, DESIGNS, FLIP, MISREAD, SETS, SLIP, make_design
from synthetic.objects import CLASSES, PARTS

NAMES = sorted(DESIGNS)
TIED = ("confounded", "null", "selection")
some_classes = st.lists(st.sampled_from(CLASSES), min_size=2, max_size=6, unique=True)


def tv(p, q):
    return 0.5 * np.abs(p - q).sum()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(NAMES), st.integers(4, 300), st.floats(0, 1), some_classes)
def test_counts_follow_the_law_and_keep_positivity(name, n, strength, classes):
    design = make_design(name, classes, strength=strength)
    for which in SETS:
        table, law = design.counts(which, n), design.law(which)
        share = design.joint(which).sum((0, 1, 2))
        assert table.shape == (len(classes), 2) and table.sum() == n * len(classes)
        assert np.abs(table.sum(1) - share * table.sum()).max() < 1 + 1e-9
        expected = law * table.sum(1, keepdims=True)
        kept = np.clip(expected, np.minimum(1, table.sum(1, keepdims=True)) * (law > 0), None)
        assert (np.abs(table - expected) <= 0.5 + 1e-6).all() or np.abs(table - kept).max() <= 1
        assert ((table >= 1) | (law == 0)).all()
        assert law.sum(1) == pytest.approx(np.ones(len(classes)))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(NAMES), st.integers(4, 200), st.floats(0, 1), some_classes, st.integers(0, 1000))
def test_rows_follow_the_law_cell_by_cell(name, n, strength, classes, seed):
    design = make_design(name, classes, strength=strength)
    for which in ("A_train", "B_test"):
        rows, table, joint = design.rows(which, n, seed), design.counts(which, n), design.joint(which)
        k = len(classes)
        counted = np.zeros((2, 2 * k, k, k))
        np.add.at(counted, (rows.factors, rows.codes, rows.contents, rows.labels), 1)
        assert len(rows) == n * k and (counted.sum((1, 2)).T == table).all()
        # systematic sampling: each cell gets its expected number, rounded up or down
        of_cell = joint.sum((1, 2), keepdims=True)
        expected = np.divide(joint, of_cell, out=np.zeros_like(joint), where=of_cell > 0)
        expected *= table.T[:, None, None, :]
        assert np.abs(counted - expected).max() < 1 + 1e-6
        assert not counted[joint == 0].any()
        order = rows.labels * 2 + rows.factors
        assert (np.diff(order) >= 0).all()


def test_rows_depend_on_set_and_seed_only():
    design = make_design("confounded")
    first, again = design.rows("B_train", 50, 3), make_design("confounded").rows("B_train", 50, 3)
    assert (first.codes == again.codes).all() and (first.contents == again.contents).all()
    others = [design.rows("B_train", 50, 4), design.rows("B_test", 50, 3)]
    assert all((first.codes != other.codes).any() for other in others)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(("paper", *TIED)), st.floats(0, 1), some_classes)
def test_p_c_given_y_is_what_strength_says(name, strength, classes):
    design = make_design(name, classes, strength=strength)
    major = design.law("B")[np.arange(len(classes)), list(design.majority)]
    wanted = (1 + strength) / 2
    off = np.abs(major - wanted)
    if name != "confounded":
        assert off.max() < 1e-9
    elif len(classes) % 2 == 0:
        assert off.max() < 0.015, "misread contents move it a little"
    else:
        # the last class of an odd number is nobody's mate: what is read as it is labelled so, whatever C is
        assert off[:-1].max() < 0.07 and major[-1] <= wanted + 1e-9
        assert major[-1] > 0.5 + 0.15 * strength or strength < 1e-6
    assert design.law("A") == pytest.approx(np.full((len(classes), 2), 0.5), abs=1e-9)


@pytest.mark.parametrize("strength", [0.0, 0.35, 0.8, 1.0])
def test_without_misreading_the_tie_of_confounded_is_exact(strength):
    classes = CLASSES[:4]
    model = designs.visible(
        classes, [PARTS[k] for k in classes], strength=strength, ambiguity=0.2, arrow=True
    )
    joint = query(model, ("C", "Y")).p
    own = joint[designs.own_part(4), np.arange(4)] / joint.sum(0)
    assert own == pytest.approx(np.full(4, (1 + strength) / 2))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_classes", [2, 3, 5, 6])
def test_what_c_and_y_have_to_do_with_each_other(name, n_classes):
    design = make_design(name, CLASSES[:n_classes])
    assert design.dependence("A") == pytest.approx(0, abs=1e-12)
    if name in TIED:
        assert 0.29 < design.dependence("B") < np.log(2)
    else:
        assert design.dependence("B") == pytest.approx(0, abs=1e-12)
    if name in ("selection", "null") and n_classes % 2 == 0:
        entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
        assert design.dependence("B") == pytest.approx(np.log(2) - entropy)
    assert set(design.majority) == ({0} if name == "paper" else {0, 1})
    assert design.selected == (name == "selection")
    assert (("C", "Y") in design.graph.edges) == (name == "confounded")
    assert (("C", "X") in design.graph.edges) == (name != "null")


@pytest.mark.parametrize("name", NAMES)
def test_strength_0_makes_the_sets_alike(name):
    design = make_design(name, strength=0)
    if name == "label-noise":
        # its B differs by wrong labels, whatever the strength
        assert design.joint("A").sum(3) == pytest.approx(design.joint("B").sum(3))
        assert (design.joint("B") == make_design(name, strength=1).joint("B")).all()
    else:
        assert design.joint("A") == pytest.approx(design.joint("B"))
    assert design.dependence("B") == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_strength_1_is_a_law_too(name, n_classes):
    design = make_design(name, CLASSES[:n_classes], strength=1)
    joint = design.joint("B")
    assert joint.sum() == pytest.approx(1) and (joint >= 0).all() and (joint.sum((0, 1, 2)) > 0).all()
    if name in TIED and n_classes % 2 == 0:
        assert design.law("B")[np.arange(n_classes), list(design.majority)] == pytest.approx(
            np.ones(n_classes)
        )
    assert len(design.rows("B_train", 10, 0)) == 10 * n_classes


@pytest.mark.parametrize("n_classes", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("strength", [0.0, 0.5, 0.8])
def test_labels_of_confounded_are_settled_by_bayes(n_classes, strength):
    model = make_design("confounded", CLASSES[:n_classes], strength=strength).scm("B")
    assert model.parents("Y") == ("C", "B")
    for c, b in itertools.product((0, 1), range(n_classes)):
        weights = []
        for y in range(n_classes):
            mate = y + 1 if y % 2 == 0 and y + 1 < n_classes else y - 1
            seen_as = (1 - AMBIGUITY) * (b == y) + AMBIGUITY * (b == mate)
            weights.append(seen_as * ((1 + strength) if y % 2 == c else (1 - strength)))
        assert model.tables["Y"][c, b] == pytest.approx(np.array(weights) / sum(weights))


def test_the_other_tables_hold_the_stated_shares():
    design = make_design("label-noise", CLASSES[:4])
    clean, noisy = design.scm("A").tables, design.scm("B").tables
    assert clean["X"][1, 2, 5] == pytest.approx(1 - SLIP) and clean["X"][1, 2, 4] == pytest.approx(SLIP)
    assert clean["B"][5] == pytest.approx([MISREAD / 3, MISREAD / 3, 1 - MISREAD, MISREAD / 3])
    assert noisy["Y"] == pytest.approx((1 - FLIP) * clean["Y"] + FLIP * (1 - clean["Y"]) / 3)
    null = make_design("null", CLASSES[:4])
    joint = null.joint("B")
    p_xc = joint.sum((2, 3))
    of_look = p_xc.reshape(2, 4, 2)
    assert of_look[:, :, 0] == pytest.approx(of_look[:, :, 1]), "the part drawn tells nothing of C"


def test_selection_looks_like_confounding_and_is_none():
    confounded, selection = make_design("confounded"), make_design("selection")
    seen = [design.joint("B").sum(2) for design in (confounded, selection)]
    assert tv(*seen) < 0.02, "the same P(C, X, Y) to two points"
    done = [truth(design.scm("B"), selected=design.selected).p_y_do_x for design in (confounded, selection)]
    assert min(tv(p, q) for p, q in zip(*done)) > 0.15, "other effects"
    in_a = truth(selection.scm("A")).p_y_do_x
    assert done[1] == pytest.approx(in_a), "selection leaves P(Y | do(X)) of the population alone"


def test_truth_of_each_design():
    distance = {}
    for name in NAMES:
        design = make_design(name)
        assert truth(design.scm("A")).tv == pytest.approx(0, abs=1e-12)
        distance[name] = truth(design.scm("B"), selected=design.selected).tv
    assert [name for name, value in distance.items() if value > 1e-9] == ["confounded", "selection"]
    assert distance["confounded"] > 0.25 and distance["selection"] > 0.15
    weaker = truth(make_design("confounded", strength=0.4).scm("B")).tv
    assert 0 < weaker < distance["confounded"]


@pytest.mark.parametrize("name", NAMES)
def test_best_accuracy_is_that_of_the_best_of_all_classifiers(name):
    design = make_design(name, ["cat", "dog"], strength=0.6)
    found = design.best_accuracy()
    laws_of = {which: design.joint(which).sum((0, 2)) for which in "AB"}  # (code, label)
    scores = {
        which: np.array(
            [sum(p[x, y] for x, y in enumerate(rule)) for rule in itertools.product((0, 1), repeat=4)]
        )
        for which, p in laws_of.items()
    }
    for trained, tested in itertools.product("AB", repeat=2):
        best = np.flatnonzero(np.isclose(scores[trained], scores[trained].max()))
        assert np.isclose(scores[tested][best], found[f"{trained}->{tested}"]).any()
        assert found[f"{trained}->{tested}"] <= found[f"{tested}->{tested}"] + 1e-12


@pytest.mark.parametrize("name, threshold", [("confounded", 0.66), ("selection", 0.653)])
def test_the_best_decision_flips_where_the_docs_say(name, threshold):
    below = make_design(name, strength=threshold - 0.005).best_accuracy()
    above = make_design(name, strength=threshold + 0.005).best_accuracy()
    assert below["B->A"] == pytest.approx(below["A->A"]) == pytest.approx(0.762)
    assert above["B->A"] == pytest.approx(0.48, abs=0.001)


def test_the_tables_are_the_model():
    design = make_design("selection", ["cat", "dog", "bird"])
    for which in "AB":
        model, rows = design.scm(which), design_tables(design, which)
        assert list(dict.fromkeys(row["node"] for row in rows)) == list(model.graph)
        for row in rows:
            cell = tuple(model.state_index(row["node"], value) for value in row["p"])
            where = tuple(model.state_index(cause, value) for cause, value in row["given"].items())
            assert tuple(row["given"]) == model.parents(row["node"])
            assert model.tables[row["node"]][where][list(cell)] == pytest.approx(list(row["p"].values()))
            assert sum(row["p"].values()) == pytest.approx(1) and row["meaning"]


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (("papper",), {}, "did you mean 'paper'.*or the path of your own .yaml"),
        (("nowhere.yaml",), {}, "nowhere.yaml: no such file"),
        (("nowhere.yaml", ["cat", "dog"]), {}, "states its own classes and tables; drop classes"),
        (("nowhere.yaml",), {"strength": 0.5}, "drop classes, ratio and strength"),
        (("paper", ["cat", "dgo"]), {}, "no class 'dgo'.*did you mean 'dog'"),
        (("paper", ["cat"]), {}, "one class only .cat."),
        (("paper", []), {}, "one class only"),
        (("paper", ["cat", "dog", "cat"]), {}, "'cat' is named twice"),
        (("paper", None, 1.0), {}, "ratio 1 is out of range"),
        (("paper", None, 0.5), {}, "ratio 0.5 is out of range"),
        (("paper", None, float("nan")), {}, "out of range"),
        (("paper", None, 0.9), {"strength": 0.8}, "a ratio or a strength, not both"),
        (("paper",), {"strength": -0.1}, "strength -0.1 is out of range"),
        (("paper",), {"strength": 1.1}, "strength 1.1 is out of range"),
        (("paper",), {"strength": float("nan")}, "out of range"),
    ],
)
def test_bad_designs_are_named(arguments, options, message):
    with pytest.raises(CausalFTError, match=message):
        make_design(*arguments, **options)


def test_bad_sets_sizes_and_seeds_are_named():
    design = make_design("paper")
    with pytest.raises(CausalFTError, match="no image set 'A_tset'.*A_test"):
        design.counts("A_tset", 10)
    with pytest.raises(CausalFTError, match="no image set 'C'"):
        design.joint("C")
    with pytest.raises(CausalFTError, match="n_per_class 3 is too small"):
        design.counts("A_test", 3)
    with pytest.raises(CausalFTError, match="seed -1 is out of range"):
        design.rows("A_test", 10, -1)


def test_built_in_designs_are_those_of_the_options_and_the_docs():
    page = (Path(__file__).parents[2] / "docs" / "designs.md").read_text(encoding="utf-8")
    assert re.findall(r"^### `([\w-]+)`", page, flags=re.MULTILINE) == list(designs.BUILT_IN)
    for command in (generate.command, verify_confounder.command, graph.command.commands["design"]):
        (option,) = (each for each in command.params if each.name in ("design", "name"))
        assert all(name in f"{option.metavar} {getattr(option, 'help', '')}" for name in designs.BUILT_IN)
