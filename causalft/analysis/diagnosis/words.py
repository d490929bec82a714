"""An interval in words."""

from __future__ import annotations

from causalft.analysis.diagnosis.intervals import Interval
from causalft.scm.intervals import interval_text

__all__ = ["points"]


def points(value: Interval, sign: bool = False, missing: str = "not measurable") -> str:
    """An interval of fractions as percentage points: ``12.3 [11.0, 13.6]``; why there is none where it has no bounds.

    Examples
    --------
    >>> points(Interval(.123, .11, .136, .001))
    '12.3 [11.0, 13.6]'
    """
    return interval_text(value.estimate, value.ci95, value.reason, sign=sign, missing=missing)
