"""Fuse strata into P(Y|do(x)), and calibrate; probabilities, log-probabilities and logits are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp

from causalft.errors import CausalFTError, nearest
from causalft.methods.estimators import FUSIONS, FusionRule

__all__ = [
    "FUSIONS",
    "KINDS",
    "Kind",
    "apply_stratum_temperatures",
    "apply_temperature",
    "expected_calibration_error",
    "fit_stratum_temperatures",
    "fit_temperature",
    "fuse",
    "label_log_probabilities",
    "log_probabilities",
    "member_log_probabilities",
    "nll",
    "stratum_weights",
]


KINDS: tuple[str, str, str] = ("probabilities", "log-probabilities", "logits")

Kind = str | Sequence[str] | None
"""One of :data:`KINDS`, one for each member, or None."""

# A probability of exactly 0 has no logarithm; it counts as this, the smallest normal float.
_FLOOR = float(np.finfo(np.float64).tiny)
_TOLERANCE = 1e-3  # of the sum of a row: float16 and rounded tables are probabilities too


def log_probabilities(
    values: ArrayLike, kind: str | None = None, what: str = "", argument: str = "kind"
) -> NDArray[np.float64]:
    """Return normalised log-probabilities of one member.

    Parameters
    ----------
    values : (..., K) array
    kind : {"probabilities", "log-probabilities", "logits"}, optional
        Without it, non-negative rows that sum to 1 are probabilities, and rows whose exponentials sum to 1 are
        log-probabilities. Logits must be named: they cannot be told from damaged probabilities.
    what : str
        Whose they are, for messages, such as ``"member 1"``.
    argument : str
        The argument that names the kind, for messages.

    Raises
    ------
    CausalFTError
        If a row does not fit ``kind``, or without it fits neither, or an entry is not finite (-inf is allowed as a
        log-probability).

    Examples
    --------
    >>> np.exp(log_probabilities([[2.0, 2.0]], "logits")).round(3).tolist()
    [[0.5, 0.5]]
    >>> np.exp(log_probabilities(np.log([[.9, .1]]))).round(3).tolist()
    [[0.9, 0.1]]
    """
    whose = f"{what}: " if what else ""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise CausalFTError(f"{whose}rows must be numbers, as many in each row") from None
    if array.ndim == 0 or array.size == 0:
        raise CausalFTError(f"{whose}an array of shape {array.shape} holds no probabilities")
    if kind is not None and kind not in KINDS:
        raise CausalFTError(f"no kind named {kind!r}; {nearest(str(kind), KINDS)}")
    allowed = np.isfinite(array)
    if kind != "logits" and kind != "probabilities":
        allowed |= np.isneginf(array)
    if not allowed.all():
        at = np.unravel_index(int(allowed.argmin()), array.shape)
        raise CausalFTError(
            f"{whose}{_row(at[:-1])} holds {array[at]:g} for class {at[-1]}: not a finite number"
        )
    if kind is None:
        kind = _only_reading(array, whose, argument)
    if kind == "logits":
        return log_softmax(array, axis=-1)
    if kind == "log-probabilities":
        sums = np.exp(logsumexp(array, axis=-1))
        _check_sums(sums, whose, "exponentials of the log-probabilities", argument)
        return log_softmax(np.maximum(array, np.log(_FLOOR)), axis=-1)
    if array.min() < 0:
        at = np.unravel_index(int(array.argmin()), array.shape)
        raise CausalFTError(
            f"{whose}{_row(at[:-1])} holds {array[at]:g} for class {at[-1]}: a probability is not negative; "
            f"give probabilities, or say {argument}='logits'"
        )
    sums = array.sum(axis=-1)
    _check_sums(sums, whose, "probabilities", argument)
    return np.log(np.maximum(array / sums[..., None], _FLOOR))


def member_log_probabilities(
    members: ArrayLike | Sequence[ArrayLike], kind: Kind = None
) -> NDArray[np.float64]:
    """Return normalised log-probabilities of M members, (M, ..., K), each read by its own kind.

    Examples
    --------
    >>> both = member_log_probabilities([[[.9, .1]], [[0.0, 0.0]]], ["probabilities", "logits"])
    >>> np.exp(both).round(3).tolist()
    [[[0.9, 0.1]], [[0.5, 0.5]]]
    """
    if isinstance(members, np.ndarray) and members.ndim < 2:
        raise CausalFTError(f"members must be (n_strata, ..., n_classes), not of shape {members.shape}")
    listed: list[Any] = list(members)  # type: ignore[arg-type]
    if not listed or any(np.ndim(np.asarray(member, dtype=object)) < 1 for member in listed):
        raise CausalFTError(f"members must be (n_strata, ..., n_classes), not of shape {np.shape(listed)}")
    if kind is not None and not isinstance(kind, str) and len(kind) != len(listed):
        raise CausalFTError(
            f"kind names {len(kind)} kinds; give one, or one for each of {len(listed)} members"
        )
    kinds = [kind] * len(listed) if kind is None or isinstance(kind, str) else list(kind)
    found = [
        log_probabilities(member, one, f"member {place}")
        for place, (member, one) in enumerate(zip(listed, kinds, strict=True))
    ]
    odd = next((place for place, array in enumerate(found) if array.shape != found[0].shape), None)
    if odd is not None:
        raise CausalFTError(
            f"member {odd} has the shape {found[odd].shape} and member 0 {found[0].shape}; all must agree"
        )
    return np.stack(found)


def _only_reading(array: NDArray[np.float64], whose: str, argument: str) -> str:
    """The kind of rows that fit exactly one kind."""
    sums = array.sum(axis=-1)
    if array.min() >= 0 and (np.abs(sums - 1) <= _TOLERANCE).all():
        return "probabilities"
    if array.max() <= _TOLERANCE and (np.abs(np.exp(logsumexp(array, axis=-1)) - 1) <= _TOLERANCE).all():
        return "log-probabilities"
    far = np.abs(sums - 1)
    at = np.unravel_index(int(far.argmax()), far.shape)
    raise CausalFTError(
        f"{whose}rows are neither probabilities nor log-probabilities ({_row(at)} sums to {sums[at]:.4g}); if they "
        f"are logits, say {argument}='logits'"
    )


def _check_sums(sums: NDArray[np.float64], whose: str, what: str, argument: str) -> None:
    far = np.abs(sums - 1)
    if far.max() > _TOLERANCE:
        at = np.unravel_index(int(far.argmax()), far.shape)
        raise CausalFTError(
            f"{whose}the {what} of {_row(at)} sum to {sums[at]:.4g}, not to 1; give rows that sum to 1, or say "
            f"{argument}='logits'"
        )


def _row(at: Sequence[np.intp] | tuple[np.intp, ...]) -> str:
    return f"row {', '.join(str(int(i)) for i in at)}" if len(at) else "the row"


def _mixture(log_p: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    mixture = np.tensordot(prior, np.exp(log_p), axes=1)
    return mixture / mixture.sum(axis=-1, keepdims=True)


def _geometric_mean(log_p: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(log_softmax(np.tensordot(prior, log_p, axes=1), axis=-1))


def _product(log_p: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    return _geometric_mean(log_p, len(prior) * prior)


MIXTURE = FusionRule(
    name="mixture",
    help="the mean of the probabilities (Eq. 7)",
    formula=r"\sum_c P(c)\, P(Y \mid b,c)",
    fuse=_mixture,
    source="Chen et al., ICML 2025, Eq. 7",
)
LOGIT = FusionRule(
    name="logit",
    help="the mean of the logits",
    formula=r"\propto \exp \sum_c P(c) \log P(Y \mid b,c)",
    fuse=_geometric_mean,
    source="the normalised geometric mean",
)
PRODUCT = FusionRule(
    name="product",
    help="the sum of the logits, as in the authors' released code",
    formula=r"\propto \exp M \sum_c P(c) \log P(Y \mid b,c)",
    fuse=_product,
    source="the released code of Chen et al.; logit at temperature 1/M",
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
        Name in `FUSIONS`. ``product`` with uniform P(c) is the product of the probabilities, and ``logit`` at
        temperature 1/M: both decide alike.
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
    log_p = member_log_probabilities(probs, kind)
    if log_p.ndim < 2:
        raise CausalFTError(f"probs must be (n_strata, ..., n_classes), not of shape {log_p.shape}")
    weights = stratum_weights(stratum_prior, log_p.shape[0])
    return rule.fuse(log_p, weights)


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

    ``weights`` (n,) are sample weights.

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

    ``weights`` (n,) are sample weights.

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
