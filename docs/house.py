"""The plan of the code: floors from architecture.md, arrows from the imports, and a figure of both."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "ROOT",
    "cycle",
    "derived_floors",
    "draw",
    "essential",
    "floors",
    "folders",
    "imports",
    "purposes",
    "room_of",
    "rooms_imports",
]

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("causalft", "synthetic", "experiments")


def floors(page: Path = ROOT / "docs" / "architecture.md") -> dict[str, int]:
    """Return room -> floor, from the rows ``| floor | `room` | ... |`` of the table."""
    rows = re.findall(r"^\| (\d+) \| `([\w.]+)` \|", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {room: int(floor) for floor, room in rows}


def purposes(page: Path = ROOT / "docs" / "architecture.md") -> dict[str, str]:
    """Return room -> what lives there, up to the first colon, comma or semicolon in the table."""
    rows = re.findall(
        r"^\| \d+ \| `([\w.]+)` \| ([^:;,|]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    return {room: words.strip() for room, words in rows}


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


def derived_floors(arrows: set[tuple[str, str]], rooms: Iterable[str]) -> dict[str, int]:
    """Return room -> floor as the imports make it: one above the highest floor that it imports, else 0."""
    targets: dict[str, set[str]] = {room: set() for room in rooms}
    for start, end in arrows:
        targets[start].add(end)
    found: dict[str, int] = {}

    def floor(room: str) -> int:
        if room not in found:
            found[room] = 1 + max(map(floor, targets[room]), default=-1)
        return found[room]

    return {room: floor(room) for room in targets}


def folders(room: str, modules: Iterable[str]) -> list[str]:
    """Return the folders of a room: the packages directly in it."""
    path = ROOT.joinpath(*room.split("."))
    inside = [module for module in modules if module.rpartition(".")[0] == room]
    return [module.rpartition(".")[2] for module in inside if (path / module.rpartition(".")[2]).is_dir()]


# Okabe-Ito: text and outline of a floor, from the ground up, again from the start where there are more floors.
COLOURS = ("#444444", "#0072b2", "#00795a", "#b07a00", "#a34d80", "#b04a00")
_WIDTH, _HEIGHT, _STEP, _GAP = 9.0, 0.62, 0.95, 0.25


def draw(target: Path) -> Path:
    """Draw the rooms on their floors, their folders, and the arrows that no longer chain implies, to ``target``.

    Arrows to ``causalft.errors`` are left out.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch
    from matplotlib.path import Path as Curve

    rooms, modules, captions = floors(), imports(), purposes()
    arrows = essential({pair for pair in rooms_imports(modules, rooms) if pair[1] != "causalft.errors"})
    rows: dict[int, list[str]] = defaultdict(list)
    for room, floor in rooms.items():
        rows[floor].append(room)
    box: dict[str, tuple[float, float, float]] = {}  # left, right, y of the middle
    for floor, names in rows.items():
        width = (_WIDTH - _GAP * (len(names) - 1)) / len(names)
        for index, room in enumerate(names):
            left = index * (width + _GAP)
            box[room] = (left, left + width, floor * _STEP)
    top = max(rows) * _STEP
    long = [pair for pair in sorted(arrows) if rooms[pair[0]] - rooms[pair[1]] > 1]
    margin = 0.35 + 0.3 * len(long)
    figure = Figure(figsize=(_WIDTH + 0.9 + margin, top + 1.0), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    for room, (left, right, y) in box.items():
        colour = COLOURS[rooms[room] % len(COLOURS)]
        axes.add_patch(
            FancyBboxPatch(
                (left, y - _HEIGHT / 2),
                right - left,
                _HEIGHT,
                boxstyle="round,pad=0,rounding_size=0.12",
                facecolor=matplotlib.colors.to_rgba(colour, 0.1),
                edgecolor=colour,
                linewidth=1.4,
            )
        )
        axes.text(left + 0.2, y, room, va="center", fontsize=12, weight="bold", color=colour)
        inside, place = sorted(folders(room, modules)), left + 2.75
        if len(inside) < 2:
            axes.text(left + 2.0, y, captions[room], va="center", fontsize=10.5, color="#444444")
            place = left + 2.2 + 0.085 * len(captions[room])
        for folder in inside:
            width = 0.3 + 0.1 * len(folder)
            axes.add_patch(
                FancyBboxPatch(
                    (place, y - 0.17),
                    width,
                    0.34,
                    boxstyle="round,pad=0,rounding_size=0.08",
                    facecolor="white",
                    edgecolor=colour,
                    linewidth=0.7,
                )
            )
            axes.text(place + width / 2, y, folder, ha="center", va="center", fontsize=10, color="#222222")
            place += width + 0.12
    arrow = {"arrowstyle": "-|>", "mutation_scale": 12, "linewidth": 1.2, "color": "#444444", "shrinkA": 0}
    for start, end in sorted(arrows - set(long)):
        (left, right, y), (other_left, other_right, below) = box[start], box[end]
        x = (max(left, other_left) + min(right, other_right)) / 2
        tail, head = (x, y - _HEIGHT / 2), (x, below + _HEIGHT / 2)
        axes.add_patch(FancyArrowPatch(tail, head, shrinkB=0, **arrow))
    # A longer arrow goes down at the right, each on a line of its own.
    for index, (start, end) in enumerate(sorted(long, key=lambda pair: rooms[pair[0]] - rooms[pair[1]])):
        (_, right, y), (_, other_right, below) = box[start], box[end]
        x, bend = _WIDTH + 0.35 + 0.3 * index, 0.15
        points = [(right, y), (x - bend, y), (x, y), (x, y - bend), (x, below + bend), (x, below)]
        points += [(x - bend, below), (other_right + 0.1, below)]
        kinds = [Curve.MOVETO, Curve.LINETO, Curve.CURVE3, Curve.CURVE3, Curve.LINETO, Curve.CURVE3]
        kinds += [Curve.CURVE3, Curve.LINETO]
        axes.add_patch(PathPatch(Curve(points, kinds), fill=False, edgecolor="#444444", linewidth=1.2))
        axes.add_patch(FancyArrowPatch((other_right + 0.2, below), (other_right, below), shrinkB=0, **arrow))
    for floor in rows:
        axes.text(-0.25, floor * _STEP, str(floor), ha="right", va="center", fontsize=11, color="#555555")
    axes.set(xlim=(-0.7, _WIDTH + 0.2 + margin), ylim=(-0.5, top + 0.5), aspect="equal")
    axes.set_axis_off()
    target.parent.mkdir(parents=True, exist_ok=True)
    kind = target.suffix.lstrip(".")
    with matplotlib.rc_context({"svg.hashsalt": "house", "svg.fonttype": "path"}):
        figure.savefig(target, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return target
