"""What graph files of other tools say of latency and direction is kept or refused by name, in every format."""

from __future__ import annotations

import json
import os

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.errors import CausalFTError
from causalft.scm import (
    as_dag,
    causal_graph,
    latent_nodes,
    parse_edge_list,
    read_graph,
    to_dagitty,
    to_dot,
    to_mermaid,
)
from tests.scm.random_scms import dags

AB, BA = {("A", "B")}, {("B", "A")}
BOTH = {("L(A,B)", "A"), ("L(A,B)", "B")}


def read(folder, name, text):
    (folder / name).write_text(text)
    return read_graph(folder / name)


# --- edge lists


@pytest.mark.parametrize("arrow", "-> --> ---> => ==> —> –> → ⟶ ⇒".split())
def test_every_arrow_to_the_right(arrow):
    for text in (f"A {arrow} B", f"A{arrow}B", f"A,{arrow},B", f"A\t{arrow}\tB"):
        assert set(parse_edge_list(text).edges) == AB


@pytest.mark.parametrize("arrow", "<- <-- <= <== <— ← ⟵ ⇐".split())
def test_every_arrow_to_the_left(arrow):
    assert set(parse_edge_list(f"A {arrow} B").edges) == BA


@pytest.mark.parametrize("arrow", "<-> <--> <=> <==> ↔ ⇔".split())
def test_two_heads_are_a_latent_common_cause_stated_once(arrow):
    graph = parse_edge_list(f"A {arrow} B\nB {arrow} A")
    assert set(graph.edges) == BOTH and latent_nodes(graph) == ("L(A,B)",)


@pytest.mark.parametrize("arrow", "-- --- — - o-> <-o o-o o-- --o -o *-> <-* @-> @-@".split())
def test_edges_that_no_dag_has_are_refused_by_name(arrow):
    what = "circle" if set(arrow) & set("o*@") else "undirected"
    with pytest.raises(CausalFTError, match=rf"line 2: the edge between A and B .*{what}"):
        parse_edge_list(f"C -> A\nA {arrow} B")


@pytest.mark.parametrize("arrow", "~> ->> -| --| |-> -/-> +-> > < | ~ ~~ : & -.-> x-> --x >->".split())
def test_an_arrow_that_is_not_known_is_named_with_its_line(arrow):
    with pytest.raises(CausalFTError, match="mine line 2: ") as error:
        parse_edge_list(f"C -> A\nA {arrow} B", source="mine")
    assert repr(arrow) in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A B -> C", "no arrow between 'A' and 'B'"),
        ("A, B -> C", "no arrow between 'A' and ','"),
        ("A -> -> B", "no node between them"),
        ("A - > B", "no node between them"),
        ("C o -> X", "no arrow between 'C' and 'o'"),
        ("U[latent] -> X", "'U.latent.' is neither an arrow nor a name"),
        ("{A B} -> C", "'{A' is neither"),
        ("-ab y", "'-ab' is neither"),
        ('"A -> B', "quote is not closed"),
        ("A causes B", "is not an edge"),
        ("latent: A\nobserved: A\nA -> B", "line 2: A is called latent and observed"),
        ("Y ~ X + Z", "'~' is not a known arrow"),
    ],
)
def test_what_is_no_edge_is_refused(text, message):
    with pytest.raises(CausalFTError, match=message):
        parse_edge_list(text)


def test_hyphens_quotes_comments_and_semicolons_in_names():
    graph = parse_edge_list('a-b -> x.1; "c#d" -> "e;f" # comment; z\n"g -> h" -> a-b; o -> x; x->o2')
    edges = {("a-b", "x.1"), ("c#d", "e;f"), ("g -> h", "a-b"), ("o", "x"), ("x", "o2")}
    assert set(graph.edges) == edges


@pytest.mark.parametrize("word", ["latent", "Unobserved", "hidden"])
def test_every_word_for_latent(word):
    assert latent_nodes(parse_edge_list(f"{word}: U, V\nU -> X <- V")) == ("U", "V")


# --- DOT

UX = {("U", "X")}


@pytest.mark.parametrize("value", ['"no"', "no", "false", "0", "False", '"NO"'])
@pytest.mark.parametrize("name", ["g.dot", "g.gv", "g.txt"])
def test_observed_no_is_latent_in_dot(tmp_path, name, value):
    graph = read(tmp_path, name, f"digraph {{ U [observed={value}]; U -> X }}")
    assert set(graph.edges) == UX and latent_nodes(graph) == ("U",)


@pytest.mark.parametrize(
    "text",
    [
        "U [observed=yes]",
        "U [latent=false]",
        "U [latent=0]",
        'U [latent="False"]',
        "U [style=dashed latent=no]",
        "U [style=filled]",
        "V [latent=1] subgraph { node [style=dashed] W }",
        "U node [latent=true]",
        "subgraph s { node [latent=true] V } U",
    ],
)
def test_observed_in_dot(tmp_path, text):
    assert "U" not in latent_nodes(read(tmp_path, "g.dot", f"digraph {{ {text} U -> X }}"))


@pytest.mark.parametrize(
    "text",
    [
        "U [latent]",
        "U [unobserved=yes]",
        "U [hidden=1]",
        'U [style="filled,dashed"]',
        "node [latent=true] U node [latent=false]",
        "subgraph s { node [style=dashed]; subgraph t { U } }",
        "{ U [latent=1] } -> X",
        "node [observed=no]; {U} -> {X}; X [observed=yes]",
    ],
)
def test_latent_in_dot(tmp_path, text):
    graph = read(
        tmp_path, "g.dot", f"digraph {{ {text}; node [observed=yes latent=no unobserved=no] U -> Y }}"
    )
    assert "U" in latent_nodes(graph) and "Y" not in latent_nodes(graph)


@pytest.mark.parametrize(
    ("body", "edges"),
    [
        ("A -> B [dir=forward]", AB),
        ("A -> B [dir=back]", BA),
        ("A -> B [DIR=BACK]", BA),
        ("A -> B [dir=both]", BOTH),
        ("edge [dir=back] A -> B", BA),
        ("edge [dir=back]; edge [color=red]; A -> B", BA),
        ("A -> B edge [dir=back]", AB),
        ("edge [dir=back]; A -> B [dir=forward]", AB),
        ("subgraph { edge [dir=back] } A -> B", AB),
        ("subgraph s { edge [dir=back]; subgraph t { A -> B } }", BA),
        ("A -> B [dir=both arrowtail=none]", AB),
        ("A -> B [dir=both arrowhead=none]", BA),
        ("A -> B [arrowhead=vee]", AB),
        ("A:p:n -> B:q", AB),
        ("A [label=<<b>x</b> -- y>] A -> B", AB),
        ('"A" -> "B" /* -> C */ // -> D', AB),
        ("A -> B; A -> B", AB),
        ("A -> B [dir=both]; B -> A [dir=both]", BOTH),
        ("A -> C [style=invis]; A -> B", AB),
        ("rankdir=LR; graph [label=x]; A -> B", AB),
        ('"A" -> B [label="a" + "b"]', AB),
    ],
)
def test_directions_in_dot(tmp_path, body, edges):
    assert set(read(tmp_path, "g.dot", f"digraph {{ {body}\n}}").edges) == edges


def test_a_strict_graph_merges_what_is_stated_twice(tmp_path):
    assert set(read(tmp_path, "g.dot", "strict digraph { A -> B [dir=back]; A -> B }").edges) == BA


def test_an_undirected_dot_graph_with_directed_edges(tmp_path):
    assert set(read(tmp_path, "g.dot", "graph { A -- B [dir=forward] }").edges) == AB


def test_edges_between_groups(tmp_path):
    edges = set(read(tmp_path, "g.dot", "digraph { {A B} -> C -> subgraph s {D; E} }").edges)
    assert edges == {("A", "C"), ("B", "C"), ("C", "D"), ("C", "E")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digraph {\n A -> B [dir=none] }", "line 2: the edge between A and B is undirected"),
        ("digraph { edge [dir=none]; A -> B }", "undirected"),
        ("digraph { A -> B [arrowhead=none] }", "undirected"),
        ("digraph { A -> B [dir=both arrowtail=odot] }", "circle, the mark of a PAG"),
        ("digraph { A -> B [dir=sideways] }", "dir=sideways is not a direction"),
        ("digraph { A -> B [arrowhead=tee] }", "arrowhead=tee is not a known arrow"),
        ("digraph { U [latent=perhaps] U -> X }", "node U: latent is 'perhaps'"),
        ("digraph { U [latent=yes observed=yes] U -> X }", "latent and observed contradict"),
        ("digraph { A [style=invis] A -> B }", "A is invisible"),
        ("digraph {\nA <- B }", r"line 2\): '<-' is not an edge of a digraph"),
        ("digraph {\nA --> B }", r"line 2\): '-->' is not an edge"),
        ("digraph { A -- B }", "'--' is not an edge of a digraph"),
        ("graph { A -> B }", "'->' is not an edge of a graph"),
        ("digraph { A -> B } digraph { C -> D }", "one file holds one graph"),
        ("digraph { node -> B }", "needs quotes"),
    ],
)
def test_what_dot_says_and_no_dag_has_is_refused(tmp_path, text, message):
    with pytest.raises(CausalFTError, match=message):
        read(tmp_path, "g.dot", text)


# --- GML


def gml(node="", edge="", more="", head="directed 1"):
    nodes = f'node [ id 0 label "A" {node} ] node [ id 1 label "B" ]'
    return f"graph [ {head} {nodes} edge [ source 0 target 1 {edge} ] {more} ]"


@pytest.mark.parametrize(
    "said", ['latent "True"', "latent 1", 'observed "no"', "observed 0", 'style "dashed"']
)
def test_latent_in_gml(tmp_path, said):
    assert latent_nodes(read(tmp_path, "g.gml", gml(said))) == ("A",)


@pytest.mark.parametrize(
    "said", ['latent "False"', 'latent "no"', "latent 0", 'latent "0"', 'observed "yes"']
)
def test_observed_in_gml(tmp_path, said):
    assert latent_nodes(read(tmp_path, "g.gml", gml(said))) == ()


@pytest.mark.parametrize(
    ("text", "edges"),
    [
        (gml(edge='dir "back"'), BA),
        (gml(edge='dir "both"'), BOTH),
        (gml(edge='graphics [ arrow "first" ]'), BA),
        (gml(edge='graphics [ sourceArrow "standard" targetArrow "standard" ]'), BOTH),
        (gml(more="edge [ source 0 target 1 ]"), AB),
        (gml(head='Creator "me" directed "1"'), AB),
        (gml(head="directed 1 multigraph 1", more="edge [ source 0 target 1 ]"), AB),
    ],
)
def test_directions_in_gml(tmp_path, text, edges):
    assert set(read(tmp_path, "g.gml", text).edges) == edges


@pytest.mark.parametrize(
    "text", [gml(head="directed 0"), gml(head=""), gml(edge='dir "none"'), gml(edge="directed 0")]
)
def test_undirected_gml_is_refused(tmp_path, text):
    with pytest.raises(CausalFTError, match="undirected"):
        read(tmp_path, "g.gml", text)


# --- DAGitty


@pytest.mark.parametrize(
    ("text", "edges", "latent"),
    [
        ('dag { U [latent,pos="0,1"] U -> X; X <- C\nX <-> C }', "U>X C>X L(X,C)>X L(X,C)>C", "U L(X,C)"),
        ('dag { {A B} -> C ; bb="0,0,1,1" }', "A>C B>C", ""),
        ("dag{ 'a b' [unobserved] x.1 -> 'a b' [beta=0.2] }", "x.1>a b", "a b"),
        ("dagitty('dag { A -> B <- C }')", "A>B C>B", ""),
        ('dag "m" {\n"A"\nZ [adjusted]\nA -> Z\n}', "A>Z", ""),
    ],
)
@pytest.mark.parametrize("name", ["g.txt", "g.dagitty", "g.dot"])
def test_dagitty_code(tmp_path, name, text, edges, latent):
    graph = read(tmp_path, name, text)
    assert {f"{a}>{b}" for a, b in graph.edges} == set(
        edges.replace("a b", "a_b").split() if "a b" not in edges else [edges]
    )
    assert set(latent_nodes(graph)) == ({latent} if latent == "a b" else set(latent.split()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pdag { A -> B }", "is a pdag, not a dag"),
        ("mag { A -> B }", "is a mag, not a dag"),
        ("pag { A @-> B }", "is a pag, not a dag"),
        ("dag { A -- B }", "undirected"),
        ("dag { A @-> B }", "circle"),
        ("dag { S [selected] A -> S }", "S is selected"),
        ("dag { A [foo] A -> B }", "the mark 'foo'"),
        ("dag {\nA ->\n}", r"not valid DAGitty code \(line 2\)"),
    ],
)
def test_dagitty_code_that_is_no_dag_is_refused(tmp_path, text, message):
    with pytest.raises(CausalFTError, match=message):
        read(tmp_path, "g.txt", text)


# --- Mermaid


@pytest.mark.parametrize(
    ("body", "edges"),
    [
        (" A --> B", AB),
        ("; A-->B;", AB),
        (" A -->|causes| B", AB),
        (' A -->|"x|y"| B', AB),
        (" A -- causes --> B", AB),
        (" A == x ==> B", AB),
        (" A -. x .-> B", AB),
        (" A ==> B", AB),
        (" A -.-> B", AB),
        (" A ----> B", AB),
        (" A <--> B", BOTH),
        (" A e1@--> B", AB),
        (" A ~~~ C\n A --> B", AB),
        (" x[A] --> y(B)", AB),
        (' x["A"] --> y{{"B<br/>the effect"}}', AB),
        (' x@{ shape: rect, label: "A" } --> y>B]', AB),
        (" x([A]) --> y[(B)]", AB),
        (" %% A --> C\n A --> B %% end\n %% z", AB),
        (" subgraph one [title]\n direction LR\n A --> B\n end", AB),
        (
            " A --> B\n classDef big font-size:9\n class A big\n style B fill:#fff\n linkStyle 0 stroke:red",
            AB,
        ),
        (" A & B --> C & D", {(a, b) for a in "AB" for b in "CD"}),
        (" A --> B --> C\n C --> D", {("A", "B"), ("B", "C"), ("C", "D")}),
        (" x[Same] --> y[Same]", {("x", "y")}),
        (" A --> a-b", {("A", "a-b")}),
    ],
)
@pytest.mark.parametrize(
    "head", ["graph LR", "flowchart TD", "%%{init: {}}%%\nflowchart TB", "---\ntitle: t\n---\ngraph"]
)
def test_mermaid_flowcharts(tmp_path, head, body, edges):
    text = f"{head}{body if body.startswith(';') else chr(10) + body}"
    assert set(read(tmp_path, "g.mmd", text).edges) == edges
    assert set(read(tmp_path, "g.md", f"# Title\n\n```mermaid\n{text}\n```\n").edges) == edges


@pytest.mark.parametrize(
    "text",
    [
        "U:::latent --> X",
        "U --> X\nclass U,V unobserved",
        "U --> X\nstyle U stroke-dasharray: 5 5",
        "U --> X\nclassDef ghost stroke-dasharray:4\nclass U ghost",
        "u[U]:::hidden -.-> X",
    ],
)
def test_latent_in_mermaid(tmp_path, text):
    assert latent_nodes(read(tmp_path, "g.mmd", f"graph LR\n{text}")) == ("U",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("graph LR\nA --- B", "line 2: the link '---' is undirected"),
        ("graph LR\nA o--o B", "'o--o' ends in a circle or cross"),
        ("graph LR\nA x--x B", "'x--x' ends in a circle or cross"),
        ("graph LR\nA --x B", "'--x' ends in a circle or cross"),
        ("graph LR\nA -> B", "'->' is not a known link"),
        ("graph LR\nA <-- B", "'<--' is not a known link"),
        ("graph LR\nsubgraph s\nA --> B\nend\ns --> C", "line 5: a link ends at the subgraph 's'"),
        ("graph LR\nA[x --> B", "'.' is not closed"),
        ("graph LR\nA -->", "a node is expected"),
        ("sequenceDiagram\nA->>B: x", "opens no flowchart"),
        ("graph LR\nsubgraph s\nA --> B", "line 2: a subgraph has no `end`"),
    ],
)
def test_mermaid_that_is_no_dag_is_refused(tmp_path, text, message):
    with pytest.raises(CausalFTError, match=message):
        read(tmp_path, "g.mmd", text)


# --- JSON and files that are no graph


def test_node_link_json_as_networkx_writes_it(tmp_path):
    graph = nx.DiGraph([("A", "B")])
    graph.nodes["A"]["observed"] = "no"
    back = read(tmp_path, "g.json", json.dumps(nx.node_link_data(graph, edges="links")))
    assert set(back.edges) == AB and latent_nodes(back) == ("A",)
    text = json.dumps(nx.node_link_data(nx.Graph([("A", "B")]), edges="edges"))
    with pytest.raises(CausalFTError, match="undirected"):
        read(tmp_path, "g.json", text)


@pytest.mark.parametrize("text", ["{}", "[]", '{"nodes": null, "links": []}', '{"nodes": [1], "links": []}'])
def test_json_of_another_shape(tmp_path, text):
    with pytest.raises(CausalFTError, match="not a node-link graph"):
        read(tmp_path, "g.json", text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("g.json", "[" * 100_000),
        ("g.json", '{"nodes": ' + "[" * 100_000),
        ("g.gml", "graph [ " + "a [ " * 100_000),
        ("g.gml", "graph [ " + "a [ " * 100_000 + "] " * 100_001),
        ("g.dot", "digraph {" + "{" * 100_000),
        ("g.dot", "digraph {" + "subgraph {" * 20_000 + "}" * 20_001),
        ("g.txt", "dag {" + "{" * 100_000),
        ("g.mmd", "graph LR\nA" + "[" * 100_000),
        ("g.txt", "(" * 100_000),
        ("g.txt", "()" * 100_000 + "("),
        ("g.txt", "#" * 100_000 + "dag { A"),
        ("g.mmd", "%%" * 50_000 + "\n-> B"),
        ("g.dot", "/*" * 50_000),
    ],
)
def test_deep_nesting_is_one_line(tmp_path, name, text):
    with pytest.raises(CausalFTError) as error:
        read(tmp_path, name, text)
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


def test_special_files_and_empty_names_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "pipe", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("", "is empty"),
    ):
        with pytest.raises(CausalFTError, match=message):
            read_graph(path)
    with pytest.raises(CausalFTError, match="is XML"):
        read(tmp_path, "g.xml", "<?xml version='1.0'?><graphml/>")


# --- graphs of other libraries


def paper_edges():
    return set(causal_graph().edges)


def test_dowhy_s_own_graph_with_an_unobserved_node(tmp_path):
    from causalft.scm.identify import import_dowhy

    text = (
        'graph [ directed 1 node [ id "U" label "U" observed "no" ] node [ id "X" label "X" observed "yes" ] '
    )
    assert latent_nodes(read(tmp_path, "g.gml", text + 'edge [ source "U" target "X" ] ]')) == ("U",)
    CausalGraph = import_dowhy("dowhy.causal_graph").CausalGraph
    graph = CausalGraph("X", "Y", common_cause_names=["C"], observed_node_names=["X", "Y"])._graph
    assert latent_nodes(as_dag(graph)) == ("C",)
    nx.write_gml(graph, tmp_path / "dowhy.gml")
    nx.nx_pydot.write_dot(graph, tmp_path / "dowhy.dot")
    for name in ("dowhy.gml", "dowhy.dot"):
        back = read_graph(tmp_path / name)
        assert set(back.edges) == set(graph.edges) and latent_nodes(back) == ("C",)


@pytest.mark.filterwarnings("ignore")
def test_pgmpy_s_dags_and_admgs(tmp_path):
    from causalft.scm.exact import to_pgmpy  # imports pgmpy without its warnings
    from tests.scm.random_scms import random_scm

    to_pgmpy(random_scm(as_dag([("A", "B")]), 0))
    from pgmpy.base import ADMG, DAG

    graph = DAG(causal_graph().edges, latents={"D", "U"})
    assert set(as_dag(graph).edges) == paper_edges() and set(latent_nodes(as_dag(graph))) == {"D", "U"}
    assert set(read(tmp_path, "g.txt", graph.to_dagitty()).edges) == paper_edges()
    marked = DAG.from_dagitty("dag{ U [latent] U -> X }")
    assert latent_nodes(as_dag(marked)) == ("U",)
    mixed = ADMG(directed_ebunch=[("X", "Y")], bidirected_ebunch=[("X", "Y")])
    assert len(latent_nodes(as_dag(mixed))) == 1 and ("X", "Y") in as_dag(mixed).edges
    assert set(DAG.from_dagitty(to_dagitty(causal_graph())).edges) == paper_edges()


def test_causal_learn_s_dot_and_text(tmp_path):
    pytest.importorskip("causallearn")
    from causallearn.graph.Edge import Edge
    from causallearn.graph.Endpoint import Endpoint
    from causallearn.graph.GeneralGraph import GeneralGraph
    from causallearn.graph.GraphNode import GraphNode
    from causallearn.graph.NodeType import NodeType
    from causallearn.utils.GraphUtils import GraphUtils

    a, b, c = (GraphNode(name) for name in "ABC")
    a.set_node_type(NodeType.LATENT)
    graph = GeneralGraph([a, b, c])
    graph.add_edge(Edge(a, b, Endpoint.TAIL, Endpoint.ARROW))
    graph.add_edge(Edge(b, c, Endpoint.ARROW, Endpoint.ARROW))
    dot = read(tmp_path, "g.dot", GraphUtils.to_pydot(graph).to_string())
    assert set(dot.edges) == {("A", "B"), ("L(B,C)", "B"), ("L(B,C)", "C")}
    assert set(latent_nodes(dot)) == {"A", "L(B,C)"}
    assert set(read(tmp_path, "g.txt", str(graph)).edges) == set(dot.edges)
    graph.add_edge(Edge(a, c, Endpoint.CIRCLE, Endpoint.ARROW))
    for name, text in (("g.dot", GraphUtils.to_pydot(graph).to_string()), ("g.txt", str(graph))):
        with pytest.raises(CausalFTError, match="circle, the mark of a PAG"):
            read(tmp_path, name, text)


@given(graph=dags(latent=True))
@settings(max_examples=15, deadline=None)
def test_networkx_writes_and_the_graph_reads_back(graph, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nx")
    nx.write_gml(graph, folder / "g.gml", stringizer=str)
    nx.nx_pydot.write_dot(graph, folder / "g.dot")
    (folder / "g.json").write_text(json.dumps(nx.node_link_data(graph, edges="edges")))
    for name in ("g.gml", "g.dot", "g.json"):
        back = read_graph(folder / name)
        assert list(back.nodes) == list(graph.nodes) and set(back.edges) == set(graph.edges)
        assert latent_nodes(back) == latent_nodes(graph)


_ODD = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=6)


@given(
    graph=dags(latent=True, max_nodes=4),
    names=st.lists(
        _ODD | st.sampled_from(["a b", 'q"q', "b\\", "end", "node", "a#1", "x;y", "<i>", "a->b", "o"]),
        min_size=4,
        max_size=4,
        unique=True,
    ),
)
@settings(max_examples=40, deadline=None)
def test_what_this_project_writes_it_reads_whatever_the_names(graph, names, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ours")
    graph = as_dag(nx.relabel_nodes(graph, dict(zip(list(graph), names)), copy=True))
    for ending, text in (("dot", to_dot(graph)), ("mmd", to_mermaid(graph)), ("dagitty", to_dagitty(graph))):
        back = read(folder, f"g.{ending}", text)
        assert list(back.nodes) == list(graph.nodes) and set(back.edges) == set(graph.edges), text
        assert latent_nodes(back) == latent_nodes(graph)


def test_the_papers_graph_survives_every_text_format(tmp_path):
    graph = causal_graph()
    for ending, text in (("dot", to_dot(graph)), ("mmd", to_mermaid(graph, treatment="X", adjustment=["C"]))):
        assert dict(read(tmp_path, f"g.{ending}", text).nodes(data=True)) == dict(graph.nodes(data=True))
    back = read(tmp_path, "g.dagitty", to_dagitty(graph, treatment="X", outcome="Y", adjustment=["C"]))
    assert set(back.edges) == paper_edges() and latent_nodes(back) == ("D", "U")


def test_odd_meanings_survive_dot_and_mermaid(tmp_path):
    graph = as_dag([("X", "Y")])
    graph.nodes["X"]["meaning"] = 'a "cause" (of [most]) <b> #1'
    for ending, text in (("dot", to_dot(graph)), ("mmd", to_mermaid(graph))):
        assert dict(read(tmp_path, f"g.{ending}", text).nodes(data=True)) == dict(graph.nodes(data=True))


def test_attributes_of_a_networkx_graph_count_as_those_of_a_file():
    graph = nx.DiGraph()
    graph.add_node("U", latent="False")
    graph.add_node("V", observed="no")
    graph.add_edge("X", "U", dir="back")
    graph.add_edge("V", "U")
    dag = as_dag(graph)
    assert set(dag.edges) == {("U", "X"), ("V", "U")} and latent_nodes(dag) == ("V",)
    with pytest.raises(CausalFTError, match="undirected"):
        as_dag(nx.DiGraph([("A", "B", {"dir": "none"})]))
