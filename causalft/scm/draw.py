"""Figures of a causal graph: a layered layout, PNG and SVG by matplotlib, text formats. No Graphviz is needed."""

from __future__ import annotations

import os
from bisect import bisect_right, insort
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx

from causalft.errors import CausalFTError, nearest
from causalft.runs.folder import atomic_path, check_place, write_text
from causalft.runs.locks import locked
from causalft.scm.formats import FORMATS, WRITERS
from causalft.scm.formats.graph_format import FILL, LINE, node_roles
from causalft.scm.graph import latent_nodes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DRAWN", "Layout", "count_steps", "draw_graph", "layered_layout", "save_graph"]


#: What a graph can be written as: figures, and the text formats.
DRAWN = ("png", "svg", *WRITERS)
_ENDINGS = {".png": "png", ".svg": "svg"}
_ENDINGS |= {ending: each.name for each in FORMATS if each.write for ending in each.endings}

#: A larger graph is not drawn. An edge counts once per layer that it crosses.
MAX_NODES, MAX_STEPS = 500, 3_000

# A large figure gets fewer pixels per inch, so that programs can open it.
_DPI, _MAX_SIDE, _MAX_PIXELS = 200, 30_000, 25_000_000
_LAYER_INCHES, _SLOT_INCHES, _RADIUS = 1.7, 1.25, 0.3


_Chains = dict[tuple[str, str], list[Hashable]]
_Depth = dict[Any, int]


@locked("path")
def save_graph(
    graph: nx.DiGraph,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    treatment: str | None = None,
    outcome: str | None = None,
    adjustment: Iterable[str] = (),
) -> Path:
    """Write a graph as a figure or as text, atomically.

    Parameters
    ----------
    format : str, optional
        One of `DRAWN`; by default from the file's ending.
    treatment, outcome, adjustment
        Nodes to colour by role.

    Raises
    ------
    CausalFTError
        If the format is unknown or cannot be told from the ending, or a node is not in the graph.
    """
    file = Path(path)
    kind = format or _ENDINGS.get(file.suffix.lower())
    if kind is None:
        raise CausalFTError(
            f"{file}: no format ends in {file.suffix or 'nothing'!r}; give --format {'|'.join(DRAWN)}"
        )
    if kind not in DRAWN:
        raise CausalFTError(f"unknown graph format {kind!r}; {nearest(kind, DRAWN)}")
    if file.is_dir():
        raise CausalFTError(f"{file} is a folder; give a file, for example {file / 'graph.png'}")
    check_place(file)
    if kind in WRITERS:
        text = WRITERS[kind](graph, treatment=treatment, outcome=outcome, adjustment=adjustment)
        return write_text(file, text)
    node_roles(graph, treatment, outcome, adjustment)
    _require_drawable(graph)
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "causalft", "svg.fonttype": "path"}):
        figure = Figure()
        draw_graph(
            graph, figure.add_axes((0, 0, 1, 1)), treatment=treatment, outcome=outcome, adjustment=adjustment
        )
        width, height = figure.get_size_inches()
        dpi = min(_DPI, _MAX_SIDE / max(width, height), (_MAX_PIXELS / (width * height)) ** 0.5)
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        with atomic_path(file) as temporary:
            figure.savefig(temporary, format=kind, dpi=dpi, metadata=metadata, facecolor="white")
    return file


def draw_graph(
    graph: nx.DiGraph,
    ax: Axes,
    *,
    treatment: str | None = None,
    outcome: str | None = None,
    adjustment: Iterable[str] = (),
    compact: bool = False,
) -> Axes:
    """Draw a graph into matplotlib axes: causes left, effects right; latent nodes and their edges dashed.

    The figure is resized to the graph, so that names stay readable. With ``compact`` layers are closer, for a phone.

    Raises
    ------
    CausalFTError
        If the graph is too large to draw, or a role's node is not in it.
    """
    _require_drawable(graph)
    from matplotlib.patches import Circle, FancyBboxPatch, Polygon

    roles = node_roles(graph, treatment, outcome, adjustment)
    latent = set(latent_nodes(graph))
    layout = layered_layout(graph)
    half = {name: max(_RADIUS, 0.1 * len(name) + 0.14) for name in graph.nodes}
    least, between = (0.95, 0.4) if compact else (_LAYER_INCHES, 0.8)
    step = max(least, 2 * max(half.values()) + between)
    place = {name: (x * step, -y * _SLOT_INCHES) for name, (x, y) in layout.positions.items()}
    routes = {
        edge: [(x * step, -y * _SLOT_INCHES) for x, y in route] for edge, route in layout.routes.items()
    }

    for (cause, effect), route in routes.items():
        curve = _outside(
            _outside(_smooth(route), place[cause], half[cause])[::-1], place[effect], half[effect]
        )[::-1]
        body, head = _arrow(curve)
        style = (0, (4, 3)) if cause in latent else "-"
        ax.plot(*zip(*body), color="#444444", linewidth=1.4, linestyle=style, solid_capstyle="butt", zorder=1)
        ax.add_patch(Polygon(head, closed=True, facecolor="#444444", edgecolor="none", zorder=1))
    for name, (x, y) in place.items():
        role, dashed = roles.get(name, ""), name in latent
        if half[name] == _RADIUS:
            outline: Circle | FancyBboxPatch = Circle((x, y), _RADIUS)
        else:
            corner, box = (x - half[name], y - _RADIUS), f"round,pad=0,rounding_size={_RADIUS}"
            outline = FancyBboxPatch(corner, 2 * half[name], 2 * _RADIUS, boxstyle=box)
        outline.set_facecolor("white" if dashed else FILL[role])
        outline.set_edgecolor(LINE[role])
        outline.set_linewidth(1.6)
        outline.set_linestyle((0, (3, 2)) if dashed else "-")
        outline.set_zorder(2)
        ax.add_patch(outline)
        ax.text(x, y, name, ha="center", va="center_baseline", fontsize=14, color="#111111", zorder=3)
        caption = _caption(graph, name)
        ax.text(
            x,
            y - _RADIUS - 0.07,
            caption,
            ha="center",
            va="top",
            fontsize=9 if compact else 8,
            color="#444444",
            zorder=3,
        )

    heights = [y for route in routes.values() for _, y in route] + [y for _, y in place.values()]
    side = max(0.5 if compact else 0.85, max(half.values()) + 0.2)
    left, right = min(x for x, _ in place.values()) - side, max(x for x, _ in place.values()) + side
    bottom, top = min(heights) - 0.85, max(heights) + 0.5
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    ax.axis("off")
    ax.figure.set_size_inches(right - left, top - bottom)  # type: ignore[union-attr]
    return ax


def _require_drawable(graph: nx.DiGraph) -> None:
    steps = count_steps(graph)
    if len(graph) > MAX_NODES or steps > MAX_STEPS:
        raise CausalFTError(
            f"a graph of {len(graph):,} nodes and {graph.number_of_edges():,} edges is too large to draw "
            f"({steps:,} steps of edges from layer to layer; the limits are {MAX_NODES} nodes and {MAX_STEPS:,}); "
            "write it as text: dot, dagitty or mermaid"
        )


def _caption(graph: nx.DiGraph, name: str) -> str:
    """Return the text under a node: its meaning, two words per line, and whether it is latent."""
    words = str(graph.nodes[name].get("meaning") or "").split()
    lines = [" ".join(words[i : i + 2]) for i in range(0, len(words), 2)]
    if graph.nodes[name].get("latent"):
        lines.append("(latent)")
    return "\n".join(lines)


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return a dense Catmull-Rom curve through the points of a route."""
    steps = max(8, 256 // len(points))
    padded = [points[0], *points, points[-1]]
    curve = [points[0]]
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:]):
        for k in range(1, steps + 1):
            t = k / steps
            curve.append(
                tuple(  # type: ignore[arg-type]
                    0.5
                    * (
                        2 * b
                        + (c - a) * t
                        + (2 * a - 5 * b + 4 * c - d) * t**2
                        + (3 * b - a - 3 * c + d) * t**3
                    )
                    for a, b, c, d in zip(p0, p1, p2, p3)
                )
            )
    return curve


def _outside(
    curve: list[tuple[float, float]], centre: tuple[float, float], half: float
) -> list[tuple[float, float]]:
    """Return the part of a curve outside the node it starts in, with a small gap."""
    for index, (x, y) in enumerate(curve):
        along = max(abs(x - centre[0]) - (half - _RADIUS), 0.0)
        if along**2 + (y - centre[1]) ** 2 > (_RADIUS + 0.04) ** 2:
            return curve[index:]
    return curve[-2:]


def _arrow(curve: list[tuple[float, float]]) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Split a curve into a line and the triangle of its arrow head, 0.15 inches long."""
    tip = curve[-1]
    index = len(curve) - 1
    while index > 0 and (tip[0] - curve[index][0]) ** 2 + (tip[1] - curve[index][1]) ** 2 < 0.15**2:
        index -= 1
    base = curve[index]
    dx, dy = (tip[0] - base[0]) * 0.38, (tip[1] - base[1]) * 0.38
    return curve[: index + 1] or [base], [tip, (base[0] - dy, base[1] + dx), (base[0] + dy, base[1] - dx)]


_SWEEPS = 24


@dataclass(frozen=True)
class Layout:
    """Where nodes and edges go, in layers (x) and slots (y).

    Attributes
    ----------
    positions : dict of str to (x, y)
        Node centres. Every edge goes from a smaller x to a larger one.
    routes : dict of (cause, effect) to list of (x, y)
        Points of an edge, both centres included; one in each layer that it crosses.
    """

    positions: dict[str, tuple[float, float]]
    routes: dict[tuple[str, str], list[tuple[float, float]]]


def layered_layout(graph: nx.DiGraph) -> Layout:
    """Lay a DAG out in layers (Sugiyama's method: layers, order, coordinates). Deterministic.

    Examples
    --------
    >>> layout = layered_layout(nx.DiGraph([("C", "X"), ("C", "Y"), ("X", "Y")]))
    >>> [name for name, (x, y) in sorted(layout.positions.items(), key=lambda item: item[1])]
    ['C', 'X', 'Y']
    >>> len(layout.routes["C", "Y"])
    3
    """
    layer = _layers(graph)
    chains, expanded, depth = _expand(graph, layer)
    order = _order(expanded, depth)
    slots = _slots(expanded, order, set(graph.nodes))
    positions = {name: (float(depth[name]), slots[name]) for name in graph.nodes}
    routes = {edge: [(float(depth[name]), slots[name]) for name in chain] for edge, chain in chains.items()}
    return Layout(positions, routes)


def count_steps(graph: nx.DiGraph) -> int:
    """Return how many steps from layer to layer all edges take; the work of a layout grows with their square.

    Examples
    --------
    >>> count_steps(nx.DiGraph([("C", "X"), ("C", "Y"), ("X", "Y")]))
    4
    """
    layer = _layers(graph)
    return sum(layer[effect] - layer[cause] for cause, effect in graph.edges)


def _layers(graph: nx.DiGraph) -> dict[str, int]:
    """Longest path from a root, then each root is pulled next to its nearest effect."""
    layer: dict[str, int] = {}
    for name in nx.topological_sort(graph):
        layer[name] = max((layer[parent] + 1 for parent in graph.predecessors(name)), default=0)
    for name in graph.nodes:
        children = [layer[child] for child in graph.successors(name)]
        if not graph.in_degree(name) and children:
            layer[name] = min(children) - 1
    lowest = min(layer.values())
    return {name: value - lowest for name, value in layer.items()}


def _expand(graph: nx.DiGraph, layer: dict[str, int]) -> tuple[_Chains, nx.DiGraph, _Depth]:
    """Break each edge that spans several layers into unit steps through dummy nodes."""
    expanded: nx.DiGraph = nx.DiGraph()
    expanded.add_nodes_from(graph.nodes)
    depth: _Depth = dict(layer)
    chains: _Chains = {}
    for cause, effect in graph.edges:
        between = [("dummy", cause, effect, level) for level in range(layer[cause] + 1, layer[effect])]
        for dummy in between:
            depth[dummy] = dummy[3]
        chains[cause, effect] = [cause, *between, effect]
        nx.add_path(expanded, chains[cause, effect])
    return chains, expanded, depth


def _order(expanded: nx.DiGraph, depth: _Depth) -> list[list[Hashable]]:
    """Order the nodes in their layers by barycentre sweeps; keep the order with the fewest crossings."""
    layers: list[list[Hashable]] = [[] for _ in range(max(depth.values()) + 1)]
    for name in expanded.nodes:
        layers[depth[name]].append(name)
    best, fewest = [list(names) for names in layers], _crossings(expanded, layers)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        for index in range(1, len(layers)) if forward else range(len(layers) - 2, -1, -1):
            fixed = layers[index - 1 if forward else index + 1]
            # Ties are turned round on every second pair of sweeps, or the search would never leave them.
            layers[index] = _sorted(expanded, layers[index], fixed, forward, turn_ties=sweep % 4 > 1)
        crossings = _crossings(expanded, layers)
        if crossings < fewest:
            best, fewest = [list(names) for names in layers], crossings
    return best


def _sorted(
    expanded: nx.DiGraph, names: list[Hashable], fixed: list[Hashable], forward: bool, *, turn_ties: bool
) -> list[Hashable]:
    """Sort a layer by the mean place of each node's neighbours in the fixed layer beside it."""
    place = {name: index for index, name in enumerate(fixed)}
    weights: dict[Hashable, tuple[float, int]] = {}
    for index, name in enumerate(names):
        near = [place[other] for other in (expanded.predecessors if forward else expanded.successors)(name)]
        weights[name] = (sum(near) / len(near) if near else float(index), -index if turn_ties else index)
    return sorted(names, key=weights.__getitem__)


def _crossings(expanded: nx.DiGraph, layers: list[list[Hashable]]) -> int:
    total = 0
    for left, right in zip(layers, layers[1:]):
        place = {name: index for index, name in enumerate(right)}
        ends = [
            place[child]
            for name in left
            for child in sorted(expanded.successors(name), key=place.__getitem__)
        ]
        seen: list[int] = []
        for end in ends:
            total += len(seen) - bisect_right(seen, end)
            insort(seen, end)
    return total


def _slots(expanded: nx.DiGraph, order: list[list[Hashable]], real: set[str]) -> dict[Hashable, float]:
    """Give each node a height near its neighbours', at least one slot from the next (dummies may sit closer)."""
    slots = {name: index - (len(names) - 1) / 2 for names in order for index, name in enumerate(names)}
    for sweep in range(_SWEEPS):
        for names in order if sweep % 2 == 0 else reversed(order):
            wish = []
            for name in names:
                near = [slots[other] for other in (*expanded.predecessors(name), *expanded.successors(name))]
                wish.append(sum(near) / len(near) if near else slots[name])
            gaps = [1.0 if {above, below} <= real else 0.8 for above, below in zip(names, names[1:])]
            for name, height in zip(names, _separate(wish, gaps)):
                slots[name] = height
    middle = (max(slots.values()) + min(slots.values())) / 2
    return {name: height - middle for name, height in slots.items()}


def _separate(wish: list[float], gaps: list[float]) -> list[float]:
    """Return the heights nearest to ``wish`` (least squares) that keep order and gaps (pool adjacent violators)."""
    offset = [0.0]
    for gap in gaps:
        offset.append(offset[-1] + gap)
    blocks: list[list[float]] = []  # [sum, count] of wish minus offset
    for value, shift in zip(wish, offset):
        blocks.append([value - shift, 1.0])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    flat = [total / count for total, count in blocks for _ in range(int(count))]
    return [value + shift for value, shift in zip(flat, offset)]
