"""Can data contradict a graph? The conditional independencies that it implies, tested on a table of observed variables.

A graph that lacks an arrow says so with an independence. One is tested for every pair of nodes without an arrow,
given the smallest set of observed nodes that separates the pair; if the true law is faithful to its own graph, these
tests find every missing arrow and every wrong collider. Holm's correction keeps the chance of one false rejection or
more under alpha. What is not rejected is not proved: other graphs imply the same, and small dependence goes unseen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np

from causalft.errors import CausalFTError
from causalft.runs.progress import named
from causalft.scm.falsification import LARGE_ENOUGH, Falsification, Line
from causalft.scm.graph import as_dag, latent_nodes, observed_nodes
from causalft.scm.independence import IndependenceTest, independence_test
from causalft.scm.rival import explain, relabelings
from causalft.scm.separation import Independence, implied_independencies
from causalft.scm.table import match_columns

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["falsify", "holm"]


@named("testing what the graph implies")
def falsify(
    graph: nx.DiGraph,
    data: pd.DataFrame | Mapping[str, Any],
    *,
    alpha: float = 0.05,
    columns: Mapping[str, str] | None = None,
    discrete: Collection[str] = (),
    continuous: Collection[str] = (),
    permutations: int = 0,
    seed: int = 0,
    source: str = "the table",
) -> Falsification:
    """Test the conditional independencies that a graph implies on a table of observed variables.

    Parameters
    ----------
    graph : networkx.DiGraph
        A DAG. A latent node that has a column is taken as observed.
    data : DataFrame, or dict of str to (n,) array
        One column a node.
    alpha : float
        From 0.001 to 0.5: the familywise error rate.
    columns, discrete, continuous
        As in :func:`causalft.scm.table.match_columns`.
    permutations : int
        Compare the graph with this many random relabelings of its nodes (all of them, if there are no more).
    seed : int
        Of Monte Carlo tables and of relabelings.

    Raises
    ------
    CausalFTError
        If a column is missing or cannot be tested (which, and what to do), or alpha is out of range.

    References
    ----------
    Shipley, "A new inferential test for path models based on directed acyclic graphs", 2000; Eulig et al., "Toward
    Falsifying Causal Graphs Using a Permutation-Based Test", 2023.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.integers(0, 2, (2, 500))
    >>> table = {"X": x, "Y": y, "Z": x | y}
    >>> falsify(as_dag([("X", "Z"), ("Y", "Z")]), table).verdict
    'not falsified'
    >>> wrong = falsify(as_dag([("X", "Z"), ("Z", "Y")]), table)
    >>> wrong.verdict, wrong.changes[0].words
    ('falsified', 'turn Z -> Y into Y -> Z')
    """
    if not 0.001 <= alpha <= 0.5:
        raise CausalFTError(
            f"alpha is {alpha:g}; give a familywise error rate from 0.001 to 0.5, for example 0.05"
        )
    if seed < 0:
        raise CausalFTError(f"seed is {seed}; give 0 or a whole number above")
    if permutations < 0:
        raise CausalFTError(f"permutations is {permutations}; give 0 or more relabelings")
    dag = as_dag(graph)
    found = match_columns(dag, data, columns, discrete=discrete, continuous=continuous, source=source)
    for name in set(latent_nodes(dag)) & set(found):
        dag.nodes[name]["latent"] = False
    n = len(next(iter(found.values())).values)
    claims, untestable = implied_independencies(dag)
    level = alpha / max(len(claims), 1)
    draws = int(max(999, 10 / level))
    memory: dict[tuple[frozenset[str], frozenset[str]], IndependenceTest] = {}
    nodes = observed_nodes(dag)

    def test(claim: Independence) -> IndependenceTest:
        """Test a claim once; its random numbers depend on the claim and the seed, not on what was tested before."""
        if claim.key not in memory:
            places = [sorted(map(nodes.index, part)) for part in claim.key]
            rng = np.random.default_rng([seed, len(places[1]), *places[0], *places[1]])
            (a, b), given = (found[nodes[i]] for i in places[0]), [found[nodes[i]] for i in places[1]]
            memory[claim.key] = independence_test(a, b, given, level=level, draws=draws, rng=rng)
        return memory[claim.key]

    tests = [test(claim) for claim in claims]
    adjusted = holm([each.p for each in tests])
    lines = tuple(
        Line(claim, each, p, _verdict(each, p, alpha)) for claim, each, p in zip(claims, tests, adjusted)
    )

    def rejected(several: Sequence[Independence]) -> int:
        return sum(p <= alpha for p in holm([test(claim).p for claim in several]))

    wrong = [line.claim for line in lines if line.verdict == "rejected"]
    return Falsification(
        variables=tuple(found.values()),
        n=n,
        alpha=alpha,
        lines=lines,
        untestable=untestable,
        verdict=_overall(lines),
        changes=explain(dag, wrong, rejected) if wrong else (),
        relabelings=relabelings(dag, lambda claim: test(claim).p <= alpha, permutations, seed)
        if permutations and lines
        else None,
    )


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given.

    Written out because statsmodels' ``multipletests`` collects garbage at every call, which takes longer than a test.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    if not p:
        return []
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(each) for each in adjusted]


def _verdict(test: IndependenceTest, p_holm: float, alpha: float) -> str:
    if p_holm <= alpha:
        return "rejected"
    if np.isinf(test.detectable):
        return "no variation"
    return "not rejected" if test.detectable_correlation <= LARGE_ENOUGH else "inconclusive"


def _overall(lines: Sequence[Line]) -> str:
    verdicts = {line.verdict for line in lines}
    if "rejected" in verdicts:
        return "falsified"
    if not verdicts:
        return "nothing to test"
    if "inconclusive" in verdicts or verdicts == {"no variation"}:
        return "inconclusive"
    return "not falsified"
