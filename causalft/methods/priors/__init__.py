"""The label prior that a model carries in its logits: estimate it (GLA), with intervals, and take it out.

Bayes: P_T(y|x) is proportional to P_T(y) / P_P(y) * P_P(y|x). Generalised logit adjustment (GLA, Zhu et al., NeurIPS
2023) estimates P_P(Y) by the prior q that best explains labelled data from a known target prior. A contrastive loss
with in-batch negatives cancels the prior in the logits; then q is something else (:func:`prior_caveat`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from causalft.runs.lazy import lazy_names

if TYPE_CHECKING:
    from causalft.methods.priors.bootstrap import PriorIntervals, bootstrap_prior
    from causalft.methods.priors.caveat import (
        PRETRAINING_LOSSES,
        few_images_caveat,
        prior_caveat,
        prior_caveats,
    )
    from causalft.methods.priors.compare import PriorComparison, compare_priors
    from causalft.methods.priors.estimate import (
        PriorEstimate,
        debias,
        estimate_prior,
        kl_divergence,
        prior_on_validation,
        rank_correlation,
    )
    from causalft.methods.priors.known import KnownPrior, read_known_priors

__all__ = [
    "KnownPrior",
    "PRETRAINING_LOSSES",
    "PriorComparison",
    "PriorEstimate",
    "PriorIntervals",
    "bootstrap_prior",
    "compare_priors",
    "debias",
    "estimate_prior",
    "few_images_caveat",
    "kl_divergence",
    "prior_caveat",
    "prior_caveats",
    "prior_on_validation",
    "rank_correlation",
    "read_known_priors",
]

_HOMES = {
    "KnownPrior": "causalft.methods.priors.known",
    "PRETRAINING_LOSSES": "causalft.methods.priors.caveat",
    "PriorComparison": "causalft.methods.priors.compare",
    "PriorEstimate": "causalft.methods.priors.estimate",
    "PriorIntervals": "causalft.methods.priors.bootstrap",
    "bootstrap_prior": "causalft.methods.priors.bootstrap",
    "compare_priors": "causalft.methods.priors.compare",
    "debias": "causalft.methods.priors.estimate",
    "estimate_prior": "causalft.methods.priors.estimate",
    "few_images_caveat": "causalft.methods.priors.caveat",
    "kl_divergence": "causalft.methods.priors.estimate",
    "prior_caveat": "causalft.methods.priors.caveat",
    "prior_caveats": "causalft.methods.priors.caveat",
    "prior_on_validation": "causalft.methods.priors.estimate",
    "rank_correlation": "causalft.methods.priors.estimate",
    "read_known_priors": "causalft.methods.priors.known",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
