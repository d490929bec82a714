"""Which classes does the pre-training hurt? Imbalance before and after adjustment, told from class difficulty."""

from __future__ import annotations

from causalft.analysis.diagnosis.conclusion import change, points
from causalft.analysis.diagnosis.diagnose import diagnose
from causalft.analysis.diagnosis.intervals import Interval, bootstrap
from causalft.analysis.diagnosis.result import BeforeAfter, Control, Diagnosis, ModelScore, count

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
