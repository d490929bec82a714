"""Figures of a causal graph: PNG and SVG by matplotlib, or text (DOT, DAGitty, Mermaid). No Graphviz is needed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import networkx as nx

from causalft.errors import CausalFTError, nearest
from causalft.runs.folder import atomic_path, check_place, write_text
from causalft.runs.locks import locked
from causalft.scm.graph import latent_nodes, require_node
from causalft.scm.layout import count_steps, layered_layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "FILL",
    "FORMATS",
    "LINE",
    "WRITERS",
    "draw_graph",
    "node_roles",
    "save_graph",
    "to_dagitty",
    "to_dot",
    "to_mermaid",
]


# Okabe-Ito: readable without telling red from green. Fill, and the edge colour that goes with it.
FILL = {"treatment": "#cfe6f5", "outcome": "#fbe3b5", "adjustment": "#c9ebdf", "": "#f4f4f4"}
LINE = {"treatment": "#0072b2", "outcome": "#b07a00", "adjustment": "#00795a", "": "#444444"}


def node_roles(
    graph: nx.DiGraph, treatment: str | None, outcome: str | None, adjustment: Iterable[str]
) -> dict[str, str]:
    """Return the role of each node that has one: treatment, outcome or adjustment."""
    roles = {require_node(graph, name, "adjustment"): "adjustment" for name in adjustment}
    if treatment is not None:
        roles[require_node(graph, treatment, "treatment")] = "treatment"
    if outcome is not None:
        roles[require_node(graph, outcome, "outcome")] = "outcome"
    return roles


def to_dot(
    graph: nx.DiGraph,
    *,
    treatment: str | None = None,
    outcome: str | None = None,
    adjustment: Iterable[str] = (),
) -> str:
    """Return the graph as DOT text, which :func:`causalft.scm.read_graph` reads back.

    Examples
    --------
    >>> print(to_dot(nx.DiGraph([("X", "Y")]), treatment="X"))
    digraph causal {
      rankdir=LR;
      node [shape=circle];
      "X" [style="filled", fillcolor="#cfe6f5"];
      "Y";
      "X" -> "Y";
    }
    <BLANKLINE>
    """
    roles = node_roles(graph, treatment, outcome, adjustment)
    lines = ["digraph causal {", "  rankdir=LR;", "  node [shape=circle];"]
    for name, attributes in graph.nodes(data=True):
        words = []
        if attributes.get("latent"):
            words += ["latent=true", 'style="dashed"']
        elif name in roles:
            words += ['style="filled"', f'fillcolor="{FILL[roles[name]]}"']
        if attributes.get("meaning"):
            words.append(f"meaning={_quote(attributes['meaning'])}")
        lines.append(f"  {_quote(name)}{' [' + ', '.join(words) + ']' if words else ''};")
    lines += [f"  {_quote(cause)} -> {_quote(effect)};" for cause, effect in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def to_dagitty(
    graph: nx.DiGraph,
    *,
    treatment: str | None = None,
    outcome: str | None = None,
    adjustment: Iterable[str] = (),
) -> str:
    """Return the graph as DAGitty code, for dagitty.net, its R package, pgmpy and DoWhy.

    Examples
    --------
    >>> print(to_dagitty(nx.DiGraph([("X", "Y")]), treatment="X"))
    dag {
      "X" [exposure]
      "Y"
      "X" -> "Y"
    }
    <BLANKLINE>
    """
    words = {"treatment": "exposure", "outcome": "outcome", "adjustment": "adjusted"}
    roles = node_roles(graph, treatment, outcome, adjustment)
    latent = latent_nodes(graph)
    lines = ["dag {"]
    for name in graph.nodes:
        marks = (["latent"] if name in latent else []) + ([words[roles[name]]] if name in roles else [])
        lines.append(f"  {_quote(name)}{' [' + ','.join(marks) + ']' if marks else ''}")
    lines += [f"  {_quote(cause)} -> {_quote(effect)}" for cause, effect in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def to_mermaid(
    graph: nx.DiGraph,
    *,
    treatment: str | None = None,
    outcome: str | None = None,
    adjustment: Iterable[str] = (),
) -> str:
    """Return the graph as a Mermaid flowchart (for Markdown that renders it).

    Examples
    --------
    >>> print(to_mermaid(nx.DiGraph([("X", "Y")]), outcome="Y"))
    flowchart LR
      n0(("X"))
      n1(("Y"))
      n0 --> n1
      classDef outcome fill:#fbe3b5,stroke:#b07a00
      class n1 outcome
    <BLANKLINE>
    """
    roles = node_roles(graph, treatment, outcome, adjustment)
    latent = latent_nodes(graph)
    # Mermaid keeps some words (end, class, ...) for itself, so its ids are numbered and the names are labels.
    ids = {name: f"n{index}" for index, name in enumerate(graph.nodes)}
    lines = ["flowchart LR"]
    for name in graph.nodes:
        label = _entities(name)
        if meaning := graph.nodes[name].get("meaning"):
            label += f"<br/>{_entities(str(meaning))}"
        lines.append(f'  {ids[name]}(("{label}"))')
    lines += [
        f"  {ids[cause]} {'-.->' if cause in latent else '-->'} {ids[effect]}"
        for cause, effect in graph.edges
    ]
    if latent:
        lines.append("  classDef latent fill:#ffffff,stroke:#444444,stroke-dasharray:4 3")
        lines.append(f"  class {','.join(ids[name] for name in latent)} latent")
    for role in ("treatment", "outcome", "adjustment"):
        if members := [ids[name] for name in graph.nodes if roles.get(name) == role and name not in latent]:
            lines += [
                f"  classDef {role} fill:{FILL[role]},stroke:{LINE[role]}",
                f"  class {','.join(members)} {role}",
            ]
    return "\n".join(lines) + "\n"


def _entities(text: str) -> str:
    return re.sub(r'["<>#]', lambda match: f"#{ord(match.group())};", text)


#: The text formats by name.
WRITERS: dict[str, Callable[..., str]] = {"dot": to_dot, "dagitty": to_dagitty, "mermaid": to_mermaid}


FORMATS: tuple[str, ...] = ("png", "svg", *WRITERS)
_SUFFIXES = {
    ".png": "png",
    ".svg": "svg",
    ".dot": "dot",
    ".gv": "dot",
    ".dagitty": "dagitty",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
}

#: A larger graph is not drawn: nobody could read it. An edge counts once for each layer that it crosses.
MAX_NODES, MAX_STEPS = 500, 3_000

# A large figure gets fewer pixels an inch, so that no graph makes an image that programs refuse to open.
_DPI, _MAX_SIDE, _MAX_PIXELS = 200, 30_000, 25_000_000
_LAYER_INCHES, _SLOT_INCHES, _RADIUS = 1.7, 1.25, 0.3


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
    """Write a graph as a picture or as text, atomically.

    Parameters
    ----------
    format : {"png", "svg", "dot", "dagitty", "mermaid"}, optional
        From the file's ending (.png, .svg, .dot, .gv, .dagitty, .mmd, .mermaid) if not given.
    treatment, outcome, adjustment
        Nodes to colour by their role.

    Raises
    ------
    CausalFTError
        If the format is unknown or cannot be told from the ending, or a node is not in the graph.
    """
    file = Path(path)
    kind = format or _SUFFIXES.get(file.suffix.lower())
    if kind is None:
        raise CausalFTError(
            f"{file}: no format ends in {file.suffix or 'nothing'!r}; give --format {'|'.join(FORMATS)}"
        )
    if kind not in FORMATS:
        raise CausalFTError(f"unknown graph format {kind!r}; {nearest(kind, FORMATS)}")
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

    With ``compact`` the layers stand closer, as on a phone.

    The figure that holds the axes is resized to the graph, so that names stay readable however large it is.

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
    """Return what stands under a node: its meaning, two words a line, and whether it is latent."""
    words = str(graph.nodes[name].get("meaning") or "").split()
    lines = [" ".join(words[i : i + 2]) for i in range(0, len(words), 2)]
    if graph.nodes[name].get("latent"):
        lines.append("(latent)")
    return "\n".join(lines)


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return a dense curve through the points of a route: Catmull-Rom, a straight line for two points."""
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
    """Return the part of a curve that has left the node it starts in, with a small gap to the outline."""
    for index, (x, y) in enumerate(curve):
        along = max(abs(x - centre[0]) - (half - _RADIUS), 0.0)
        if along**2 + (y - centre[1]) ** 2 > (_RADIUS + 0.04) ** 2:
            return curve[index:]
    return curve[-2:]


def _arrow(curve: list[tuple[float, float]]) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Split a curve into the line and the triangle of its arrow head, 0.15 inches long."""
    tip = curve[-1]
    index = len(curve) - 1
    while index > 0 and (tip[0] - curve[index][0]) ** 2 + (tip[1] - curve[index][1]) ** 2 < 0.15**2:
        index -= 1
    base = curve[index]
    dx, dy = (tip[0] - base[0]) * 0.38, (tip[1] - base[1]) * 0.38
    return curve[: index + 1] or [base], [tip, (base[0] - dy, base[1] + dx), (base[0] + dy, base[1] - dx)]
