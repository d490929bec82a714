"""Fuse the strata: Eq. 7 as a mixture of probabilities, two geometric variants, and temperatures before and after.

    P(Y=y | do(X=x)) = sum_c P(Y=y | B=b, C=c) P(C=c)                    (Chen et al., ICML 2025, Eq. 7)

`mixture` is this equation. The other two are not: `product` multiplies the M probabilities (a product of experts),
which is the softmax of the sum of logits that the authors' released code takes; `logit` is its M-th root, the
normalised geometric mean. Both decide alike; the product is as sure as M independent witnesses would make it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp

from causalft.errors import CausalFTError, nearest
from causalft.estimators.kinds import Kind, log_probabilities, member_log_probabilities

__all__ = [
    "FUSIONS",
    "apply_stratum_temperatures",
    "apply_temperature",
    "expected_calibration_error",
    "fit_stratum_temperatures",
    "fit_temperature",
    "fuse",
    "label_log_probabilities",
    "nll",
    "stratum_weights",
]

FUSIONS: tuple[str, str, str] = ("mixture", "logit", "product")

_TEMPERATURES = (0.01, 100.0)


def fuse(
    probs: ArrayLike, stratum_prior: ArrayLike | None = None, fusion: str = "mixture", *, kind: Kind = None
) -> NDArray[np.float64]:
    """Adjust for C: fuse P(Y|b,c) of M strata into P(Y|do(x)).

    Parameters
    ----------
    probs : (M, ..., K) array
        P(Y|b,c) per stratum, as ``kind`` says.
    stratum_prior : (M,) array, optional
        P(C=c), sums to 1. Default: uniform, 1/M.
    fusion : {"mixture", "logit", "product"}
        ``mixture``: sum_c P(c) P(Y|b,c), Eq. 7. ``logit``: proportional to exp(sum_c P(c) log P(Y|b,c)), the
        normalised geometric mean. ``product``: proportional to exp(M sum_c P(c) log P(Y|b,c)), for uniform P(c) the
        product of the probabilities and the softmax of the released code's sum of logits; it is ``logit`` at
        temperature 1/M, with the same decisions.
    kind : {"probabilities", "log-probabilities", "logits"}, or one of these for each member, optional
        What ``probs`` holds. Without it, each member must be one or the other of the first two, by the sums of its
        rows; logits are never guessed (:func:`causalft.estimators.kinds.log_probabilities`).

    Returns
    -------
    (..., K) array
        Each row sums to 1.

    Raises
    ------
    CausalFTError
        For an unknown fusion or kind, rows that are not of their kind (member and row are named), or a prior that does
        not fit.

    Examples
    --------
    >>> strata = np.array([[[.9, .1]], [[.5, .5]]])
    >>> fuse(strata).round(3).tolist()
    [[0.7, 0.3]]
    >>> fuse(strata, fusion="logit").round(3).tolist()
    [[0.75, 0.25]]
    >>> fuse(strata, fusion="product").round(3).tolist()
    [[0.9, 0.1]]
    >>> fuse([strata[0], [[3.0, 3.0]]], kind=["probabilities", "logits"]).round(3).tolist()
    [[0.7, 0.3]]
    """
    if fusion not in FUSIONS:
        raise CausalFTError(f"no fusion named '{fusion}'; {nearest(fusion, FUSIONS)}")
    log_p = member_log_probabilities(probs, kind)
    if log_p.ndim < 2:
        raise CausalFTError(f"probs must be (n_strata, ..., n_classes), not of shape {log_p.shape}")
    weights = stratum_weights(stratum_prior, log_p.shape[0])
    if fusion == "mixture":
        mixture = np.tensordot(weights, np.exp(log_p), axes=1)
        return mixture / mixture.sum(axis=-1, keepdims=True)
    powers = weights if fusion == "logit" else len(weights) * weights
    return np.exp(log_softmax(np.tensordot(powers, log_p, axes=1), axis=-1))


def stratum_weights(stratum_prior: ArrayLike | None, n_strata: int) -> NDArray[np.float64]:
    """Return P(C) as an (M,) array that sums to 1; uniform for None.

    Examples
    --------
    >>> stratum_weights(None, 4).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    if stratum_prior is None:
        return np.full(n_strata, 1.0 / n_strata)
    weights = np.asarray(stratum_prior, dtype=float)
    if weights.shape != (n_strata,):
        raise CausalFTError(
            f"stratum_prior has shape {weights.shape}; give one number for each of {n_strata} strata"
        )
    if not np.isfinite(weights).all() or weights.min() < 0 or abs(weights.sum() - 1) > 1e-6:
        raise CausalFTError(f"stratum_prior {weights.tolist()} must hold numbers from 0 to 1 that sum to 1")
    return weights / weights.sum()


def fit_temperature(
    probs: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None, *, kind: str | None = None
) -> float:
    """Find the one temperature T that makes softmax(log p / T) likeliest (Guo et al., ICML 2017).

    Strata that are each calibrated give an under-confident mixture, so the temperature is fitted after fusion.

    Parameters
    ----------
    probs : (n, K) array
        Probabilities, log-probabilities or logits; see ``kind``.
    labels : (n,) array of int in [0, K)
        Of samples that were not trained on, from the target population.
    weights : (n,) array, optional
        How often each sample counts; default: once.
    kind : {"probabilities", "log-probabilities", "logits"}, optional
        As in :func:`fuse`.

    Returns
    -------
    float
        Between 0.01 and 100; below 1 sharpens.

    Examples
    --------
    >>> fit_temperature([[.6, .4]] * 10, [0] * 9 + [1]) < 1
    True
    """
    log_p, y = log_probabilities(probs, kind), np.asarray(labels)
    _check_pair(log_p, y)
    chosen = np.arange(len(y))
    counts = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
    if counts.shape != y.shape or not np.isfinite(counts).all() or counts.min() < 0 or counts.sum() == 0:
        raise CausalFTError(f"weights must be {len(y)} numbers from 0 on, not all 0")

    from scipy.optimize import minimize_scalar  # a prediction does without

    def risk(log_beta: float) -> float:
        # Convex in beta = 1/T, hence with one minimum in log beta.
        scaled = np.exp(log_beta) * log_p
        return float(np.average(logsumexp(scaled, axis=1) - scaled[chosen, y], weights=counts))

    low, high = -np.log(_TEMPERATURES[1]), -np.log(_TEMPERATURES[0])
    solution = minimize_scalar(risk, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(-solution.x))


def apply_temperature(
    probs: ArrayLike, temperature: float, *, kind: str | None = None
) -> NDArray[np.float64]:
    """Return softmax(log p / T).

    Parameters
    ----------
    probs : (..., K) array
        Probabilities, log-probabilities or logits; see ``kind``.
    temperature : float
        Positive; 1 changes nothing.
    kind : {"probabilities", "log-probabilities", "logits"}, optional
        As in :func:`fuse`.

    Examples
    --------
    >>> apply_temperature([[.8, .2]], 0.5).round(3).tolist()
    [[0.941, 0.059]]
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise CausalFTError(f"temperature {temperature} must be a positive number")
    return np.exp(log_softmax(log_probabilities(probs, kind) / temperature, axis=-1))


def label_log_probabilities(probs: ArrayLike, labels: ArrayLike, *, kind: Kind = None) -> NDArray[np.float64]:
    """log P(y_i|b_i,c) of the labels under each stratum: (M, n).

    Examples
    --------
    >>> np.exp(label_log_probabilities([[[.9, .1]], [[.5, .5]]], [1])).round(3).tolist()
    [[0.1], [0.5]]
    """
    log_p, y = _stack(probs, kind), np.asarray(labels)
    _check_pair(log_p[0], y)
    return log_p[:, np.arange(len(y)), y]


def fit_stratum_temperatures(
    probs: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None, *, kind: Kind = None
) -> NDArray[np.float64]:
    """Find the temperature of each stratum by itself: (M,).

    This puts members of different sharpness on one scale before they are fused. The mixture of calibrated members is
    under-confident, so :func:`fit_temperature` is still needed after the fusion.

    Parameters
    ----------
    probs : (M, n, K) array
        Probabilities, log-probabilities or logits per stratum; see ``kind``.
    labels : (n,) array of int in [0, K)
    weights : (n,) array, optional
        How often each sample counts; default: once.
    kind : {"probabilities", "log-probabilities", "logits"}, or one of these for each member, optional
        As in :func:`fuse`.

    Examples
    --------
    >>> sharp, blunt = [[.99, .01]] * 4, [[.6, .4]] * 4
    >>> temperatures = fit_stratum_temperatures([sharp, blunt], [0, 0, 0, 1])
    >>> apply_stratum_temperatures([sharp, blunt], temperatures)[:, 0, 0].round(3).tolist()
    [0.75, 0.75]
    """
    members = _stack(probs, kind)
    return np.array([fit_temperature(p, labels, weights, kind="log-probabilities") for p in members])


def apply_stratum_temperatures(
    probs: ArrayLike, temperatures: ArrayLike, *, kind: Kind = None
) -> NDArray[np.float64]:
    """Scale each stratum by its own temperature: (M, n, K), rows sum to 1.

    Parameters
    ----------
    probs : (M, n, K) array
    temperatures : (M,) array of positive numbers
    kind : {"probabilities", "log-probabilities", "logits"}, or one of these for each member, optional
        As in :func:`fuse`.

    Examples
    --------
    >>> apply_stratum_temperatures([[[.8, .2]], [[.8, .2]]], [1, .5]).round(3).tolist()
    [[[0.8, 0.2]], [[0.941, 0.059]]]
    """
    members, values = _stack(probs, kind), np.asarray(temperatures, dtype=float)
    if values.shape != (len(members),):
        raise CausalFTError(
            f"temperatures have shape {values.shape}; give one for each of {len(members)} strata"
        )
    pairs = zip(members, values, strict=True)
    return np.stack([apply_temperature(p, float(t), kind="log-probabilities") for p, t in pairs])


def nll(
    probs: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None, *, kind: str | None = None
) -> float:
    """Mean negative log-likelihood in nats; a probability of 0 counts as the smallest float.

    With ``weights`` (n,) each sample counts so often.

    Examples
    --------
    >>> round(nll([[.5, .5], [1., 0.]], [0, 0]), 4)
    0.3466
    """
    log_p, y = log_probabilities(probs, kind), np.asarray(labels)
    _check_pair(log_p, y)
    counts = None if weights is None else np.asarray(weights, dtype=float)
    return -float(np.average(log_p[np.arange(len(y)), y], weights=counts))


def expected_calibration_error(
    probs: ArrayLike,
    labels: ArrayLike,
    n_bins: int = 15,
    *,
    weights: ArrayLike | None = None,
    kind: str | None = None,
) -> float:
    """Mean |accuracy - confidence| over equal-width bins of the top probability, weighted by bin size.

    With ``weights`` (n,) each sample counts so often.

    Examples
    --------
    >>> round(expected_calibration_error([[.75, .25]] * 4, [0, 0, 0, 1]), 6)
    0.0
    """
    log_p, y = log_probabilities(probs, kind), np.asarray(labels)
    _check_pair(log_p, y)
    confidence = np.exp(log_p.max(axis=1))
    surplus = (log_p.argmax(axis=1) == y) - confidence
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    counts = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
    return float(np.abs(np.bincount(bins, weights=surplus * counts, minlength=n_bins)).sum() / counts.sum())


def _stack(probs: ArrayLike, kind: Kind) -> NDArray[np.float64]:
    log_p = member_log_probabilities(probs, kind)
    if log_p.ndim != 3:
        raise CausalFTError(f"probs must be (n_strata, n, n_classes), not of shape {log_p.shape}")
    return log_p


def _check_pair(log_p: NDArray[np.float64], labels: NDArray[np.generic]) -> None:
    if log_p.ndim != 2 or labels.shape != log_p.shape[:1]:
        raise CausalFTError(f"probs {log_p.shape} and labels {labels.shape} must be (n, K) and (n,)")
    if (
        not np.issubdtype(labels.dtype, np.integer)
        or int(labels.min()) < 0
        or int(labels.max()) >= log_p.shape[1]
    ):
        raise CausalFTError(f"labels must be integers from 0 to {log_p.shape[1] - 1}")
