"""The paper's causal graph, and the checks that turn any directed graph into a causal one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import networkx as nx

from causalft.errors import CausalFTError, nearest

__all__ = [
    "ARROW",
    "CIRCLE",
    "MEANINGS",
    "PAPER_EDGES",
    "PAPER_LATENT",
    "TAIL",
    "as_dag",
    "asked_nodes",
    "causal_graph",
    "edge_marks",
    "format_path",
    "is_latent",
    "latency",
    "latent_nodes",
    "observed_nodes",
    "own_name",
    "require_node",
    "truth_value",
]


TAIL, ARROW, CIRCLE = "-", ">", "o"

_TRUE = {"true", "yes", "y", "t", "on", "1", "1.0"}
_FALSE = {"false", "no", "n", "f", "off", "0", "0.0"}

#: Attributes that state latency, and what "yes" means for "is it latent?".
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
    # pgmpy's ADMG, and networkx graphs with a type of edge
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
#: Graphviz's arrow shapes, as a head, a tail, or the circle of a PAG.
_SHAPES = {
    **dict.fromkeys(("normal", "onormal", "empty", "open", "halfopen", "vee", "standard"), ARROW),
    **dict.fromkeys(("lnormal", "rnormal", "lonormal", "ronormal", "lvee", "rvee"), ARROW),
    **dict.fromkeys(("none", ""), TAIL),
    **dict.fromkeys(("odot", "dot", "circle"), CIRCLE),
}


def truth_value(value: object, what: str) -> bool:
    """Return the truth value of yes, true, 1, "True", "no", 0 and the like.

    Raises
    ------
    CausalFTError
        For any other value.

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
    raise CausalFTError(f"{what} is {str(value)[:40]!r}, which is neither yes nor no; write yes or no")


def latency(attributes: Mapping[str, Any], where: str) -> bool | None:
    """Return whether a node's attributes call it latent; None if they do not say.

    Read are ``latent``, ``unobserved``, ``hidden``, ``unmeasured``, ``observed``, ``measured``; pgmpy's ``roles``; and,
    where none of these is given, a dashed or dotted ``style``.

    Raises
    ------
    CausalFTError
        If a value is not a truth value, or two attributes contradict each other.

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
    """Return whether a node's attributes call it latent; by default it is observed."""
    return bool(latency(attributes, where))


def edge_marks(
    attributes: Mapping[str, Any], where: str, default: tuple[str, str] = (TAIL, ARROW)
) -> tuple[str, str] | None:
    """Return the marks at the first and second end of an edge, or None if the edge is invisible (layout only).

    Read are Graphviz's ``dir``, ``arrowhead``, ``arrowtail`` and ``style=invis``, ``direction``, ``directed``, and
    pgmpy's ``type``.

    Raises
    ------
    CausalFTError
        If a direction or an arrow head is unknown.

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
            continue  # a type may mean something else
        if said not in _DIRECTIONS:
            raise CausalFTError(
                f"{where}: {key}={said} is not a direction; write forward, back, both or none"
            )
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
        raise CausalFTError(f"{where}: {key}={name} is not a known arrow; write normal or none")
    return _SHAPES[name]


#: The edges of the paper's graph (section 2): X <- C -> Y, U -> X, D -> C, X -> B, B -> Y.
PAPER_EDGES: tuple[tuple[str, str], ...] = (
    ("D", "C"),
    ("C", "X"),
    ("C", "Y"),
    ("U", "X"),
    ("X", "B"),
    ("B", "Y"),
)

#: Latent nodes: the pre-training data of a model, and the rest of what makes an image.
PAPER_LATENT: tuple[str, ...] = ("D", "U")

#: What each node of the paper's graph stands for.
MEANINGS: dict[str, str] = {
    "D": "parameter imbalance",
    "C": "incomplete semantic factor",
    "U": "inaccessible factor",
    "X": "image",
    "B": "balanced representation",
    "Y": "label",
}


def causal_graph() -> nx.DiGraph:
    """Return the paper's causal graph as a new networkx DAG.

    Edges: ``X <- C -> Y``, ``U -> X``, ``D -> C``, ``X -> B``, ``B -> Y``. Nodes carry ``latent`` (bool; true for D
    and U) and ``meaning`` (str).

    References
    ----------
    Chen et al., "Rethinking the Bias of Foundation Model under Long-tailed Distribution", ICML 2025, section 2.

    Examples
    --------
    >>> graph = causal_graph()
    >>> sorted(graph.predecessors("X"))
    ['C', 'U']
    >>> latent_nodes(graph)
    ('D', 'U')
    """
    graph = nx.DiGraph()
    for name, meaning in MEANINGS.items():
        graph.add_node(name, latent=name in PAPER_LATENT, meaning=meaning)
    graph.add_edges_from(PAPER_EDGES)
    return graph


def as_dag(
    graph: nx.DiGraph | Iterable[tuple[str, str]], *, latent: Iterable[str] = (), source: str = "graph"
) -> nx.DiGraph:
    """Return a validated copy of a directed acyclic graph.

    Parameters
    ----------
    graph : networkx.DiGraph or iterable of (cause, effect)
        Names become strings. Attributes that state latency or direction are read (`latency`, `edge_marks`); a
        two-headed edge becomes a latent common cause.
    latent : iterable of str
        Further latent nodes.
    source : str
        Name of the graph in error messages.

    Raises
    ------
    CausalFTError
        If the graph is undirected, has no edge, a self-loop, a cycle, or a missing or repeated name, or an attribute
        cannot be understood.

    Examples
    --------
    >>> as_dag([("C", "X"), ("C", "Y"), ("X", "Y")])
    <networkx.classes.digraph.DiGraph object at ...>
    >>> as_dag([("X", "B"), ("B", "Y"), ("Y", "X")])
    Traceback (most recent call last):
    causalft.errors.CausalFTError: graph has the cycle X -> B -> Y -> X; a causal graph has none: remove or turn an edge
    """
    given = graph if isinstance(graph, nx.Graph) else nx.DiGraph([_pair(edge, source) for edge in graph])
    if not given.is_directed():
        raise CausalFTError(f"{source} is undirected; give each edge a direction (cause -> effect)")
    dag = nx.DiGraph()
    hidden = set(getattr(given, "latents", ()))  # pgmpy
    for name, attributes in given.nodes(data=True):
        text = str(name).strip()
        if not text:
            raise CausalFTError(f"{source} has a node without a name; name every node")
        if text in dag:
            raise CausalFTError(f"{source} has two nodes that are both written {text!r}; rename one")
        kept: dict[str, bool | str] = {
            "latent": is_latent(attributes, f"{source}: node {text}") or name in hidden
        }
        if attributes.get("meaning"):
            kept["meaning"] = str(attributes["meaning"])
        dag.add_node(text, **kept)
    both: set[frozenset[str]] = set()
    for cause, effect, attributes in given.edges(data=True):
        left, right = str(cause).strip(), str(effect).strip()
        marks = edge_marks(attributes, f"{source}: edge {left} -> {right}") if attributes else (TAIL, ARROW)
        if marks is None:
            continue
        if left == right:
            raise CausalFTError(
                f"{source} has the edge {left} -> {left}; a variable cannot cause itself: remove it"
            )
        if marks == (TAIL, ARROW):
            dag.add_edge(left, right)
        elif marks == (ARROW, TAIL):
            dag.add_edge(right, left)
        elif marks == (ARROW, ARROW):
            if frozenset((left, right)) not in both:  # pgmpy's ADMG has it in both directions
                add_common_cause(dag, left, right)
            both.add(frozenset((left, right)))
        else:
            raise CausalFTError(
                f"{source}: the edge between {left} and {right} is undirected or open; give it a direction"
            )
    for key in ("other_names", "exposures", "outcomes"):
        if key in given.graph:
            dag.graph[key] = given.graph[key]
    if dag.number_of_edges() == 0:
        raise CausalFTError(f"{source} has no edge; write at least one, for example X -> Y")
    for name in latent:
        dag.nodes[require_node(dag, name, source=source)]["latent"] = True
    try:
        cycle = nx.find_cycle(dag)
    except nx.NetworkXNoCycle:
        return dag
    around = [edge[0] for edge in cycle]
    shown = around if len(around) <= 12 else [*around[:6], f"({len(around) - 12} more)", *around[-6:]]
    names = " -> ".join([*shown, around[0]])
    raise CausalFTError(f"{source} has the cycle {names}; a causal graph has none: remove or turn an edge")


def add_common_cause(dag: nx.DiGraph, left: str, right: str) -> None:
    """Add the latent node L(left,right) that a two-headed edge stands for."""
    name = f"L({left},{right})"
    while name in dag:
        name += "'"
    dag.add_node(name, latent=True, meaning="common cause")
    dag.add_edges_from([(name, left), (name, right)])


def _pair(edge: object, source: str) -> tuple[object, object]:
    """Check that an edge is a pair, so that networkx does not read the text "XY" as the edge X -> Y."""
    if isinstance(edge, (tuple, list)) and len(edge) == 2:
        return edge[0], edge[1]
    raise CausalFTError(f"{source} has the edge {edge!r}; an edge is a pair (cause, effect)")


def require_node(graph: nx.DiGraph, name: str, role: str = "node", *, source: str = "the graph") -> str:
    """Return ``name`` if the graph has it.

    Raises
    ------
    CausalFTError
        If not; the nearest names are offered.

    Examples
    --------
    >>> require_node(causal_graph(), "X", "treatment")
    'X'
    >>> require_node(causal_graph(), "Z", "treatment")
    Traceback (most recent call last):
    causalft.errors.CausalFTError: treatment 'Z' is not a node of the graph; known: B, C, D, U, X, Y
    """
    if name not in graph:
        raise CausalFTError(
            f"{role} {name!r} is not a node of {source}; {nearest(str(name), map(str, graph.nodes))}"
        )
    return name


def asked_nodes(
    graph: nx.DiGraph, treatment: str | None = None, outcome: str | None = None
) -> tuple[str | None, str | None]:
    """Return treatment and outcome: as named, else the one that the file marks, else X and Y where the graph has them.

    Raises
    ------
    CausalFTError
        If a named node is not in the graph.

    Examples
    --------
    >>> asked_nodes(causal_graph(), outcome="B")
    ('X', 'B')
    """

    def node(role: str, marks: str, name: str | None, default: str) -> str | None:
        marked = graph.graph.get(marks, ())
        if name is not None:
            return require_node(graph, own_name(graph, name), role)
        if len(marked) == 1:
            return str(marked[0])
        return default if default in graph else None

    return node("treatment", "exposures", treatment, "X"), node("outcome", "outcomes", outcome, "Y")


def own_name(graph: nx.DiGraph, name: str) -> str:
    """Return a node's name for its label or id, where the file gives both."""
    return name if name in graph else str(graph.graph.get("other_names", {}).get(name, name))


def latent_nodes(graph: nx.DiGraph) -> tuple[str, ...]:
    """Return the latent nodes in graph order."""
    return tuple(name for name, is_latent in graph.nodes(data="latent", default=False) if is_latent)


def observed_nodes(graph: nx.DiGraph) -> tuple[str, ...]:
    """Return the observed nodes in graph order."""
    return tuple(name for name, is_latent in graph.nodes(data="latent", default=False) if not is_latent)


def format_path(graph: nx.DiGraph, path: Iterable[str]) -> str:
    """Return a path with its arrows as text.

    Examples
    --------
    >>> format_path(causal_graph(), ["X", "C", "Y"])
    'X <- C -> Y'
    """
    names = list(path)
    text = names[0]
    for left, right in zip(names, names[1:]):
        text += f" -> {right}" if graph.has_edge(left, right) else f" <- {right}"
    return text
