"""The label prior that a model carries in its logits: estimate it (GLA), with intervals, and take it out.

Bayes: P_T(y|x) is proportional to P_T(y) / P_P(y) * P_P(y|x). Generalised logit adjustment (GLA, Zhu et al.,
NeurIPS 2023) turns this around: of all priors q, the one that explains labelled data from a known target prior
best is the estimate of P_P(Y). It is only ever an estimate: a contrastive loss with in-batch negatives cancels
the prior in the logits, and then q tells of something else (:func:`prior_caveat`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from causalft.runs.lazy import lazy_names

if TYPE_CHECKING:
    from causalft.priors.bootstrap import PriorIntervals, bootstrap_prior
    from causalft.priors.caveat import PRETRAINING_LOSSES, few_images_caveat, prior_caveat, prior_caveats
    from causalft.priors.compare import kl_divergence, rank_correlation
    from causalft.priors.estimate import PriorEstimate, debias, estimate_prior
    from causalft.priors.validation import prior_on_validation

__all__ = [
    "PRETRAINING_LOSSES",
    "PriorEstimate",
    "PriorIntervals",
    "bootstrap_prior",
    "debias",
    "estimate_prior",
    "few_images_caveat",
    "kl_divergence",
    "prior_caveat",
    "prior_caveats",
    "prior_on_validation",
    "rank_correlation",
]

_HOMES = {
    "PRETRAINING_LOSSES": "causalft.priors.caveat",
    "PriorEstimate": "causalft.priors.estimate",
    "PriorIntervals": "causalft.priors.bootstrap",
    "bootstrap_prior": "causalft.priors.bootstrap",
    "debias": "causalft.priors.estimate",
    "estimate_prior": "causalft.priors.estimate",
    "few_images_caveat": "causalft.priors.caveat",
    "kl_divergence": "causalft.priors.compare",
    "prior_caveat": "causalft.priors.caveat",
    "prior_caveats": "causalft.priors.caveat",
    "prior_on_validation": "causalft.priors.validation",
    "rank_correlation": "causalft.priors.compare",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
