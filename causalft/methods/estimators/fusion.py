"""Fuse strata into P(Y|do(x)), and calibrate, in blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.errors import CausalFTError, several
from causalft.methods.estimators import FUSIONS, FusionRule
from causalft.methods.estimators.probabilities import (
    KINDS,
    Kind,
    MemberRows,
    log_probabilities,
    member_blocks,
    member_log_probabilities,
    members_rows,
    normalised,
)
from causalft.methods.estimators.stored_logits import read_rows, row_blocks

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FUSIONS",
    "KINDS",
    "Kind",
    "apply_stratum_temperatures",
    "apply_temperature",
    "calibration_error",
    "check_pair",
    "cooled",
    "expected_calibration_error",
    "fit_stratum_temperatures",
    "fit_temperature",
    "fuse",
    "label_log_probabilities",
    "log_probabilities",
    "log_table",
    "member_log_probabilities",
    "nll",
    "stratum_weights",
    "temperature_of_table",
]


def _mixture(log_p: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    mixture = np.tensordot(prior, np.exp(log_p), axes=1)
    return mixture / mixture.sum(axis=-1, keepdims=True)


def _geometric_mean(log_p: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(normalised(np.tensordot(prior, log_p, axes=1)))


def _product(log_p: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    return _geometric_mean(log_p, len(prior) * prior)


def _pool(log_p: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    if prior.ndim == 1:
        return _product(log_p, prior)
    return np.exp(normalised(len(prior) * np.einsum("mk,m...k->...k", prior, log_p)))


def _mixture_of_logits(logits: Tensor, prior: Tensor) -> Tensor:
    return (logits.log_softmax(-1) + prior.log()[:, None, None]).logsumexp(0)


def _mean_of_logits(logits: Tensor, prior: Tensor) -> Tensor:
    return (prior[:, None, None] * logits).sum(0)


def _sum_of_logits(logits: Tensor, prior: Tensor) -> Tensor:
    return len(prior) * _mean_of_logits(logits, prior)


MIXTURE = FusionRule(
    name="mixture",
    help="the mean of the probabilities (Eq. 7)",
    formula=r"\sum_c P(c)\, P(Y \mid b,c)",
    fuse=_mixture,
    fuse_logits=_mixture_of_logits,
    source="Chen et al., ICML 2025, Eq. 7",
    decides_by="probabilities",
)
LOGIT = FusionRule(
    name="logit",
    help="the mean of the logits",
    formula=r"\propto \exp \sum_c P(c) \log P(Y \mid b,c)",
    fuse=_geometric_mean,
    fuse_logits=_mean_of_logits,
    source="the normalised geometric mean",
    decides_by="log-probabilities",
)
PRODUCT = FusionRule(
    name="product",
    help="the sum of the logits, as in the authors' released code",
    formula=r"\propto \exp M \sum_c P(c) \log P(Y \mid b,c)",
    fuse=_product,
    fuse_logits=_sum_of_logits,
    source="the released code of Chen et al.; logit at temperature 1/M",
    decides_by="log-probabilities",
)

ADJUSTED = FusionRule(
    name="adjusted",
    help="the sum of the logits less the part of the pre-training priors that makes recall equal",
    formula=r"\propto \exp M \sum_c P(c \mid Y) [\log P(Y \mid b,c) - a \log q_c(Y) - d \log P_S(Y)]",
    fuse=_pool,
    fuse_logits=_sum_of_logits,
    source="this project; causalft.methods.estimators.adjustment",
    decides_by="log-probabilities",
    adjusts=True,
)

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
        P(C=c), sums to 1. Default: uniform.
    fusion : {"mixture", "logit", "product"}
        Name in `FUSIONS`; not ``adjusted``, which is fitted. ``product`` with uniform P(c) is the product of the
        probabilities, and ``logit`` at temperature 1/M: both decide alike.
    kind : {"probabilities", "log-probabilities", "logits"}, or one of these for each member, optional
        What ``probs`` holds; if omitted, see :func:`log_probabilities`.

    Returns
    -------
    (..., K) array
        Rows sum to 1.

    Raises
    ------
    CausalFTError
        For an unknown fusion or kind, rows that are not of their kind, or a prior that does not fit.

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
    rule = FUSIONS.get_or_refuse(fusion)
    if rule.adjusts:
        raise CausalFTError(
            f"the fusion {fusion!r} is fitted on validation images with the label priors of the strata; use "
            "causalft.methods.estimators.adjustment.fit_fusion"
        )
    members = members_rows(probs, kind)
    weights = stratum_weights(stratum_prior, len(members))
    found = np.empty((members[0].n, members[0].n_classes))
    for rows, log_p in member_blocks(members):
        found[rows] = rule.fuse(log_p, weights)
    return found.reshape(members[0].shape)


def stratum_weights(
    stratum_prior: ArrayLike | None, n_strata: int, names: Sequence[str] = ()
) -> NDArray[np.float64]:
    """Return P(C) as an (M,) array that sums to 1; uniform for None. ``names`` of the strata are for messages.

    Examples
    --------
    >>> stratum_weights(None, 4).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    if stratum_prior is None:
        return np.full(n_strata, 1.0 / n_strata)
    weights = np.asarray(stratum_prior, dtype=float)
    if weights.ndim != 1:
        raise CausalFTError(f"stratum_prior must be a list of numbers, not of shape {weights.shape}")
    if len(weights) != n_strata:
        listed = f": {', '.join(names)}" if names else ""
        raise CausalFTError(
            f"--stratum-prior has {several(weights, 'number', 'numbers')} for "
            f"{several(range(n_strata), 'stratum', 'strata')}{listed}; give one for each"
        )
    if not np.isfinite(weights).all() or weights.min() < 0 or abs(weights.sum() - 1) > 1e-6:
        raise CausalFTError(
            f"--stratum-prior {','.join(f'{value:g}' for value in weights)} must hold numbers from 0 to 1 that sum to 1"
        )
    return weights / weights.sum()


def fit_temperature(
    probs: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None, *, kind: str | None = None
) -> float:
    """Find the temperature T that makes softmax(log p / T) likeliest (Guo et al., ICML 2017).

    Calibrated strata give an under-confident mixture, so the temperature is fitted after fusion.

    Parameters
    ----------
    probs : (n, K) array
        Probabilities, log-probabilities or logits; see ``kind``.
    labels : (n,) array of int in [0, K)
        Of samples that were not trained on, from the target population.
    weights : (n,) array, optional
        Sample weights.
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
    rows, y = MemberRows(probs, kind), np.asarray(labels)
    check_pair(rows.shape, y)
    table = log_table(rows.n, rows.n_classes)
    for block in row_blocks(*table.shape):
        table[block] = rows[block]
    return temperature_of_table(table, y, weights)


def log_table(n: int, n_classes: int) -> NDArray[Any]:
    """Return an empty table for the log-probabilities that a temperature is fitted to; float32 if it is large."""
    return np.empty((n, n_classes), dtype=np.float64 if n * n_classes <= _DOUBLE_ENTRIES else np.float32)


_DOUBLE_ENTRIES = 4_000_000


def temperature_of_table(
    log_p: NDArray[Any], labels: NDArray[np.int64], weights: ArrayLike | None = None
) -> float:
    """:func:`fit_temperature` of normalised log-probabilities (n, K), of float32 or float64."""
    counts = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=float)
    if counts.shape != labels.shape or not np.isfinite(counts).all() or counts.min() < 0 or counts.sum() == 0:
        raise CausalFTError(f"weights must be {len(labels)} numbers from 0 on, not all 0")
    own = log_p[np.arange(len(labels)), labels].astype(np.float64)
    largest = log_p.max(axis=1).astype(np.float64)
    losses = np.empty(len(labels))

    from scipy.optimize import minimize_scalar  # a prediction does without

    def risk(log_beta: float) -> float:
        # Convex in beta = 1/T, hence with one minimum in log beta.
        beta = np.exp(log_beta)
        for rows in row_blocks(*log_p.shape):
            off = read_rows(log_p, rows)
            off -= largest[rows, None]
            off *= beta
            losses[rows] = np.log(np.exp(off, out=off).sum(axis=1))
        return float(np.average(losses - beta * (own - largest), weights=counts))

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
    return _of_blocks(MemberRows(probs, kind), lambda log_p: cooled(log_p, temperature))


def cooled(log_p: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Probabilities at a temperature, of log-probabilities (..., K)."""
    return np.exp(normalised(log_p / temperature))


def _of_blocks(
    rows: MemberRows, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    found = np.empty((rows.n, rows.n_classes))
    for block in row_blocks(*found.shape):
        found[block] = change(rows[block])
    return found.reshape(rows.shape)


def label_log_probabilities(probs: ArrayLike, labels: ArrayLike, *, kind: Kind = None) -> NDArray[np.float64]:
    """log P(y_i|b_i,c) of the labels under each stratum: (M, n).

    Examples
    --------
    >>> np.exp(label_log_probabilities([[[.9, .1]], [[.5, .5]]], [1])).round(3).tolist()
    [[0.1], [0.5]]
    """
    members, y = _three_axes(probs, kind), np.asarray(labels)
    check_pair(members[0].shape, y)
    found = np.empty((len(members), len(y)))
    for rows, log_p in member_blocks(members):
        found[:, rows] = log_p[:, np.arange(log_p.shape[1]), y[rows]]
    return found


def fit_stratum_temperatures(
    probs: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None, *, kind: Kind = None
) -> NDArray[np.float64]:
    """Find the temperature of each stratum by itself: (M,).

    This puts members of different sharpness on one scale before they are fused; :func:`fit_temperature` is still needed
    afterwards.

    Parameters
    ----------
    probs : (M, n, K) array
        Probabilities, log-probabilities or logits per stratum; see ``kind``.
    labels : (n,) array of int in [0, K)
    weights : (n,) array, optional
        Sample weights.
    kind : {"probabilities", "log-probabilities", "logits"}, or one of these for each member, optional
        As in :func:`fuse`.

    Examples
    --------
    >>> sharp, blunt = [[.99, .01]] * 4, [[.6, .4]] * 4
    >>> temperatures = fit_stratum_temperatures([sharp, blunt], [0, 0, 0, 1])
    >>> apply_stratum_temperatures([sharp, blunt], temperatures)[:, 0, 0].round(3).tolist()
    [0.75, 0.75]
    """
    members = _three_axes(probs, kind)
    pairs = zip(probs, members, strict=True)  # type: ignore[arg-type]
    return np.array([fit_temperature(values, labels, weights, kind=rows.kind) for values, rows in pairs])


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
    members, values = _three_axes(probs, kind), np.asarray(temperatures, dtype=float)
    if values.shape != (len(members),):
        raise CausalFTError(
            f"temperatures have shape {values.shape}; give one for each of {len(members)} strata"
        )
    pairs = zip(probs, members, values, strict=True)  # type: ignore[arg-type]
    return np.stack([apply_temperature(each, float(t), kind=rows.kind) for each, rows, t in pairs])


def nll(
    probs: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None, *, kind: str | None = None
) -> float:
    """Mean negative log-likelihood in nats; a probability of 0 counts as the smallest float.

    ``weights`` (n,) are sample weights.

    Examples
    --------
    >>> round(nll([[.5, .5], [1., 0.]], [0, 0]), 4)
    0.3466
    """
    rows, y = MemberRows(probs, kind), np.asarray(labels)
    check_pair(rows.shape, y)
    of_label = np.empty(len(y))
    for block in row_blocks(*rows.shape):
        log_p = rows[block]
        of_label[block] = log_p[np.arange(len(log_p)), y[block]]
    counts = None if weights is None else np.asarray(weights, dtype=float)
    return -float(np.average(of_label, weights=counts))


def expected_calibration_error(
    probs: ArrayLike,
    labels: ArrayLike,
    n_bins: int = 15,
    *,
    weights: ArrayLike | None = None,
    kind: str | None = None,
) -> float:
    """Mean |accuracy - confidence| over equal-width bins of the top probability, weighted by bin size.

    ``weights`` (n,) are sample weights.

    Examples
    --------
    >>> round(expected_calibration_error([[.75, .25]] * 4, [0, 0, 0, 1]), 6)
    0.0
    """
    rows, y = MemberRows(probs, kind), np.asarray(labels)
    check_pair(rows.shape, y)
    confidence, right = np.empty(len(y)), np.empty(len(y), dtype=bool)
    for block in row_blocks(*rows.shape):
        log_p = rows[block]
        confidence[block] = np.exp(log_p.max(axis=1))
        right[block] = log_p.argmax(axis=1) == y[block]
    return calibration_error(right, confidence, n_bins, weights=weights)


def calibration_error(
    right: ArrayLike, confidence: ArrayLike, n_bins: int = 15, *, weights: ArrayLike | None = None
) -> float:
    """:func:`expected_calibration_error` of answers (n,) that are right or wrong, and their probabilities (n,).

    Examples
    --------
    >>> round(calibration_error([True, False], [.75, .75]), 6)
    0.25
    """
    sure = np.asarray(confidence, dtype=float)
    surplus = np.asarray(right, dtype=bool) - sure
    bins = np.minimum((sure * n_bins).astype(int), n_bins - 1)
    counts = np.ones(len(sure)) if weights is None else np.asarray(weights, dtype=float)
    return float(np.abs(np.bincount(bins, weights=surplus * counts, minlength=n_bins)).sum() / counts.sum())


def _three_axes(probs: ArrayLike, kind: Kind) -> list[MemberRows]:
    members = members_rows(probs, kind)
    if len(members[0].shape) != 2:
        shape = (len(members), *members[0].shape)
        raise CausalFTError(f"probs must be (n_strata, n, n_classes), not of shape {shape}")
    return members


def check_pair(shape: tuple[int, ...], labels: NDArray[np.generic]) -> None:
    """Refuse labels that do not belong to an (n, K) array."""
    if len(shape) != 2 or labels.shape != shape[:1]:
        raise CausalFTError(f"probs {shape} and labels {labels.shape} must be (n, K) and (n,)")
    if not np.issubdtype(labels.dtype, np.integer) or int(labels.min()) < 0 or int(labels.max()) >= shape[1]:
        raise CausalFTError(f"labels must be integers from 0 to {shape[1] - 1}")
