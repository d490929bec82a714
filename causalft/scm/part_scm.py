"""The part world as an explicit SCM: every mechanism of the paper's graph is a known table, so truth is computable."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from causalft.errors import CausalFTError
from causalft.scm.graph import causal_graph
from causalft.scm.mechanisms import DiscreteSCM

__all__ = ["PartSCM", "part_types"]

HIDDEN = -1


def part_types(n_objects: int = 15, n_types: int = 5) -> np.ndarray:
    """Return the types of head, body and tail of each object; any two parts identify the object.

    With j = k // n_types, object k has head k, body k + j and tail k + 3j + 5, all modulo n_types.

    Returns
    -------
    ndarray of shape (n_objects, 3), int
        From 0 to n_types - 1.

    Raises
    ------
    CausalFTError
        If two objects would share two parts.

    Examples
    --------
    >>> part_types(6, 5)
    array([[0, 0, 0],
           [1, 1, 1],
           [2, 2, 2],
           [3, 3, 3],
           [4, 4, 4],
           [0, 1, 3]])
    """
    if n_objects < 2 or n_types < 1:
        raise CausalFTError(f"a part world needs 2 objects and 1 type or more; got {n_objects} and {n_types}")
    k = np.arange(n_objects)
    j = k // n_types
    types = np.stack([k, k + j, k + 3 * j + 5], axis=1) % n_types
    for a, b in itertools.combinations(range(3), 2):
        if len(np.unique(types[:, [a, b]], axis=0)) < n_objects:
            raise CausalFTError(
                f"{n_objects} objects with {n_types} types per part share two parts; use more types"
            )
    return types


class PartSCM(DiscreteSCM):
    """The paper's graph with mechanisms: objects made of parts, and strata that each favour one part.

    - D, the stratum (which model): P(d) is ``stratum_prior``.
    - C, the part in view: P(c | d) is ``factor_law``.
    - U, the object: P(u) is ``object_prior``.
    - X, the appearance: the visible parts (part c more often than others; never none), their types in object u, and
      which of them dominates the image (part c more often).
    - B, its content: the visible types, misread with probability ``reading_error``.
    - Y, the label: an object that b leaves possible, with odds ``label_tilt[c]``, so that C settles ties.

    With ``reading_error = 0`` the content b is a function of x, and

        P(Y | X=x)     = sum_c P(Y | b, c) P(c | x)
        P(Y | do(X=x)) = sum_c P(Y | b, c) P(c)                                                          (paper, Eq. 7)

    differ exactly by P(c | x) against P(c). Every set of visible parts has positive probability under every c.

    Parameters
    ----------
    types : (n_objects, n_parts) int array, optional
        Default: ``part_types()``.
    parts, strata : sequence of str
        Names of the parts (states of C) and of the strata (states of D).
    stratum_prior : (n_strata,) array, optional
        P(D), uniform by default.
    factor_law : (n_strata, n_parts) array, optional
        P(C | D); by default 0.8 on the part with the stratum's index (modulo the parts), the rest shared.
    object_prior : (n_objects,) array, optional
        P(U), uniform by default.
    visibility : (float, float)
        In (0, 1): probability that the part in view is visible, and that another part is, before "none" is excluded.
    dominance : float
        Above 0: odds that the part in view, if visible, dominates the image rather than another visible part.
    label_tilt : (n_parts, n_objects) array, optional
        Above 0: odds of each object as label under each c. Default: an exponential profile with ``imbalance``, in an
        order drawn from ``seed`` for each c, the known parameter imbalance.
    imbalance : float
        1 or more: largest over smallest odds of ``label_tilt``. 1 removes the edge C -> Y.
    reading_error : float
        In [0, 1): probability that B is drawn uniformly from all contents instead of read from X.
    seed : int
        For the default ``label_tilt``.

    Raises
    ------
    CausalFTError
        If a shape or range does not fit; the argument is named.

    Examples
    --------
    >>> world = PartSCM()
    >>> world
    PartSCM(D: 3 states; C: 3 states | D; U: 15 states; X: 150 states | C, U; B: 75 states | X; Y: 15 states | C, B)
    >>> x = world.state_index("X", "head:0 @head")
    >>> [world.states["Y"][k] for k in np.flatnonzero(world.p_y_do_x()[x])]
    ['object0', 'object5', 'object10']
    >>> bool(abs(world.p_y_do_x()[x] - world.p_y_given_x()[x]).max() > 0.1)
    True
    """

    def __init__(
        self,
        types: np.ndarray | None = None,
        *,
        parts: Sequence[str] = ("head", "body", "tail"),
        strata: Sequence[str] = ("clip", "openclip", "metaclip"),
        stratum_prior: np.ndarray | None = None,
        factor_law: np.ndarray | None = None,
        object_prior: np.ndarray | None = None,
        visibility: tuple[float, float] = (0.9, 0.4),
        dominance: float = 4.0,
        label_tilt: np.ndarray | None = None,
        imbalance: float = 20.0,
        reading_error: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.types = part_types() if types is None else np.array(types)
        if (
            self.types.ndim != 2
            or self.types.shape[1] != len(parts)
            or not np.issubdtype(self.types.dtype, np.integer)
        ):
            raise CausalFTError(
                f"types has shape {self.types.shape}; it needs (n_objects, {len(parts)}) integers, one per part"
            )
        if self.types.min(initial=0) < 0 or len(self.types) < 2:
            raise CausalFTError("types needs two objects or more, and no negative type")
        n_objects, n_parts, n_strata = len(self.types), len(parts), len(strata)
        if not all(0 < chance < 1 for chance in visibility):
            raise CausalFTError(
                f"visibility is {visibility}; both lie strictly between 0 and 1, or P(x, c) could be 0"
            )
        for name, value, lowest in (("dominance", dominance, 0.0), ("imbalance", imbalance, 1.0)):
            if not (np.isfinite(value) and (value >= lowest if lowest else value > 0)):
                raise CausalFTError(f"{name} is {value}; it must be {'1 or more' if lowest else 'above 0'}")
        if not 0 <= reading_error < 1:
            raise CausalFTError(f"reading_error is {reading_error}; it lies in [0, 1)")
        if label_tilt is None:
            label_tilt = _exponential_tilt(n_parts, n_objects, imbalance, np.random.default_rng(seed))
        tilt = np.array(label_tilt, dtype=float)
        if tilt.shape != (n_parts, n_objects) or not np.all(np.isfinite(tilt)) or tilt.min() <= 0:
            raise CausalFTError(
                f"label_tilt needs shape ({n_parts}, {n_objects}) and odds above 0; got shape {tilt.shape}"
            )
        self.label_tilt, self.reading_error = tilt, float(reading_error)

        self._enumerate(parts)
        if factor_law is None:
            other = 0.2 / max(n_parts - 1, 1)
            factor_law = np.full((n_strata, n_parts), other)
            factor_law[np.arange(n_strata), np.arange(n_strata) % n_parts] = 0.8 if n_parts > 1 else 1.0
        b_of_x = np.eye(len(self.contents))[self.content_of_x]
        super().__init__(
            causal_graph(),
            states={
                "D": strata,
                "C": parts,
                "U": [f"object{k}" for k in range(n_objects)],
                "X": [
                    f"{_spell(parts, self.contents[b])} @{parts[p]}"
                    for b, p in zip(self.content_of_x, self.dominant_of_x)
                ],
                "B": [_spell(parts, content) for content in self.contents],
                "Y": [f"object{k}" for k in range(n_objects)],
            },
            tables={
                "D": np.full(n_strata, 1 / n_strata) if stratum_prior is None else np.asarray(stratum_prior),
                "C": np.asarray(factor_law),
                "U": np.full(n_objects, 1 / n_objects) if object_prior is None else np.asarray(object_prior),
                "X": self._appearance(visibility, dominance),
                "B": (1 - reading_error) * b_of_x + reading_error / len(self.contents),
                "Y": self._labels(),
            },
        )

    def _enumerate(self, parts: Sequence[str]) -> None:
        """List every content that an object can show, and every appearance: a content and its dominant part."""
        subsets = [
            np.array(mask, dtype=bool)
            for mask in itertools.product((True, False), repeat=len(parts))
            if any(mask)
        ]
        subsets.sort(key=lambda mask: mask.sum())
        shown = [np.where(mask, self.types, HIDDEN) for mask in subsets]
        #: (n_b, n_parts) int: the type of each visible part, -1 where the part is hidden.
        self.contents = np.concatenate([np.unique(each, axis=0) for each in shown])
        pairs = [(b, p) for b, content in enumerate(self.contents) for p in np.flatnonzero(content != HIDDEN)]
        #: (n_x,) int: the content, and the dominant part, of each appearance.
        self.content_of_x = np.array([b for b, _ in pairs])
        self.dominant_of_x = np.array([p for _, p in pairs])
        #: (n_b, n_objects) bool: which objects a content leaves possible.
        self.possible = np.all(
            (self.contents[:, None] == HIDDEN) | (self.contents[:, None] == self.types[None]), axis=-1
        )

    def _appearance(self, visibility: tuple[float, float], dominance: float) -> np.ndarray:
        """P(X | C, U), shape (n_parts, n_objects, n_x)."""
        visible = self.contents != HIDDEN
        n_parts = visible.shape[1]
        table = np.zeros((n_parts, len(self.types), len(self.content_of_x)))
        for c in range(n_parts):
            chance = np.where(np.arange(n_parts) == c, visibility[0], visibility[1])
            p_subset = np.where(visible, chance, 1 - chance).prod(1) / (1 - np.prod(1 - chance))
            odds = np.where(visible, np.where(np.arange(n_parts) == c, dominance, 1.0), 0.0)
            p_dominant = odds / odds.sum(1, keepdims=True)
            p_x = p_subset[self.content_of_x] * p_dominant[self.content_of_x, self.dominant_of_x]
            table[c] = self.possible[self.content_of_x].T * p_x
        return table

    def _labels(self) -> np.ndarray:
        """P(Y | C, B), shape (n_parts, n_b, n_objects)."""
        odds = self.possible[None] * self.label_tilt[:, None, :]
        return odds / odds.sum(-1, keepdims=True)

    def p_c(self) -> np.ndarray:
        """Return P(C), shape (n_parts,)."""
        return self.tables["D"] @ self.tables["C"]

    def p_c_given_x(self) -> np.ndarray:
        """Return P(C | X), shape (n_x, n_parts).

        Raises
        ------
        CausalFTError
            If an appearance has probability 0, because its object has ``object_prior`` 0.
        """
        joint = np.einsum("c,u,cux->xc", self.p_c(), self.tables["U"], self.tables["X"])
        p_x = joint.sum(1, keepdims=True)
        if not p_x.all():
            names = [self.states["X"][i] for i in np.flatnonzero(p_x[:, 0] == 0)]
            raise CausalFTError(
                f"P(C | X=x) does not exist where P(x) = 0: {', '.join(names[:3])} ({len(names)} appearances); "
                "give every object a positive object_prior"
            )
        return joint / p_x

    def p_y_given_xc(self) -> np.ndarray:
        """Return P(Y | X, C), shape (n_x, n_parts, n_objects): P(Y | b(x), c), averaged over readings of x."""
        return np.einsum("xb,cby->xcy", self.tables["B"], self.tables["Y"])

    def p_y_given_x(self) -> np.ndarray:
        """Return P(Y | X=x) = sum_c P(Y | b, c) P(c | x), shape (n_x, n_objects)."""
        return np.einsum("xcy,xc->xy", self.p_y_given_xc(), self.p_c_given_x())

    def p_y_do_x(self) -> np.ndarray:
        """Return P(Y | do(X=x)) = sum_c P(Y | b, c) P(c) (paper, Eq. 7), shape (n_x, n_objects)."""
        return np.einsum("xcy,c->xy", self.p_y_given_xc(), self.p_c())


def _exponential_tilt(n_parts: int, n_objects: int, imbalance: float, rng: np.random.Generator) -> np.ndarray:
    profile = imbalance ** -np.linspace(0, 1, n_objects)
    return np.stack([profile[np.argsort(rng.permutation(n_objects))] for _ in range(n_parts)])


def _spell(parts: Sequence[str], content: np.ndarray) -> str:
    return " ".join(f"{part}:{kind}" for part, kind in zip(parts, content) if kind != HIDDEN)
