"""Pictures of graphs: nodes do not overlap, edges keep off the nodes, latent nodes are dashed, files are whole."""

from __future__ import annotations

import itertools
import math
import re

import networkx as nx
import pytest
from hypothesis import given, settings
from PIL import Image

from causalft.errors import CausalFTError
from causalft.scm import (
    as_dag,
    causal_graph,
    parse_edge_list,
    read_graph,
    save_graph,
    to_dot,
    to_mermaid,
)
from causalft.scm.draw import layered_layout
from tests.scm.random_scms import dags


@given(graph=dags(max_nodes=8))
@settings(max_examples=80, deadline=None)
def test_layout_reads_from_left_to_right_and_nothing_overlaps(graph):
    layout = layered_layout(graph)
    assert set(layout.positions) == set(graph.nodes) and set(layout.routes) == set(graph.edges)
    for one, other in itertools.combinations(layout.positions.values(), 2):
        assert math.dist(one, other) >= 1 - 1e-9
    for (cause, effect), route in layout.routes.items():
        assert route[0] == layout.positions[cause] and route[-1] == layout.positions[effect]
        steps = [right[0] - left[0] for left, right in itertools.pairwise(route)]
        assert all(step == 1 for step in steps)
        for point in route[1:-1]:
            assert all(math.dist(point, centre) >= 0.8 - 1e-9 for centre in layout.positions.values())


def test_a_planar_picture_is_drawn_without_crossings():
    graph = nx.DiGraph()
    graph.add_nodes_from("ABCRPQ")  # in this order the edges cross four times
    graph.add_edges_from([("A", "P"), ("B", "Q"), ("A", "Q"), ("C", "R"), ("B", "R")])
    routes = layered_layout(graph).routes.values()
    for one, other in itertools.combinations(routes, 2):
        assert (one[0][1] - other[0][1]) * (one[1][1] - other[1][1]) >= -1e-9


def test_png_is_a_readable_picture_the_size_of_the_graph(tmp_path):
    small = Image.open(save_graph(nx.DiGraph([("X", "Y")]), tmp_path / "a.png"))
    large = Image.open(
        save_graph(causal_graph(), tmp_path / "b.png", treatment="X", outcome="Y", adjustment=["C"])
    )
    assert large.width > small.width > 300
    colours = {colour for _, colour in large.convert("RGB").getcolors(1 << 20)}
    assert {
        (0xCF, 0xE6, 0xF5),
        (0xFB, 0xE3, 0xB5),
        (0xC9, 0xEB, 0xDF),
    } <= colours  # treatment, outcome, adjustment


@pytest.mark.parametrize("name", ["g.png", "g.svg"])
def test_a_graph_too_large_to_read_is_not_drawn_but_written_as_text(tmp_path, name):
    graph = as_dag(itertools.combinations([f"V{i}" for i in range(60)], 2))
    with pytest.raises(
        CausalFTError, match=r"60 nodes and 1,770 edges is too large to draw .* write it as text"
    ):
        save_graph(graph, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    for text in ("g.dot", "g.mmd", "g.dagitty"):
        assert set(read_graph(save_graph(graph, tmp_path / text)).edges) == set(graph.edges)


def test_a_long_graph_gives_an_image_that_programs_open(tmp_path):
    chain = as_dag([(f"V{i}", f"V{i + 1}") for i in range(200)])
    image = Image.open(save_graph(chain, tmp_path / "g.png"))
    assert 20_000 < image.width <= 30_000 and image.width * image.height <= 25_500_000


def test_svg_dashes_the_latent_nodes_and_their_edges_only(tmp_path):
    text = save_graph(causal_graph(), tmp_path / "g.svg").read_text()
    assert len(re.findall("stroke-dasharray", text)) == 4  # D, U, D -> C, U -> X
    open_graph = parse_edge_list("X -> Y")
    assert "stroke-dasharray" not in save_graph(open_graph, tmp_path / "h.svg").read_text()


@pytest.mark.parametrize("name", ["g.png", "g.svg", "g.dot", "g.mmd"])
def test_the_same_graph_gives_the_same_file(tmp_path, name):
    first, second = (
        save_graph(causal_graph(), tmp_path / folder / name).read_bytes() for folder in ("a", "b")
    )
    assert first == second


def test_mermaid_marks_roles_and_latent_nodes_and_survives_odd_names():
    text = to_mermaid(causal_graph(), treatment="X", outcome="Y", adjustment=["C"])
    assert "class n0,n2 latent" in text and "n0 -.-> n1" in text and "n3 --> n4" in text
    assert "class n3 treatment" in text and "class n1 adjustment" in text
    odd = to_mermaid(as_dag([("end", "a#1")]))
    assert '(("end"))' in odd and '(("a#35;1"))' in odd


def test_formats_come_from_the_ending_or_by_name(tmp_path):
    assert save_graph(causal_graph(), tmp_path / "g.gv").read_text() == to_dot(causal_graph())
    assert save_graph(causal_graph(), tmp_path / "g.md", format="mermaid").read_text().startswith("flowchart")
    with pytest.raises(CausalFTError, match=r"no format ends in '.xyz'"):
        save_graph(causal_graph(), tmp_path / "g.xyz")
    with pytest.raises(CausalFTError, match="did you mean 'png'"):
        save_graph(causal_graph(), tmp_path / "g", format="pngg")
    with pytest.raises(CausalFTError, match="is a folder"):
        save_graph(causal_graph(), tmp_path, format="png")


def test_an_unknown_role_writes_nothing(tmp_path):
    for name in ("g.png", "g.dot"):
        with pytest.raises(CausalFTError, match="treatment 'Z'"):
            save_graph(causal_graph(), tmp_path / name, treatment="Z")
    assert list(tmp_path.iterdir()) == []
