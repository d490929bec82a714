"""Why a number of a diagnosis, or its interval, does not exist: the reason that goes with a null in metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from causalft.diagnosis.intervals import Interval

__all__ = ["explain_missing"]

_NO_CLASS = "no class of the group has a test image"
_NO_GAP = "P-many or P-few has no class with a test image"
_ONE = "one stratum alone: its prior cannot be told from class difficulty"
_NO_SLOPE = "the slope takes two strata whose priors differ, and two classes with test images"
_NOTHING_TO_FUSE = "one stratum alone: the fusion is that stratum"
_SAME_FUSION = "the fusion is itself the mean of log-probabilities"
_NO_FALL = "the measure is not clearly above 0 before the fusion"
_NO_SHARE = "the gain of the strata is not clearly above 0"


def explain_missing(found: Mapping[str, Any], strata: Sequence[str], fusion: str) -> dict[str, Any]:
    """Give every null of a diagnosis its reason.

    A difference of a model from itself is 0 by construction and has no interval. A share of something that may be 0
    has none either: its denominator cannot be told from 0.

    Parameters
    ----------
    found : mapping of str to Interval or object array of Interval
        Of :func:`causalft.diagnosis.intervals.bootstrap`, the statistics of :func:`causalft.diagnosis.diagnose`.
    strata : sequence of str
    fusion : str

    Returns
    -------
    dict
        The same with reasons.
    """
    alone = len(strata) == 1
    done = dict(found)
    for name in ("groups", "gap"):
        why = _NO_CLASS if name == "groups" else _NO_GAP
        done[name] = _each(found[name], lambda value, why=why: value if value.exists else Interval.none(why))
    for name, value in found.items():
        if isinstance(value, Interval) and not value.exists:
            done[name] = Interval.none(_absent(name, alone))
    for name in found:
        measure, _, part = name.rpartition("/")
        if part == "fall" and done[name].exists and not done[f"{measure}/before"].low > 0:
            done[name] = Interval.none(_NO_FALL, done[name].estimate)
        if part == "ensemble_share" and done[name].exists and not done["gain"].low > 0:
            done[name] = Interval.none(_NO_SHARE, done[name].estimate)
    if alone:
        for name in ("gain", "fused_minus_single", "fused_minus_logit_mean", "fused_minus_members_gap"):
            done[name] = _each(done[name], lambda value: _of_itself(value, _NOTHING_TO_FUSE))
    elif fusion == "logit":
        done["fused_minus_logit_mean"] = _of_itself(done["fused_minus_logit_mean"], _SAME_FUSION)
    return done


def _absent(name: str, alone: bool) -> str:
    if "slope" in name:
        return _NO_SLOPE
    if "own_minus_off" in name and alone:
        return _ONE
    if name.endswith("ensemble_share"):
        return _NO_SHARE
    return _NO_GAP


def _of_itself(value: Interval, why: str) -> Interval:
    return Interval.none(why, 0.0) if value.estimate == 0 else value


def _each(values: Any, change: Any) -> Any:
    """Change an interval, or each of an object array of them."""
    if isinstance(values, Interval):
        return change(values)
    changed = np.empty(values.shape, dtype=object)
    for index in np.ndindex(values.shape):
        changed[index] = change(values[index])
    return changed
