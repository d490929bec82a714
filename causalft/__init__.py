"""Causal tools for foundation models under long-tailed data: verify a confounder, diagnose imbalance, adjust for it.

The names below are imported when they are first used, so that ``import causalft`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from causalft.version import __version__ as __version__

if TYPE_CHECKING:
    from causalft.analysis.confounding.result import Verification
    from causalft.analysis.diagnosis import Diagnosis, diagnose
    from causalft.data.image_set import ImageSet
    from causalft.data.opening import open_images
    from causalft.errors import CausalFTError
    from causalft.methods.estimators.backdoor import BackdoorClassifier
    from causalft.methods.estimators.settings import FitSettings
    from causalft.methods.estimators.strata import StrataClassifier
    from causalft.methods.priors import estimate_prior
    from causalft.models.pretraining.leakage import downstream_splits
    from causalft.models.strata.zoo import open_zoo
    from causalft.pipelines.workflows.explain import explain
    from causalft.pipelines.workflows.fit import run_fit
    from causalft.pipelines.workflows.sensitivity import sensitivity
    from causalft.pipelines.workflows.verify_confounder import verify_confounder
    from causalft.scm import PartSCM, causal_graph, identify

_HOMES = {
    "BackdoorClassifier": "causalft.methods.estimators.backdoor",
    "CausalFTError": "causalft.errors",
    "Diagnosis": "causalft.analysis.diagnosis",
    "FitSettings": "causalft.methods.estimators.settings",
    "ImageSet": "causalft.data.image_set",
    "PartSCM": "causalft.scm",
    "StrataClassifier": "causalft.methods.estimators.strata",
    "Verification": "causalft.analysis.confounding.result",
    "causal_graph": "causalft.scm",
    "diagnose": "causalft.analysis.diagnosis",
    "downstream_splits": "causalft.models.pretraining.leakage",
    "estimate_prior": "causalft.methods.priors",
    "explain": "causalft.pipelines.workflows.explain",
    "identify": "causalft.scm",
    "open_images": "causalft.data.opening",
    "open_zoo": "causalft.models.strata.zoo",
    "run_fit": "causalft.pipelines.workflows.fit",
    "sensitivity": "causalft.pipelines.workflows.sensitivity",
    "verify_confounder": "causalft.pipelines.workflows.verify_confounder",
}

__all__ = [
    "BackdoorClassifier",
    "CausalFTError",
    "Diagnosis",
    "FitSettings",
    "ImageSet",
    "PartSCM",
    "StrataClassifier",
    "Verification",
    "causal_graph",
    "diagnose",
    "downstream_splits",
    "estimate_prior",
    "explain",
    "identify",
    "open_images",
    "open_zoo",
    "run_fit",
    "sensitivity",
    "verify_confounder",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'causalft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
