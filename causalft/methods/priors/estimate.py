"""Estimate the label prior in a model's logits (GLA), take it out, and compare it with another."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, rel_entr
from scipy.stats import rankdata

from causalft.errors import CausalFTError
from causalft.methods.priors.offsets import Table, choose_strength, solve
from causalft.runs.notebook import ShownAsTable
from causalft.runs.progress import named

__all__ = [
    "PriorEstimate",
    "check_classes",
    "check_logits",
    "check_simplex",
    "check_strength",
    "check_weights",
    "debias",
    "estimate_prior",
    "fit_table",
    "kl_divergence",
    "prior_on_validation",
    "rank_correlation",
]


@dataclass(frozen=True, repr=False)
class PriorEstimate(ShownAsTable):
    """A label prior estimated by GLA.

    Attributes
    ----------
    prior : (K,) array
        Positive, sums to 1.
    loss : float
        Mean negative log-likelihood (nats) at the estimate, without the penalty.
    converged : bool
    n : int
        Labelled samples used.
    l2 : float
        Strength of the pull towards a uniform prior.
    l2_path : tuple of (l2, held-out risk in nats)
        What cross-validation tried.
    """

    prior: NDArray[np.float64] = field(compare=False)
    loss: float
    converged: bool
    n: int
    l2: float = 0.0
    l2_path: tuple[tuple[float, float], ...] = field(default=(), compare=False)

    @property
    def imbalance(self) -> float:
        """Largest over smallest prior; noise raises it (:func:`causalft.methods.priors.bootstrap_prior` corrects)."""
        return float(self.prior.max() / self.prior.min())

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        order = np.argsort(-self.prior, kind="stable")
        return ["class", "prior"], [[int(k), float(self.prior[k])] for k in order]

    def __repr__(self) -> str:
        state = "" if self.converged else ", NOT converged"
        pull = f", l2 {self.l2:.3g}" if self.l2 else ""
        if self.l2_path:
            pull = f", l2 {self.l2:.3g} by cross-validation"
        return (
            f"PriorEstimate({len(self.prior)} classes from {self.n} samples, imbalance {self.imbalance:.3g}, "
            f"loss {self.loss:.4f} nats{pull}{state})"
        )


def estimate_prior(
    logits: ArrayLike,
    labels: ArrayLike,
    target_prior: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    l2: float | str = "cv",
    *,
    folds: int = 5,
    seed: int = 0,
) -> PriorEstimate:
    """Estimate the label prior in a model's logits from labelled samples (GLA).

    Minimises over the simplex the risk of ``softmax(logits - log q + log target_prior)``. The problem is convex in log
    q and solved by Newton's method without a dense Hessian, for ten thousand classes and more.

    Parameters
    ----------
    logits : (n, K) array
        Zero-shot logits, float32 or float64. A constant added to a row changes nothing.
    labels : (n,) array of int in [0, K)
    target_prior : (K,) array, optional
        Class prior of the labelled samples (after weighting). Default: uniform.
    weights : (n,) array of non-negative numbers, optional
        Sample weights, for instance target prior over class share.
    l2 : float or "cv"
        Weight of the penalty ``l2 / 2 * sum_k (log q_k - mean log q)^2``, the belief that log q has the variance ``1 /
        (n l2)``. ``"cv"`` takes the strongest pull whose held-out likelihood is within one standard error of the best.
        0 is GLA as published, which from few images is worse than a uniform prior. A class without a labelled sample is
        left out of the softmax and gets the geometric mean of the others.
    folds, seed : int
        Of the cross-validation, stratified by class.

    Raises
    ------
    CausalFTError
        If a class has no labelled sample and l2 is 0, or the shapes do not agree.

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
    f, y = check_logits(logits, labels)
    w = check_weights(weights, len(f))
    log_target = (
        None if target_prior is None else np.log(check_simplex(target_prior, f.shape[1], "target_prior"))
    )
    check_strength(l2)
    if l2 == 0:
        check_classes(y, w, f.shape[1])
    return fit_table(Table(f, y, log_target), w, l2, folds=folds, seed=seed)


def fit_table(
    table: Table, weights: NDArray[np.float64], l2: float | str, *, folds: int, seed: int
) -> PriorEstimate:
    """Estimate the prior of an existing table; see :func:`estimate_prior`."""
    found = choose_strength(table, weights, folds=folds, seed=seed) if isinstance(l2, str) else None
    strength = float(l2) if found is None else found.l2
    absent = table.class_sums(weights[:, None]) == 0
    solution = solve(table, weights[:, None], np.array([strength]), absent=absent)
    return PriorEstimate(
        prior=np.exp(log_softmax(-solution.values[:, 0])),
        loss=float(weights @ table.losses(solution.values)[:, 0]),
        converged=bool(solution.converged[0]),
        n=table.n,
        l2=strength,
        l2_path=() if found is None else found.path,
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
    return f - np.log(check_simplex(prior, f.shape[-1], "prior"))


@named("estimating the label prior")
def prior_on_validation(logits: ArrayLike, labels: ArrayLike, **options: object) -> PriorEstimate:
    """Estimate the label prior in a model's logits on labelled images whose class prior is their own shares.

    Parameters
    ----------
    logits : (n, K) array
        Zero-shot logits.
    labels : (n,) array of int in [0, K)
        With fewer than two classes the estimate is uniform and ``converged`` false.
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


_ROWS = 4096


def check_logits(logits: ArrayLike, labels: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return logits (n, K), float32 or float64 as given, and labels (n,); a large array is not copied.

    Examples
    --------
    >>> f, y = check_logits(np.zeros((2, 3), dtype=np.float32), [0, 2])
    >>> f.dtype, y.tolist()
    (dtype('float32'), [0, 2])
    """
    f, y = np.asarray(logits), np.asarray(labels)
    if f.dtype not in (np.float32, np.float64):
        try:
            f = f.astype(np.float32 if f.dtype == np.float16 else np.float64)
        except (TypeError, ValueError):
            raise CausalFTError(f"logits must be numbers, not {f.dtype}") from None
    if f.ndim != 2 or f.shape[0] == 0 or f.shape[1] < 2:
        raise CausalFTError(f"logits must be (n_samples, n_classes) with at least 2 classes, not {f.shape}")
    if y.shape != f.shape[:1]:
        raise CausalFTError(f"{f.shape[0]} rows of logits but labels of shape {y.shape}; they must agree")
    for start in range(0, len(f), _ROWS):
        finite = np.isfinite(f[start : start + _ROWS]).all(axis=1)
        if not finite.all():
            raise CausalFTError(f"logits of sample {start + int(finite.argmin())} are not finite")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= f.shape[1]:
        n_classes = f.shape[1]
        raise CausalFTError(
            f"labels must be integers from 0 to {n_classes - 1} (logits have {n_classes} classes)"
        )
    return f, y.astype(np.int64)


def check_weights(weights: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Return sample weights that sum to 1; equal ones for None.

    Examples
    --------
    >>> check_weights([3, 1], 2).tolist()
    [0.75, 0.25]
    """
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    if w.shape != (n,) or not np.isfinite(w).all() or w.min() < 0 or w.sum() == 0:
        raise CausalFTError(f"weights must be {n} non-negative numbers, not all 0")
    return w / w.sum()


def check_simplex(values: ArrayLike, n_classes: int, name: str) -> NDArray[np.float64]:
    """Return positive numbers that sum to 1, one for each class.

    Examples
    --------
    >>> check_simplex([0.25, 0.75], 2, "prior").tolist()
    [0.25, 0.75]
    """
    p = np.asarray(values, dtype=float)
    if p.shape != (n_classes,) or not (np.isfinite(p).all() and (p > 0).all()):
        raise CausalFTError(f"{name} must hold {n_classes} positive numbers, one per class")
    if abs(p.sum() - 1) > 1e-4:
        raise CausalFTError(f"{name} sums to {p.sum():.4g}; it must sum to 1")
    return p / p.sum()


def check_strength(l2: float | str) -> None:
    """Refuse a penalty strength that is neither "cv" nor a number of 0 or more."""
    if isinstance(l2, str):
        if l2 != "cv":
            raise CausalFTError(f"l2 is {l2!r}; give 'cv', 0 or a positive number")
    elif not (np.isfinite(l2) and l2 >= 0):
        raise CausalFTError(f"l2 is {l2}; give 0 or a positive number")


def check_classes(labels: NDArray[np.int64], weights: NDArray[np.float64], n_classes: int) -> None:
    """Refuse a class without a sample of positive weight: only a penalty can give it an estimate."""
    empty = np.flatnonzero(np.bincount(labels, weights=weights, minlength=n_classes) == 0)
    if len(empty):
        raise CausalFTError(
            f"class {int(empty[0])} has no labelled sample ({len(empty)} of {n_classes} classes lack one), "
            "so its prior cannot be estimated; add labelled samples or set l2 > 0 (l2='cv' chooses it)"
        )
