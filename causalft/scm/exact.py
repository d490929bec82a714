"""Exact answers from a discrete SCM: any P(variables | given, do(...)), and the formulas, with overlap checked.

This is the only file that imports pgmpy: it answers the queries by variable elimination. The identification formulas
(backdoor, front-door) use observational queries only, so they can be compared with the true interventional ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalft.errors import CausalFTError
from causalft.scm.graph import require_node
from causalft.scm.identify import check_adjustment_set, check_frontdoor_set
from causalft.scm.mechanisms import DiscreteSCM

__all__ = [
    "Distribution",
    "PositivityError",
    "backdoor_adjustment",
    "conditional",
    "frontdoor_adjustment",
    "interventional",
    "query",
    "to_pgmpy",
]


class PositivityError(CausalFTError):
    """A conditional probability was asked for where its condition never happens.

    Attributes
    ----------
    cells : tuple of tuple of str
        The empty cells, each as the values of ``variables``.
    variables : tuple of str
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
    """A joint distribution over discrete variables.

    Attributes
    ----------
    variables : tuple of str
    states : tuple of tuple of str
        The values of each variable, in the order of the axes of ``p``.
    p : ndarray
        One axis a variable; sums to 1.
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
        What is observed: a state for each node. Under ``do`` it is observed after the intervention.
    do : dict, optional
        What is set, as in :meth:`DiscreteSCM.do`.

    Raises
    ------
    CausalFTError
        If a node or a state is unknown, or a node is both asked for and given.
    PositivityError
        If what is given has probability 0.

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
        If some value of ``given`` has probability 0; the values are named.
    """
    joint = query(scm, (given, outcome)).p
    total = joint.sum(1)
    if not total.all():
        cells = [(scm.states[given][i],) for i in np.flatnonzero(total == 0)]
        raise PositivityError((given,), cells, f"P({outcome} | {given})")
    return joint / total[:, None]


def interventional(scm: DiscreteSCM, outcome: str, treatment: str) -> np.ndarray:
    """Return the true P(outcome | do(treatment)) for every value of the treatment, shape (n_treatment, n_outcome).

    The arrows into the treatment are cut in the model itself: this is the truth that the formulas are scored against.

    Examples
    --------
    >>> from causalft.scm import PartSCM
    >>> world = PartSCM()
    >>> bool(np.allclose(interventional(world, "Y", "X"), world.p_y_do_x()))
    True
    """
    n = scm.n_states(require_node(scm.graph, treatment, "treatment"))
    # Once the treatment is drawn by a coin of our own, seeing it is the same as setting it.
    return conditional(scm.do({treatment: np.full(n, 1 / n)}), outcome, treatment)


def backdoor_adjustment(
    scm: DiscreteSCM, outcome: str, treatment: str, adjustment_set: Sequence[str]
) -> np.ndarray:
    """Return sum_c P(outcome | treatment, c) P(c) from observational probabilities, shape (n_treatment, n_outcome).

    Raises
    ------
    CausalFTError
        If the set does not block every backdoor path of the model's graph (the open path is named).
    PositivityError
        If some (treatment, c) with P(c) > 0 has probability 0; the cells are named.

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
        If the mediators do not meet the front-door criterion in the model's graph.
    PositivityError
        If some (b, x') with P(b) > 0 and P(x') > 0 has probability 0: so whenever b is a function of x.

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
    """Refuse a joint (n_treatment, n_cells of the others) in which a cell that occurs lacks some treatment."""
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
    """Return the model as a ``pgmpy.models.DiscreteBayesianNetwork``, for whatever else pgmpy can do."""
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
        # pgmpy 1.1 imports a deprecated module of its own, and says so to whoever imports pgmpy.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"pgmpy\.")
        from pgmpy.factors.discrete import TabularCPD
        from pgmpy.inference import VariableElimination
        from pgmpy.models import DiscreteBayesianNetwork
    return TabularCPD, DiscreteBayesianNetwork, VariableElimination


def _engine(scm: DiscreteSCM) -> Any:
    return _pgmpy()[2](to_pgmpy(scm))


def _require_possible(engine: Any, scm: DiscreteSCM, evidence: Mapping[str, str]) -> None:
    """pgmpy answers 0 / 0 = nan when what is given never happens, so ask first, one observation after the other."""
    known: dict[str, str] = {}
    for name, value in evidence.items():
        p = engine.query([name], evidence=known or None, show_progress=False).values
        if not p[scm.state_index(name, value)] > 0:
            known[name] = value
            raise PositivityError(tuple(known), [tuple(known.values())], "the query")
        known[name] = value
