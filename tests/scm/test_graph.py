"""The paper's graph, and what makes a graph a causal graph."""

from __future__ import annotations

import subprocess
import sys

import networkx as nx
import pytest

from causalft.errors import CausalFTError
from causalft.scm import as_dag, causal_graph, latent_nodes, observed_nodes
from causalft.scm.graph import format_path, require_node


def test_the_papers_graph_has_the_edges_of_section_2():
    graph = causal_graph()
    assert set(graph.edges) == {("C", "X"), ("C", "Y"), ("U", "X"), ("D", "C"), ("X", "B"), ("B", "Y")}
    assert latent_nodes(graph) == ("D", "U")
    assert observed_nodes(graph) == ("C", "X", "B", "Y")
    assert nx.is_directed_acyclic_graph(graph)


def test_each_call_gives_a_graph_of_its_own():
    causal_graph().remove_node("X")
    assert "X" in causal_graph()


def test_a_cycle_is_named():
    with pytest.raises(CausalFTError, match=r"cycle X -> B -> Y -> X") as error:
        as_dag([("C", "X"), ("X", "B"), ("B", "Y"), ("Y", "X")], source="mine.txt")
    assert str(error.value).startswith("mine.txt")


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ([("X", "X")], r"X -> X"),
        ([], "no edge"),
        (nx.Graph([("A", "B")]), "undirected"),
        ([("A", " ")], "without a name"),
        (["AB"], "pair"),
        ([("A", "B", "C")], "pair"),
    ],
)
def test_what_is_no_causal_graph_is_refused(graph, message):
    with pytest.raises(CausalFTError, match=message):
        as_dag(graph)


def test_the_copy_keeps_order_attributes_and_leaves_the_original_alone():
    given = nx.DiGraph([(2, 1)])
    given.nodes[1]["latent"] = True
    copy = as_dag(given)
    assert list(copy.nodes) == ["2", "1"] and latent_nodes(copy) == ("1",)
    copy.add_edge("2", "3")
    assert list(given.nodes) == [2, 1]


def test_an_unknown_node_gets_the_nearest_names():
    graph = as_dag([("smoking", "cancer")])
    with pytest.raises(CausalFTError, match=r"treatment 'smokin' .* did you mean 'smoking'"):
        require_node(graph, "smokin", "treatment")
    with pytest.raises(CausalFTError, match="did you mean 'cancer'"):
        as_dag(graph, latent=["cancr"])


def test_paths_are_written_with_their_arrows():
    assert format_path(causal_graph(), ["U", "X", "C", "Y"]) == "U -> X <- C -> Y"


def test_the_ground_floor_brings_no_torch_with_it():
    code = (
        "import sys, pkgutil, importlib, causalft.scm as p\n"
        "[importlib.import_module(f'causalft.scm.{m.name}') for m in pkgutil.iter_modules(p.__path__)]\n"
        "heavy = {'torch', 'dowhy', 'pgmpy', 'matplotlib', 'open_clip'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
