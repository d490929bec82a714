"""The label prior that a model carries in its logits: estimate it (GLA) and take it out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from causalft.methods.priors.checks import (
    check_classes,
    check_logits,
    check_simplex,
    check_strength,
    check_weights,
)
from causalft.methods.priors.offsets import Table, choose_strength, solve
from causalft.runs.notebook import ShownAsTable

__all__ = ["PriorEstimate", "debias", "estimate_prior"]


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
        Whether the minimum was reached.
    n : int
        Labelled samples used.
    l2 : float
        Strength of the pull towards a uniform prior; 0 is none.
    l2_path : tuple of (l2, held-out risk in nats)
        What cross-validation tried; empty if the strength was given.
    """

    prior: NDArray[np.float64] = field(compare=False)
    loss: float
    converged: bool
    n: int
    l2: float = 0.0
    l2_path: tuple[tuple[float, float], ...] = field(default=(), compare=False)

    @property
    def imbalance(self) -> float:
        """Largest over smallest prior of the estimate; the noise of few images raises it
        (:func:`causalft.methods.priors.bootstrap_prior` corrects for that)."""
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

    Minimises over the simplex the risk of ``softmax(logits - log q + log target_prior)``. The problem is
    convex in log q and solved by Newton's method without a dense Hessian, for ten thousand classes and more.

    Parameters
    ----------
    logits : (n, K) array
        Zero-shot logits. A constant added to a row changes nothing. float32 and float64 are read in place.
    labels : (n,) array of int in [0, K)
    target_prior : (K,) array, optional
        Class prior of the labelled samples (after weighting). Default: uniform, that is, a balanced set.
    weights : (n,) array of non-negative numbers, optional
        Sample weights, for instance target prior over class share where the sample is not balanced.
    l2 : float or "cv"
        Weight of the penalty ``l2 / 2 * sum_k (log q_k - mean log q)^2``: pulls towards a uniform q. It is the belief
        that log q has the variance ``1 / (n l2)``. ``"cv"``, the default, takes the strongest pull whose held-out
        likelihood is within one standard error of the best; the choice is in the result. 0 is GLA as published, which
        from few images is worse than a uniform prior. A class without a labelled sample gets the geometric mean of
        the others: it is left out of the softmax, since samples of some classes say nothing certain of one that was
        not looked for.
    folds, seed : int
        Of the cross-validation: folds are stratified by class, and the seed decides who goes where.

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
    """Estimate the prior of a table that is there already; see :func:`estimate_prior`."""
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
