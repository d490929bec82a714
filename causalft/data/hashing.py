"""SHA-256 of many files, and files that are equal: read in threads, as few bytes as it takes."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.data.image_set import ImageSet, decode_threads, in_order
from causalft.runs.progress import phase

__all__ = ["equal_files", "file_hashes"]

_Result = TypeVar("_Result")


def file_hashes(
    images: ImageSet,
    indices: ArrayLike | None = None,
    *,
    threads: int | None = None,
    progress: bool | None = None,
) -> list[str]:
    """SHA-256 (hex) of the file of each image, in order.

    Parameters
    ----------
    images : ImageSet
    indices : (m,) array of int, optional
        All images by default.
    threads, progress
        As in `causalft.data.decode`.

    Examples
    --------
    >>> images = ImageSet.from_arrays(np.zeros((2, 2, 2, 3), np.uint8), [0, 1], ["a", "b"])
    >>> [found[:8] for found in file_hashes(images)]
    ['15ec7bf0', '15ec7bf0']
    """
    rows = np.arange(len(images)) if indices is None else np.asarray(indices, dtype=np.int64)
    return _of_each(images.bytes_hash, rows, "hashing files", threads, progress)


def equal_files(
    images: ImageSet, *, threads: int | None = None, progress: bool | None = None
) -> list[list[int]]:
    """Groups of two or more images whose files are equal, in the order of their first images.

    Files that differ in size (in a zip: or checksum) are not read; of the others a piece from the middle is, and only
    those whose pieces are equal as a whole.

    Examples
    --------
    >>> pixels = np.array([0, 7, 0])[:, None, None, None] * np.ones((3, 2, 2, 3), int)
    >>> equal_files(ImageSet.from_arrays(pixels.astype(np.uint8), [0, 1, 1], ["a", "b"]))
    [[0, 2]]
    """
    found = _alike(range(len(images)), list(map(images.quick_key, range(len(images)))))
    for key, label in ((_piece_of(images), "comparing files"), (images.bytes_hash, "hashing files")):
        rows = np.array([i for group in found for i in group], dtype=np.int64)
        keys = _of_each(key, rows, label, threads, progress)
        numbers = np.repeat(np.arange(len(found)), [len(group) for group in found]).tolist()
        found = _alike(rows.tolist(), list(zip(numbers, keys)))
    return sorted(found)


def _piece_of(images: ImageSet) -> Callable[[int], bytes]:
    return lambda i: hashlib.blake2b(images.piece(i), digest_size=16).digest()


def _alike(rows: Sequence[int], keys: Sequence[Hashable]) -> list[list[int]]:
    """The rows that share a key, in order."""
    by_key: dict[Hashable, list[int]] = defaultdict(list)
    for row, key in zip(rows, keys):
        by_key[key].append(row)
    return [group for group in by_key.values() if len(group) > 1]


def _of_each(
    key: Callable[[int], _Result],
    rows: NDArray[np.int64],
    label: str,
    threads: int | None,
    progress: bool | None,
) -> list[_Result]:
    def work(start: int, end: int) -> list[_Result]:
        return [key(int(i)) for i in rows[start:end]]

    n_threads = decode_threads(threads)
    found: list[_Result] = []
    with (
        phase(label, len(rows), unit="img", progress=progress) as bar,
        ThreadPoolExecutor(n_threads, thread_name_prefix="hash") as pool,
    ):
        for part in in_order(pool, work, range(len(rows)), 4 * n_threads):
            found += part
            bar.update(len(part))
    return found
