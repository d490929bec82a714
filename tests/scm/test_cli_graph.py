"""``causalft graph`` as a user runs it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from PIL import Image

from causalft.cli import main


def run(*words):
    return CliRunner().invoke(main, ["graph", *map(str, words)])


def test_identify_says_it_in_words_and_formulas():
    result = run("identify")
    assert result.exit_code == 0, result.output
    for text in (
        "backdoor {C}",
        "front-door {B}",
        "instrument {U}, latent",
        "sum_c P(y | x, c) P(c)",
        r"\sum_{c}",
    ):
        assert text in result.output


def test_identify_json_is_one_document():
    document = json.loads(run("identify", "--json").stdout)
    assert document["adjustment_set"] == ["C"]
    assert document["latent"] == ["D", "U"] and ["X", "B"] in document["edges"]
    assert [e["variables"] for e in document["frontdoor"]] == [["B"]]
    assert document["backdoor"][0]["formula"] == "P(y | do(x)) = sum_c P(y | x, c) P(c)"


def test_another_graph_with_other_nodes(tmp_path):
    file = tmp_path / "g.txt"
    file.write_text("latent: genes\nsmoking -> tar -> cancer\nsmoking <- genes -> cancer\n")
    result = run("identify", "--graph", file, "--treatment", "smoking", "--outcome", "cancer")
    assert result.exit_code == 0
    assert "front-door {tar}" in result.output and "smoking <- genes -> cancer" in result.output
    document = json.loads(
        run("identify", "--graph", file, "--treatment", "tar", "--outcome", "cancer", "--json").stdout
    )
    assert document["adjustment_set"] == ["smoking"]


def test_an_effect_that_is_not_identified_says_what_to_observe(tmp_path):
    file = tmp_path / "g.txt"
    file.write_text("X -> Y; X <-> Y")
    result = run("identify", "--graph", file)
    assert result.exit_code == 0
    assert "not identified" in result.output and "X <- L(X,Y) -> Y" in result.output


def test_checking_an_adjustment_set():
    good = run("identify", "--adjust", "C")
    assert good.exit_code == 0 and "{C} is a valid adjustment set" in good.output
    assert json.loads(run("identify", "--adjust", "C", "--json").stdout)["valid"] is True
    bad = run("identify", "--adjust", "")
    assert bad.exit_code == 2 and "X <- C -> Y open" in bad.stderr and bad.stdout == ""


@pytest.mark.parametrize("name", ["g.png", "g.svg", "g.dot", "g.mmd"])
def test_show_writes_each_format(tmp_path, name):
    result = run("show", "--out", tmp_path / name)
    assert result.exit_code == 0, result.output
    assert [file.name for file in tmp_path.iterdir()] == [name]
    if name == "g.png":
        assert Image.open(tmp_path / name).width > 800
    else:
        assert {"svg": "<svg", "dot": "digraph", "mmd": "flowchart"}[name[2:]] in (
            tmp_path / name
        ).read_text()


def test_show_prints_text_formats_and_colours_roles(tmp_path):
    result = run("show", "--format", "mermaid")
    assert (
        result.exit_code == 0
        and result.stdout.startswith("flowchart LR")
        and "class n1 adjustment" in result.stdout
    )
    file = tmp_path / "g.txt"
    file.write_text("smoking -> cancer")
    plain = run(
        "show", "--graph", file, "--format", "dot"
    )  # no X and Y here: drawn all the same, without roles
    assert plain.exit_code == 0 and "fillcolor" not in plain.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show"], "give --out graph.png"),
        (["show", "--format", "svg"], "give --out graph.svg"),
        (["show", "--out", "g.xyz"], "give --format"),
        (["identify", "--treatment", "Z"], "treatment 'Z' is not a node"),
        (["identify", "--graph", "missing.txt"], "missing.txt: no such graph file"),
    ],
)
def test_mistakes_get_one_line_and_code_2(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.exit_code == 2
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert result.stdout == "" and list(tmp_path.iterdir()) == []


def test_a_graph_without_x_and_y_asks_for_the_nodes(tmp_path):
    file = tmp_path / "g.txt"
    file.write_text("smoking -> cancer")
    result = run("identify", "--graph", file)
    assert result.exit_code == 2 and "give --treatment (nodes: smoking, cancer)" in result.stderr
