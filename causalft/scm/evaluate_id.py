"""Numbers for a formula of the general ID algorithm: P(y | do(x)) of a discrete model from its observed joint."""

from __future__ import annotations

import numpy as np

from causalft.errors import CausalFTError
from causalft.scm.exact import PositivityError, query
from causalft.scm.general_id import (
    Expression,
    Hedge,
    Probability,
    Product,
    Ratio,
    Sum,
    identify_generally,
    needed_names,
)
from causalft.scm.graph import latent_nodes, require_node
from causalft.scm.mechanisms import DiscreteSCM

__all__ = ["general_formula"]


def general_formula(scm: DiscreteSCM, outcome: str, treatment: str) -> np.ndarray:
    """Return P(outcome | do(treatment)) by the general ID algorithm, shape (n_treatment, n_outcome).

    Only probabilities of observed nodes are used. It works wherever :func:`backdoor_adjustment` and
    :func:`frontdoor_adjustment` do, and for effects that only this algorithm identifies, such as the napkin graph's.

    Raises
    ------
    CausalFTError
        If the model's graph does not identify the effect, or treatment or outcome is latent.
    PositivityError
        If the formula divides by a probability that is 0; the cells are named.

    Examples
    --------
    >>> from causalft.scm import PartSCM, interventional
    >>> world = PartSCM()
    >>> bool(np.allclose(general_formula(world, "Y", "X"), interventional(world, "Y", "X")))
    True
    """
    graph = scm.graph
    for name, role in ((treatment, "treatment"), (outcome, "outcome")):
        if require_node(graph, name, role) in latent_nodes(graph):
            raise CausalFTError(f"{role} {name} is latent: nothing observed says how it is distributed")
    if treatment == outcome:
        raise CausalFTError(f"treatment and outcome are both {treatment!r}; name two different nodes")
    found = identify_generally(graph, treatment, outcome)
    if isinstance(found, Hedge):
        raise CausalFTError(
            f"the effect of {treatment} on {outcome} is not identified: hidden common causes hold "
            f"{{{', '.join(found.forest)}}} together, and {{{', '.join(found.root)}}} without {treatment}"
        )
    names = tuple(name for name in graph if name in needed_names(found) | {treatment, outcome})
    values = _Evaluation(scm, names)
    table = values.of(found)
    n_x, n_y = scm.n_states(treatment), scm.n_states(outcome)
    # Other variables in the formula do not matter; where the formula is defined for some value of them, take the mean.
    shape = [scm.n_states(name) if name in found.free | {treatment, outcome} else 1 for name in names]
    table = np.moveaxis(
        np.broadcast_to(table, shape), [names.index(treatment), names.index(outcome)], [0, 1]
    ).reshape(n_x, n_y, -1)
    defined = ~np.isnan(table)
    if not defined.any(2).all():
        given, cells = values.empty[0]
        raise PositivityError(given, cells, "the formula of the general ID algorithm")
    return np.where(defined, table, 0).sum(2) / defined.sum(2)


class _Evaluation:
    """Evaluates expressions as arrays with one axis for each name; an axis of length 1 where the name has no part."""

    def __init__(self, scm: DiscreteSCM, names: tuple[str, ...]) -> None:
        self.scm, self.names = scm, names
        self.joint = query(scm, names).p
        self.empty: list[tuple[tuple[str, ...], list[tuple[str, ...]]]] = []
        self._known: dict[int, np.ndarray] = {}

    def axes(self, names: frozenset[str] | tuple[str, ...]) -> tuple[int, ...]:
        return tuple(axis for axis, name in enumerate(self.names) if name in names)

    def of(self, expression: Expression) -> np.ndarray:
        if id(expression) not in self._known:
            self._known[id(expression)] = self._of(expression)
        return self._known[id(expression)]

    def _of(self, expression: Expression) -> np.ndarray:
        if isinstance(expression, Probability):
            others = tuple(name for name in self.names if name not in expression.free)
            both = self.joint.sum(self.axes(others), keepdims=True)
            below = both.sum(self.axes((expression.of,)), keepdims=True)
            return self._ratio(both, below, expression.given)
        if isinstance(expression, Ratio):
            below = expression.denominator
            return self._ratio(self.of(expression.numerator), self.of(below), tuple(sorted(below.free)))
        if isinstance(expression, Sum):
            return self.of(expression.body).sum(self.axes(expression.over), keepdims=True)
        assert isinstance(expression, Product)
        product = np.ones((1,) * len(self.names))
        for factor in map(self.of, expression.factors):
            # nothing is multiplied by 0 to be undefined: a cell that never occurs carries no weight
            product = np.where((product == 0) | (factor == 0), 0.0, product * factor)
        return product

    def _ratio(self, above: np.ndarray, below: np.ndarray, given: tuple[str, ...]) -> np.ndarray:
        """Divide, and leave nan and a note of the cells where the denominator is 0."""
        zero = below == 0
        if zero.any():
            kept = [(axis, name) for axis, name in enumerate(self.names) if below.shape[axis] > 1]
            cells = [
                tuple(self.scm.states[name][cell[axis]] for axis, name in kept) for cell in np.argwhere(zero)
            ]
            self.empty.append((tuple(name for _, name in kept) or given, cells))
        return above / np.where(zero, np.nan, below)
