"""From the predictions of a trial and the tests of the path to cells, gaps, corrected p-values, power and a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalft.analysis.confounding.error_rates import Power, holm, power
from causalft.analysis.confounding.tests import (
    CELLS,
    CONTRASTS,
    TOO_WIDE,
    Estimate,
    Evidence,
    estimate,
    picture_variance,
)
from causalft.analysis.confounding.verdict import judge
from causalft.runs.progress import named
from synthetic.designs import Design

__all__ = ["ADJUSTED_CELLS", "Decision", "Trial", "decide"]

ADJUSTED_CELLS = ("adjusted->A", "adjusted->B")
_EFFECTS = ("gap_B", "A_minus_B_on_A")
_CLAIMS = ("c_to_x", "c_to_y", "open_backdoor_path", "gap_closed")
"""What the verdict claims is corrected together, with the gaps; placebo, refuters and sensitivity claim nothing."""


@dataclass(frozen=True)
class Trial:
    """Predictions of all networks of one A/B experiment.

    Attributes
    ----------
    correct : cell (``"A->B"``: trained on -> tested on; also ``"adjusted->A"``, ``"ipw->A"``, ``"frontdoor->A"``)
        -> bool (S, n)
    strata : test set (``"A"``, ``"B"``) -> int (n,), 2 * class + factor of each picture, the same for every seed
    by_code : estimator (``naive``, ``backdoor``, ``ipw``, ``frontdoor``) -> (S, 2 K, K), mean predicted distribution
        over the pictures of A's test set that show each code; NaN for a code that no picture shows
    weights : for each seed, effective share and largest of the inverse probability weights
    table : columns of predictions.parquet
    seconds_before : seconds of training done by an earlier, interrupted call
    """

    correct: dict[str, np.ndarray]
    strata: dict[str, np.ndarray]
    by_code: dict[str, np.ndarray]
    weights: list[dict[str, float]]
    table: dict[str, list[Any]]
    seconds_before: float


@dataclass(frozen=True)
class Decision:
    """What a trial says.

    Attributes
    ----------
    cells, gaps : accuracies by cell and differences by name
    p_holm : claim -> p-value by Holm
    power : what the weaker of the two effects that a verdict needs would take; None with one seed
    verdict, reason : of `causalft.analysis.confounding.verdict.judge`
    """

    cells: dict[str, Estimate]
    gaps: dict[str, Estimate]
    p_holm: dict[str, float]
    power: Power | None
    verdict: str
    reason: str


@named("weighing the evidence")
def decide(
    design: Design, trial: Trial, evidence: Mapping[str, Evidence], *, smallest_group: int
) -> Decision:
    """Judge a trial.

    Parameters
    ----------
    trial : predictions of all models; its seeds are the replications.
    evidence : test name -> Evidence, with those of the path X <- C -> Y.
    smallest_group : pictures of the rarest class-and-factor group of the B training set.
    """
    n_seeds = len(trial.correct["A->A"])
    names = (*CELLS, *ADJUSTED_CELLS) if "adjusted->A" in trial.correct else CELLS
    cells = {name: estimate(trial.correct, {name: 1.0}, trial.strata) for name in names}
    gaps = {name: estimate(trial.correct, weights, trial.strata) for name, weights in CONTRASTS.items()}
    claims = {name: gaps[name].p for name in (*_EFFECTS, "gap_B_minus_gap_A")}
    claims.update({name: evidence[name].p for name in _CLAIMS if name in evidence})
    p_holm = holm(claims)
    need = _power(trial, gaps)
    verdict, reason = judge(
        design, cells, gaps, evidence, p_holm, n_seeds=n_seeds, smallest_group=smallest_group
    )
    if reason.startswith(TOO_WIDE) and need is not None and min(gaps[name].mean for name in _EFFECTS) > 0:
        wanted = need.seeds_needed
        if wanted is None or wanted > n_seeds:
            enough = "no number of seeds is enough" if wanted is None else f"about {wanted} seeds are needed"
            reason = f"{reason}; for an effect like the one seen, {enough} (80 % power)"
    return Decision(cells, gaps, p_holm, need, verdict, reason)


def _power(trial: Trial, gaps: Mapping[str, Estimate]) -> Power | None:
    found = []
    for name in _EFFECTS:
        per_seed = list(gaps[name].per_seed)
        if len(per_seed) < 2:
            return None
        variance = picture_variance(trial.correct, CONTRASTS[name], trial.strata)
        found.append(power(per_seed, len(trial.strata["A"]), variance))
    return min(found, key=lambda need: need.standardised_effect)
