"""The conclusion in words: parameter imbalance before and after fusion, its control, then the accuracy."""

from __future__ import annotations

from causalft.diagnosis.intervals import Interval
from causalft.diagnosis.result import BeforeAfter, Control, Diagnosis

__all__ = ["conclude", "points"]


def points(value: Interval, sign: bool = False) -> str:
    """An interval of fractions as percentage points: ``12.3 [11.0, 13.6]``.

    Examples
    --------
    >>> points(Interval(.123, .11, .136, .001))
    '12.3 [11.0, 13.6]'
    """
    if not value.exists:
        return "not measurable"
    plus = "+" if sign else ""
    return f"{100 * value.estimate:{plus}.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def conclude(found: Diagnosis) -> list[str]:
    """Sentences that a person reads after ``fit``; the first ones answer the question of parameter imbalance."""
    sentences = [
        _parameter_imbalance(found),
        *_slope(found),
        *_control(found),
        *_mechanism(found),
        _accuracy(found),
    ]
    return [*sentences, *_limits(found)]


def _parameter_imbalance(found: Diagnosis) -> str:
    measure = found.own_minus_off_gap
    if not measure.before.exists:
        why = "one stratum alone" if len(found.strata) == 1 else "a P group without a tested class"
        return (
            f"Parameter imbalance cannot be told from class difficulty with {why}; the raw gap between P-many and "
            f"P-few classes is {points(found.P_gap.before)} points."
        )
    start = (
        "Parameter imbalance (gap between P-many and P-few classes beyond what models with other priors show on "
        f"the same classes): {points(measure.before)} points in the single models, {points(measure.after)} after fusion"
    )
    if measure.before.low <= 0:
        return f"{start}; no parameter imbalance is shown here, so there is none for the fusion to remove."
    return f"{start}{_fall(measure)}."


def _fall(measure: BeforeAfter) -> str:
    share = measure.fall
    if not share.exists:
        return ""
    change = f"{-100 * share.estimate:+.0f} % [{-100 * share.high:+.0f}, {-100 * share.low:+.0f}]"
    return f" (a change of {change})"


def _slope(found: Diagnosis) -> list[str]:
    measure = found.prior_slope
    if not measure.before.exists:
        return []
    return [
        "With class difficulty taken out, a class a hundred times rarer in the pre-training loses "
        f"{points(measure.before)} points of accuracy in a single model and {points(measure.after)} in the fused one."
    ]


def _control(found: Diagnosis) -> list[str]:
    if not found.controls:
        if len(found.strata) == 1:
            return []
        return ["No one-prior control was run, so the part of an ordinary ensemble in this is not known."]
    return [_one_control(name, control) for name, control in found.controls.items()]


def _one_control(name: str, control: Control) -> str:
    measure = control.own_minus_off_gap if control.own_minus_off_gap.before.exists else control.P_gap
    return (
        f"Control '{name}' (the same fusion over {len(control.member_accuracy)} models with the prior of "
        f"{control.prior_of}): {points(measure.before)} points before, {points(measure.after)} after{_fall(measure)}."
    )


def _mechanism(found: Diagnosis) -> list[str]:
    value = found.fused_minus_members_gap
    if not value.exists or len(found.strata) == 1:
        return []
    start = f"On the same groups the fused gap minus the mean of its members' gaps is {points(value, sign=True)} points"
    if not value.excludes_zero:
        return [
            f"{start}: fusion averages the gaps of models that do not share them, and is not seen to do more."
        ]
    word = "more than" if value.estimate < 0 else "less than"
    return [f"{start}: fusion lowers the gap {word} averaging its members' gaps would."]


def _accuracy(found: Diagnosis) -> str:
    best = found.best_on_test
    sentence = f"Accuracy: {points(found.fused.accuracy)} % fused"
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
        if gain.low > 0 and control.ensemble_share.exists:
            sentence += f" ({100 * control.ensemble_share.estimate:.0f} % is an ordinary ensemble's)"
    return f"{sentence}."


def _limits(found: Diagnosis) -> list[str]:
    limits = []
    if found.n_seeds == 1:
        limits.append("One seed: the intervals cover other test images, not other training runs.")
    if found.n_classes < 20:
        limits.append(
            f"{found.n_classes} classes make small groups: read the gap beyond difficulty and the slope, "
            "not raw P gaps."
        )
    return limits
