"""The tables behind the A/B designs: small discrete causal models of the part in view C, the picture X and the label Y.

Every model has the nodes of the paper's graph that a picture set needs: C (the semantic factor), U (the object), X (the
picture's code: which class is drawn and which of its two parts), B (what a reader makes of the picture) and Y (the
label it is filed under); ``selection`` adds S (whether the row is kept).
"""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import numpy as np

from causalft.scm.mechanisms import DiscreteSCM

__all__ = ["FACTORS", "KEPT", "MEANING", "codes", "invisible", "mates", "own_part", "selected", "visible"]

FACTORS = ("C=0", "C=1")
"""Names of the two values of C."""

KEPT = ("no", "yes")
"""States of S."""

MEANING = {
    "C": "part in favour",
    "U": "object",
    "X": "picture",
    "B": "content read",
    "Y": "label",
    "S": "kept in the sample",
}
"""What each node is."""


def own_part(n_classes: int) -> np.ndarray:
    """The value of C that belongs to each class, (K,): 0 and 1 in turn."""
    return np.arange(n_classes) % 2


def mates(n_classes: int) -> np.ndarray:
    """The class that each class is taken for when it is misjudged, (K,); a mate's own part is the other one.

    Examples
    --------
    >>> mates(6).tolist(), mates(3).tolist()
    ([1, 0, 3, 2, 5, 4], [1, 0, 1])
    """
    k = np.arange(n_classes)
    mate = k ^ 1
    return np.where(mate < n_classes, mate, k - 1)


def codes(classes: Sequence[str], parts: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Names of the 2 K picture codes, code = 2 * class + part.

    Examples
    --------
    >>> codes(["cat", "dog"], [("head", "body")] * 2)
    ('cat head', 'cat body', 'dog head', 'dog body')
    """
    return tuple(f"{name} {part}" for name, pair in zip(classes, parts) for part in pair)


def visible(
    classes: Sequence[str],
    parts: Sequence[tuple[str, str]],
    *,
    p_c: Sequence[float] = (0.5, 0.5),
    strength: float = 0.0,
    ambiguity: float = 0.0,
    slip: float = 0.0,
    misread: float = 0.0,
    flip: float = 0.0,
    arrow: bool = False,
) -> DiscreteSCM:
    """A model in which C decides which part is drawn: C -> X <- U, X -> B -> Y, and C -> Y if ``arrow``.

    - ``P(C) = p_c`` and U is uniform.
    - X draws the object, or its mate with probability ``strength * (1 - 2 ambiguity)`` if C is not the object's own
      part (a collector of heads meets more of the classes that are known by their heads), and shows the part that C
      names with probability ``1 - slip``.
    - B is the class drawn, with probability ``misread`` one of the others.
    - Y settles what B may be: P(y | b, c) is proportional to P(b | y) P(y | c), where a class is taken for its mate
      with probability ``ambiguity``, and P(y | c) is ``(1 + strength)`` to ``(1 - strength)`` for classes whose own
      part is c or not. With strength 0, Y does not depend on C.
    - Last, with probability ``flip`` the label becomes one of the others.

    Then P(C = own part of y | Y = y) is close to ``(1 + strength) / 2`` (exactly so with ``misread`` 0 and an even
    number of classes), while P(Y | do(X)) gives both values of C their share P(C).

    Returns
    -------
    DiscreteSCM
        Nodes C, U, X, B, Y.
    """
    n, own, mate = len(classes), own_part(len(classes)), mates(len(classes))
    x = np.zeros((2, n, 2 * n))
    for c in (0, 1):
        shown = np.where(np.arange(2) == c, 1 - slip, slip)
        for u in range(n):
            leave = strength * (1 - 2 * ambiguity) if own[u] != c else 0.0
            x[c, u, 2 * u : 2 * u + 2] += (1 - leave) * shown
            x[c, u, 2 * mate[u] : 2 * mate[u] + 2] += leave * shown
    p_b_given_y = (1 - ambiguity) * np.eye(n)
    p_b_given_y[np.arange(n), mate] += ambiguity
    settle = np.empty((n, 2, n))  # (b, c, y)
    for c in (0, 1):
        prior = np.where(own == c, 1 + strength, 1 - strength)
        weight = p_b_given_y.T * prior
        certain = (
            weight.sum(1) == 0
        )  # strength 1 leaves nothing for this class, and nothing else looks like it
        weight[certain] = np.eye(n)[certain]
        settle[:, c] = weight / weight.sum(1, keepdims=True)
    settle = (1 - flip) * settle + flip * (1 - settle) / (n - 1)
    edges = [("C", "X"), ("U", "X"), ("X", "B"), ("B", "Y")]
    tables = {
        "C": np.asarray(p_c, float),
        "U": np.full(n, 1 / n),
        "X": x,
        "B": _read(n, misread),
        "Y": settle[:, 0],
    }
    if arrow:
        edges.append(("C", "Y"))
        tables["Y"] = settle.transpose(1, 0, 2)
    return _model(classes, parts, edges, tables)


def invisible(classes: Sequence[str], parts: Sequence[tuple[str, str]], *, strength: float) -> DiscreteSCM:
    """A model in which C follows the object and leaves no trace in the picture: U -> C, U -> X -> B -> Y.

    P(C = own part of u | U = u) is ``(1 + strength) / 2``; both parts are drawn equally often whatever C is, and the
    picture decides the label.
    """
    n, own = len(classes), own_part(len(classes))
    c = np.empty((n, 2))
    c[np.arange(n), own] = (1 + strength) / 2
    c[np.arange(n), 1 - own] = (1 - strength) / 2
    x = np.repeat(np.eye(n), 2, axis=1) / 2
    edges = [("U", "C"), ("U", "X"), ("X", "B"), ("B", "Y")]
    tables = {"C": c, "U": np.full(n, 1 / n), "X": x, "B": _read(n, 0.0), "Y": np.eye(n)}
    return _model(classes, parts, edges, tables)


def selected(model: DiscreteSCM, strength: float) -> DiscreteSCM:
    """The model with a node S: a row is kept for certain if C is the label's own part, else with (1 - s) / (1 + s).

    Among the kept rows (S = yes) P(C = own part of y | Y = y) is about ``(1 + s) / 2`` although C is no cause of Y.
    """
    n = model.n_states("Y")
    keep = np.where(own_part(n) == np.arange(2)[:, None], 1.0, (1 - strength) / (1 + strength))  # (c, y)
    graph = model.graph.copy()
    graph.add_node("S", latent=False, meaning=MEANING["S"])
    graph.add_edges_from([("C", "S"), ("Y", "S")])
    return DiscreteSCM(
        graph,
        {**model.states, "S": KEPT},
        {**model.tables, "S": np.stack([1 - keep, keep], -1)},
    )


def _read(n: int, misread: float) -> np.ndarray:
    """P(B | X), (2 K, K)."""
    b = np.full((n, n), misread / (n - 1))
    np.fill_diagonal(b, 1 - misread)
    return np.repeat(b, 2, axis=0)


def _model(
    classes: Sequence[str],
    parts: Sequence[tuple[str, str]],
    edges: list[tuple[str, str]],
    tables: dict[str, np.ndarray],
) -> DiscreteSCM:
    graph = nx.DiGraph()
    for node in ("C", "U", "X", "B", "Y"):
        graph.add_node(node, latent=node == "U", meaning=MEANING[node])
    graph.add_edges_from(edges)
    states = {"C": FACTORS, "U": classes, "X": codes(classes, parts), "B": classes, "Y": classes}
    return DiscreteSCM(graph, states, tables)
