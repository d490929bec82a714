"""Logits, probabilities or log-probabilities: what an array holds is said and checked, never guessed from signs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp

from causalft.errors import CausalFTError, nearest

__all__ = ["KINDS", "Kind", "log_probabilities", "member_log_probabilities"]

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
        Without it, rows that are non-negative and sum to 1 are probabilities, and rows whose exponentials sum to 1 are
        log-probabilities (no array is both). Logits must be named as such: non-negative ones, or ones with a negative
        entry, cannot be told from damaged probabilities.
    what : str
        Whose they are, for messages, such as ``"member 1"``.
    argument : str
        The argument that says the kind, for messages.

    Raises
    ------
    CausalFTError
        If a row is not what ``kind`` says, no kind is given and the rows are neither, or an entry is not finite
        (-inf is the log-probability of an event that cannot happen, and is allowed there).

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
    """The kind of rows that can be one kind only."""
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
