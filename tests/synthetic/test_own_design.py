"""A user's own design: the file's tables become the model, and every mistake is one line that says where it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from causalft.analysis.confounding.curve import truth
from causalft.errors import CausalFTError
from synthetic.design import _apportion, codes
from synthetic.designs import SETS, make_design
from synthetic.objects import PARTS
from synthetic.own_design import read_design
from tests.command_line import run

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "designs" / "own.yaml"


def document(**changes):
    """A small design as a Python object; ``changes`` replace tables of set B (None takes a table out)."""
    tables = {
        "C": [0.5, 0.5],
        "look": {"given": ["C"], "rows": {"0": [0.6, 0.4], "1": [0.3, 0.7]}},
        "part": {"given": ["C"], "rows": {"0": [0.9, 0.1], "1": [0.1, 0.9]}},
        "content": {"given": ["look"], "rows": {"cat": [0.95, 0.05], "dog": [0.05, 0.95]}},
        "Y": {
            "given": ["content", "C"],
            "rows": {"cat, 0": [1, 0], "cat, 1": [0.7, 0.3], "dog, 0": [0.2, 0.8], "dog, 1": [0, 1]},
        },
    }
    b = {name: table for name, table in {**tables, **changes}.items() if table is not None}
    return {"name": "mine", "classes": ["cat", "dog"], "sets": {"A": tables, "B": b}}


def write(tmp_path, content):
    file = tmp_path / "own.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return file


def read(tmp_path, content):
    return read_design(write(tmp_path, content), PARTS)


def test_the_example_of_the_docs_is_a_confounded_design():
    design = make_design(EXAMPLE)
    assert design.name == "studio" and design.classes == ("cat", "dog") and design.majority == (0, 1)
    assert list(design.graph.edges) == [("C", "X"), ("C", "Y"), ("X", "B"), ("B", "Y")]
    assert design.dependence("A") == pytest.approx(0, abs=1e-12) and design.dependence("B") > 0.3
    assert truth(design.scm("A")).tv == pytest.approx(0, abs=1e-12) and truth(design.scm("B")).tv > 0.2
    best = design.best_accuracy()
    assert best["B->A"] < best["A->A"] < best["A->B"] < best["B->B"]
    assert (
        design.strength == pytest.approx(2 * design.law("B").max() - 1) == pytest.approx(2 * design.ratio - 1)
    )


def test_the_law_is_the_product_of_the_tables(tmp_path):
    design = read(tmp_path, document())
    given = document()["sets"]["B"]
    joint = design.joint("B")
    for c in (0, 1):
        for look, first in enumerate(("cat", "dog")):
            for part in (0, 1):
                for b, read_as in enumerate(("cat", "dog")):
                    for y in (0, 1):
                        expected = (
                            given["C"][c]
                            * given["look"]["rows"][str(c)][look]
                            * given["part"]["rows"][str(c)][part]
                            * given["content"]["rows"][first][b]
                            * given["Y"]["rows"][f"{read_as}, {c}"][y]
                        )
                        assert joint[c, 2 * look + part, b, y] == pytest.approx(expected, abs=1e-12)
    assert design.scm("B").states["X"] == codes(("cat", "dog"), (PARTS["cat"], PARTS["dog"]))
    rows = design.rows("B_train", 50, 0)
    assert len(rows) == 100 and set(rows.codes) <= set(range(4))


def test_defaults_and_further_causes(tmp_path):
    # content is the class drawn and Y the content; the part depends on the class drawn, and on an unobserved U
    part = {
        "given": ["look", "U"],
        "rows": {
            "cat,cat": [1, 0],
            "cat,dog": ["1/3", "2/3"],
            "dog,cat": {1: 1},
            "dog,dog": {0: "1e-1", 1: 0.9},
        },
    }
    design = read(
        tmp_path,
        document(
            content=None,
            Y=None,
            U=[0.5, 0.5],
            part=part,
            C={"given": "U", "rows": {"cat": [1, 0], "dog": [0, 1]}},
        ),
    )
    model = design.scm("B")
    assert sorted(model.graph.edges) == [("B", "Y"), ("C", "X"), ("U", "C"), ("U", "X"), ("X", "B")]
    assert model.graph.nodes["U"]["latent"] and "U" not in design.scm("A").graph
    assert model.tables["B"] == pytest.approx(np.repeat(np.eye(2), 2, axis=0))
    # P(X | C=0, U=dog): look 0.6, 0.4; parts 1/3, 2/3 of a cat and 0.1, 0.9 of a dog
    assert model.tables["X"][0, 1] == pytest.approx([0.2, 0.4, 0.04, 0.36])


def test_selection_of_the_users_own(tmp_path):
    free = {"given": ["content"], "rows": {"cat": [0.9, 0.1], "dog": [0.1, 0.9]}}
    flat = {"given": ["C"], "rows": {0: [0.5, 0.5], 1: [0.5, 0.5]}}
    keep = {
        "given": ["C", "Y"],
        "rows": {
            "0, cat": [0, 1],
            "0, dog": [0.8, 0.2],
            "1, cat": {"no": 0.8, "yes": 0.2},
            "1, dog": {"yes": 1},
        },
    }
    design = read(tmp_path, document(look=flat, Y=free, S=keep))
    assert design.selected and design.strength == pytest.approx(2 / 3)
    assert design.law("B") == pytest.approx(np.array([[5, 1], [1, 5]]) / 6)
    exact = truth(design.scm("B"), selected=True)
    assert exact.p_y_do_x[:, 0] == pytest.approx([0.86, 0.86, 0.14, 0.14]) and exact.tv > 0.05


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4))
@example(63, 4)  # one class has 0.2 % of the images: it had none, and -1 of one factor
def test_any_tables_make_a_law_whose_marginals_agree(tmp_path_factory, seed, k):
    rng = np.random.default_rng(seed)
    classes = list(PARTS)[:k]

    def table(given, sizes, n):
        keys = [""]
        for values in sizes:
            keys = [f"{key}, {value}".lstrip(", ") for key in keys for value in values]
        return {"given": given, "rows": {key: rng.dirichlet(np.ones(n)).tolist() for key in keys}}

    two = ["0", "1"]
    tables = {
        "C": rng.dirichlet([1, 1]).tolist(),
        "look": table(["C"], [two], k),
        "part": table(["look", "C"], [classes, two], 2),
        "Y": table(["C", "content"], [two, classes], k),
    }
    content = {"classes": classes, "sets": {"A": tables, "B": tables}}
    design = read(tmp_path_factory.mktemp("own"), content)
    joint = design.joint("B")
    assert joint.sum() == pytest.approx(1) and design.name == "own"
    assert joint.sum((1, 2, 3)) == pytest.approx(tables["C"], abs=1e-9)
    look = joint.sum((2, 3)).reshape(2, k, 2).sum(2) / joint.sum((1, 2, 3))[:, None]
    assert look == pytest.approx(np.array([tables["look"]["rows"][c] for c in two]), abs=1e-6)
    assert (joint == design.joint("A")).all()
    for which in SETS:
        rows, counts = design.rows(which, 5, 0), design.counts(which, 5)
        assert len(rows) == counts.sum() == 5 * k and counts.min() >= 1
        assert (np.bincount(2 * rows.labels + rows.factors, minlength=2 * k) == counts.ravel()).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.data())
def test_counts_are_the_law_rounded_with_one_image_or_more_of_what_is_possible(weights, data):
    k = len(weights)
    least = np.array(data.draw(st.lists(st.integers(1, 2), min_size=k, max_size=k)))
    share = np.array(weights) ** 8 + 1e-9
    counts = _apportion(share, 4 * k, least)
    assert counts.sum() == 4 * k and (counts >= least).all()
    free = counts > least  # classes above their least are shared in proportion, to within one image
    exact = share[free] / share[free].sum() * counts[free].sum() if free.any() else np.zeros(0)
    assert (np.abs(counts[free] - exact) < 1 + 1e-6).all()


def test_a_rare_class_keeps_an_image_of_each_factor_and_the_others_give_it():
    assert _apportion(np.array([0.9, 0.0999, 0.0001]), 30, np.array([2, 2, 2])).tolist() == [25, 3, 2]
    assert _apportion(np.array([0.5, 0.25, 0.25]), 12, np.array([1, 2, 2])).tolist() == [6, 3, 3]
    assert _apportion(np.array([1.0, 1e-9, 1e-9]), 12, np.array([1, 2, 2])).tolist() == [8, 2, 2]


HALF = {"given": ["C"], "rows": {"0": [0.5, 0.5], "1": [0.5, 0.5]}}


@pytest.mark.parametrize(
    "content, message",
    [
        ("classes: [cat, dog", "own.yaml line 1: not YAML"),
        ("- cat", "own.yaml: a design has the keys name, meaning"),
        ("", "own.yaml: a design has the keys"),
        ("classes: [cat]\nclasses: [dog]", "own.yaml line 2: not YAML .'classes' is given twice"),
        ({**document(), "clases": []}, "unknown key 'clases'; did you mean 'classes'"),
        ({"classes": ["cat", "dog"]}, "'sets' is missing"),
        ({"sets": {}}, "'classes' is missing"),
        ({**document(), "name": "../x"}, "name '../x'.*letters, digits"),
        ({**document(), "name": 3}, "name 3"),
        ({**document(), "name": "paper"}, "'paper' is that of a built-in design"),
        ({**document(), "meaning": 3}, "meaning 3 is not a sentence"),
        ({**document(), "classes": "cat"}, "'classes' is a list"),
        ({**document(), "classes": ["cat", "dgo"]}, "own.yaml: no class 'dgo'.*did you mean 'dog'"),
        ({**document(), "classes": ["cat", "cat"]}, "class 'cat' is named twice"),
        ({**document(), "classes": ["cat"]}, "one class only"),
        ({**document(), "sets": {"A": document()["sets"]["A"]}}, "'sets' needs A and B.*it has A"),
        ({**document(), "sets": []}, "'sets' needs A and B.*it has none"),
        ({**document(), "sets": {"A": [], "B": {}}}, "set A: give a table for each node"),
        (document(look=None), "set B: node 'look' is missing"),
        (document(loook=HALF), "set B: unknown node 'loook'; did you mean 'look'"),
        (document(X=HALF), "unknown node 'X'; X is what 'look' and 'part' say together"),
        (document(B=HALF), "unknown node 'B'; B is called 'content' here"),
        (document(look={**HALF, "given": ["D"]}), "set B, node look: given 'D': no such node"),
        (document(look={**HALF, "given": ["U"]}), "node look: given 'U': this set has no table for it"),
        (document(look={**HALF, "given": ["look"]}), "node look: given 'look': a node has other nodes"),
        (document(look={**HALF, "given": ["C", "C"]}), "node look: given 'C': .*each once"),
        (document(look={**HALF, "given": []}), "node look: 'given' names the causes"),
        (document(look={"given": ["C"]}), "node look: a table is a list of probabilities, or"),
        (document(look={"given": ["C"], "rows": [1]}), "node look: 'rows' gives a list"),
        (document(look="even"), "node look: a table is a list"),
        (document(look={"given": ["C"], "rows": {"0": [1, 0]}}), "node look: row '1' missing"),
        (
            document(Y={"given": ["content", "C"], "rows": {"cat, 0": [1, 0]}}),
            "row 'cat, 1' and 2 more missing.*4 rows",
        ),
        (
            document(look={"given": ["C"], "rows": {**HALF["rows"], "2": [1, 0]}}),
            "row '2': C has no value '2'; known: 0, 1",
        ),
        (
            document(look={"given": ["C"], "rows": {**HALF["rows"], "1, cat": [1, 0]}}),
            "row '1, cat' has 2 values",
        ),
        (
            document(look={"given": ["C"], "rows": {**HALF["rows"], " 1 ": [1, 0]}}),
            "is given twice",
        ),
        (
            document(content={"given": ["look"], "rows": {"cat": [1, 0], "dgo": [0, 1]}}),
            "row 'dgo': look has no value 'dgo'",
        ),
        (
            document(look={"given": ["C"], "rows": {"0": [0.5, 0.4], "1": [1, 0]}}),
            "node look: row '0' sums to 0.9, not to 1",
        ),
        (
            document(look={"given": ["C"], "rows": {"0": [1.5, -0.5], "1": [1, 0]}}),
            "row '0': -0.5 is negative",
        ),
        (
            document(look={"given": ["C"], "rows": {"0": [1], "1": [1, 0]}}),
            "row '0' has 1 numbers; it needs 2, for cat, dog",
        ),
        (
            document(look={"given": ["C"], "rows": {"0": {"cta": 1}, "1": [1, 0]}}),
            "row '0': no value 'cta'; did you mean 'cat'",
        ),
        (document(look={"given": ["C"], "rows": {"0": ["1/0", 0], "1": [1, 0]}}), "'1/0' is not a number"),
        (document(look={"given": ["C"], "rows": {"0": [True, 0], "1": [1, 0]}}), "True is not a number"),
        (
            document(look={"given": ["C"], "rows": {"0": [float("nan"), 1], "1": [1, 0]}}),
            "nan is not a number",
        ),
        (document(C=[0.2, 0.3, 0.5]), "node C: the table has 3 numbers; it needs 2, for 0, 1"),
        (document(C=[0.2, 0.3]), "node C: the table sums to 0.5"),
        (
            document(C={"given": ["Y"], "rows": {"cat": [1, 0], "dog": [0, 1]}}),
            "set B: the causes go in a circle: .*Y",
        ),
        (
            document(look={"given": ["part"], "rows": HALF["rows"]}),
            "the causes go in a circle: look and part",
        ),
        (document(Y=[1, 0]), "set B: no row is ever filed under 'dog'"),
        (document(S=[1, 0]), "set B, node S: no row is ever kept"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path, content, message):
    file = write(tmp_path, content)
    with pytest.raises(CausalFTError, match=message) as caught:
        make_design(file)
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


def test_invalid_design_files_are_refused(tmp_path):
    with pytest.raises(CausalFTError, match="none.yaml: no such file"):
        make_design(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(CausalFTError, match="is not text in UTF-8"):
        make_design(tmp_path / "latin.yaml")


def test_generate_draws_it(tmp_path):
    words = [
        "generate",
        "--design",
        str(EXAMPLE),
        "--n-per-class",
        "10",
        "--size",
        "8",
        "--out",
        str(tmp_path / "out"),
    ]
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "design studio: cats and dogs" in result.stdout
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["design"] == "studio" and metrics["images"] == 80
    assert metrics["counts"]["B_train"] == [[9, 1], [1, 9]]
    rows = (tmp_path / "out" / "metadata.csv").read_text().splitlines()
    assert len(rows) == 81
    # another law under the same name is another run
    (tmp_path / "out" / "metrics.json").unlink()
    changed = tmp_path / "own.yaml"
    changed.write_text(EXAMPLE.read_text().replace("{cat: 0.8, dog: 0.2}", "{cat: 0.5, dog: 0.5}"))
    words[2] = str(changed)
    result = run(*words)
    assert result.exit_code == 2 and "differs in" in result.stderr and "rows" in result.stderr


def test_generate_plans_it_and_refuses_what_it_states_itself(tmp_path):
    result = run("generate", "--design", str(EXAMPLE), "--dry-run", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["classes"] == ["cat", "dog"]
    result = run("generate", "--design", str(EXAMPLE), "--ratio", "80:20", "--dry-run")
    assert result.exit_code == 2 and "drop --classes, --ratio and --strength" in result.stderr
    broken = write(tmp_path, document(C=[0.5, 0.6]))
    result = run("generate", "--design", str(broken), "--out", str(tmp_path / "out"))
    assert result.exit_code == 2 and "set B, node C: the table sums to 1.1" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and not (tmp_path / "out").exists()
