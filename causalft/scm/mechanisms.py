"""Discrete mechanisms of a causal graph: a table per node, to sample from and to intervene on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import networkx as nx
import numpy as np

from causalft.errors import CausalFTError, nearest
from causalft.scm.graph import as_dag, require_node

__all__ = ["DiscreteSCM"]


class DiscreteSCM:
    """A structural causal model of discrete variables: a DAG, and P(node | parents) for each node.

    Parameters
    ----------
    graph : networkx.DiGraph or iterable of (cause, effect)
    states : dict of str to sequence of str
        Values of each node.
    tables : dict of str to ndarray
        P(node | parents), shape ``(*n_states of the parents, n_states of the node)``, parents in graph order; the last
        axis sums to 1.

    Raises
    ------
    CausalFTError
        If the graph is not a DAG, or a node lacks states or a table, or its table has another shape or does not hold
        distributions.

    Examples
    --------
    >>> scm = DiscreteSCM(
    ...     [("C", "X"), ("C", "Y"), ("X", "Y")],
    ...     states={"C": ["head", "body"], "X": ["0", "1"], "Y": ["cat", "dog"]},
    ...     tables={"C": [0.5, 0.5], "X": [[0.9, 0.1], [0.2, 0.8]], "Y": [[[1, 0], [0.5, 0.5]], [[0.4, 0.6], [0, 1]]]},
    ... )
    >>> scm
    DiscreteSCM(C: 2 states; X: 2 states | C; Y: 2 states | C, X)
    >>> sample = scm.sample(4, np.random.default_rng(0), do={"X": "1"})
    >>> sample["X"]
    array([1, 1, 1, 1])
    """

    def __init__(
        self,
        graph: nx.DiGraph | Sequence[tuple[str, str]],
        states: Mapping[str, Sequence[str]],
        tables: Mapping[str, np.ndarray],
    ) -> None:
        self.graph = as_dag(graph)
        for given, what in ((states, "states"), (tables, "a table")):
            for name in self.graph:
                if name not in given:
                    raise CausalFTError(
                        f"node {name!r} has no {what.split()[-1]}; give {what} for every node"
                    )
            for name in given:
                require_node(self.graph, name, f"{what} given: node")
        self.states: dict[str, tuple[str, ...]] = {name: tuple(map(str, states[name])) for name in self.graph}
        for name, values in self.states.items():
            if not values or len(set(values)) != len(values):
                raise CausalFTError(
                    f"node {name!r} needs at least one state, and different ones; got {list(values)[:6]}"
                )
        self.tables: dict[str, np.ndarray] = {name: self._table(name, tables[name]) for name in self.graph}

    def __repr__(self) -> str:
        parts = []
        for name in self.graph:
            given = self.parents(name)
            parts.append(
                f"{name}: {len(self.states[name])} states" + (f" | {', '.join(given)}" if given else "")
            )
        return f"{type(self).__name__}({'; '.join(parts)})"

    def parents(self, name: str) -> tuple[str, ...]:
        """Return the parents of a node in graph order, which is the order of its table's axes."""
        causes = set(self.graph.predecessors(name))
        return tuple(other for other in self.graph if other in causes)

    def n_states(self, name: str) -> int:
        """Return the number of values of a node."""
        return len(self.states[require_node(self.graph, name)])

    def state_index(self, name: str, value: str) -> int:
        """Return the index of a value of a node.

        Raises
        ------
        CausalFTError
            If the node has no such value; the nearest are offered.
        """
        values = self.states[require_node(self.graph, name)]
        if str(value) not in values:
            raise CausalFTError(f"{name} has no state {str(value)!r}; {nearest(str(value), values)}")
        return values.index(str(value))

    def sample(
        self, n: int, rng: np.random.Generator, do: Mapping[str, str | np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Draw ``n`` units.

        Each node has its own noise, drawn in a fixed order: the same seed with another ``do`` gives the same units in
        another world (counterfactual pairs).

        Parameters
        ----------
        n : int
            At least 0.
        rng : numpy.random.Generator
        do : dict, optional
            As in :meth:`do`.

        Returns
        -------
        dict of str to (n,) int64 array
            State indices; ``scm.states[name][i]`` is the value.
        """
        if n < 0:
            raise CausalFTError(f"cannot sample n={n} units; n is 0 or more")
        world = self.do(do) if do else self
        noise = {name: rng.random(n) for name in self.graph}
        drawn: dict[str, np.ndarray] = {}
        for name in nx.topological_sort(world.graph):
            table = world.tables[name]
            shape = table.shape[:-1]
            rows = (
                np.ravel_multi_index([drawn[parent] for parent in world.parents(name)], shape)
                if shape
                else np.zeros(n, int)
            )
            drawn[name] = _draw(table.reshape(-1, table.shape[-1]), rows, noise[name])
        return {name: drawn[name] for name in self.graph}

    def do(self, interventions: Mapping[str, str | np.ndarray]) -> DiscreteSCM:
        """Return the model under an intervention.

        Parameters
        ----------
        interventions : dict of str to str or (n_states,) array
            A state sets the node; an array draws it from that distribution. Either way its parents no longer act on it.

        Raises
        ------
        CausalFTError
            If a node or state is unknown, or an array is not a distribution.

        Examples
        --------
        >>> scm = DiscreteSCM([("C", "X")], {"C": "ab", "X": "01"}, {"C": [0.5, 0.5], "X": [[1, 0], [0, 1]]})
        >>> scm.do({"X": "1"})
        DiscreteSCM(C: 2 states; X: 2 states)
        """
        graph, tables = self.graph.copy(), dict(self.tables)
        for name, value in interventions.items():
            require_node(graph, name, "intervened node")
            if isinstance(value, (np.ndarray, list, tuple)):
                tables[name] = _distributions(name, value, (self.n_states(name),))
            else:
                tables[name] = np.eye(self.n_states(name))[self.state_index(name, value)]
            graph.remove_edges_from(list(graph.in_edges(name)))
        cut = DiscreteSCM.__new__(DiscreteSCM)
        cut.graph, cut.states, cut.tables = graph, self.states, tables
        return cut

    def _table(self, name: str, values: np.ndarray) -> np.ndarray:
        shape = tuple(len(self.states[parent]) for parent in self.parents(name)) + (len(self.states[name]),)
        return _distributions(name, values, shape)


def _distributions(name: str, values: object, shape: tuple[int, ...]) -> np.ndarray:
    table = np.array(values, dtype=float)
    if table.shape != shape:
        raise CausalFTError(
            f"the table of {name!r} has shape {table.shape}; it needs {shape} (parents in graph order, then {name})"
        )
    if (
        not np.all(np.isfinite(table))
        or table.min() < 0
        or not np.allclose(table.sum(-1), 1, rtol=0, atol=1e-6)
    ):
        raise CausalFTError(
            f"the table of {name!r} holds no distributions: each last axis must be 0 or more and sum to 1"
        )
    table /= table.sum(-1, keepdims=True)
    table.flags.writeable = False
    return table


def _draw(table: np.ndarray, rows: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Invert the distribution functions: table (n_rows, n_states), rows (n,), noise (n,) in [0, 1); (n,) states."""
    drawn = np.empty(len(rows), dtype=np.int64)
    order = np.argsort(rows, kind="stable")
    present, starts = np.unique(rows[order], return_index=True)
    for row, units in zip(present, np.split(order, starts[1:])):
        possible = np.flatnonzero(
            table[row]
        )  # a state of probability 0 is never drawn, whatever the rounding
        steps = np.cumsum(table[row, possible])[:-1]
        drawn[units] = possible[np.searchsorted(steps, noise[units], side="right")]
    return drawn
