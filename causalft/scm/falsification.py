"""Falsification of a graph by a table: a test per implied independence, one verdict, the conclusion in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np

from causalft.errors import CausalFTError
from causalft.runs.folder import plain
from causalft.runs.intervals import p_words
from causalft.runs.notebook import ShownAsTable
from causalft.runs.progress import named
from causalft.scm.graph import as_dag, latent_nodes, observed_nodes
from causalft.scm.independence import IndependenceTest, independence_test
from causalft.scm.separation import (
    Change,
    Independence,
    Relabelings,
    explain,
    implied_independencies,
    relabelings,
)
from causalft.scm.table import Variable, match_columns

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Falsification", "LARGE_ENOUGH", "Line", "falsify", "holm"]


#: A test that would miss a correlation of this size (Cohen's "medium") more than once in five is inconclusive.
LARGE_ENOUGH = 0.3


@dataclass(frozen=True)
class Line:
    """One implied independence and its test.

    Attributes
    ----------
    claim : Independence
    test : IndependenceTest
    p_holm : float
    verdict : str
        ``rejected``, ``not rejected``, ``inconclusive`` (too few rows) or ``no variation`` (the conditioning variables
        fix one of the two).
    """

    claim: Independence
    test: IndependenceTest
    p_holm: float
    verdict: str


@dataclass(frozen=True)
class Falsification(ShownAsTable):
    """What a table says about a graph.

    Attributes
    ----------
    variables : tuple of Variable
    n : int
        Rows.
    alpha : float
    lines : tuple of Line
    untestable : tuple of (x, y, latent nodes)
        Pairs without an arrow that only latent nodes separate.
    verdict : str
        ``falsified``, ``not falsified``, ``inconclusive`` or ``nothing to test``.
    changes : tuple of Change
        Single changes of the graph that would explain every rejection, the most informative first.
    relabelings : Relabelings or None
    """

    variables: tuple[Variable, ...]
    n: int
    alpha: float
    lines: tuple[Line, ...]
    untestable: tuple[tuple[str, str, tuple[str, ...]], ...]
    verdict: str
    changes: tuple[Change, ...] = ()
    relabelings: Relabelings | None = None

    def __repr__(self) -> str:
        rows = [
            f"  {line.claim}: {line.test.quantity} {line.test.estimate:.3f}, Holm p {p_words(line.p_holm)}, "
            f"{line.verdict}"
            for line in self.lines
        ]
        return "\n".join([f"{self.verdict}, alpha = {self.alpha:g}, n = {self.n}", *rows])

    def words(self) -> list[str]:
        """Return the conclusion as sentences."""
        return _words(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; infinity is None."""
        lines = []
        for line in self.lines:
            test = line.test
            lines.append(
                {
                    "x": line.claim.x,
                    "y": line.claim.y,
                    "given": list(line.claim.given),
                    "test": test.method,
                    "n": test.n,
                    "quantity": test.quantity,
                    "component": test.component or None,
                    "estimate": test.estimate,
                    "ci95": plain(test.ci95),
                    "p": test.p,
                    "p_holm": line.p_holm,
                    "detectable": plain(test.detectable),
                    "verdict": line.verdict,
                }
            )
        return {
            "verdict": self.verdict,
            "n": self.n,
            "alpha": self.alpha,
            "variables": {
                each.name: {
                    "column": each.column,
                    "values": len(each.levels) if each.discrete else "continuous",
                }
                for each in self.variables
            },
            "tests": lines,
            "untestable": [{"x": x, "y": y, "latent": list(hidden)} for x, y, hidden in self.untestable],
            "changes": [{"change": each.words, "still_implies": each.implies} for each in self.changes],
            "relabelings": None if self.relabelings is None else vars(self.relabelings),
            "words": self.words(),
        }


def _words(found: Falsification) -> list[str]:
    by = {
        verdict: [line for line in found.lines if line.verdict == verdict]
        for verdict in ("rejected", "not rejected", "inconclusive", "no variation")
    }
    said = []
    if found.verdict == "falsified":
        claims = "; ".join(str(line.claim) for line in by["rejected"])
        said.append(
            f"Falsified: the data contradict {len(by['rejected'])} of {len(found.lines)} independencies that the graph "
            f"implies ({claims})."
        )
        if found.changes:
            best = [each for each in found.changes if each.implies == found.changes[0].implies]
            said.append(
                "Any one of these changes would explain it, and what the changed graph implies is not rejected: "
                + "; ".join(each.words for each in found.changes[:8])
                + (f"; and {len(found.changes) - 8} more" if len(found.changes) > 8 else "")
                + ". "
                + (
                    f"The first {len(best)} still imply {best[0].implies}, the others fewer. "
                    if 0 < len(best) < len(found.changes) and len(best) > 1
                    else ""
                )
                + "Which of them is true these data do not say."
            )
        else:
            pairs = "; ".join(f"{line.claim.x} and {line.claim.y}" for line in by["rejected"])
            said.append(
                "No single arrow (added, turned, or a hidden common cause) explains it. Each of these pairs "
                f"wants a link that the graph lacks, or a collider is drawn wrong near it: {pairs}."
            )
        if any(line.test.method == "residual correlation" for line in by["rejected"]):
            said.append(
                "A residual correlation also appears where the regression on the continuous conditioning variables "
                "falls short: look at their scatter before the graph is changed."
            )
    elif found.verdict == "nothing to test":
        said.append(
            "Nothing to test: the graph implies no independence among the observed nodes; no data can contradict it."
        )
    elif found.verdict == "not falsified":
        said.append(
            f"Not falsified: of {len(by['not rejected'])} independencies that could be tested none is rejected. "
            "That is no proof: graphs with other arrows can imply the same, and dependence smaller than a line can "
            "detect would be missed one time in five or more often."
        )
    else:
        said.append(
            "Inconclusive: no independence is rejected, but the data could not have shown a dependence that matters "
            f"(a correlation of {LARGE_ENOUGH:g} with probability 0.8) in every line."
        )
    if by["inconclusive"]:
        claims = "; ".join(str(line.claim) for line in by["inconclusive"])
        said.append(f"Too few rows for {claims}: more rows, or coarser categories, would decide.")
    if by["no variation"]:
        claims = "; ".join(str(line.claim) for line in by["no variation"])
        said.append(f"Without a verdict, because what is conditioned on fixes one of the two: {claims}.")
    for x, y, hidden in found.untestable:
        said.append(
            f"{x} and {y} are linked through latent {', '.join(hidden)}; no observed set separates them: "
            "not tested."
        )
    if (base := found.relabelings) is not None:
        which = f"all {base.n} other" if base.all else f"{base.n} random"
        said.append(
            f"Of {which} relabelings of the observed nodes, {base.as_good} ({100 * base.as_good / base.n:.0f} %) do as "
            f"well as the graph: at most {100 * base.share:.0f} % of what they imply has p <= {found.alpha:g}. "
            f"Data cannot tell {base.equivalent} of the relabelings from the graph."
        )
    return said


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
        A DAG. A latent node that has a column counts as observed.
    data : DataFrame, or dict of str to (n,) array
        One column per node.
    alpha : float
        Familywise error rate, from 0.001 to 0.5.
    columns, discrete, continuous
        As in :func:`causalft.scm.table.match_columns`.
    permutations : int
        Compare the graph with this many random relabelings of its nodes, or all if there are fewer.
    seed : int
        For Monte Carlo tables and relabelings.

    Raises
    ------
    CausalFTError
        If a column is missing or cannot be tested, or alpha is out of range.

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
        """Test a claim once, with random numbers that depend on claim and seed only."""
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

    Statsmodels' ``multipletests`` collects garbage at every call, which takes longer than a test.

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
