"""Compare priors: divergence, rank correlation, and an estimate from validation images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax, rel_entr
from scipy.stats import rankdata

from causalft.errors import CausalFTError
from causalft.methods.priors.checks import check_logits, check_simplex
from causalft.methods.priors.estimate import PriorEstimate, estimate_prior
from causalft.runs.progress import named

__all__ = ["kl_divergence", "prior_on_validation", "rank_correlation"]


def kl_divergence(truth: ArrayLike, estimate: ArrayLike) -> float:
    """KL(truth || estimate) of two label priors, in nats; 0 if they agree.

    Examples
    --------
    >>> kl_divergence([.5, .5], [.5, .5])
    0.0
    """
    p = check_simplex(truth, len(np.asarray(truth)), "truth")
    return float(rel_entr(p, check_simplex(estimate, len(p), "estimate")).sum())


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman correlation of two vectors (average ranks for ties); NaN if one is constant.

    Examples
    --------
    >>> rank_correlation([.1, .2, .7], [1, 2, 3])
    1.0
    """
    ranks_a, ranks_b = (rankdata(np.asarray(v, dtype=float)) for v in (a, b))
    if len(ranks_a) != len(ranks_b) or len(ranks_a) < 2:
        lengths = f"{len(ranks_a)} and {len(ranks_b)}"
        raise CausalFTError(f"rank correlation needs two vectors of one length, at least 2, not {lengths}")
    ranks_a, ranks_b = ranks_a - ranks_a.mean(), ranks_b - ranks_b.mean()
    scale = np.sqrt((ranks_a @ ranks_a) * (ranks_b @ ranks_b))
    return float(np.round(ranks_a @ ranks_b / scale, 12)) if scale > 0 else float("nan")


@named("estimating the label prior")
def prior_on_validation(logits: ArrayLike, labels: ArrayLike, **options: object) -> PriorEstimate:
    """Estimate the label prior in a model's logits on labelled images whose class law is their own shares.

    Parameters
    ----------
    logits : (n, K) array
        Zero-shot logits.
    labels : (n,) array of int in [0, K)
        Two classes or more; otherwise there is nothing to compare, and the estimate is uniform, ``converged`` false.
    **options
        ``l2``, ``folds``, ``seed`` of :func:`causalft.methods.priors.estimate_prior`.

    Returns
    -------
    PriorEstimate
        A class without an image has the geometric mean of the others.

    Examples
    --------
    >>> logits = np.log([[.8, .2]] * 8 + [[.5, .5]] * 4)
    >>> labels = [0] * 7 + [1] + [0] * 2 + [1] * 2              # 9 images of class 0, 3 of class 1
    >>> own, balanced = prior_on_validation(logits, labels, l2=0.0), estimate_prior(logits, labels, l2=0.0)
    >>> bool(own.prior[0] > balanced.prior[0])
    True
    """
    f, y = check_logits(logits, labels)
    counts = np.bincount(y, minlength=f.shape[1])
    present = counts > 0
    if present.all() and counts.min() == counts.max():
        return estimate_prior(f, y, **options)  # type: ignore[arg-type]
    if np.count_nonzero(present) < 2:
        uniform = np.full(f.shape[1], 1 / f.shape[1])
        loss = -float(log_softmax(f.astype(np.float64), axis=1)[np.arange(len(y)), y].mean())
        return PriorEstimate(prior=uniform, loss=loss, converged=False, n=len(y))
    number = np.cumsum(present) - 1
    law = counts[present] / len(y)
    found = estimate_prior(f[:, present], number[y], target_prior=law, **options)  # type: ignore[arg-type]
    log_q = np.full(f.shape[1], np.log(found.prior).mean())
    log_q[present] = np.log(found.prior)
    return replace(found, prior=np.exp(log_softmax(log_q)))
