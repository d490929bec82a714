"""Which classes does the pre-training hurt? Imbalance before and after adjustment, told from class difficulty."""

from __future__ import annotations

from causalft.diagnosis.conclusion import points
from causalft.diagnosis.diagnose import diagnose
from causalft.diagnosis.intervals import Interval, bootstrap
from causalft.diagnosis.result import BeforeAfter, Control, Diagnosis, ModelScore

__all__ = ["BeforeAfter", "Control", "Diagnosis", "Interval", "ModelScore", "bootstrap", "diagnose", "points"]
