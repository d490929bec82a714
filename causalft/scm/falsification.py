"""What a table says against a graph: a line for each implied independence, one verdict, and the conclusion in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from causalft.runs.folder import plain
from causalft.runs.notebook import ShownAsTable
from causalft.scm.independence import IndependenceTest
from causalft.scm.p_words import p_words
from causalft.scm.rival import Change, Relabelings
from causalft.scm.separation import Independence
from causalft.scm.table import Variable

__all__ = ["LARGE_ENOUGH", "Falsification", "Line"]

#: A test that cannot find a (partial) correlation of this size with probability 0.8 is inconclusive: Cohen's "medium".
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
        ``rejected``, ``not rejected``, ``inconclusive`` (the rows are too few to see what matters) or ``no variation``
        (where the conditioning variables are fixed, one of the two is too).
    """

    claim: Independence
    test: IndependenceTest
    p_holm: float
    verdict: str


@dataclass(frozen=True)
class Falsification(ShownAsTable):
    """What a table says against a graph.

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
        Single changes of the graph that would explain every rejection, the most telling first.
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
        """Return the conclusion, a sentence or two each."""
        return _words(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON; what is infinite is None."""
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
