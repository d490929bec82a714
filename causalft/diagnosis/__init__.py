"""Which classes does the pre-training hurt? Imbalance before and after adjustment, told from class difficulty."""

from __future__ import annotations

from causalft.diagnosis.conclusion import change, points
from causalft.diagnosis.diagnose import diagnose
from causalft.diagnosis.intervals import Interval, bootstrap
from causalft.diagnosis.result import BeforeAfter, Control, Diagnosis, ModelScore, count

__all__ = [
    "BeforeAfter",
    "Control",
    "Diagnosis",
    "Interval",
    "ModelScore",
    "bootstrap",
    "change",
    "count",
    "diagnose",
    "points",
]
