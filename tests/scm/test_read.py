"""Graphs from files: three formats, and every way a file can be wrong."""

from __future__ import annotations

import re
from pathlib import Path

import click
import networkx as nx
import pytest
from hypothesis import given, settings

from causalft.cli.graph import command
from causalft.errors import CausalFTError
from causalft.scm import causal_graph, latent_nodes, parse_edge_list, read_graph, to_dot
from causalft.scm.draw import DRAWN
from causalft.scm.formats import FORMATS, KNOWN
from tests.scm.random_scms import dags


@pytest.mark.parametrize(
    ("text", "edges"),
    [
        ("X -> Y", {("X", "Y")}),
        ("X <- C -> Y\nX->Y", {("C", "X"), ("C", "Y"), ("X", "Y")}),
        ("A,B\nB , C", {("A", "B"), ("B", "C")}),
        ("source,target\nA,B", {("A", "B")}),
        ("A B\nB\tC", {("A", "B"), ("B", "C")}),
        ("# a comment\n\nA -> B # and another\n", {("A", "B")}),
        ('"my node" -> B; B -> C', {("my node", "B"), ("B", "C")}),
    ],
)
def test_the_lines_of_an_edge_list(text, edges):
    assert set(parse_edge_list(text).edges) == edges


def test_latent_nodes_and_latent_common_causes():
    graph = parse_edge_list("latent: U\nU -> X -> Y\nX <-> Y")
    assert latent_nodes(graph) == ("U", "L(X,Y)")
    assert set(graph.predecessors("Y")) == {"X", "L(X,Y)"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A -> B\nA B C", r"line 2: 'A B C' is not an edge"),
        ("A -> \n", r"line 1: .* no node beside it"),
        ("A\n", r"line 1: 'A' is not an edge"),
        ("A -> B -> A", "cycle A -> B -> A"),
        ("A -> A", "A -> A"),
        ("latent: Z\nA -> B", "node 'Z' is not a node"),
        ("# nothing\n", "no edge"),
    ],
)
def test_a_wrong_edge_list_is_refused_with_the_line(text, message):
    with pytest.raises(CausalFTError, match=message):
        parse_edge_list(text)


def _write(folder, name, content):
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_gml(tmp_path):
    text = (
        'graph [ directed 1 node [ id 0 label "Größe" latent 1 ] node [ id 1 label "X" ] '
        'node [ id 2 label "Y" ] edge [ source 0 target 1 ] edge [ source 1 target 2 ] ]'
    )
    graph = read_graph(_write(tmp_path, "g.gml", text))
    assert list(graph.edges) == [("Größe", "X"), ("X", "Y")]
    assert latent_nodes(graph) == ("Größe",)


def test_gml_as_networkx_writes_it_and_without_labels(tmp_path):
    nx.write_gml(nx.DiGraph([("A", "B")]), tmp_path / "a.gml")
    assert list(read_graph(tmp_path / "a.gml").edges) == [("A", "B")]
    bare = _write(
        tmp_path, "b.gml", "graph [ directed 1 node [ id 0 ] node [ id 7 ] edge [ source 0 target 7 ] ]"
    )
    assert list(read_graph(bare).edges) == [("0", "7")]


def test_dot(tmp_path):
    text = """digraph g {
      node [shape=box];
      "my node" -> A -> {B; C} [color=red];
      U [style=dashed]; U -> A:left;
      subgraph cluster_1 { Q -> B }
      B -> C [dir=both];
    }
    """
    graph = read_graph(_write(tmp_path, "g.dot", text))
    latent_cause = "L(B,C)"
    assert set(graph.edges) == {
        ("my node", "A"),
        ("A", "B"),
        ("A", "C"),
        ("U", "A"),
        ("Q", "B"),
        (latent_cause, "B"),
        (latent_cause, "C"),
    }
    assert set(latent_nodes(graph)) == {"U", latent_cause}


@given(graph=dags(latent=True))
@settings(max_examples=15, deadline=None)
def test_dot_text_reads_back_as_the_same_graph(graph, tmp_path_factory):
    file = tmp_path_factory.mktemp("dot") / "g.gv"
    file.write_text(to_dot(graph))
    back = read_graph(file)
    assert list(back.nodes) == list(graph.nodes) and set(back.edges) == set(graph.edges)
    assert latent_nodes(back) == latent_nodes(graph)


def test_the_papers_graph_survives_dot_with_its_meanings(tmp_path):
    back = read_graph(_write(tmp_path, "g.dot", to_dot(causal_graph())))
    assert dict(back.nodes(data=True)) == dict(causal_graph().nodes(data=True))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.gml", "graph [ node [ id 0 label", "not valid GML"),
        (
            "g.gml",
            'graph [ node [ id 0 label "A" ] node [ id 1 label "B" ] edge [ source 0 target 1 ] ]',
            "undirected",
        ),
        ("g.gml", "A -> B", "not valid GML"),
        ("g.dot", "digraph {\n A -> \n", "not valid DOT .line 2"),
        ("g.dot", "graph { A -- B }", "undirected"),
        ("g.dot", "digraph { A -> B -> A }", "cycle A -> B -> A"),
        ("g.txt", b"\xff\xfe\x00\x01", "not text"),
        ("g.txt", " \n", "is empty"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, capfd, name, content, message):
    file = _write(tmp_path, name, content)
    with pytest.raises(CausalFTError, match=message) as error:
        read_graph(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_missing_file_and_a_folder(tmp_path):
    _write(tmp_path, "graph.txt", "A -> B")
    with pytest.raises(CausalFTError, match=r"no such graph file; did you mean 'graph.txt'"):
        read_graph(tmp_path / "grph.txt")
    with pytest.raises(CausalFTError, match="is a folder"):
        read_graph(tmp_path)


def test_graph_formats_are_the_choices_of_the_commands_and_the_rows_of_the_docs():
    show = command.get_command(click.Context(command), "show")
    (kind,) = (option for option in show.params if option.name == "kind")
    assert tuple(kind.type.choices) == DRAWN
    page = (Path(__file__).parents[2] / "docs" / "scm.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (.+?) \((`\..+?)\) \| ", page, flags=re.MULTILINE))
    assert list(rows) == [re.sub("^an? ", "", each.title) for each in FORMATS]
    for each, endings in zip(FORMATS, rows.values()):
        assert all(f"`{ending}`" in endings for ending in each.endings)
    assert KNOWN.startswith("an edge list, DOT, ") and KNOWN.endswith(" or node-link JSON")
