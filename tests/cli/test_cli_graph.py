"""``causalft graph`` as a user runs it."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from causalft.scm import PartSCM
from tests import command_line

run = partial(command_line.run, "graph")


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["identify", "--graph", ""], "is empty"),
        (["show", "--graph", "", "--format", "dot"], "is empty"),
        (["falsify", "--graph", "", "--data", "x.csv"], "is empty"),
    ],
)
def test_an_empty_graph_name_is_not_the_papers_graph(words, message):
    result = run(*words)
    assert result.exit_code == 2 and message in result.stderr and result.stdout == ""


def test_dagitty_code_brings_its_treatment_and_outcome(tmp_path):
    file = tmp_path / "model.txt"
    file.write_text("dag { smoking [exposure] cancer [outcome] age -> {smoking cancer} smoking -> cancer }")
    document = json.loads(run("identify", "--graph", file, "--json").stdout)
    assert (document["treatment"], document["outcome"]) == ("smoking", "cancer")
    assert document["adjustment_set"] == ["age"]
    text = run("show", "--graph", file, "--format", "dagitty").stdout
    assert '"smoking" [exposure]' in text and '"age" [adjusted]' in text


def test_node_is_found_by_label_or_id(tmp_path):
    (tmp_path / "g.mmd").write_text("graph LR\n a[Age] --> s[Smoking] --> c[Cancer]\n a --> c")
    (tmp_path / "g.dot").write_text(
        "digraph { a [label=Age] s [label=Smoking] c [label=Cancer] a -> s -> c; a -> c }"
    )
    for name, wanted in (("g.mmd", ["Age"]), ("g.dot", ["a"])):
        for treatment, outcome in (("s", "c"), ("Smoking", "Cancer")):
            words = ["--graph", tmp_path / name, "--treatment", treatment, "--outcome", outcome, "--json"]
            assert json.loads(run("identify", *words).stdout)["adjustment_set"] == wanted


def test_help_names_the_formats():
    for words in (["--help"], ["identify", "--help"]):
        text = run(*words).stdout
        assert all(name in text for name in ("DOT", "GML", "DAGitty", "Mermaid", "JSON"))


# --- falsify


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A collider X -> Z <- Y as table.csv, beside its true graph and a wrong one; the test runs beside them."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 2, (2, 500))
    data = pd.DataFrame({"X": x, "Y": y, "Z": (x & y) ^ (rng.random(500) < 0.1)})
    data.to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "true.txt").write_text("X -> Z <- Y")
    (tmp_path / "wrong.txt").write_text("X -> Z -> Y")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return data


def test_falsify_a_wrong_graph(table):
    result = run("falsify", "--data", "table.csv", "--graph", "wrong.txt")
    assert result.exit_code == 0, result.output
    assert "Falsified: the data contradict 1 of 1" in result.stdout
    assert "turn Z -> Y into Y -> Z" in result.stdout and "rejected" in result.stdout


@pytest.mark.parametrize(
    "name", ["semicolons.csv", "excel.csv", "blank.csv", "tabs.tsv", "utf16.csv", "bars.csv"]
)
def test_falsify_reads_a_table_however_its_cells_are_separated(table, name):
    separator = {"tabs": "\t", "semicolons": ";", "excel": ";", "bars": "|"}.get(name.split(".")[0], ",")
    text = table.to_csv(index=False, sep=separator)
    before = {"excel": "sep=;\n", "blank": "\n\n"}.get(name.split(".")[0], "")
    with open(name, "w", encoding="utf-16" if name.startswith("utf16") else "utf-8") as file:
        file.write(before + text)
    wanted, found = (
        json.loads(run("falsify", "--data", file, "--graph", "wrong.txt", "--json").stdout)
        for file in ("table.csv", name)
    )
    assert found["tests"] == wanted["tests"] and found["verdict"] == "falsified"


def test_falsify_a_true_graph_claims_no_proof(table):
    table.to_parquet("table.parquet")
    result = run("falsify", "--data", "table.parquet", "--graph", "true.txt", "--permutations", "10")
    assert result.exit_code == 0, result.output
    assert "Not falsified" in result.stdout and "no proof" in result.stdout and "detects" in result.stdout
    # X and Y exchanged is the same graph; the four with another collider are contradicted
    assert "Of all 5 other relabelings of the observed nodes, 1 (20 %) do as well" in result.stdout


def test_falsify_json_is_one_document(table):
    table.rename(columns={"X": "treated"}).to_csv("renamed.csv", index=False)
    words = ["--data", "renamed.csv", "--graph", "wrong.txt", "--columns", "X=treated", "--json"]
    result = run("falsify", *words, "--permutations", "3", "--seed", "4")
    document = json.loads(result.stdout)
    assert document["verdict"] == "falsified" and document["relabelings"]["n"] == 3
    (test,) = document["tests"]
    assert (test["x"], test["y"], test["given"], test["verdict"]) == ("X", "Y", ["Z"], "rejected")
    assert test["ci95"][0] < test["estimate"] < test["ci95"][1] and test["p_holm"] < 0.01
    assert document["changes"][0] == {"change": "turn Z -> Y into Y -> Z", "still_implies": 1}
    assert document["variables"]["X"] == {"column": "treated", "values": 2} and document["seed"] == 4


def test_falsify_the_papers_graph_on_its_own_world(tmp_path):
    world = PartSCM(reading_error=0.2)
    sample = world.sample(800, np.random.default_rng(0))
    named = {name: np.array(world.states[name])[sample[name]] for name in "CXBY"}
    pd.DataFrame(named).to_csv(tmp_path / "t.csv", index=False)
    result = run("falsify", "--data", tmp_path / "t.csv", "--json")
    document = json.loads(result.stdout)
    assert [test["given"] for test in document["tests"]] == [["X"], ["C", "B"]]
    assert document["latent"] == ["D", "U"] and document["verdict"] in ("not falsified", "inconclusive")
    assert not document["changes"]


def test_falsify_names_latents_that_have_a_column(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    sample = PartSCM().sample(400, np.random.default_rng(0))
    pd.DataFrame(sample).to_parquet(tmp_path / "t.parquet")
    result = run("falsify", "--data", tmp_path / "t.parquet", "--discrete", "X,B")
    assert result.exit_code == 0, result.output
    assert "taken as observed: D, U" in result.stdout and "no variation" in result.stdout


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        (None, [], "no such table; did you mean 'table.csv'"),
        ("", [], "is empty"),
        ("X,Y,Z\n", [], "has no rows"),
        ("X,Y,Z\n" + "1,0,1\n0,1,1\n" * 5, [], "has 10 rows; a test needs 20"),
        ("X,Y,Z\n" + "1,0,1\n1,1,0\n" * 20, [], "column 'X' of tabel.csv has one value only (1)"),
        ("X,Y\n" + "1,0\n0,1\n" * 20, [], "no column 'Z' for the node Z"),
        ("X,Y,Z\n" + "1,,1\n0,1,0\n" * 20, [], "column 'Y' of tabel.csv has 20 missing values"),
        ("X,X,Y,Z\n" + "1,1,0,1\n" * 30, [], "column 'X' twice"),
        ("X,Y,Z\n1,2\n1,2,3,4\n", [], "cannot be read as a csv table"),
        ("X,Y,Z\n" + "1,0,1\n0,1,0\n" * 20, ["--columns", "Q=X"], "'Q' is not a node"),
        ("X,Y,Z\n" + "1,0,1\n0,1,0\n" * 20, ["--columns", "X"], "--columns has 'X'; write NODE=COLUMN"),
        ("X,Y,Z\n" + "1,0,1\n0,1,0\n" * 20, ["--columns", "X=x"], "no column 'x' for the node X"),
        (
            "X,Y,Z\n" + "1,0,1\n0,1,0\n" * 20,
            ["--alpha", "1.5"],
            "'--alpha': '1.5' is out of range; give a number from 0.001 to 0.5",
        ),
        (
            "X,Y,Z\n" + "1,0,1\n0,1,0\n" * 20,
            ["--permutations", "-1"],
            "'--permutations': '-1' is out of range",
        ),
        ("X,Y,Z\n" + "1,0,1\n0,1,0\n" * 20, ["--seed", "-1"], "'--seed': '-1' is out of range"),
        ("X,Y,Z\n" + "1,0,1\n0,1,0\n" * 20, ["--continuous", "W"], "'W' is not a node"),
    ],
)
def test_falsify_mistakes_get_one_line_and_code_2(table, text, words, message):
    if text is not None:
        with open("tabel.csv", "w") as file:
            file.write(text)
    result = run("falsify", "--data", "tabel.csv", "--graph", "true.txt", *words)
    assert result.exit_code == 2, result.output
    assert message in result.stderr and result.stderr.count("\n") == 1 and result.stdout == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("table.xlsx", b"x", "ending .xlsx is unknown; give a .csv or .parquet table"),
        ("bad.parquet", b"not parquet", "cannot be read as a parquet table"),
        ("bad.csv", b"X,Y\n\xff\xfe,1\n", "is not text"),
        ("folder.csv", None, "is a folder"),
    ],
)
def test_falsify_refuses_files_that_are_not_tables(tmp_path, name, content, message):
    file = tmp_path / name
    file.mkdir() if content is None else file.write_bytes(content)
    result = run("falsify", "--data", file)
    assert result.exit_code == 2 and message in result.stderr and result.stderr.count("\n") == 1
