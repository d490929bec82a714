"""The label prior of a model from validation images as they come: balanced, a share of each class, some classes absent.

GLA estimates q from ``softmax(f - log q + log pi)``, where pi is the class law of the labelled images. A validation set
cut to the same number of every class has a uniform pi. One cut to a share of each class has its own, n_k / n, and with
a uniform pi in its place the estimate would be q * (n / n_k), the reverse of the validation set added to that of the
model's. Images of the classes present say nothing of a class that is absent; it gets the geometric mean of the others.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax

from causalft.priors.checks import check_logits
from causalft.priors.estimate import PriorEstimate, estimate_prior
from causalft.runs.progress import named

__all__ = ["prior_on_validation"]


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
        ``l2``, ``folds``, ``seed`` of :func:`causalft.priors.estimate_prior`.

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
