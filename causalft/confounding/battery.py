"""All tests of one run by name: the path X <- C -> Y, the gap that adjustment closes, refuters, sensitivity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from causalft.confounding.dependence import c_to_x, c_to_y, open_backdoor_path, placebo_c
from causalft.confounding.evidence import Evidence
from causalft.confounding.refute import Refutation, binary_roles, refute, true_effect
from causalft.confounding.sensitivity import unobserved_confounder
from causalft.confounding.tests import Estimate
from causalft.errors import CausalFTError
from causalft.runs.progress import named
from synthetic.designs import Design, Rows

__all__ = ["Battery", "all_rows", "closed_share", "gap_closed", "path_evidence", "run_battery"]


@dataclass(frozen=True)
class Battery:
    """What the rows of B say, whatever the pictures look like.

    Attributes
    ----------
    path : ``c_to_x``, ``c_to_y``, ``open_backdoor_path``, ``placebo_c``, ``unobserved_confounder`` -> Evidence
    refutation : of the effect of the class drawn on the label, by DoWhy's refuters; None where it has no overlap
    why_not : the reason, then
    """

    path: dict[str, Evidence]
    refutation: Refutation | None
    why_not: str


@named("testing dependence and refuting")
def run_battery(design: Design, rows: Rows, *, seed: int = 0) -> Battery:
    """Test the rows of B: path, placebo and refuters.

    Parameters
    ----------
    rows : the training rows of B of all replications together.
    seed : of permutations, bootstraps and refuters.
    """
    c, x, y = rows.factors, rows.codes, rows.labels
    path = path_evidence(rows, seed=seed)
    refutation, why_not = None, ""
    try:
        path["placebo_c"] = placebo_c(c, x, y, seed=seed)
        treatment, outcome = binary_roles(rows.looks, y, design.majority)
        exact = None if design.selected else true_effect(design.scm("B"), design.majority)
        path["unobserved_confounder"] = unobserved_confounder(c, treatment, outcome, seed=seed)
        # DoWhy's refuters refit on every simulation
        chosen = np.random.default_rng(seed).permutation(len(y))[:4000]
        refutation = refute(c[chosen], treatment[chosen], outcome[chosen], seed=seed, truth=exact)
    except CausalFTError as error:
        why_not = str(error)
    return Battery(path, refutation, why_not)


def path_evidence(rows: Rows, *, seed: int = 0) -> dict[str, Evidence]:
    """The three tests of the path X <- C -> Y on the rows of B; ``seed`` is of permutations and bootstraps."""
    path = {}
    for name, test in (("c_to_x", c_to_x), ("c_to_y", c_to_y), ("open_backdoor_path", open_backdoor_path)):
        try:
            path[name] = test(rows.factors, rows.codes, rows.labels, seed=seed)
        except CausalFTError as error:  # C takes one value only in these rows
            path[name] = Evidence(0.0, (0.0, 0.0), 1.0, f"cannot be told: {error}")
    return path


def all_rows(design: Design, n_per_class: int, seeds: Sequence[int]) -> Rows:
    """The training rows of B of all replications, one after the other."""
    parts = [design.rows("B_train", n_per_class, seed) for seed in seeds]
    return Rows(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("labels", "factors", "looks", "parts", "contents")
        }
    )


def closed_share(correct: Mapping[str, np.ndarray]) -> tuple[float, tuple[float, float]]:
    """Share of the gap on A that adjustment closes: (adjusted->A - B->A) / (A->A - B->A), with its 95 % interval.

    The interval is Fieller's: all shares r for which a Student's t test over the seeds does not reject that
    ``(adjusted->A - B->A) - r (A->A - B->A)`` has mean zero. It is unbounded where the gap itself could be zero, since
    then any share could be, and with one seed, or seeds that do not differ: they say nothing of their spread.

    Parameters
    ----------
    correct : cell -> bool (S, n), with ``"A->A"``, ``"B->A"`` and ``"adjusted->A"``.

    Examples
    --------
    >>> ones = np.ones((2, 10), bool)
    >>> half = np.arange(10) < np.array([[5], [5]])
    >>> closed_share({"A->A": ones, "B->A": half, "adjusted->A": ones})
    (1.0, (-inf, inf))
    """
    score = {cell: np.asarray(correct[cell], float).mean(1) for cell in ("A->A", "B->A", "adjusted->A")}
    gained, gap = score["adjusted->A"] - score["B->A"], score["A->A"] - score["B->A"]
    share = float(gained.mean() / gap.mean()) if gap.mean() else float("nan")
    unbounded = (float("-inf"), float("inf"))
    if len(gap) < 2:
        return share, unbounded
    # (mean gained - r mean gap)^2 <= t^2 var(gained - r gap) / S, a quadratic inequality in r
    ((of_gained, both), (_, of_gap)) = np.cov(gained, gap) * stats.t.ppf(0.975, len(gap) - 1) ** 2 / len(gap)
    a, b, c = (
        gap.mean() ** 2 - of_gap,
        gained.mean() * gap.mean() - both,
        gained.mean() ** 2 - of_gained,
    )
    if a <= 0:
        return share, unbounded
    root = float(np.sqrt(max(0.0, b**2 - a * c)))
    if root <= 1e-12:  # seeds that are equal say nothing of how much seeds differ
        return share, unbounded
    return share, (float(b - root) / float(a), float(b + root) / float(a))


def gap_closed(gained: Estimate, share: tuple[float, tuple[float, float]]) -> Evidence:
    """The test of ``adjusted->A`` minus ``B->A``, with the share of the gap in its words."""
    part, limits = share
    of_gap = (
        f"{100 * part:.0f} % of the gap [{100 * limits[0]:.0f}, {100 * limits[1]:.0f}]"
        if np.isfinite([part, *limits]).all()
        else "what share of the gap that is cannot be told, for the gap itself is not clearly above zero"
    )
    return Evidence(
        gained.mean,
        gained.ci95,
        gained.p,
        f"trained on the same B, the adjusted model gains {gained.points()} points on A: {of_gap}",
    )
