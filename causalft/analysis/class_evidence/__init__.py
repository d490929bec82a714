"""Parameter imbalance from tables alone: class accuracies of several models and the counts of their pre-training."""

from __future__ import annotations

from causalft.analysis.class_evidence.alike import Likeness, likeness
from causalft.analysis.class_evidence.checks import Check, checks
from causalft.analysis.class_evidence.evidence import class_evidence
from causalft.analysis.class_evidence.gaps import cross_gaps, own_minus_off
from causalft.analysis.class_evidence.logit import LogitSlope, logit_slope
from causalft.analysis.class_evidence.placebo import (
    Placebo,
    exchanged_priors,
    shuffled_classes,
    swapped_models,
)
from causalft.analysis.class_evidence.regression import Draws, Estimate, Regression
from causalft.analysis.class_evidence.result import ClassEvidence, Comparison

__all__ = [
    "Check",
    "ClassEvidence",
    "Comparison",
    "Draws",
    "Estimate",
    "Likeness",
    "LogitSlope",
    "Placebo",
    "Regression",
    "checks",
    "class_evidence",
    "cross_gaps",
    "exchanged_priors",
    "likeness",
    "logit_slope",
    "own_minus_off",
    "shuffled_classes",
    "swapped_models",
]
