"""What the pre-training of strata does to the classes of images, and what can be mended, before any training."""

from __future__ import annotations

from causalft.analysis.before_training.strata import StrataDiagnosis, diagnose_strata

__all__ = ["StrataDiagnosis", "diagnose_strata"]
