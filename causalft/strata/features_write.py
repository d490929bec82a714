"""Rows of float32 appended to an .npy file that grows under another name, safe from a kill at any moment."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from causalft.errors import CausalFTError
from causalft.runs.folder import read_json, write_json

__all__ = ["file_size", "write_rows"]

_DTYPE = np.dtype("<f4")


def file_size(shape: tuple[int, ...]) -> int:
    """Return the bytes of an .npy file of float32 of this shape.

    Examples
    --------
    >>> file_size((10, 4))
    288
    """
    return _end(shape, shape[0])


def write_rows(
    part: Path,
    progress: Path,
    n_rows: int,
    fill: Callable[[int], Iterable[NDArray[Any]]],
    *,
    checkpoint_seconds: float,
    about: dict[str, Any],
) -> tuple[tuple[int, ...], str, float]:
    """Write ``n_rows`` rows to ``part``, going on where an interrupted call stopped.

    Rows are appended and not written through a memory map: a full disk is then an error that names itself, and not
    a crash of the process.

    Parameters
    ----------
    part, progress : pathlib.Path
        The growing file, and the record of the rows in it that are safe, with the hash of the file up to there.
    n_rows : int
    fill : callable
        ``fill(start)`` yields the rows from ``start`` on, in consecutive blocks of shape (b, ...).
    checkpoint_seconds : float
    about : dict
        Goes into the record.

    Returns
    -------
    (shape, sha256, made)
        Of the whole file, and when it was begun, in seconds since the epoch. Both files are left for the caller.

    Raises
    ------
    CausalFTError
        If rows are missing, change their shape or are not finite, or the disk has no room for all of them.
    """
    shape, done, digest, made = _resume(part, progress, n_rows)

    def save(file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
        record = {"rows": done, "sha256": digest.hexdigest(), "shape": shape, "made": made}
        write_json(progress, {**record, "about": about})

    with open(part, "r+b" if done else "w+b") as file:
        if done:
            file.seek(_end(shape, done))
            file.truncate()
        saved = time.monotonic()
        try:
            for block in fill(done) if done < n_rows else ():
                rows = np.ascontiguousarray(block, dtype=_DTYPE)
                if not shape:
                    shape = (n_rows, *rows.shape[1:])
                    _check_room(part.parent, shape)
                    file.write(_header(shape))
                    digest.update(_header(shape))
                _check(rows, shape, done)
                file.write(rows.data)
                digest.update(rows.data)
                done += len(rows)
                if time.monotonic() - saved >= checkpoint_seconds:
                    save(file)
                    saved = time.monotonic()
        except BaseException:
            if done:
                with suppress(OSError):
                    save(file)
            raise
        if done != n_rows:
            raise CausalFTError(f"{done} rows of features came out, {n_rows} were announced")
        file.flush()
        os.fsync(file.fileno())
    return shape, digest.hexdigest(), made


def _end(shape: tuple[int, ...], rows: int) -> int:
    """Where the first so many rows end in the file, in bytes."""
    return len(_header(shape)) + rows * int(np.prod(shape[1:])) * _DTYPE.itemsize


def _header(shape: tuple[int, ...]) -> bytes:
    """The first bytes of the file, in NumPy's own format."""
    head = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(_DTYPE), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, described)
    return head.getvalue()


def _check(rows: NDArray[np.float32], shape: tuple[int, ...], done: int) -> None:
    if rows.shape[1:] != shape[1:] or done + len(rows) > shape[0]:
        raise CausalFTError(f"features came out in shape {rows.shape}, {shape} was announced")
    if not np.isfinite(rows).all():
        raise CausalFTError(
            f"features of rows {done} to {done + len(rows) - 1} are not finite; use fp32, or check the weights"
        )


def _check_room(folder: Path, shape: tuple[int, ...]) -> None:
    free, needed = shutil.disk_usage(folder).free, file_size(shape)
    if free < needed:
        raise CausalFTError(
            f"the feature cache needs {needed / 2**20:,.0f} MiB in {folder}, which has {free / 2**20:,.0f} MiB left; "
            "run `causalft cache clear`, or set CAUSALFT_CACHE to a folder on another disk"
        )


def _resume(part: Path, progress: Path, n_rows: int) -> tuple[tuple[int, ...], int, Any, float]:
    """Shape, safe rows, running hash of the file up to there, and the time of the start; or nothing at all."""
    try:
        record = read_json(progress)
        shape, rows = tuple(record["shape"]), int(record["rows"])
        left = _end(shape, rows)
        digest = hashlib.sha256()
        with open(part, "rb") as file:
            while left and (block := file.read(min(left, 1 << 22))):
                digest.update(block)
                left -= len(block)
        if left == 0 and shape[0] == n_rows >= rows > 0 and digest.hexdigest() == record["sha256"]:
            return shape, rows, digest, float(record["made"])
    except (CausalFTError, OSError, KeyError, TypeError, ValueError, IndexError):
        pass  # none, or a damaged one: from the start
    return (), 0, hashlib.sha256(), time.time()
