"""Probabilities, log-probabilities and logits told apart, and read as log-probabilities in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.errors import CausalFTError, nearest
from causalft.methods.estimators.stored_logits import SummedLogits, read_rows, row_blocks

__all__ = [
    "FLOOR",
    "KINDS",
    "Kind",
    "MemberRows",
    "log_probabilities",
    "member_blocks",
    "member_log_probabilities",
    "members_rows",
    "normalised",
]

KINDS: tuple[str, str, str] = ("probabilities", "log-probabilities", "logits")

Kind = str | Sequence[str] | None
"""One of :data:`KINDS`, one for each member, or None."""

FLOOR = float(np.finfo(np.float64).tiny)
"""A probability of exactly 0 has no logarithm; it counts as this, the smallest normal float."""

_TOLERANCE = 1e-3  # of the sum of a row: float16 and rounded tables are probabilities too


def normalised(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-softmax over the last axis of finite logits.

    Examples
    --------
    >>> np.exp(normalised(np.array([1e4, 1e4]))).tolist()
    [0.5, 0.5]
    """
    off = logits - logits.max(axis=-1, keepdims=True)
    off -= np.log(np.exp(off).sum(axis=-1, keepdims=True))
    return off


class MemberRows:
    """The rows of one member, read as log-probabilities.

    Parameters
    ----------
    values : (..., K) array
        May be mapped from a file.
    kind : {"probabilities", "log-probabilities", "logits"}, optional
        If omitted, as in :func:`log_probabilities`.
    what, argument : str
        Whose the rows are, and the argument that names their kind, for messages.

    Attributes
    ----------
    shape : tuple of int
        (..., K).
    n, n_classes : int
        Rows over all leading axes, and K.
    """

    def __init__(
        self, values: ArrayLike, kind: str | None = None, what: str = "", argument: str = "kind"
    ) -> None:
        self._whose, self._argument = f"{what}: " if what else "", argument
        array: Any = values
        if not isinstance(values, (np.ndarray, SummedLogits)) or values.dtype.kind not in "fiub":
            try:
                array = np.asarray(values, dtype=float)
            except (TypeError, ValueError):
                raise CausalFTError(f"{self._whose}rows must be numbers, as many in each row") from None
        self.shape = tuple(array.shape)
        if array.ndim == 0 or 0 in self.shape:
            raise CausalFTError(f"{self._whose}an array of shape {self.shape} holds no probabilities")
        if kind is not None and kind not in KINDS:
            raise CausalFTError(f"no kind named {kind!r}; {nearest(str(kind), KINDS)}")
        self.n_classes = self.shape[-1]
        self.n = int(np.prod(self.shape[:-1], dtype=np.int64))
        self._array = array if array.ndim == 2 else array.reshape(self.n, self.n_classes)
        self.kind = kind or self._only_reading()

    def __getitem__(self, rows: slice) -> NDArray[np.float64]:
        """Normalised log-probabilities of some rows, (b, K); leading axes are flattened.

        Raises
        ------
        CausalFTError
            If a row is not of its kind.
        """
        block = self._finite(rows, self.kind)
        start = rows.start or 0
        if self.kind == "logits":
            return normalised(block)
        if self.kind == "log-probabilities":
            with np.errstate(divide="ignore"):
                sums = np.exp(block).sum(axis=1)
            self._check_sums(sums, start, "exponentials of the log-probabilities")
            return normalised(np.maximum(block, np.log(FLOOR)))
        if block.min() < 0:
            at = np.unravel_index(int(block.argmin()), block.shape)
            raise CausalFTError(
                f"{self._whose}{self._row(start + int(at[0]))} holds {block[at]:g} for class {at[1]}: a probability is "
                f"not negative; give probabilities, or say {self._argument}='logits'"
            )
        sums = block.sum(axis=1)
        self._check_sums(sums, start, "probabilities")
        block /= sums[:, None]
        return np.log(np.maximum(block, FLOOR, out=block), out=block)

    def all(self) -> NDArray[np.float64]:
        """Normalised log-probabilities of all rows, in the shape of the values."""
        found = np.empty((self.n, self.n_classes))
        for rows in row_blocks(self.n, self.n_classes):
            found[rows] = self[rows]
        return found.reshape(self.shape)

    def _finite(self, rows: slice, kind: str | None) -> NDArray[np.float64]:
        block = read_rows(self._array, rows)
        allowed = np.isfinite(block)
        if kind != "logits" and kind != "probabilities":
            allowed |= np.isneginf(block)
        if not allowed.all():
            at = np.unravel_index(int(allowed.argmin()), allowed.shape)
            raise CausalFTError(
                f"{self._whose}{self._row((rows.start or 0) + int(at[0]))} holds {block[at]:g} for class {at[1]}: not "
                "a finite number"
            )
        return block

    def _only_reading(self) -> str:
        """The kind of rows that fit exactly one kind."""
        sums, exponentials = np.empty(self.n), np.empty(self.n)
        least, largest = np.inf, -np.inf
        for rows in row_blocks(self.n, self.n_classes):
            block = self._finite(rows, None)
            least, largest = min(least, block.min()), max(largest, block.max())
            sums[rows] = block.sum(axis=1)
            with np.errstate(over="ignore"):
                exponentials[rows] = np.exp(block).sum(axis=1)
        if least >= 0 and (np.abs(sums - 1) <= _TOLERANCE).all():
            return "probabilities"
        if largest <= _TOLERANCE and (np.abs(exponentials - 1) <= _TOLERANCE).all():
            return "log-probabilities"
        at = int(np.abs(sums - 1).argmax())
        raise CausalFTError(
            f"{self._whose}rows are neither probabilities nor log-probabilities ({self._row(at)} sums to "
            f"{sums[at]:.4g}); if they are logits, say {self._argument}='logits'"
        )

    def _check_sums(self, sums: NDArray[np.float64], start: int, what: str) -> None:
        far = np.abs(sums - 1)
        if far.max() > _TOLERANCE:
            at = int(far.argmax())
            raise CausalFTError(
                f"{self._whose}the {what} of {self._row(start + at)} sum to {sums[at]:.4g}, not to 1; give rows that "
                f"sum to 1, or say {self._argument}='logits'"
            )

    def _row(self, number: int) -> str:
        lead = self.shape[:-1]
        if not lead:
            return "the row"
        return f"row {', '.join(str(int(i)) for i in np.unravel_index(number, lead))}"


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
    return MemberRows(values, kind, what, argument).all()


def members_rows(members: ArrayLike | Sequence[ArrayLike], kind: Kind = None) -> list[MemberRows]:
    """Return the rows of M members of one shape, each read by its own kind.

    Raises
    ------
    CausalFTError
        If there is no member, or shapes or kinds do not agree.
    """
    if isinstance(members, np.ndarray) and members.ndim < 2:
        raise CausalFTError(f"members must be (n_strata, ..., n_classes), not of shape {members.shape}")
    listed: list[Any] = list(members)  # type: ignore[arg-type]
    if not listed or any(_dimensions(member) < 1 for member in listed):
        raise CausalFTError(f"members must be (n_strata, ..., n_classes), not of shape {np.shape(listed)}")
    if kind is not None and not isinstance(kind, str) and len(kind) != len(listed):
        raise CausalFTError(
            f"kind names {len(kind)} kinds; give one, or one for each of {len(listed)} members"
        )
    kinds = [kind] * len(listed) if kind is None or isinstance(kind, str) else list(kind)
    found = [
        MemberRows(member, one, f"member {place}")
        for place, (member, one) in enumerate(zip(listed, kinds, strict=True))
    ]
    odd = next((place for place, rows in enumerate(found) if rows.shape != found[0].shape), None)
    if odd is not None:
        raise CausalFTError(
            f"member {odd} has the shape {found[odd].shape} and member 0 {found[0].shape}; all must agree"
        )
    return found


def member_blocks(members: Sequence[MemberRows]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield slices of the (flattened) rows, and the log-probabilities (M, b, K) of all members there."""
    for rows in row_blocks(members[0].n, members[0].n_classes):
        yield rows, np.stack([member[rows] for member in members])


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
    return np.stack([rows.all() for rows in members_rows(members, kind)])


def _dimensions(member: Any) -> int:
    return member.ndim if hasattr(member, "ndim") else np.ndim(np.asarray(member, dtype=object))
