"""Logits at real size: the precision they are kept in, mapped from a file, and read in blocks of rows.

Above 200 classes a logit is kept as its distance from the largest of its row, in float16. Small distances, which decide
the prediction, keep eleven bits of their own: the most likely class never changes, and probabilities by less than 5e-4.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

__all__ = [
    "MANY_CLASSES",
    "SummedLogits",
    "as_kept",
    "map_tensors",
    "read_rows",
    "row_blocks",
    "stored_bytes",
]

MANY_CLASSES = 200
"""Above this many classes logits are kept in half precision, and predictions of the most likely classes only."""

_BLOCK = 131_072  # numbers of a block; 1 MB of float64 stays in the cache of a core

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8"}


def row_blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Yield slices of about a megabyte that cover the rows of an (n_rows, n_columns) array.

    Examples
    --------
    >>> list(row_blocks(3, 100_000))
    [slice(0, 1, None), slice(1, 2, None), slice(2, 3, None)]
    """
    size = max(1, _BLOCK // max(1, n_columns))
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def read_rows(array: Any, rows: slice) -> NDArray[np.float64]:
    """Return a float64 copy of some rows; the memory of a mapped file is released."""
    found = np.array(array[rows], dtype=np.float64)
    _release(array)
    return found


def _release(array: Any) -> None:
    """Let go of the pages of a mapped file; they stay in the cache of the system."""
    while array is not None:
        mapped = getattr(array, "_mmap", None)
        if mapped is not None and hasattr(mapped, "madvise"):
            mapped.madvise(mmap.MADV_DONTNEED)
            return
        array = getattr(array, "base", None)


def as_kept(logits: NDArray[Any]) -> NDArray[Any]:
    """Return logits (n, K) as a run keeps them: float32, or float16 distances from the row's largest.

    Examples
    --------
    >>> as_kept(np.array([[2.0, 0.5]])).dtype, as_kept(np.arange(300.0)[None]).dtype
    (dtype('float32'), dtype('float16'))
    >>> as_kept(np.arange(300.0)[None])[0, -2:].tolist()
    [-1.0, 0.0]
    """
    n, n_classes = logits.shape
    if n_classes <= MANY_CLASSES:
        return np.asarray(logits, dtype=np.float32)
    if logits.dtype == np.float16:
        return logits
    found = np.empty((n, n_classes), dtype=np.float16)
    least = float(np.finfo(np.float16).min)
    for rows in row_blocks(n, n_classes):
        block = read_rows(logits, rows)
        block -= block.max(axis=1, keepdims=True)
        found[rows] = np.maximum(block, least)
    return found


def stored_bytes(n_validation: int, n_test: int, n_classes: int) -> int:
    """Size on disk of the predictions of one member: two arrays of logits of the validation and test images.

    Examples
    --------
    >>> stored_bytes(20_000, 50_000, 1000)
    280000000
    """
    width = 4 if n_classes <= MANY_CLASSES else 2
    return 2 * width * (n_validation + n_test) * n_classes


def map_tensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Map the tensors of a safetensors file into memory, read-only; return them and the metadata.

    Raises
    ------
    safetensors.SafetensorError
        If the file is damaged.
    KeyError
        If a tensor has a type that no array of predictions has.
    """
    with safe_open(path, framework="np") as file:  # checks sizes and offsets
        metadata = file.metadata() or {}
    with open(path, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    whole = np.memmap(path, dtype=np.uint8, mode="r")[8 + length :]
    header.pop("__metadata__", None)
    found = {}
    for name, about in header.items():
        start, end = about["data_offsets"]
        found[name] = whole[start:end].view(_TYPES[about["dtype"]]).reshape(about["shape"])
    return found, metadata


@dataclass(frozen=True, eq=False)
class SummedLogits:
    """Logits ``first + second + shift``, an array that is computed where it is read.

    Attributes
    ----------
    first, second : (n, K) arrays
    shift : (K,) array

    Examples
    --------
    >>> found = SummedLogits(np.zeros((2, 2)), np.eye(2), np.array([1.0, 2.0]))
    >>> found[0:1].tolist(), np.asarray(found).shape
    ([[2.0, 2.0]], (2, 2))
    """

    first: Any
    second: Any
    shift: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, K)."""
        return tuple(self.first.shape)

    @property
    def ndim(self) -> int:
        """2."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is read: float64."""
        return np.dtype(np.float64)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[np.float64]:
        return read_rows(self.first, rows) + read_rows(self.second, rows) + self.shift

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        found = np.empty(self.shape)
        for rows in row_blocks(*self.shape):
            found[rows] = self[rows]
        return found if dtype is None else found.astype(dtype)
