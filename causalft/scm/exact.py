"""Exact queries of a discrete SCM: any P(variables | given, do(...)), and the identification formulas.

The only file that imports pgmpy, which answers by variable elimination. The formulas use observational queries only,
so that they can be compared with true interventions. Overlap is checked.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalft.errors import CausalFTError
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
from causalft.scm.identify import check_adjustment_set, check_frontdoor_set
from causalft.scm.mechanisms import DiscreteSCM

__all__ = [
    "Distribution",
    "PositivityError",
    "backdoor_adjustment",
    "conditional",
    "frontdoor_adjustment",
    "general_formula",
    "interventional",
    "query",
    "to_pgmpy",
]


class PositivityError(CausalFTError):
    """A conditional probability was asked for where its condition has probability 0.

    Attributes
    ----------
    variables : tuple of str
    cells : tuple of tuple of str
        The empty cells: values of ``variables``.
    """

    def __init__(self, variables: Sequence[str], cells: Sequence[tuple[str, ...]], what: str) -> None:
        self.variables, self.cells = tuple(variables), tuple(cells)
        named = [
            "(" + ", ".join(f"{name}={value}" for name, value in zip(variables, cell)) + ")"
            for cell in cells[:3]
        ]
        more = f" and {len(cells) - 3} more cells" if len(cells) > 3 else ""
        super().__init__(
            f"{what} needs P({', '.join(variables)}) > 0, but it is 0 at {', '.join(named)}{more}; "
            "give these cells probability, or ask only where there is overlap"
        )


@dataclass(frozen=True)
class Distribution:
    """A joint distribution of discrete variables.

    Attributes
    ----------
    variables : tuple of str
    states : tuple of tuple of str
        Values of each variable, in the order of the axes of ``p``.
    p : ndarray
        One axis per variable; sums to 1.
    """

    variables: tuple[str, ...]
    states: tuple[tuple[str, ...], ...]
    p: np.ndarray

    def __repr__(self) -> str:
        order = np.argsort(-self.p, axis=None, kind="stable")[:6]
        cells = [np.unravel_index(flat, self.p.shape) for flat in order if self.p.flat[flat] > 0]
        shown = [
            f"{', '.join(names[i] for names, i in zip(self.states, cell))}: {self.p[cell]:.4f}"
            for cell in cells
        ]
        more = f"; ... ({self.p.size} cells)" if self.p.size > len(shown) else ""
        return f"P({', '.join(self.variables)}): {'; '.join(shown)}{more}"

    def __getitem__(self, values: str | tuple[str, ...]) -> float:
        """Return the probability of one cell, by the names of its values."""
        wanted = (values,) if isinstance(values, str) else values
        try:
            return float(
                self.p[tuple(names.index(value) for names, value in zip(self.states, wanted, strict=True))]
            )
        except ValueError:
            raise CausalFTError(
                f"{wanted} is not a cell of P({', '.join(self.variables)}); see .states"
            ) from None


def query(
    scm: DiscreteSCM,
    variables: str | Sequence[str],
    given: Mapping[str, str] | None = None,
    do: Mapping[str, str | np.ndarray] | None = None,
) -> Distribution:
    """Return P(variables | given, do(...)) exactly.

    Parameters
    ----------
    variables : str or sequence of str
    given : dict of str to str, optional
        Observed values, after any intervention.
    do : dict, optional
        Interventions, as in :meth:`DiscreteSCM.do`.

    Raises
    ------
    CausalFTError
        If a node or state is unknown, or a node is both asked for and given.
    PositivityError
        If ``given`` has probability 0.

    Examples
    --------
    >>> from causalft.scm import PartSCM
    >>> world = PartSCM()
    >>> query(world, "C")
    P(C): head: 0.3333; body: 0.3333; tail: 0.3333
    >>> query(world, "C", given={"X": "head:0 @head"})
    P(C): head: 0.8710; body: 0.0645; tail: 0.0645
    >>> query(world, "C", do={"X": "head:0 @head"})
    P(C): head: 0.3333; body: 0.3333; tail: 0.3333
    """
    names = (variables,) if isinstance(variables, str) else tuple(variables)
    given = dict(given or {})
    if not names or len(set(names)) != len(names):
        raise CausalFTError(f"asked for P({', '.join(names)}); name one variable or more, each once")
    for name in (*names, *given):
        require_node(scm.graph, name, "variable")
    if both := sorted(set(names) & set(given)):
        raise CausalFTError(f"{', '.join(both)} is both asked for and given; drop it from one")
    evidence = {name: scm.states[name][scm.state_index(name, value)] for name, value in given.items()}
    world = scm.do(do) if do else scm
    engine = _engine(world)
    if evidence:
        _require_possible(engine, world, evidence)
    factor = engine.query(list(names), evidence=evidence or None, show_progress=False)
    return Distribution(
        names, tuple(scm.states[name] for name in names), np.asarray(factor.values, dtype=float)
    )


def conditional(scm: DiscreteSCM, outcome: str, given: str) -> np.ndarray:
    """Return P(outcome | given) for every value of ``given``, shape (n_given, n_outcome); rows sum to 1.

    Raises
    ------
    PositivityError
        If a value of ``given`` has probability 0.
    """
    joint = query(scm, (given, outcome)).p
    total = joint.sum(1)
    if not total.all():
        cells = [(scm.states[given][i],) for i in np.flatnonzero(total == 0)]
        raise PositivityError((given,), cells, f"P({outcome} | {given})")
    return joint / total[:, None]


def interventional(scm: DiscreteSCM, outcome: str, treatment: str) -> np.ndarray:
    """Return the true P(outcome | do(treatment)), shape (n_treatment, n_outcome); rows sum to 1.

    The arrows into the treatment are cut in the model; formulas are scored against this.

    Examples
    --------
    >>> from causalft.scm import PartSCM
    >>> world = PartSCM()
    >>> bool(np.allclose(interventional(world, "Y", "X"), world.p_y_do_x()))
    True
    """
    n = scm.n_states(require_node(scm.graph, treatment, "treatment"))
    # With a randomised treatment, seeing is setting.
    return conditional(scm.do({treatment: np.full(n, 1 / n)}), outcome, treatment)


def backdoor_adjustment(
    scm: DiscreteSCM, outcome: str, treatment: str, adjustment_set: Sequence[str]
) -> np.ndarray:
    """Return sum_c P(outcome | treatment, c) P(c) from observational probabilities, shape (n_treatment, n_outcome).

    Raises
    ------
    CausalFTError
        If the set leaves a backdoor path of the model's graph open.
    PositivityError
        If some (treatment, c) with P(c) > 0 has probability 0.

    Examples
    --------
    >>> from causalft.scm import PartSCM
    >>> world = PartSCM()
    >>> bool(np.allclose(backdoor_adjustment(world, "Y", "X", ["C"]), world.p_y_do_x()))
    True
    """
    chosen = check_adjustment_set(scm.graph, treatment, outcome, adjustment_set).variables
    p_xcy = query(scm, (treatment, *chosen, outcome)).p
    p_xcy = p_xcy.reshape(scm.n_states(treatment), -1, scm.n_states(outcome))
    p_xc = p_xcy.sum(2)  # (n_treatment, n_cells of the set)
    p_c = p_xc.sum(0)
    _require_overlap(scm, treatment, chosen, p_xc, f"adjusting for {', '.join(chosen) or 'nothing'}")
    reached = p_c > 0
    return np.einsum("xcy,c->xy", p_xcy[:, reached] / p_xc[:, reached, None], p_c[reached])


def frontdoor_adjustment(
    scm: DiscreteSCM, outcome: str, treatment: str, mediators: str | Sequence[str]
) -> np.ndarray:
    """Return sum_b P(b | x) sum_x' P(y | b, x') P(x') from observational probabilities, shape (n_treatment, n_outcome).

    Raises
    ------
    CausalFTError
        If the mediators fail the front-door criterion in the model's graph.
    PositivityError
        If some (b, x') with P(b) > 0 and P(x') > 0 has probability 0, as whenever b is a function of x.

    Examples
    --------
    >>> from causalft.scm import PartSCM
    >>> world = PartSCM(reading_error=0.2)
    >>> bool(np.allclose(frontdoor_adjustment(world, "Y", "X", "B"), world.p_y_do_x()))
    True
    """
    chosen = check_frontdoor_set(scm.graph, treatment, outcome, mediators).variables
    p_xby = query(scm, (treatment, *chosen, outcome)).p
    p_xby = p_xby.reshape(scm.n_states(treatment), -1, scm.n_states(outcome))
    p_xb = p_xby.sum(2)  # (n_treatment, n_cells of the mediators)
    p_x, p_b = p_xb.sum(1), p_xb.sum(0)
    if not p_x.all():
        never = [(scm.states[treatment][i],) for i in np.flatnonzero(p_x == 0)]
        raise PositivityError((treatment,), never, f"P({outcome} | do({treatment}))")
    _require_overlap(scm, treatment, chosen, p_xb, f"the front-door formula over {', '.join(chosen)}")
    reached = p_b > 0
    p_y = np.einsum("xby,x->by", p_xby[:, reached] / p_xb[:, reached, None], p_x)
    return (p_xb[:, reached] / p_x[:, None]) @ p_y


def _require_overlap(
    scm: DiscreteSCM, treatment: str, others: Sequence[str], joint: np.ndarray, what: str
) -> None:
    """Refuse a joint (n_treatment, n_cells) in which a cell that occurs lacks a treatment."""
    missing = (joint == 0) & (joint.sum(0) > 0)
    if not missing.any():
        return
    sizes = [scm.n_states(name) for name in others]
    cells = []
    for x, cell in np.argwhere(missing):
        values = zip(others, np.unravel_index(cell, sizes)) if others else ()
        cells.append((scm.states[treatment][x], *(scm.states[name][i] for name, i in values)))
    raise PositivityError((treatment, *others), cells, what)


def to_pgmpy(scm: DiscreteSCM) -> Any:
    """Return the model as a ``pgmpy.models.DiscreteBayesianNetwork``."""
    TabularCPD, DiscreteBayesianNetwork, _ = _pgmpy()
    network = DiscreteBayesianNetwork()
    network.add_nodes_from(list(scm.graph))
    network.add_edges_from(list(scm.graph.edges))
    for name in scm.graph:
        parents, table = scm.parents(name), scm.tables[name]
        network.add_cpds(
            TabularCPD(
                name,
                scm.n_states(name),
                table.reshape(-1, scm.n_states(name)).T,
                evidence=list(parents) or None,
                evidence_card=[scm.n_states(parent) for parent in parents] or None,
                state_names={each: list(scm.states[each]) for each in (name, *parents)},
            )
        )
    return network


def _pgmpy() -> tuple[Any, Any, Any]:
    with warnings.catch_warnings():
        # pgmpy 1.1 warns of a deprecated module of its own
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"pgmpy\.")
        from pgmpy.factors.discrete import TabularCPD
        from pgmpy.inference import VariableElimination
        from pgmpy.models import DiscreteBayesianNetwork
    return TabularCPD, DiscreteBayesianNetwork, VariableElimination


def _engine(scm: DiscreteSCM) -> Any:
    return _pgmpy()[2](to_pgmpy(scm))


def _require_possible(engine: Any, scm: DiscreteSCM, evidence: Mapping[str, str]) -> None:
    """Refuse evidence of probability 0, for which pgmpy returns nan."""
    known: dict[str, str] = {}
    for name, value in evidence.items():
        p = engine.query([name], evidence=known or None, show_progress=False).values
        if not p[scm.state_index(name, value)] > 0:
            known[name] = value
            raise PositivityError(tuple(known), [tuple(known.values())], "the query")
        known[name] = value


def general_formula(scm: DiscreteSCM, outcome: str, treatment: str) -> np.ndarray:
    """Return P(outcome | do(treatment)) by the general ID algorithm, shape (n_treatment, n_outcome); rows sum to 1.

    Uses probabilities of observed nodes only. Covers all that backdoor and front-door adjustment do, and more, such as
    the napkin graph.

    Raises
    ------
    CausalFTError
        If the effect is not identified, or treatment or outcome is latent.
    PositivityError
        If the formula divides by 0.

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
    # Other variables of the formula do not matter: take the mean over the values for which it is defined.
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
    """Evaluates expressions as arrays with one axis per name, of length 1 where the name is absent."""

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
            # 0 times undefined is 0: a cell that never occurs has no weight
            product = np.where((product == 0) | (factor == 0), 0.0, product * factor)
        return product

    def _ratio(self, above: np.ndarray, below: np.ndarray, given: tuple[str, ...]) -> np.ndarray:
        """Divide; where the denominator is 0, return nan and note the cells."""
        zero = below == 0
        if zero.any():
            kept = [(axis, name) for axis, name in enumerate(self.names) if below.shape[axis] > 1]
            cells = [
                tuple(self.scm.states[name][cell[axis]] for axis, name in kept) for cell in np.argwhere(zero)
            ]
            self.empty.append((tuple(name for _, name in kept) or given, cells))
        return above / np.where(zero, np.nan, below)
