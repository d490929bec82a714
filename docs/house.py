"""The plan of the code: floors read from architecture.md, arrows read from the imports, and a figure of both."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

__all__ = ["ROOT", "cycle", "draw", "essential", "floors", "imports", "room_of", "rooms_imports"]

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("causalft", "synthetic", "experiments")

# Where a room stands on its floor, chosen so that no arrow passes behind a room; a new room stands at the right end.
COLUMNS = {
    "causalft.cli": -0.8,
    "experiments": 0.8,
    "causalft.pipelines": 0.0,
    "causalft.analysis": 0.6,
    "causalft.methods": -0.4,
    "causalft.models": 0.2,
    "causalft.data": -0.8,
    "synthetic": 0.4,
    "causalft.report": 1.6,
    "causalft.scm": 0.2,
    "causalft.runs": 1.2,
    "causalft.errors": -0.9,
    "causalft.version": 2.2,
}


def floors(page: Path = ROOT / "docs" / "architecture.md") -> dict[str, int]:
    """Return room -> floor, from the rows ``| floor | `room` | ... |`` of the table."""
    rows = re.findall(r"^\| (\d+) \| `([\w.]+)` \|", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {room: int(floor) for floor, room in rows}


def _module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(root: Path = ROOT) -> dict[str, set[str]]:
    """Return module -> modules and packages that it imports, wherever in the file the import stands."""
    files = {
        _module_name(path, root): path
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
    }
    found: dict[str, set[str]] = {}
    for module, path in files.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = package.split(".")[: len(package.split(".")) - node.level + 1]
                    base = ".".join([*above, base] if base else above)
                # `from package import module` imports the module; `from module import name` the module itself.
                names.update(
                    f"{base}.{alias.name}" if f"{base}.{alias.name}" in files else base
                    for alias in node.names
                )
        found[module] = names - {module}
    return found


def room_of(module: str, rooms: dict[str, int]) -> str | None:
    """Return the room that a module belongs to: the longest room name that it starts with."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in rooms:
            return ".".join(parts[:length])
    return None


def rooms_imports(modules: dict[str, set[str]], rooms: dict[str, int]) -> dict[tuple[str, str], list[str]]:
    """Return (room, imported room) -> the imports "module -> module" that make the arrow."""
    arrows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for module, names in modules.items():
        for name in sorted(names):
            start, end = room_of(module, rooms), room_of(name, rooms)
            if start is not None and end is not None and start != end:
                arrows[start, end].append(f"{module} -> {name}")
    return dict(arrows)


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return one cycle of a directed graph as a list of nodes that ends where it begins, or an empty list."""
    done: set[str] = set()
    for start in list(graph):
        path: list[str] = []
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            node, leaving = stack.pop()
            if leaving:
                path.pop()
                done.add(node)
            elif node in path:
                return [*path[path.index(node) :], node]
            elif node not in done:
                path.append(node)
                stack.append((node, True))
                stack.extend((target, False) for target in sorted(graph.get(node, ())))
    return []


def essential(arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the arrows that no longer chain of arrows implies (the transitive reduction of a graph without cycles).

    Raises
    ------
    ValueError
        If the arrows lead in a circle; the message names it.
    """
    targets: dict[str, set[str]] = defaultdict(set)
    for start, end in sorted(arrows):
        targets[start].add(end)
    circle = cycle(targets)
    if circle:
        raise ValueError(f"the rooms import each other in a circle: {' -> '.join(circle)}")

    def reach(start: str) -> set[str]:
        return targets[start] | {further for end in list(targets[start]) for further in reach(end)}

    return {
        (start, end)
        for start, end in arrows
        if not any(end in reach(other) for other in targets[start] - {end})
    }


def draw(target: Path) -> Path:
    """Draw the rooms on their floors and the arrows between them to ``target`` (SVG)."""
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    rooms = floors()
    arrows = essential({pair for pair in rooms_imports(imports(), rooms) if pair[1] != "causalft.errors"})
    rows: dict[int, list[str]] = defaultdict(list)
    for room, floor in rooms.items():
        rows[floor].append(room)
    # Okabe-Ito, one colour a floor
    colours = ["#000000", "#666666", "#009E73", "#0072B2", "#CC79A7", "#D55E00", "#E69F00"]
    figure = Figure(figsize=(11, 8.6), facecolor="white")
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    place: dict[str, tuple[float, float]] = {}
    half_width, half_height, step = 0.93, 0.2, 1.35
    for floor, names in rows.items():
        for room in names:
            right_end = max([COLUMNS[other] for other in names if other in COLUMNS], default=-1.9)
            place[room] = (2.6 * COLUMNS.get(room, right_end + 1.0), floor * step)
    for start, end in sorted(arrows):
        (x0, y0), (x1, y1) = place[start], place[end]
        level = abs(y0 - y1) < 1e-9
        tail = (x0, y0 - half_height) if not level else (x0 + (half_width if x1 > x0 else -half_width), y0)
        head = (x1, y1 + half_height) if not level else (x1 + (half_width if x0 > x1 else -half_width), y1)
        neighbours = level and abs(x0 - x1) < 8
        bend = 0.0 if neighbours or not level else 0.35
        axes.add_patch(
            FancyArrowPatch(
                tail,
                head,
                arrowstyle="-|>",
                mutation_scale=9,
                linewidth=0.9,
                alpha=0.75,
                color=colours[rooms[start] % len(colours)],
                connectionstyle=f"arc3,rad={bend}",
                shrinkA=0,
                shrinkB=1,
            )
        )
    for room, (x, y) in place.items():
        axes.add_patch(
            FancyBboxPatch(
                (x - half_width, y - half_height),
                2 * half_width,
                2 * half_height,
                boxstyle="round,pad=0.02",
                facecolor="white",
                edgecolor=colours[rooms[room] % len(colours)],
                linewidth=1.6,
                zorder=3,
            )
        )
        axes.text(x, y, room, ha="center", va="center", fontsize=9.5, zorder=4)
    left = min(x for x, _ in place.values()) - half_width - 1.1
    right = max(x for x, _ in place.values()) + half_width + 0.1
    for floor in rows:
        axes.text(
            left + 0.05,
            floor * step,
            f"floor {floor}",
            ha="left",
            va="center",
            fontsize=9,
            color="#444444",
        )
    axes.set_xlim(left, right)
    axes.set_ylim(-0.45, max(rows) * step + 0.45)
    axes.set_axis_off()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(
        target, format=target.suffix.lstrip("."), metadata={"Date": None} if target.suffix == ".svg" else None
    )
    return target
