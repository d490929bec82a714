"""All tests of one run by name: the path X <- C -> Y, the gap that adjustment closes, refuters, sensitivity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from causalft.confounding.dependence import c_to_x, c_to_y, open_backdoor_path, placebo_c
from causalft.confounding.evidence import Evidence
from causalft.confounding.refute import Refutation, binary_roles, refute, true_effect
from causalft.confounding.sensitivity import unobserved_confounder
from causalft.confounding.tests import Estimate
from causalft.errors import CausalFTError
from synthetic.designs import Design, Rows

__all__ = ["Battery", "closed_share", "gap_closed", "run_battery"]


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


def run_battery(design: Design, rows: Rows, *, seed: int = 0) -> Battery:
    """Test the rows of B: path, placebo and refuters.

    Parameters
    ----------
    rows : the training rows of B of all replications together.
    seed : of permutations, bootstraps and refuters.
    """
    c, x, y = rows.factors, rows.codes, rows.labels
    path = {
        "c_to_x": c_to_x(c, x, y, seed=seed),
        "c_to_y": c_to_y(c, x, y, seed=seed),
        "open_backdoor_path": open_backdoor_path(c, x, y, seed=seed),
    }
    refutation, why_not = None, ""
    try:
        path["placebo_c"] = placebo_c(c, x, y, seed=seed)
        treatment, outcome = binary_roles(rows.looks, y, design.majority)
        exact = None if design.selected else true_effect(design.scm("B"), design.majority)
        path["unobserved_confounder"] = unobserved_confounder(c, treatment, outcome, seed=seed)
        chosen = np.random.default_rng(seed).permutation(len(y))[
            :4000
        ]  # DoWhy's refuters refit on every simulation
        refutation = refute(c[chosen], treatment[chosen], outcome[chosen], seed=seed, truth=exact)
    except CausalFTError as error:
        why_not = str(error)
    return Battery(path, refutation, why_not)


def closed_share(correct: Mapping[str, np.ndarray]) -> tuple[float, tuple[float, float]]:
    """Share of the gap on A that adjustment closes: (adjusted->A - B->A) / (A->A - B->A), with its 95 % interval.

    The interval is Student's t of the linearised ratio over the seeds (delta method); it is unbounded with one seed.

    Parameters
    ----------
    correct : cell -> bool (S, n), with ``"A->A"``, ``"B->A"`` and ``"adjusted->A"``.

    Examples
    --------
    >>> ones = np.ones((2, 10), bool)
    >>> half = np.arange(10) < np.array([[5], [5]])
    >>> closed_share({"A->A": ones, "B->A": half, "adjusted->A": ones})
    (1.0, (1.0, 1.0))
    """
    score = {cell: np.asarray(correct[cell], float).mean(1) for cell in ("A->A", "B->A", "adjusted->A")}
    gained, gap = score["adjusted->A"] - score["B->A"], score["A->A"] - score["B->A"]
    if gap.mean() == 0:
        return float("nan"), (float("nan"), float("nan"))
    share = float(gained.mean() / gap.mean())
    if len(gap) < 2:
        return share, (float("-inf"), float("inf"))
    error = float(np.std(gained - share * gap, ddof=1) / np.sqrt(len(gap)) / abs(gap.mean()))
    reach = float(stats.t.ppf(0.975, len(gap) - 1)) * error
    return share, (share - reach, share + reach)


def gap_closed(gained: Estimate, share: tuple[float, tuple[float, float]]) -> Evidence:
    """The test of ``adjusted->A`` minus ``B->A``, with the share of the gap in its words."""
    low, high = (100 * value for value in gained.ci95)
    part, (least, most) = share
    return Evidence(
        gained.mean,
        gained.ci95,
        gained.p,
        f"trained on the same B, the adjusted model gains {100 * gained.mean:.1f} points [{low:.1f}, "
        f"{high:.1f}] on A: {100 * part:.0f} % of the gap [{100 * least:.0f}, {100 * most:.0f}]",
    )
