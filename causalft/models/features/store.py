"""The feature cache on disk: arrays under a key of their content, memory-mapped, safe from a kill, resumable."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from causalft.errors import CausalFTError
from causalft.runs.files import cache_folder, sha256_file
from causalft.runs.folder import plain, read_json, write_json
from causalft.runs.resources import require_room

__all__ = ["CacheEntry", "FeatureCache", "default_cache_folder", "file_size", "write_rows"]


_WAY_OUT = "run `causalft cache clear`, or set CAUSALFT_CACHE to a folder on another disk"
_DTYPE = np.dtype("<f4")


def file_size(shape: tuple[int, ...]) -> int:
    """Return the bytes of a float32 .npy file of this shape.

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
    """Write ``n_rows`` rows to ``part``, resuming an interrupted call.

    Rows are appended, not written through a memory map: a full disk is then an error and not a crash.

    Parameters
    ----------
    part, progress : pathlib.Path
        The growing file, and the record of its safe rows and their hash.
    n_rows : int
    fill : callable
        ``fill(start)`` yields the rows from ``start`` on, in blocks of shape (b, ...).
    checkpoint_seconds : float
    about : dict
        Goes into the record.

    Returns
    -------
    (shape, sha256, made)
        Of the whole file, and its start in seconds since the epoch. Both files are left for the caller.

    Raises
    ------
    CausalFTError
        If rows are missing, change shape or are not finite, or the disk has no room for all.
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
                    require_room(part.parent, file_size(shape), "the feature cache", _WAY_OUT)
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
    """Byte at which that many rows end."""
    return len(_header(shape)) + rows * int(np.prod(shape[1:])) * _DTYPE.itemsize


def _header(shape: tuple[int, ...]) -> bytes:
    """The header of the file, in NumPy's format."""
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


def _resume(part: Path, progress: Path, n_rows: int) -> tuple[tuple[int, ...], int, Any, float]:
    """Shape, safe rows, running hash and start time; or nothing."""
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


def default_cache_folder() -> Path:
    """Return ``$CAUSALFT_CACHE``, or ``causalft/features`` in the user's cache folder."""
    return cache_folder("features", "CAUSALFT_CACHE")


@dataclass(frozen=True)
class CacheEntry:
    """One array of the cache.

    Attributes
    ----------
    key : str
        40 hexadecimal digits.
    about : dict
        Kind, stratum, data, view.
    shape : tuple of int
    n_bytes : int
    made, used : float
        Seconds since the epoch.
    complete : bool
        False for an interrupted encoding, which can be resumed.
    """

    key: str
    about: dict[str, Any]
    shape: tuple[int, ...]
    n_bytes: int
    made: float
    used: float
    complete: bool


class FeatureCache:
    """A folder of float32 arrays, each under the hash of everything that it depends on.

    An entry is ``KEY.npy`` beside ``KEY.json``, which is written last and holds the description and the SHA-256. Of two
    processes that want the same entry, one waits (a file lock that the system releases when a process dies).

    Parameters
    ----------
    folder : path, optional
        :func:`default_cache_folder` by default; created on first write.
    checkpoint_seconds : float
        A kill loses at most this much of an encoding.

    Examples
    --------
    >>> import tempfile
    >>> cache = FeatureCache(tempfile.mkdtemp())
    >>> def fill(start):
    ...     yield np.ones((3 - start, 2))
    >>> cache.array({"what": "ones"}, 3, fill).shape
    (3, 2)
    >>> [entry.shape for entry in cache.entries()]
    [(3, 2)]
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, *, checkpoint_seconds: float = 10.0
    ) -> None:
        self.folder = default_cache_folder() if folder is None else Path(folder)
        self.checkpoint_seconds = checkpoint_seconds
        self._checked: dict[str, tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"FeatureCache({os.fspath(self.folder)!r})"

    @staticmethod
    def key(what: dict[str, Any]) -> str:
        """Return the key of a description: 40 hexadecimal digits of its SHA-256."""
        text = json.dumps(plain(what), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:40]

    def array(
        self,
        what: dict[str, Any],
        n_rows: int,
        fill: Callable[[int], Iterable[NDArray[Any]]],
        about: dict[str, Any] | None = None,
    ) -> NDArray[np.float32]:
        """Return an array from the cache, computed if it is missing.

        Parameters
        ----------
        what : dict
            Everything the array depends on; it makes the key.
        n_rows : int
        fill : callable
            ``fill(start)`` yields the rows from ``start`` on, in blocks of shape (b, ...).
        about : dict, optional
            Description for people; not in the key.

        Returns
        -------
        numpy.memmap
            Shape (n_rows, ...), float32, read-only.

        Raises
        ------
        CausalFTError
            If there are no rows, rows are not finite, or the folder cannot be written.
        """
        if n_rows < 1:
            raise CausalFTError("nothing to compute: 0 rows")
        key = self.key(what)
        if self._json(key).exists() and self._problem(key, n_rows) is None:
            return self._open(key)
        with self._lock(key):
            # Another process may have made or mended it while this one waited.
            problem = self._problem(key, n_rows) if self._json(key).exists() else "missing"
            if problem is None:
                return self._open(key)
            if problem != "missing":
                warnings.warn(f"{self._file(key)}: {problem}; it is recomputed", stacklevel=2)
                self._remove(key)
            about = about or {}
            shape, sha256, made = write_rows(
                self._part(key),
                self._progress(key),
                n_rows,
                fill,
                checkpoint_seconds=self.checkpoint_seconds,
                about=about,
            )
            os.replace(self._part(key), self._file(key))
            # The description makes the entry complete, so it comes last.
            described = {"about": about, "shape": shape, "dtype": "float32", "sha256": sha256, "made": made}
            write_json(self._json(key), {**described, "what": what})
            self._progress(key).unlink(missing_ok=True)
            status = self._file(key).stat()
            self._checked[key] = (status.st_mtime_ns, status.st_size)
            return self._open(key)

    def entries(self) -> list[CacheEntry]:
        """Return all entries, interrupted ones included, oldest first."""
        found = []
        for path in sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []:
            key, complete = path.stem, not path.name.startswith(".")
            if not complete:
                key = path.name[1:].removesuffix(".progress.json")
            data = self._file(key) if complete else self._part(key)
            try:
                described = read_json(path)
                size = path.stat().st_size + (data.stat().st_size if data.exists() else 0)
                used, made = path.stat().st_mtime, float(described["made"])
                about, shape = dict(described["about"]), tuple(described["shape"])
            except (CausalFTError, OSError, KeyError, TypeError, ValueError):
                continue  # taken away meanwhile, or not ours
            found.append(CacheEntry(key, about, shape, size, made, used, complete))
        return sorted(found, key=lambda entry: entry.made)

    def clear(self, unused_seconds: float = 0.0) -> tuple[int, int]:
        """Remove entries that were not used for this long (all by default), except those being written.

        Returns
        -------
        (n_entries, n_bytes)
            What was removed.
        """
        count = size = 0
        for entry in self.entries():
            if time.time() - entry.used < unused_seconds:
                continue
            with suppress(Timeout), self._lock(entry.key, wait=False):
                self._remove(entry.key)
                count, size = count + 1, size + entry.n_bytes
        return count, size

    def verify(self) -> dict[str, str | None]:
        """Read every complete entry and return its problem, or None, by key."""
        self._checked.clear()
        return {entry.key: self._problem(entry.key, None) for entry in self.entries() if entry.complete}

    def remove(self, key: str) -> None:
        """Remove one entry."""
        with self._lock(key):
            self._remove(key)

    # -- one entry ------------------------------------------------------------------------------------------------

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.npy"

    def _json(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _part(self, key: str) -> Path:
        return self.folder / f".{key}.part"

    def _progress(self, key: str) -> Path:
        return self.folder / f".{key}.progress.json"

    @contextmanager
    def _lock(self, key: str, wait: bool = True) -> Iterator[None]:
        # The lock files stay: taking one away while another process waits for it would let two in.
        place = self.folder / "locks"
        try:
            place.mkdir(parents=True, exist_ok=True)
            lock = FileLock(place / f"{key}.lock", thread_local=False)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if not wait:
                    raise
                sys.stderr.write(f"waiting: another process is writing {self._file(key)}\n")
                lock.acquire()
        except Timeout:
            raise
        except OSError as error:
            raise CausalFTError(
                f"the feature cache {self.folder} cannot be written ({error.strerror or error}); set CAUSALFT_CACHE to "
                "a folder of yours"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _open(self, key: str) -> NDArray[np.float32]:
        with suppress(OSError):  # a cache that can only be read is a cache too
            os.utime(self._json(key))
        return np.lib.format.open_memmap(self._file(key), mode="r")

    def _problem(self, key: str, n_rows: int | None) -> str | None:
        """What is wrong with a complete entry; the file is read once per object."""
        path = self._file(key)
        try:
            described = read_json(self._json(key))
            wanted = tuple(described["shape"])
            status = path.stat()
        except FileNotFoundError:
            return "the array is gone"
        except (CausalFTError, KeyError, TypeError) as error:
            return f"its description is damaged ({error})"
        if n_rows is not None and wanted[0] != n_rows:
            return f"it has {wanted[0]} rows and not {n_rows}"
        state = (status.st_mtime_ns, status.st_size)
        if self._checked.get(key) == state:
            return None
        if status.st_size != file_size(wanted):
            return f"it is cut short ({status.st_size:,} bytes)"
        if sha256_file(path) != described.get("sha256"):
            return "its bytes are not those that were written (SHA-256)"
        self._checked[key] = state
        return None

    def _remove(self, key: str) -> None:
        for path in (self._json(key), self._progress(key), self._file(key), self._part(key)):
            path.unlink(missing_ok=True)
        self._checked.pop(key, None)
