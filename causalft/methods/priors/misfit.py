"""How far the prior in a model's logits is from that of its pre-training, and intervals that allow for it.

With ever more labelled images GLA's estimate goes to a limit: the prior that explains the logits best. That is the
pre-training prior only if the logits are log posteriors. A trained model's are so only nearly, and what they are off by
(the misfit) no number of images lowers. Bootstrap intervals are about the limit; here they are widened to be about the
pre-training prior.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from causalft.errors import CausalFTError
from causalft.methods.priors.bootstrap import PriorIntervals

__all__ = ["MINI_MISFIT", "measured_misfit", "with_misfit"]

MINI_MISFIT = 0.32
"""Root mean square of log limit - log known prior over the classes of the minis (``bench/prior_world.py``)."""


def with_misfit(found: PriorIntervals, misfit: float) -> NDArray[np.float64]:
    """Return intervals of the log pre-training prior: the spread of log q over the draws, and the misfit of the model.

    Parameters
    ----------
    found : PriorIntervals
    misfit : float
        Standard deviation of log q about the log pre-training prior, as if from ever so many images, 0 or more.

    Returns
    -------
    (K, 2) array
        Normal intervals about log q, variances added; at most 0.

    Examples
    --------
    >>> from causalft.methods.priors import bootstrap_prior
    >>> labels = np.repeat([0, 1], 50)
    >>> logits = np.random.default_rng(0).normal(np.eye(2)[labels] + np.log([.9, .1]))
    >>> found = bootstrap_prior(logits, labels, n_boot=50)
    >>> wider = with_misfit(found, 0.3)
    >>> bool((np.diff(wider) > np.diff(found.log_prior)).all())
    True
    """
    if not (np.isfinite(misfit) and misfit >= 0):
        raise CausalFTError(f"the misfit {misfit} must be 0 or more")
    log_q = np.log(found.estimate.prior)
    reach = norm.ppf((1 + found.level) / 2) * np.hypot(found.spread, misfit)
    return np.stack([log_q - reach, np.minimum(log_q + reach, 0)], axis=1)


def measured_misfit(known: ArrayLike, found: PriorIntervals) -> float:
    """Estimate the misfit of a model whose pre-training prior is known, by moments.

    Parameters
    ----------
    known : (K,) array of positive numbers
        NaN where it is not known; such classes are left out, and both priors are shares of the others.
    found : PriorIntervals

    Returns
    -------
    float
        Root of the mean squared distance on the log scale, less the variance over the draws; 0 if that is more.

    Examples
    --------
    >>> from causalft.methods.priors import bootstrap_prior
    >>> labels = np.repeat([0, 1], 50)
    >>> logits = np.random.default_rng(0).normal(np.eye(2)[labels] + np.log([.9, .1]))
    >>> found = bootstrap_prior(logits, labels, n_boot=50)
    >>> measured_misfit(found.estimate.prior, found)
    0.0
    """
    truth = np.asarray(known, dtype=float)
    there = ~np.isnan(truth)
    log_q = np.log(found.estimate.prior)
    shares = log_q[there] - np.log(found.estimate.prior[there].sum())
    away = shares - np.log(truth[there] / truth[there].sum())
    return float(np.sqrt(max(0.0, (away**2).mean() - (found.spread[there] ** 2).mean())))
