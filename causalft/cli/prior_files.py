"""Logits and labels from files for ``causalft prior``: npz, npy, safetensors, Parquet, CSV, text; no pickle is read."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from causalft.data.class_names import read_class_names
from causalft.data.labels import clean_text, encode, is_whole_number, whole_number
from causalft.errors import CausalFTError, nearest, short
from causalft.runs.files import read_text, require_regular
from causalft.runs.tables import TABLE_SUFFIXES, read_frame

__all__ = ["LabelledLogits", "read_labelled_logits"]

_TABLES = TABLE_SUFFIXES
_KINDS = (".npz", ".npy", ".safetensors", *_TABLES)


@dataclass(frozen=True)
class LabelledLogits:
    """What the command estimates from.

    Attributes
    ----------
    logits : (n, K) array
    labels : (n,) array of int
    classes : list of K str
    true_prior : (K,) array, optional
        Where the zoo of the model knows it; sums to 1.
    """

    logits: np.ndarray
    labels: np.ndarray
    classes: list[str]
    true_prior: np.ndarray | None = None


def read_labelled_logits(
    logits: Path, labels: Path | None, *, logits_name: str, labels_name: str, classes: Path | None
) -> LabelledLogits:
    """Read logits and labels from one file or two.

    Parameters
    ----------
    logits : pathlib.Path
        ``.npz``, ``.npy``, ``.safetensors``: an array (n, K). ``.parquet``, ``.csv``: a column of lists, or one column
        of numbers a class; columns of text are passed over.
    labels : pathlib.Path, optional
        The same kinds, or ``.txt`` with a label a line. By default the labels are in the file of the logits.
    logits_name, labels_name : str
        Of the array, tensor or column.
    classes : pathlib.Path, optional
        A class name a line, in the order of the logits.

    Raises
    ------
    CausalFTError
        If a file is missing, damaged, of another kind, lacks the name, or does not fit the others.
    """
    names = _class_names(classes) if classes is not None else None
    values, columns = _logits(logits, logits_name, labels_name if labels is None else None, names)
    if values.ndim != 2:
        raise CausalFTError(f"{logits}: logits must be (n_samples, n_classes), not of shape {values.shape}")
    names = names or columns or [str(k) for k in range(values.shape[1])]
    if len(names) != values.shape[1]:
        raise CausalFTError(f"{classes}: {len(names)} class names for {values.shape[1]} columns of logits")
    if len(set(names)) != len(names):
        raise CausalFTError(f"{classes or logits}: the class name {_repeated(names)!r} stands twice")
    if labels is None and logits.suffix.lower() == ".npy":
        raise CausalFTError(f"{logits} holds one array, the logits, and no labels; give --labels FILE")
    return LabelledLogits(values, _labels(labels or logits, labels_name, names), names)


def _logits(
    path: Path, name: str, labels_name: str | None, names: list[str] | None
) -> tuple[np.ndarray, list[str] | None]:
    """The array of the logits, and the class names where they are the columns of a table."""
    if path.suffix.lower() not in _TABLES:
        return _array(path, name), None
    table = _table(path)
    if name in table:
        try:
            rows = [np.asarray(row, dtype=float) for row in table[name]]
            return np.stack(rows), None
        except (TypeError, ValueError):
            raise CausalFTError(
                f"{path}: column {name!r} must hold one list of numbers a row, alike in length"
            ) from None
    if names is not None:
        missing = [n for n in names if n not in table]
        if missing:
            raise CausalFTError(
                f"{path}: no column for class {missing[0]!r}; {nearest(missing[0], map(str, table))}"
            )
        chosen = table[names]
    else:
        chosen = table.drop(columns=[labels_name or ""], errors="ignore").select_dtypes("number")
    if not all(np.issubdtype(dtype, np.number) for dtype in chosen.dtypes) or not chosen.shape[1]:
        raise CausalFTError(
            f"{path}: no column {name!r} and no columns of numbers, one a class; {nearest(name, map(str, table))}"
        )
    return chosen.to_numpy(dtype=float), [str(column) for column in chosen.columns]


def _labels(path: Path, name: str, names: list[str]) -> np.ndarray:
    """Labels as integers: given as such, or by class name."""
    if path.suffix.lower() in _TABLES:
        table = _table(path)
        if name not in table:
            raise CausalFTError(
                f"{path}: no column {name!r} with the labels; {nearest(name, map(str, table))}"
            )
        values = table[name].to_numpy()
    elif path.suffix.lower() == ".txt":
        values = np.array(_lines(path), dtype=object)
    else:
        values = _array(path, name)
    if np.issubdtype(values.dtype, np.integer):
        return values
    if values.ndim != 1 or values.dtype.kind not in "OUSf":
        raise CausalFTError(f"{path}: labels must be class numbers or names, not {values.dtype}")
    found = encode(values.tolist(), str(path))
    number = {word: k for k, word in enumerate(names)}
    if values.dtype.kind != "f" and all(word in number for word in found.ids):
        codes = [number[word] for word in found.ids]
    elif all(map(is_whole_number, found.ids)):
        codes = [whole_number(word) for word in found.ids]  # also floats, of a column that has or had a gap
    elif values.dtype.kind == "f":
        raise CausalFTError(f"{path}: labels must be class numbers or names, not {values.dtype}")
    else:
        unknown = next(word for word in found.ids if word not in number)
        raise CausalFTError(f"{path}: label '{short(unknown)}' is no class; {nearest(unknown, names)}")
    return np.array(codes, dtype=np.int64)[found.codes]


def _array(path: Path, name: str) -> np.ndarray:
    """An array of a file without executing anything in it."""
    from safetensors import SafetensorError, safe_open

    kind = _existing(path)
    try:
        if kind == ".npy":
            with open(path, "rb") as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        if kind == ".npz":
            with open(path, "rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as found:
                _known(path, name, list(found.files))
                return found[name]
        with safe_open(path, framework="np") as tensors:
            _known(path, name, list(tensors.keys()))
            return tensors.get_tensor(name)
    except (ValueError, TypeError, EOFError, SafetensorError, zipfile.BadZipFile) as error:
        if isinstance(error, CausalFTError):
            raise
        reason = (
            "it holds Python objects (pickle), which are not read" if "allow_pickle" in str(error) else error
        )
        raise CausalFTError(f"{path}: cannot be read: {reason}") from error


def _table(path: Path) -> Any:
    _existing(path)
    table = read_frame(path)
    return table.rename(columns={column: clean_text(str(column)) for column in table})


def _known(path: Path, name: str, names: list[str]) -> None:
    if name not in names:
        raise CausalFTError(f"{path}: nothing named {name!r} in it; {nearest(name, names)}")


def _existing(path: Path) -> str:
    if not os.path.lexists(path):
        raise CausalFTError(f"{path}: no such file")
    require_regular(path)
    kind = path.suffix.lower()
    if kind not in _KINDS:
        raise CausalFTError(f"{path}: cannot read {kind or 'a file without ending'}; use {', '.join(_KINDS)}")
    return kind


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def _class_names(path: Path) -> list[str]:
    """The names in the order of the logits."""
    found = read_class_names(path)
    if found.ordered is not None:
        return list(found.ordered)
    by_number = {whole_number(key): name for key, name in (found.by_id or {}).items() if is_whole_number(key)}
    if sorted(by_number) != list(range(len(found.by_id or {}))):
        raise CausalFTError(f"{path}: names must be in the order of the logits, or numbered from 0")
    return [by_number[k] for k in range(len(by_number))]


def _repeated(names: list[str]) -> str:
    return next(name for name in names if names.count(name) > 1)
