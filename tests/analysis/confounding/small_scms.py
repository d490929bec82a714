"""Small discrete models in the shape of the A/B designs, with tables that a reader can check."""

from __future__ import annotations

import numpy as np

from causalft.scm import DiscreteSCM, query

__all__ = ["confounded_scm", "joint", "random_joint", "tables"]


def confounded_scm(strength: float = 0.8, arrow: bool = True, misread: float = 0.05) -> DiscreteSCM:
    """C -> X -> B -> Y and, with ``arrow``, C -> Y: two classes, two parts, codes 2 * class + part.

    C = c draws class c and part c more often the larger ``strength``; a reader who knows C tilts the label towards c.
    """
    own = (1 + 0.9 * strength) / 2
    x = np.empty((2, 4))
    for c in (0, 1):
        for look in (0, 1):
            for part in (0, 1):
                x[c, 2 * look + part] = (own if look == c else 1 - own) * (0.8 if part == c else 0.2)
    b = np.repeat([[1 - misread, misread], [misread, 1 - misread]], 2, axis=0)
    y = np.empty((2, 2, 2))  # (c, b, y)
    for c in (0, 1):
        for content in (0, 1):
            odds = np.where(np.arange(2) == content, 0.8, 0.2) * np.where(
                np.arange(2) == c, 1 + strength, 1 - 0.9 * strength
            )
            y[c, content] = odds / odds.sum()
    edges = [("C", "X"), ("X", "B"), ("B", "Y")] + ([("C", "Y")] if arrow else [])
    states = {
        "C": ["0", "1"],
        "X": ["cat head", "cat tail", "dog head", "dog tail"],
        "B": ["cat", "dog"],
        "Y": ["cat", "dog"],
    }
    graph_order = {"C": [0.5, 0.5], "X": x, "B": b}
    return DiscreteSCM(edges, states, {**graph_order, "Y": _axes(edges, y) if arrow else y.mean(0)})


def _axes(edges, y):
    """The table of Y with its parents in the order of the graph's nodes (here C comes before B)."""
    order = list(dict.fromkeys(name for edge in edges for name in edge))
    return y if order.index("C") < order.index("B") else y.swapaxes(0, 1)


def joint(scm: DiscreteSCM) -> np.ndarray:
    """P(C, X, B, Y)."""
    return query(scm, ("C", "X", "B", "Y")).p


def tables(law: np.ndarray, n: int, repetitions: int, seed: int) -> np.ndarray:
    """Draw count tables of ``n`` rows, shape (repetitions, C, X, B, Y)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, law.ravel(), size=repetitions).reshape(repetitions, *law.shape).astype(float)


def random_joint(rng: np.random.Generator, shape=(2, 3, 2, 3)) -> np.ndarray:
    """A law over (c, x, b, y) with every cell possible."""
    law = rng.gamma(1.0, size=shape) + 0.02
    return law / law.sum()
