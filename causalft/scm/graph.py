"""The causal graph of the paper, and the checks that make any directed graph a causal graph."""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from causalft.errors import CausalFTError, nearest
from causalft.scm.marks import ARROW, TAIL, edge_marks, is_latent

__all__ = [
    "MEANINGS",
    "PAPER_EDGES",
    "PAPER_LATENT",
    "as_dag",
    "causal_graph",
    "format_path",
    "latent_nodes",
    "observed_nodes",
    "require_node",
]

#: The edges of the paper's graph (section 2): X <- C -> Y, U -> X, D -> C, X -> B, B -> Y.
PAPER_EDGES: tuple[tuple[str, str], ...] = (
    ("D", "C"),
    ("C", "X"),
    ("C", "Y"),
    ("U", "X"),
    ("X", "B"),
    ("B", "Y"),
)

#: The nodes nobody observes: the pre-training data behind a model, and the rest of what makes an image.
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

    Every node carries ``latent`` (bool) and ``meaning`` (str). D and U are latent; C, X, B and Y are observed.

    Returns
    -------
    networkx.DiGraph
        Nodes D, C, U, X, B, Y; edges ``X <- C -> Y``, ``U -> X``, ``D -> C``, ``X -> B``, ``B -> Y``.

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
        Names become strings. What node attributes say of latency (``latent``, ``observed``, ``hidden``, a dashed
        ``style``, pgmpy's ``latents``) becomes ``latent``, and ``meaning`` is kept. What edge attributes say of
        direction (``dir``, pgmpy's ``type``) is honoured; a two-headed edge becomes a latent common cause.
    latent : iterable of str
        Further nodes that nobody observes.
    source : str
        Where the graph comes from; it opens every error message.

    Raises
    ------
    CausalFTError
        If the graph is undirected, has no edge between two nodes, a self-loop, a nameless node, a cycle (named), or
        two nodes with the same name, or if an attribute's value cannot be understood.

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
    hidden = set(getattr(given, "latents", ()))  # pgmpy's graphs keep their latent nodes so
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
            if frozenset((left, right)) not in both:  # pgmpy's ADMG has a two-headed edge in both directions
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
    """Check that an edge is a pair, so that networkx never reads the text "XY" as the edge X -> Y."""
    if isinstance(edge, (tuple, list)) and len(edge) == 2:
        return edge[0], edge[1]
    raise CausalFTError(f"{source} has the edge {edge!r}; an edge is a pair (cause, effect)")


def require_node(graph: nx.DiGraph, name: str, role: str = "node", *, source: str = "the graph") -> str:
    """Return ``name`` if the graph has it.

    Raises
    ------
    CausalFTError
        If it has not; the nearest names are offered.

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


def latent_nodes(graph: nx.DiGraph) -> tuple[str, ...]:
    """Return the nodes marked latent, in the order of the graph."""
    return tuple(name for name, is_latent in graph.nodes(data="latent", default=False) if is_latent)


def observed_nodes(graph: nx.DiGraph) -> tuple[str, ...]:
    """Return the nodes not marked latent, in the order of the graph."""
    return tuple(name for name, is_latent in graph.nodes(data="latent", default=False) if not is_latent)


def format_path(graph: nx.DiGraph, path: Iterable[str]) -> str:
    """Write a path with its arrows.

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
