"""The conclusion in sentences: parameter imbalance before and after fusion, its control, the accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from causalft.analysis.diagnosis.intervals import Interval, points
from causalft.analysis.diagnosis.no_conclusion import no_conclusion_lines
from causalft.analysis.diagnosis.parameter_imbalance import flat_priors
from causalft.analysis.diagnosis.result import BeforeAfter, Control, Diagnosis

__all__ = ["change", "conclude", "interval_text", "p_text", "points", "untold"]


def change(measure: BeforeAfter) -> str:
    """The relative change by fusion, ``-55 % [-80, -34]``; empty unless the measure is clearly above 0 before.

    Examples
    --------
    >>> before, after = Interval(.2, .1, .3, .001), Interval(.1, .05, .15, .001)
    >>> change(BeforeAfter(before, after, Interval(.5, .3, .7, .001)))
    '-50 % [-70, -30]'
    """
    share = measure.fall
    if not (measure.before.low > 0 and share.low <= share.high):
        return ""
    return f"{-100 * share.estimate:+.0f} % [{-100 * share.high:+.0f}, {-100 * share.low:+.0f}]"


def conclude(found: Diagnosis, *, doubted: bool, mention_missing_control: bool = True) -> list[str]:
    """Write the sentences that ``fit`` prints, parameter imbalance first.

    Parameters
    ----------
    found : Diagnosis
    doubted : bool
        Whether models or groups allow no conclusion: then ``found.no_conclusion`` replaces what would follow from a
        gap.
    mention_missing_control : bool
        Whether to say that no control was run.
    """
    if doubted:
        return [
            *_nothing(found),
            *_control(found, mention_missing_control, numbers=False),
            _accuracy(found),
            *_limits(found),
        ]
    sentences = [
        _parameter_imbalance(found),
        *_slope(found),
        *_control(found, mention_missing_control),
        *_mechanism(found),
        _accuracy(found),
    ]
    return [*sentences, *_limits(found)]


def _nothing(found: Diagnosis) -> list[str]:
    return no_conclusion_lines("Parameter imbalance, and what fusion does to it", found.no_conclusion)


def untold(found: Diagnosis) -> str:
    """Why what was compared cannot tell parameter imbalance from class difficulty; empty where it can."""
    if found.own_minus_off_gap.before.exists:
        return ""
    why = "one stratum alone" if len(found.strata) == 1 else "a P group without a tested class"
    return f"parameter imbalance cannot be told from class difficulty with {why}"


def _parameter_imbalance(found: Diagnosis) -> str:
    measure = found.own_minus_off_gap
    if reason := untold(found):
        return (
            f"{reason[0].upper()}{reason[1:]}; the raw gap between P-many and P-few classes is "
            f"{points(found.P_gap.before)} points."
        )
    start = (
        "Parameter imbalance (gap between P-many and P-few classes beyond what models with other priors show on "
        f"the same classes): {points(measure.before)} points in the single models, {points(measure.after)} after fusion"
    )
    if not measure.before.low > 0:
        return f"{start}; no parameter imbalance is shown here, so there is none for the fusion to remove."
    return f"{start}{_fall(measure)}."


def _fall(measure: BeforeAfter) -> str:
    changed = change(measure)
    return f" (a change of {changed})" if changed else ""


def _slope(found: Diagnosis) -> list[str]:
    measure = found.prior_slope
    if not measure.before.exists:
        return []
    if flat := flat_priors(found.priors):
        return [
            f"No slope along the priors is told: that of {', '.join(flat)} spans less than a factor of 2."
        ]
    if not measure.before.excludes_zero:
        return [
            "With class difficulty taken out, no effect of a class's share in the pre-training is shown: a class a "
            f"hundred times rarer is {points(measure.before)} points less accurate in a single model and "
            f"{points(measure.after)} in the fused one."
        ]
    (verb, before), (fused_verb, after) = _loss(measure.before), _loss(measure.after)
    return [
        f"With class difficulty taken out, a class a hundred times rarer in the pre-training {verb} {before} points of "
        f"accuracy in a single model and {after if verb == fused_verb else f'{fused_verb} {after}'} in the fused one."
    ]


def _loss(slope: Interval) -> tuple[str, str]:
    """A positive slope is a loss of the rare classes, a negative one their gain."""
    if not slope.estimate < 0:
        return "loses", points(slope)
    return "gains", points(Interval(-slope.estimate, -slope.high, -slope.low, slope.p, slope.reason))


def _control(found: Diagnosis, mention_missing: bool, numbers: bool = True) -> list[str]:
    if not found.controls:
        if len(found.strata) == 1 or not mention_missing:
            return []
        return ["No one-prior control was run, so the part of an ordinary ensemble in this is not known."]
    return [_one_control(name, control, numbers) for name, control in found.controls.items()]


def _one_control(name: str, control: Control, numbers: bool) -> str:
    measure = control.own_minus_off_gap if control.own_minus_off_gap.before.exists else control.P_gap
    weaker = ""
    if control.kind == "tuning":
        weaker = (
            " Its members are other tuning seeds of the same pre-trained weights, which differ less than other "
            "pre-trainings: a weaker control."
        )
    what = f"the same fusion over {len(control.member_accuracy)} models with the prior of {control.prior_of}"
    if not numbers:
        return f"Control '{name}' was run: {what}.{weaker}"
    return (
        f"Control '{name}' ({what}): {points(measure.before)} points before, {points(measure.after)} "
        f"after{_fall(measure)}.{weaker}"
    )


def _mechanism(found: Diagnosis) -> list[str]:
    value = found.fused_minus_members_gap
    if not value.exists or len(found.strata) == 1:
        return []
    start = f"On the same groups the fused gap minus the mean of its members' gaps is {points(value, sign=True)} points"
    if not value.excludes_zero:
        return [
            f"{start}: it averages the gaps of models that do not share them, and is not seen to do more."
        ]
    word = "more than" if value.estimate < 0 else "less than"
    return [f"{start}: the {found.fusion} fusion lowers the gap {word} averaging its members' gaps would."]


def _accuracy(found: Diagnosis) -> str:
    best = found.best_on_test
    kind = "" if found.balanced_test else " (mean over classes)"
    sentence = f"Accuracy{kind}: {points(found.fused.class_mean)} % fused"
    if len(found.strata) == 1:
        return f"{sentence}; one stratum leaves nothing to fuse."
    sentence += (
        f", {points(found.paired['fused_minus_best_single'], sign=True)} points over the best single stratum on the "
        f"test set ({best})"
    )
    if found.chosen_on == "validation" and found.best_single != best:
        chosen = points(found.paired["fused_minus_chosen_single"], sign=True)
        sentence += f" and {chosen} over {found.best_single}, which validation would choose"
    gain = found.paired["fused_minus_mean_single"]
    sentence += f"; {points(gain, sign=True)} over the mean of the strata"
    for name, control in found.controls.items():
        sentence += f", of which control '{name}' gives {points(control.gain, sign=True)}"
        if gain.low > 0 and control.ensemble_share.bounded and not found.no_conclusion:
            sentence += f" ({100 * control.ensemble_share.estimate:.0f} % is an ordinary ensemble's)"
    return f"{sentence}."


def _test_set(found: Diagnosis) -> list[str]:
    """What accuracy means where the classes have unequal numbers of test images."""
    if found.balanced_test or found.test_counts is None:
        return []
    counts = found.test_counts[found.test_counts > 0]
    sentence = f"The {len(counts)} tested classes have {counts.min()} to {counts.max()} test images; "
    untested = found.n_classes - len(counts)
    if untested:
        sentence += (
            f"{untested} more {'has' if untested == 1 else 'have'} none and no part in any accuracy here; "
        )
    sentence += "accuracy in these sentences is the mean over the tested classes"
    return [f"{sentence}; of the images {points(found.fused.accuracy)} % are right."]


def _limits(found: Diagnosis) -> list[str]:
    limits = _test_set(found)
    if found.n_seeds == 1:
        limits.append("One seed: the intervals cover other test images, not other training runs.")
    if found.n_classes < 20:
        limits.append(
            f"{found.n_classes} classes make small groups: read the gap beyond difficulty and the slope, "
            "not raw P gaps."
        )
    return limits


def interval_text(value: Mapping[str, Any] | None) -> str:
    """An interval in JSON, in percent or points, as :func:`causalft.runs.intervals.interval_text` writes it.

    Examples
    --------
    >>> interval_text({"estimate": 0.123, "ci95": [0.11, 0.136], "p": 0.01})
    '12.3 [11.0, 13.6]'
    >>> interval_text({"estimate": 0.0, "ci95": None, "p": None, "reason": "the two are one model"})
    '0.0, no interval (the two are one model)'
    """
    return points(Interval.from_json(value))


def p_text(p: float | None) -> str:
    """A p-value in a cell; nothing for None.

    Examples
    --------
    >>> p_text(0.00004), p_text(0.0004), p_text(0.0312), p_text(None)
    ('< 0.0001', '0.0004', '0.031', '')
    """
    if p is None or p != p:
        return ""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.001 else f"{p:.3f}"
