"""What the attributes of a node or an edge say: is the node observed, and which ends of the edge have an arrow head.

Every reader of graphs asks here, whatever the file's format, so that one statement means the same in all of them. A
statement that cannot be understood is refused; it is never read past.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from causalft.errors import CausalFTError

__all__ = ["ARROW", "CIRCLE", "TAIL", "edge_marks", "is_latent", "latency", "truth_value"]

TAIL, ARROW, CIRCLE = "-", ">", "o"

_TRUE = {"true", "yes", "y", "t", "on", "1", "1.0"}
_FALSE = {"false", "no", "n", "f", "off", "0", "0.0"}

#: Attributes that say whether a node is observed, and the answer that "yes" gives to "is it latent?".
_LATENCY = {
    "latent": True,
    "unobserved": True,
    "hidden": True,
    "unmeasured": True,
    "observed": False,
    "measured": False,
}
_DIRECTIONS = {
    "forward": (TAIL, ARROW),
    "back": (ARROW, TAIL),
    "both": (ARROW, ARROW),
    "none": (TAIL, TAIL),
    # Himsolt's GML, in the `graphics` of an edge
    "last": (TAIL, ARROW),
    "first": (ARROW, TAIL),
    # pgmpy's ADMG, and other networkx graphs that carry the kind of an edge
    "directed": (TAIL, ARROW),
    "bidirected": (ARROW, ARROW),
    "undirected": (TAIL, TAIL),
    "->": (TAIL, ARROW),
    "-->": (TAIL, ARROW),
    "<-": (ARROW, TAIL),
    "<--": (ARROW, TAIL),
    "<->": (ARROW, ARROW),
    "<-->": (ARROW, ARROW),
    "--": (TAIL, TAIL),
}
#: Graphviz's arrow shapes that read as a head, a tail, or the circle of a PAG.
_SHAPES = {
    **dict.fromkeys(("normal", "onormal", "empty", "open", "halfopen", "vee", "standard"), ARROW),
    **dict.fromkeys(("lnormal", "rnormal", "lonormal", "ronormal", "lvee", "rvee"), ARROW),
    **dict.fromkeys(("none", ""), TAIL),
    **dict.fromkeys(("odot", "dot", "circle"), CIRCLE),
}


def truth_value(value: object, what: str) -> bool:
    """Return whether a written value says yes: true, yes, 1, "True", "no", 0 and their like.

    Raises
    ------
    CausalFTError
        If it says neither.

    Examples
    --------
    >>> truth_value("False", "latent"), truth_value("yes", "observed"), truth_value(1, "latent")
    (False, True, True)
    """
    text = str(value).strip().strip("\"'").strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise CausalFTError(f"{what} is {str(value)[:40]!r}, which says neither yes nor no; write yes or no")


def latency(attributes: Mapping[str, Any], where: str) -> bool | None:
    """Return whether the attributes of a node call it latent; None if they do not say.

    ``latent``, ``unobserved``, ``hidden`` and ``unmeasured`` say it with yes, ``observed`` and ``measured`` with no. A
    dashed or dotted ``style`` says it where none of these is there. pgmpy's ``roles`` may hold ``latents``.

    Raises
    ------
    CausalFTError
        If a value says neither yes nor no, or two attributes contradict each other.

    Examples
    --------
    >>> latency({"observed": "no"}, "node U"), latency({"latent": "False", "style": "dashed"}, "node U")
    (True, False)
    >>> latency({"color": "red"}, "node U") is None
    True
    """
    said: dict[str, bool] = {}
    for key, value in attributes.items():
        name = str(key).strip().lower()
        if name in _LATENCY and value is not None:
            said[name] = truth_value(value, f"{where}: {name}") is _LATENCY[name]
    roles = attributes.get("roles")
    if isinstance(roles, (set, frozenset, list, tuple)) and {"latents", "latent"} & set(map(str, roles)):
        said["roles"] = True
    if len(set(said.values())) > 1:
        raise CausalFTError(f"{where}: {' and '.join(said)} contradict each other; keep one of them")
    if said:
        return next(iter(said.values()))
    style = str(attributes.get("style") or "").lower()
    return True if "dashed" in style or "dotted" in style else None


def is_latent(attributes: Mapping[str, Any], where: str) -> bool:
    """Return whether the attributes of a node call it latent; a node of which nothing is said is observed."""
    return bool(latency(attributes, where))


def edge_marks(
    attributes: Mapping[str, Any], where: str, default: tuple[str, str] = (TAIL, ARROW)
) -> tuple[str, str] | None:
    """Return the marks at the first and the second end of an edge, or None if the edge is invisible (layout only).

    Read are Graphviz's ``dir``, ``arrowhead``, ``arrowtail`` and ``style=invis``, ``direction``, ``directed``, and
    ``type`` where it is a kind of edge (pgmpy).

    Raises
    ------
    CausalFTError
        If a direction or an arrow head is none that is known.

    Examples
    --------
    >>> edge_marks({"dir": "back"}, "edge A -> B"), edge_marks({"dir": "both", "arrowtail": "odot"}, "edge A -> B")
    (('>', '-'), ('o', '>'))
    """
    plain = {
        str(key).strip().lower(): str(value).strip().strip("\"'").lower()
        for key, value in attributes.items()
        if value is not None
    }
    if "invis" in plain.get("style", ""):
        return None
    left, right = default
    for key in ("dir", "direction", "type", "edge_type"):
        said = plain.get(key)
        if said is None or (said not in _DIRECTIONS and key.endswith("type")):
            continue  # a type may be anything: the kind of a relation, a weight's name
        if said not in _DIRECTIONS:
            raise CausalFTError(f"{where}: {key}={said} is no direction; write forward, back, both or none")
        left, right = _DIRECTIONS[said]
    if "directed" in plain and not truth_value(plain["directed"], f"{where}: directed"):
        left, right = TAIL, TAIL
    if right == ARROW and "arrowhead" in plain:
        right = _shape(plain["arrowhead"], "arrowhead", where)
    if left == ARROW and "arrowtail" in plain:
        left = _shape(plain["arrowtail"], "arrowtail", where)
    return left, right


def _shape(name: str, key: str, where: str) -> str:
    if name not in _SHAPES:
        raise CausalFTError(f"{where}: {key}={name} is no arrow that is known here; write normal or none")
    return _SHAPES[name]
