"""What LA, GLA and backdoor adjustment can each be expected to mend, in plain words, from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from causalft.analysis.before_training.mend import Change, GLAEffect
from causalft.analysis.before_training.prior_distance import PriorDistance
from causalft.analysis.before_training.spread import Spread
from causalft.analysis.diagnosis.conclusion import change, points
from causalft.analysis.diagnosis.intervals import Interval
from causalft.analysis.diagnosis.no_conclusion import no_conclusion_lines
from causalft.analysis.diagnosis.result import Diagnosis

__all__ = ["METHODS", "Expectation", "Facts", "expect"]

METHODS: dict[str, str] = {
    "LA": "Logit adjustment (LA)",
    "GLA": "Generalised logit adjustment (GLA)",
    "backdoor": "Backdoor adjustment (fusion)",
    "neither": "None of the three",
}
"""What a page calls each of the expectations."""

_BALANCED = 2.0
"""Imbalance factor up to which training counts are called balanced: log 2 is the whole range of LA's adjustment."""


@dataclass(frozen=True)
class Expectation:
    """What one method can be expected to mend.

    Attributes
    ----------
    method : str
        A key of `METHODS`.
    sentences : tuple of str
    """

    method: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """What is known of training counts and priors beside what was measured.

    Attributes
    ----------
    imbalance : float, optional
        Largest over smallest training count; None without counts.
    n_classes, n_few, n_tail : int
        All classes, D-few ones, and those that are few by data and by prior.
    counts_and_priors : mapping of str to float
        Spearman correlation of the training counts with the prior of each stratum.
    too_alike : str
        Why no slope on the priors may be claimed; empty if one may.
    """

    imbalance: float | None
    n_classes: int
    n_few: int
    n_tail: int
    counts_and_priors: Mapping[str, float]
    too_alike: str = ""


def expect(
    found: Diagnosis,
    facts: Facts,
    data_gap: Interval,
    spread: Spread,
    gla: GLAEffect,
    distance: PriorDistance,
    gla_known: GLAEffect | None = None,
) -> tuple[Expectation, ...]:
    """Write what each method can be expected to mend.

    Where the diagnosis allows no conclusion (``found.no_conclusion``), what would follow from gaps is left out, but for
    one stratum alone.

    Parameters
    ----------
    found : Diagnosis
        Of the zero-shot strata and their fusion.
    facts : Facts
    data_gap : Interval
    spread : Spread
    gla : GLAEffect
    distance : PriorDistance
    gla_known : GLAEffect, optional
        With known priors taken out.
    """
    doubted = bool(found.no_conclusion) and len(found.strata) > 1
    parts = {
        "LA": _la(facts, data_gap, spread),
        "GLA": _gla(gla, doubted, gla_known),
        "backdoor": _backdoor(found, facts, spread, distance, doubted),
        "neither": _neither(spread),
    }
    return tuple(Expectation(name, tuple(words)) for name, words in parts.items() if words)


def _la(facts: Facts, data_gap: Interval, spread: Spread) -> list[str]:
    if facts.imbalance is None:
        return ["The data have no training split, so nothing can be said of LA."]
    if facts.imbalance <= _BALANCED:
        return [
            f"The training counts are balanced (imbalance {facts.imbalance:.3g}): LA has next to nothing to take out, "
            "and trains as cross-entropy does."
        ]
    words = [
        f"The training counts have an imbalance of {facts.imbalance:.3g}, and {facts.n_few} of {facts.n_classes} "
        "classes have fewer than 20 images. A head trained on them leans to the frequent classes; LA takes that out. "
        "Zero-shot models have not seen these counts."
    ]
    if data_gap.exists:
        ahead = data_gap if data_gap.estimate >= 0 else _opposite(data_gap)
        order = "ahead of" if data_gap.estimate >= 0 else "behind"
        what = f"Before any training D-many classes are {points(ahead)} points {order} D-few ones"
        if not data_gap.excludes_zero:
            words.append(
                f"{what}: no gap along the counts is shown yet; what training adds is LA's to prevent."
            )
        else:
            words.append(f"{what}. That is not due to your counts, so LA is not expected to mend it.")
    if spread.data.exists:
        words.append(
            f"{_percent(spread.data)} of the variance of class accuracy lies along the log training counts."
        )
    told = {name: value for name, value in facts.counts_and_priors.items() if np.isfinite(value)}
    if flat := [name for name in facts.counts_and_priors if name not in told]:
        words.append(f"The prior of {', '.join(flat)} is flat: it has no rank correlation with the counts.")
    if told:
        listed = ", ".join(f"{value:+.2f} ({name})" for name, value in told.items())
        tail = f"; {facts.n_tail} classes are few by both" if facts.n_tail else ""
        words.append(f"Rank correlation of the counts with the priors: {listed}{tail}.")
    return words


def _opposite(value: Interval) -> Interval:
    return Interval(-value.estimate, -value.high, -value.low, value.p, value.reason)


def _gla(gla: GLAEffect, doubted: bool, known: GLAEffect | None) -> list[str]:
    mean = gla.mean
    start = f"Measured on zero-shot: GLA changes mean class accuracy by {points(mean.difference, sign=True)} points"
    if len(gla.strata) > 1:
        start += " (mean of the strata)"
    if not mean.difference.excludes_zero:
        words = [f"{start}; no change is shown."]
    else:
        words = [f"{start}, from {100 * mean.before.estimate:.1f} to {100 * mean.after.estimate:.1f} %."]
    if known is not None:
        changed = points(known.mean.difference, sign=True)
        words.append(f"With known priors in place of the estimates the change is {changed} points.")
    if doubted:
        return words
    measure, what = gla.own_minus_off_gap, "The own P gap beyond class difficulty"
    if not measure.before.exists:
        measure, what = gla.P_gap, "The raw own P gap"
    if measure.before.exists:
        words.append(
            f"{what} goes from {_from_to(measure)} points (a change of {points(measure.difference, sign=True)})."
        )
    return words


def _backdoor(
    found: Diagnosis, facts: Facts, spread: Spread, distance: PriorDistance, doubted: bool
) -> list[str]:
    if len(found.strata) == 1:
        return ["One stratum alone: there is nothing to fuse. Name two or more with --strata."]
    correlations = [pair.spearman for pair in distance.pairs if np.isfinite(pair.spearman)]
    words = []
    if correlations and np.isfinite(distance.averaged):
        low, high = min(correlations), max(correlations)
        reach = f"{low:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}"
        words.append(
            f"The priors of the strata have rank correlations of {reach}. If accuracy followed the priors alone, the "
            f"mean of the strata would lose {100 * distance.averaged:.0f} % of a prior's effect."
        )
    if spread.between.exists:
        words.append(
            f"{_percent(spread.between)} of the variance of class accuracy differs between strata, which is all that "
            f"fusing can average; {_percent(spread.own_prior)} lies along the stratum's own prior."
        )
    if facts.too_alike:
        words.append(f"No slope on the priors is claimed: {facts.too_alike}.")
    if doubted:
        words += no_conclusion_lines("Parameter imbalance", found.no_conclusion)
    else:
        words += _measured_fusion(found)
    gain, best = found.paired["fused_minus_mean_single"], found.paired.get("fused_minus_chosen_single")
    accuracy = (
        f"Mean class accuracy of the fusion less that of a single stratum: {points(gain, sign=True)} points"
    )
    if best is not None:
        accuracy += f"; less that of {found.best_single}, the best on other labelled images: {points(best, sign=True)}"
    return [*words, f"{accuracy}."]


def _measured_fusion(found: Diagnosis) -> list[str]:
    measure = found.own_minus_off_gap
    if not measure.before.exists:
        return []
    words = f"Measured: parameter imbalance is {points(measure.before)} points in single zero-shot strata"
    if not measure.before.low > 0:
        return [f"{words}; none is shown, so there is none for the fusion to remove."]
    changed = change(measure)
    fall = f" (a change of {changed})" if changed else ""
    return [f"{words} and {points(measure.after)} in their fusion{fall}."]


def _neither(spread: Spread) -> list[str]:
    if not spread.neither.exists:
        return []
    return [
        f"{_percent(spread.neither)} of the variance of class accuracy (standard deviation "
        f"{points(spread.deviation)} points) lies along neither the training counts nor a stratum's own prior, and "
        f"{_percent(spread.difficulty)} is common to all strata. That takes better features, other captions or more "
        "images."
    ]


def _from_to(measure: Change) -> str:
    return f"{points(measure.before)} to {points(measure.after)}"


def _percent(share: Interval) -> str:
    """A share with its interval: ``12 % [3, 25]``."""
    if not share.exists:
        return "an unknown share"
    if not share.bounded:
        return f"{100 * share.estimate:.0f} %"
    return f"{100 * share.estimate:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"
