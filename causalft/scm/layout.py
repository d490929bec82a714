"""A layered layout for small DAGs: causes left, effects right, few crossings, long edges routed around the nodes."""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass

import networkx as nx

__all__ = ["Layout", "count_steps", "layered_layout"]

_SWEEPS = 24


@dataclass(frozen=True)
class Layout:
    """Where nodes and edges go, in units of one layer (x) and one slot (y).

    Attributes
    ----------
    positions : dict of str to (x, y)
        Centre of each node. Every edge goes from a smaller x to a larger one.
    routes : dict of (cause, effect) to list of (x, y)
        The points an edge passes, both centres included: a long edge has one point in each layer it crosses.
    """

    positions: dict[str, tuple[float, float]]
    routes: dict[tuple[str, str], list[tuple[float, float]]]


def layered_layout(graph: nx.DiGraph) -> Layout:
    """Lay a DAG out in layers (Sugiyama's method: layers, order, coordinates).

    Deterministic: the same graph, nodes in the same order, gets the same layout.

    Parameters
    ----------
    graph : networkx.DiGraph
        Acyclic.

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
    """Return how many steps from layer to layer the edges take in all: the work of a layout grows with their square.

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


def _expand(graph: nx.DiGraph, layer: dict[str, int]) -> tuple[dict, nx.DiGraph, dict]:
    """Break each edge that spans several layers into unit steps through dummy nodes."""
    expanded: nx.DiGraph = nx.DiGraph()
    expanded.add_nodes_from(graph.nodes)
    depth: dict = dict(layer)
    chains: dict = {}
    for cause, effect in graph.edges:
        between = [("dummy", cause, effect, level) for level in range(layer[cause] + 1, layer[effect])]
        for dummy in between:
            depth[dummy] = dummy[3]
        chains[cause, effect] = [cause, *between, effect]
        nx.add_path(expanded, chains[cause, effect])
    return chains, expanded, depth


def _order(expanded: nx.DiGraph, depth: dict) -> list[list]:
    """Order the nodes in their layers by barycentre sweeps; keep the order with the fewest crossings."""
    layers: list[list] = [[] for _ in range(max(depth.values()) + 1)]
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


def _sorted(expanded: nx.DiGraph, names: list, fixed: list, forward: bool, *, turn_ties: bool) -> list:
    """Sort a layer by the mean place of each node's neighbours in the fixed layer beside it."""
    place = {name: index for index, name in enumerate(fixed)}
    weights: dict = {}
    for index, name in enumerate(names):
        near = [place[other] for other in (expanded.predecessors if forward else expanded.successors)(name)]
        weights[name] = (sum(near) / len(near) if near else float(index), -index if turn_ties else index)
    return sorted(names, key=weights.__getitem__)


def _crossings(expanded: nx.DiGraph, layers: list[list]) -> int:
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


def _slots(expanded: nx.DiGraph, order: list[list], real: set) -> dict:
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
