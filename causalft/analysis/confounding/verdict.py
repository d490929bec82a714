"""The verdict on an A/B trial: cells, gaps and corrected p-values, judged by data and graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from causalft.analysis.confounding.statistics import (
    CELLS,
    CONTRASTS,
    Estimate,
    Evidence,
    Power,
    estimate,
    image_variance,
    power,
)
from causalft.runs.progress import named
from causalft.scm.falsification import holm
from causalft.scm.identify import identify
from synthetic.design import Design

__all__ = [
    "Judgement",
    "LARGE_ENOUGH",
    "PATH_TESTS",
    "Trial",
    "TrialJudgement",
    "Verdict",
    "blocks_backdoor",
    "judge",
    "judge_gaps",
    "judge_trial",
]


class Verdict(StrEnum):
    """What an A/B trial says of the factor C; `causalft.analysis.confounding.words.VERDICT_WORDS` explains each."""

    VERIFIED = "verified"
    SHIFT = "shift of C"
    SELECTION = "selection"
    NOT_DETECTED = "not detected"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Judgement:
    """A verdict and its reason in words.

    ``too_wide`` marks an inconclusive verdict that more seeds or images can settle.
    """

    verdict: Verdict
    reason: str
    too_wide: bool = False


PATH_TESTS = ("c_to_x", "c_to_y", "open_backdoor_path")
"""The tests of the path X <- C -> Y; all must be significant (Holm) before C is called a confounder."""

LARGE_ENOUGH = 0.05
"""The smallest effect that matters, as a fraction of accuracy; `not detected` means that it is excluded."""

_EFFECTS = ("gap_B", "A_minus_B_on_A")
_CLAIMS = ("c_to_x", "c_to_y", "open_backdoor_path", "gap_closed")
"""Tests that the verdict relies on, corrected together with the gaps; placebo, refuters and sensitivity are not."""

_ADJUSTED_CELLS = ("adjusted->A", "adjusted->B")


@dataclass(frozen=True)
class Trial:
    """Predictions of all networks of one A/B experiment.

    Attributes
    ----------
    correct : cell (``"A->B"``: trained on -> tested on; also ``"adjusted->A"``, ``"ipw->A"``, ``"frontdoor->A"``) ->
    bool (S, n)
    strata : test set (``"A"``, ``"B"``) -> int (n,), 2 * class + factor of each image, the same for every seed
    by_code : estimator (``naive``, ``backdoor``, ``ipw``, ``frontdoor``) -> (S, 2 K, K), mean predicted distribution
    over the images of A's test set that show each code; NaN for a code without an image
    weights : for each seed, effective share and largest of the inverse probability weights
    table : columns of predictions.parquet
    """

    correct: dict[str, np.ndarray]
    strata: dict[str, np.ndarray]
    by_code: dict[str, np.ndarray]
    weights: list[dict[str, float]]
    table: dict[str, list[Any]]


def blocks_backdoor(design: Design) -> bool:
    """Whether the graph of the design has a backdoor path from X to Y that C blocks.

    Examples
    --------
    >>> from synthetic.designs import make_design
    >>> blocks_backdoor(make_design("confounded")), blocks_backdoor(make_design("selection"))
    (True, False)
    """
    if not {"C", "X", "Y"} <= set(design.graph):
        return False
    return any("C" in found.variables for found in identify(design.graph, "X", "Y").backdoor)


def judge_gaps(
    cells: Mapping[str, Estimate],
    gaps: Mapping[str, Estimate],
    *,
    n_classes: int,
    n_seeds: int,
    smallest_group: int,
    best: Mapping[str, float] | None = None,
) -> Judgement:
    """Judge the accuracies alone, without asking for the cause of a gap.

    ``inconclusive`` if there is one seed only, fewer than five images of a class's minority part, or the models did not
    learn. Else ``verified`` if the drop of the B-trained model from B to A, its deficit against the A-trained model on
    A, and the difference of the two models' gaps are all above zero (95 %). Else ``not detected`` if one of the first
    two excludes an effect of `LARGE_ENOUGH`. Else ``inconclusive``: the intervals are too wide.

    Parameters
    ----------
    cells, gaps : what `estimate` gave for `CELLS` and `CONTRASTS`.
    n_classes, n_seeds : int
    smallest_group : images of the rarest class-and-factor group of the B training set.
    best : highest accuracy that is possible in each cell, 1 by default. Models have learned if they are clearly above
        1.5 times chance, or above the middle of chance and the best where that is lower (few classes, noisy labels).
    """
    if n_seeds < 2:
        return Judgement(
            Verdict.INCONCLUSIVE,
            "one seed only: how much training itself varies is unknown; use --seeds 3 or more",
        )
    if smallest_group < 5:
        return Judgement(
            Verdict.INCONCLUSIVE,
            f"too few images: a class has only {smallest_group} of its minority part in the B training "
            "set (5 are needed); raise --n-per-class",
        )
    untaught = [
        cell
        for cell in ("A->A", "B->B")
        if cells[cell].ci95[0] <= min(1.5 / n_classes, (1 / n_classes + (best[cell] if best else 1.0)) / 2)
    ]
    if untaught:
        return Judgement(
            Verdict.INCONCLUSIVE,
            f"the models did not learn the classes ({' and '.join(untaught)} not clearly above chance, "
            f"{100 / n_classes:.0f} %); raise --n-per-class or --seeds",
        )
    drop, deficit, difference = gaps["gap_B"], gaps["A_minus_B_on_A"], gaps["gap_B_minus_gap_A"]
    if min(drop.ci95[0], deficit.ci95[0], difference.ci95[0]) > 0:
        return Judgement(
            Verdict.VERIFIED,
            f"trained on B, accuracy falls by {drop.points()} points from B to A; on A it stays "
            f"{deficit.points()} points below training on A; and the fall is {difference.points()} points "
            "beyond that of the model trained on A",
        )
    for what, gap in (
        ("the drop of the B-trained model from B to A", drop),
        ("what the B-trained model lacks against the A-trained one on A", deficit),
    ):
        if gap.ci95[1] < LARGE_ENOUGH:
            return Judgement(
                Verdict.NOT_DETECTED,
                f"{what} is {gap.points()} points: {100 * LARGE_ENOUGH:.0f} points or more are excluded",
            )
    return Judgement(
        Verdict.INCONCLUSIVE,
        f"the intervals are too wide: the drop from B to A is {drop.points()} points, the deficit on A "
        f"{deficit.points()}, which excludes neither 0 nor {100 * LARGE_ENOUGH:.0f}; raise --seeds or --n-per-class",
        too_wide=True,
    )


def judge(
    design: Design,
    cells: Mapping[str, Estimate],
    gaps: Mapping[str, Estimate],
    path: Mapping[str, Evidence],
    p_holm: Mapping[str, float],
    *,
    n_seeds: int,
    smallest_group: int,
) -> Judgement:
    """Judge the gaps, then look for the cause of a clear one.

    Causes: a sample that was selected on C and Y (``selection``), a C that is independent of Y in B (``shift of C``),
    or an open backdoor path, seen in the rows by all of `PATH_TESTS` and present in the design's graph (``verified``).
    Data alone cannot tell selection from confounding: the graph does.

    Parameters
    ----------
    cells, gaps : estimates of `CELLS` and `CONTRASTS`.
    path : test name -> Evidence, with `PATH_TESTS` in it.
    p_holm : test name -> adjusted p-value.
    n_seeds, smallest_group : as in `judge_gaps`.
    """
    found = judge_gaps(
        cells,
        gaps,
        n_classes=len(design.classes),
        n_seeds=n_seeds,
        smallest_group=smallest_group,
        best=design.best_accuracy(),
    )
    if found.verdict is not Verdict.VERIFIED:
        return found
    if design.selected:
        return Judgement(
            Verdict.SELECTION,
            f"{found.reason}; but in this design rows were kept by C and Y, and C is no cause of Y: adjusting for C "
            "does not give P(Y | do(X)), and the rows alone could not tell this from confounding",
        )
    if design.dependence("B") < 1e-6:
        if abs(design.joint("A").sum((1, 2, 3)) - design.joint("B").sum((1, 2, 3))).max() > 1e-6:
            return Judgement(
                Verdict.SHIFT,
                f"{found.reason}; C and Y are independent in B, so this is the price of a change of P(C) between "
                "training and test, and not confounding",
            )
        return Judgement(
            Verdict.INCONCLUSIVE,
            f"{found.reason}; but C has the same law in A and B and is independent of Y in both, so C cannot be the "
            "reason",
        )
    missing = [name for name in PATH_TESTS if not p_holm.get(name, 1.0) <= 0.05]
    if missing or not blocks_backdoor(design):
        why = (
            f"{', '.join(missing)} not significant: {'; '.join(path[name].words for name in missing if name in path)}"
            if missing
            else "the design's graph has no backdoor path through C"
        )
        return Judgement(
            Verdict.INCONCLUSIVE, f"{found.reason}; but the path X <- C -> Y was not seen ({why})"
        )
    return Judgement(
        Verdict.VERIFIED,
        f"{found.reason}; and the path X <- C -> Y is open ({path['open_backdoor_path'].words})",
    )


@dataclass(frozen=True)
class TrialJudgement:
    """What a trial says.

    Attributes
    ----------
    cells, gaps : accuracies by cell and differences by name
    p_holm : claim -> p-value by Holm
    power : what the weaker of the two effects that a verdict needs would take; None with one seed
    judgement : verdict and reason
    """

    cells: dict[str, Estimate]
    gaps: dict[str, Estimate]
    p_holm: dict[str, float]
    power: Power | None
    judgement: Judgement


@named("weighing the evidence")
def judge_trial(
    design: Design, trial: Trial, evidence: Mapping[str, Evidence], *, smallest_group: int
) -> TrialJudgement:
    """Estimate cells and gaps of a trial, correct the p-values, and judge.

    Parameters
    ----------
    trial : predictions of all models; its seeds are the replications.
    evidence : test name -> Evidence, with those of the path X <- C -> Y.
    smallest_group : images of the rarest class-and-factor group of the B training set.
    """
    n_seeds = len(trial.correct["A->A"])
    names = (*CELLS, *_ADJUSTED_CELLS) if "adjusted->A" in trial.correct else CELLS
    cells = {name: estimate(trial.correct, {name: 1.0}, trial.strata) for name in names}
    gaps = {name: estimate(trial.correct, weights, trial.strata) for name, weights in CONTRASTS.items()}
    claims = {name: gaps[name].p for name in (*_EFFECTS, "gap_B_minus_gap_A")}
    claims.update({name: evidence[name].p for name in _CLAIMS if name in evidence})
    p_holm = dict(zip(claims, holm(list(claims.values())), strict=True))
    need = _power(trial, gaps)
    found = judge(design, cells, gaps, evidence, p_holm, n_seeds=n_seeds, smallest_group=smallest_group)
    if found.too_wide and need is not None and min(gaps[name].mean for name in _EFFECTS) > 0:
        wanted = need.seeds_needed
        if wanted is None or wanted > n_seeds:
            enough = "no number of seeds is enough" if wanted is None else f"about {wanted} seeds are needed"
            reason = f"{found.reason}; for an effect like the one seen, {enough} (80 % power)"
            found = replace(found, reason=reason)
    return TrialJudgement(cells, gaps, p_holm, need, found)


def _power(trial: Trial, gaps: Mapping[str, Estimate]) -> Power | None:
    found = []
    for name in _EFFECTS:
        per_seed = list(gaps[name].per_seed)
        if len(per_seed) < 2:
            return None
        variance = image_variance(trial.correct, CONTRASTS[name], trial.strata)
        found.append(power(per_seed, len(trial.strata["A"]), variance))
    return min(found, key=lambda need: need.standardised_effect)
