"""Work shared by the processes of a launcher: each does its rows, all have the result in order, an error stops all.

Inside :func:`work_together`, whatever encodes, classifies or searches row by row shares its rows. Every process must
then make the same calls in the same order. Outside it, and without a launcher, a process does everything itself.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from causalft.errors import CausalFTError
from causalft.models.tuning.processes import join_processes
from causalft.runs.folder import plain
from causalft.runs.launch import is_launched

__all__ = ["Team", "current_team", "rounds", "work_together"]

T = TypeVar("T")

_BLOCK = 2**26  # bytes sent at once
_PATIENCE = datetime.timedelta(days=1)  # the launcher ends a launch whose process died, so no need to guess


@dataclass(frozen=True)
class Team:
    """The processes that share their rows, seen from one of them.

    Attributes
    ----------
    rank, count : int
        The process of rank 0 reads caches and writes results.
    """

    rank: int = 0
    count: int = 1
    _group: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def exchange(self, make: Callable[[], T]) -> list[T]:
        """Call ``make`` in every process and return all results, by rank, in each.

        Raises
        ------
        CausalFTError
            In every process, if it failed in one.
        """
        if self.count == 1:
            return [make()]
        try:
            mine: tuple[Any, Exception | None] = make(), None
        except Exception as error:
            mine = None, error
        met = self._meet(mine)
        return [value for value, _ in met]

    def from_main(self, make: Callable[[], T]) -> T:
        """Call ``make`` in the first process only, and return its result, or raise its error, in all."""

        def alone() -> T | None:
            if not self.is_main:
                return None
            token = _current.set(_ALONE)  # the others wait, and cannot share what it does
            try:
                return make()
            finally:
                _current.reset(token)

        return self.exchange(alone)[0]  # type: ignore[return-value]

    def agree(self, what: Mapping[str, Any]) -> None:
        """Refuse processes that were started differently.

        Parameters
        ----------
        what : mapping of str to JSON value
            Name, as a message calls it, to what must be equal in all processes.
        """
        if self.count == 1:
            return
        mine = {name: _hash(value) for name, value in what.items()}
        first, *others = self.exchange(lambda: mine)
        for rank, other in enumerate(others, 1):
            odd = [name for name in {**first, **other} if first.get(name) != other.get(name)]
            if odd:
                raise CausalFTError(
                    f"process {rank} of this launch has other {' and '.join(odd)} than process 0; start all processes "
                    "with the same command, on the same images and run"
                )

    def in_order(
        self,
        rows: Sequence[int],
        batch_size: int,
        work: Callable[[Sequence[int]], Iterator[tuple[int, T]]],
        *,
        batches: int = 1,
        everywhere: bool = True,
    ) -> Iterator[T]:
        """Yield what ``work`` makes of all rows, in order; each process does its share.

        Batches hold the same rows whatever the number of processes, so that not even the last bit changes.

        Parameters
        ----------
        rows : sequence of int
        batch_size : int
            Of ``work``.
        batches : int
            That each process does before they exchange results.
        work : callable
            ``work(rows)`` yields (last row, piece) for consecutive rows, in order.
        everywhere : bool
            Whether all processes get the pieces, or only the first; the others then yield nothing.

        Raises
        ------
        CausalFTError
            In every process, for the first error in one.
        """
        if self.count == 1:
            for _, piece in work(rows):
                yield piece
            return
        self.agree({"number of images": len(rows)})
        shares = rounds(len(rows), self.count, batch_size, batches)
        mine = [rows[start:end] for round_ in shares for start, end in [round_[self.rank]]]
        flat = (
            np.concatenate([np.asarray(part, dtype=np.int64) for part in mine]) if mine else np.empty(0, int)
        )
        pieces = _Pieces(work(flat.tolist()) if len(flat) else iter(()))
        for own in mine:
            found = self._gather(lambda own=own: pieces.up_to(own), everywhere)  # type: ignore[misc]
            for part in found:
                yield from part

    def rows(self, n: int, compute: Callable[[slice], NDArray[Any]]) -> NDArray[Any]:
        """Compute an array (n, ...) by rows, a contiguous part in each process; all get the whole.

        Examples
        --------
        >>> Team().rows(3, lambda rows: np.arange(3)[rows] ** 2)
        array([0, 1, 4])
        """
        if self.count == 1:
            return compute(slice(0, n))
        ends = np.linspace(0, n, self.count + 1).astype(int)
        start, end = int(ends[self.rank]), int(ends[self.rank + 1])
        found = self.exchange(lambda: compute(slice(start, end)) if end > start or n == 0 else None)
        return np.concatenate([part for part in found if part is not None])

    def kept_by_main(
        self,
        keep: Callable[[Callable[[int], Iterator[NDArray[Any]]]], NDArray[np.float32]],
        fill: Callable[[int], Iterator[NDArray[Any]]],
    ) -> NDArray[np.float32]:
        """Return an array that the first process keeps in a cache, and all help to compute.

        Parameters
        ----------
        keep : callable
            ``keep(fill)`` returns the array, and asks ``fill(start)`` for the rows that are missing. Called in the
            first process only.
        fill : callable
            ``fill(start)`` yields blocks of rows from ``start`` on. Called in all processes alike.
        """
        if self.count == 1:
            return keep(fill)
        if self.is_main:
            return self._send(keep, fill)
        while True:
            kind, value = self._meet((None, None))[0][0]
            if kind == "whole":
                return self._receive(*value)
            for _ in fill(value):
                pass

    def _send(
        self,
        keep: Callable[[Callable[[int], Iterator[NDArray[Any]]]], NDArray[np.float32]],
        fill: Callable[[int], Iterator[NDArray[Any]]],
    ) -> NDArray[np.float32]:
        def helped(start: int) -> Iterator[NDArray[Any]]:
            self._meet((("from", start), None))
            yield from fill(start)

        try:
            found = keep(helped)
        except Exception as error:
            if not getattr(error, "shared", False):
                self._meet((None, error))
            raise
        self._meet((("whole", (found.shape, str(found.dtype))), None))
        for start, end in _blocks(found.shape, found.dtype):
            sent = torch.from_numpy(np.array(found[start:end]))
            distributed.broadcast(sent, 0, group=self._group)
        return found

    def _receive(self, shape: tuple[int, ...], dtype: str) -> NDArray[np.float32]:
        found = np.empty(shape, dtype=dtype)
        for start, end in _blocks(shape, found.dtype):
            distributed.broadcast(torch.from_numpy(found[start:end]), 0, group=self._group)
        return found

    def _gather(self, make: Callable[[], T], everywhere: bool) -> list[T]:
        if everywhere:
            return self.exchange(make)
        try:
            mine = make()
        except Exception as error:
            self._meet((None, error))
            raise
        self._meet((None, None))
        found: list[Any] | None = [None] * self.count if self.is_main else None
        with _one_line():
            distributed.gather_object(mine, found, dst=0, group=self._group)
        return found or []

    def _meet(self, mine: tuple[Any, Exception | None]) -> list[tuple[Any, Exception | None]]:
        """Exchange (value, error) of all processes; raise the first error, in all of them."""
        value, own = mine
        told = None if own is None else _told(own)
        met: list[Any] = [None] * self.count
        with _one_line():
            distributed.all_gather_object(met, (value, told), group=self._group)
        if own is not None and not isinstance(own, CausalFTError):
            own.shared = True  # type: ignore[attr-defined]
            raise own
        failed = next((error for _, error in met if error is not None), None)
        if failed is not None:
            failed.shared = True
            raise failed
        return met


class _Pieces:
    """Pieces of a stream, taken round by round."""

    def __init__(self, stream: Iterator[tuple[int, Any]]) -> None:
        self._stream, self._next = stream, None  # type: Iterator[tuple[int, Any]], tuple[int, Any] | None

    def up_to(self, rows: Sequence[int]) -> list[Any]:
        """The pieces of a round, whose last row is ``rows[-1]``."""
        found: list[Any] = []
        if not len(rows):
            return found
        last = rows[-1]
        while True:
            if self._next is None:
                self._next = next(self._stream, None)
            if self._next is None or self._next[0] > last:
                return found
            row, piece = self._next
            self._next = None
            found.append(piece)
            if row == last:
                return found


_ALONE = Team()
_current: ContextVar[Team] = ContextVar("team", default=_ALONE)


def current_team() -> Team:
    """Return the team of this block: a process alone outside :func:`work_together`.

    Examples
    --------
    >>> current_team().count
    1
    """
    return _current.get()


@contextmanager
def work_together(device: torch.device | None = None) -> Iterator[Team]:
    """Share the rows inside the block between the processes that a launcher started; alone, change nothing.

    Parameters
    ----------
    device : torch.device, optional
        Of this process's models; the CPU by default.

    Raises
    ------
    CausalFTError
        If the processes cannot find each other.

    Examples
    --------
    >>> with work_together() as team:
    ...     team.rank, team.count
    (0, 1)
    """
    joined = distributed.is_available() and distributed.is_initialized()
    if current_team().count > 1 or not (is_launched() or joined):
        yield current_team()
        return
    processes = join_processes(device or torch.device("cpu"))
    if processes.count == 1:
        yield _ALONE
        return
    token = _current.set(Team(processes.rank, processes.count, _host_group()))
    try:
        yield current_team()
    finally:
        _current.reset(token)


_host: list[Any] = []  # the group of all processes, and the same for objects and arrays of the CPU


def _host_group() -> Any:
    whole = distributed.group.WORLD
    if not _host or _host[0] is not whole:
        with _one_line():
            _host[:] = [whole, distributed.new_group(backend="gloo", timeout=_PATIENCE)]
    return _host[1]


def rounds(n: int, count: int, batch_size: int, batches: int = 1) -> list[list[tuple[int, int]]]:
    """Divide ``n`` rows into rounds, and each round between ``count`` processes, in whole batches.

    In a round each process has ``batches`` consecutive batches; the last round is divided as evenly as batches allow.

    Returns
    -------
    list of list of (start, end)
        By round, then by process; together they are all rows, in order.

    Examples
    --------
    >>> rounds(11, 2, 2, batches=2)
    [[(0, 4), (4, 8)], [(8, 10), (10, 11)]]
    """
    found, n_batches = [], -(-n // batch_size)
    for first in range(0, n_batches, batches * count):
        shared = min(batches * count, n_batches - first)
        # the first processes have the longer shares, and the last batch is the short one
        ends = first + np.ceil(np.linspace(0, shared, count + 1)).astype(int)
        rows = np.minimum(ends * batch_size, n).tolist()
        found.append(list(zip(rows[:-1], rows[1:])))
    return found


def _blocks(shape: tuple[int, ...], dtype: np.dtype[Any]) -> list[tuple[int, int]]:
    step = max(1, _BLOCK // max(1, int(np.prod(shape[1:])) * dtype.itemsize))
    return [(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(plain(value), sort_keys=True).encode()).hexdigest()


def _told(error: Exception) -> CausalFTError:
    """The error as the other processes raise it."""
    if isinstance(error, CausalFTError):
        return error
    return CausalFTError(f"another process of this launch failed: {type(error).__name__}: {error}")


@contextmanager
def _one_line() -> Iterator[None]:
    """Say in one line that a process is gone."""
    try:
        yield
    except RuntimeError as error:
        raise CausalFTError(
            "another process of this launch has ended, killed or by an error; if no message says why, it may have run "
            "out of memory: start fewer processes, and repeat the command to resume"
        ) from error
