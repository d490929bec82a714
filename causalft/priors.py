"""The label prior that a model carries in its logits: estimate it (GLA) and take it out.

Bayes: P_T(y|x) is proportional to P_T(y) / P_P(y) * P_P(y|x). Generalised logit adjustment (GLA, Zhu et al.,
NeurIPS 2023) turns this around: of all priors q, the one that explains labelled data from a known target prior
best is the estimate of P_P(Y). It is only ever an estimate: a contrastive loss with in-batch negatives cancels
the prior in the logits, and then q tells of something else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, rel_entr
from scipy.stats import rankdata

from causalft.errors import CausalFTError

__all__ = ["PriorEstimate", "debias", "estimate_prior", "kl_divergence", "rank_correlation"]


@dataclass(frozen=True, repr=False)
class PriorEstimate:
    """A label prior estimated by GLA.

    Attributes
    ----------
    prior : (K,) array
        Positive, sums to 1.
    loss : float
        Mean negative log-likelihood (nats) at the estimate, without the penalty.
    converged : bool
        Whether the gradient vanished. False means: separable data, or too few labels.
    n : int
        Labelled samples used.
    """

    prior: NDArray[np.float64] = field(compare=False)
    loss: float
    converged: bool
    n: int

    @property
    def imbalance(self) -> float:
        """Largest over smallest prior."""
        return float(self.prior.max() / self.prior.min())

    def __repr__(self) -> str:
        state = "" if self.converged else ", NOT converged"
        return (
            f"PriorEstimate({len(self.prior)} classes from {self.n} samples, imbalance {self.imbalance:.3g}, "
            f"loss {self.loss:.4f} nats{state})"
        )


def estimate_prior(
    logits: ArrayLike,
    labels: ArrayLike,
    target_prior: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    l2: float = 0.0,
) -> PriorEstimate:
    """Estimate the label prior in a model's logits from labelled samples (GLA).

    Minimises over the simplex the risk of ``softmax(logits - log q + log target_prior)``. The problem is
    convex in log q and solved by L-BFGS.

    Parameters
    ----------
    logits : (n, K) array
        Zero-shot logits. A constant added to a row changes nothing.
    labels : (n,) array of int in [0, K)
    target_prior : (K,) array, optional
        Class prior of the labelled samples (after weighting). Default: uniform, that is, a balanced set.
    weights : (n,) array of non-negative numbers, optional
        Sample weights, for instance target prior over class share where the sample is not balanced.
    l2 : float
        Weight of the penalty ``l2 / 2 * sum_k (log q_k - mean log q)^2``: pulls towards a uniform q; needed
        where a class has no labelled sample.

    Returns
    -------
    PriorEstimate

    Raises
    ------
    CausalFTError
        If a class has no labelled sample and l2 is 0 (its prior has no estimate), or the shapes do not agree.

    References
    ----------
    Zhu et al., "Generalized Logit Adjustment", NeurIPS 2023.

    Examples
    --------
    >>> logits = np.log([[.8, .2], [.8, .2], [.5, .5]])      # the model prefers class 0
    >>> estimate = estimate_prior(logits, [0, 1, 1])
    >>> bool(estimate.prior[0] > .8)
    True
    """
    f, y = _logits_and_labels(logits, labels)
    n, n_classes = f.shape
    w = _weights(weights, n)
    if l2 < 0:
        raise CausalFTError(f"l2 is {l2}; give 0 or a positive number")
    class_weight = np.bincount(y, weights=w, minlength=n_classes)
    if l2 == 0 and (class_weight == 0).any():
        empty = np.flatnonzero(class_weight == 0)
        raise CausalFTError(
            f"class {int(empty[0])} has no labelled sample ({len(empty)} of {n_classes} classes lack one), "
            "so its prior cannot be estimated; add labelled samples or set l2 > 0"
        )
    base = f if target_prior is None else f + np.log(_simplex(target_prior, n_classes, "target_prior"))
    base = log_softmax(base, axis=1)

    def risk(offset: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Loss and gradient at offset = -log q (up to a constant)."""
        shifted = base + offset
        log_z = logsumexp(shifted, axis=1)
        p = np.exp(shifted - log_z[:, None])
        centred = offset - offset.mean()
        loss = w @ (log_z - shifted[np.arange(n), y]) + 0.5 * l2 * (centred @ centred)
        return float(loss), w @ p - class_weight + l2 * centred

    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-13, "gtol": 1e-7}
    solution = minimize(risk, np.zeros(n_classes), jac=True, method="L-BFGS-B", options=options)
    offset = solution.x - solution.x.mean()
    loss, gradient = risk(offset)
    return PriorEstimate(
        prior=np.exp(log_softmax(-offset)),
        loss=float(loss - 0.5 * l2 * (offset @ offset)),
        converged=bool(np.abs(gradient).max() < 1e-4),
        n=n,
    )


def debias(logits: ArrayLike, prior: ArrayLike) -> NDArray[np.float64]:
    """Take a label prior out of logits: ``logits - log prior`` (GLA, balanced target).

    Parameters
    ----------
    logits : (..., K) array
    prior : (K,) array of positive numbers that sum to 1

    Returns
    -------
    (..., K) array

    Examples
    --------
    >>> debias(np.log([[.8, .2]]), [.8, .2]).round(12).tolist()
    [[0.0, 0.0]]
    """
    f = np.asarray(logits, dtype=float)
    return f - np.log(_simplex(prior, f.shape[-1], "prior"))


def kl_divergence(truth: ArrayLike, estimate: ArrayLike) -> float:
    """KL(truth || estimate) of two label priors, in nats; 0 if they agree.

    Examples
    --------
    >>> kl_divergence([.5, .5], [.5, .5])
    0.0
    """
    p = _simplex(truth, len(np.asarray(truth)), "truth")
    return float(rel_entr(p, _simplex(estimate, len(p), "estimate")).sum())


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


def _logits_and_labels(logits: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    f, y = np.asarray(logits, dtype=float), np.asarray(labels)
    if f.ndim != 2 or f.shape[0] == 0 or f.shape[1] < 2:
        raise CausalFTError(f"logits must be (n_samples, n_classes) with at least 2 classes, not {f.shape}")
    if y.shape != f.shape[:1]:
        raise CausalFTError(f"{f.shape[0]} rows of logits but labels of shape {y.shape}; they must agree")
    if not np.isfinite(f).all():
        raise CausalFTError(f"logits of sample {int(np.argwhere(~np.isfinite(f))[0][0])} are not finite")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= f.shape[1]:
        n_classes = f.shape[1]
        raise CausalFTError(
            f"labels must be integers from 0 to {n_classes - 1} (logits have {n_classes} classes)"
        )
    return f, y.astype(np.int64)


def _weights(weights: ArrayLike | None, n: int) -> NDArray[np.float64]:
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    if w.shape != (n,) or not np.isfinite(w).all() or w.min() < 0 or w.sum() == 0:
        raise CausalFTError(f"weights must be {n} non-negative numbers, not all 0")
    return w / w.sum()


def _simplex(values: ArrayLike, n_classes: int, name: str) -> NDArray[np.float64]:
    p = np.asarray(values, dtype=float)
    if p.shape != (n_classes,) or not (np.isfinite(p).all() and (p > 0).all()):
        raise CausalFTError(f"{name} must hold {n_classes} positive numbers, one per class")
    if abs(p.sum() - 1) > 1e-4:
        raise CausalFTError(f"{name} sums to {p.sum():.4g}; it must sum to 1")
    return p / p.sum()
