"""Logits and labels from files for ``causalft prior``: npz, npy, safetensors, Parquet, CSV, text; no pickle is read."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from causalft.errors import CausalFTError, nearest

__all__ = ["LabelledLogits", "read_labelled_logits"]

_TABLES = (".parquet", ".csv")
_KINDS = (".npz", ".npy", ".safetensors", *_TABLES)


@dataclass(frozen=True)
class LabelledLogits:
    """What the command estimates from.

    Attributes
    ----------
    logits : (n, K) array
    labels : (n,) array of int
    classes : list of K str
    """

    logits: np.ndarray
    labels: np.ndarray
    classes: list[str]


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
    names = _lines(classes) if classes is not None else None
    values, columns = _logits(logits, logits_name, labels_name if labels is None else None, names)
    if values.ndim != 2:
        raise CausalFTError(f"{logits}: logits must be (n_samples, n_classes), not of shape {values.shape}")
    names = names or columns or [str(k) for k in range(values.shape[1])]
    if len(names) != values.shape[1]:
        raise CausalFTError(f"{classes}: {len(names)} class names for {values.shape[1]} columns of logits")
    if len(set(names)) != len(names):
        raise CausalFTError(f"{classes or logits}: the class name {_repeated(names)!r} stands twice")
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
    if values.dtype == object or values.dtype.kind in "US":
        words = [str(value) for value in values]
        number = {word: k for k, word in enumerate(names)}
        if all(word in number for word in words):
            return np.array([number[word] for word in words])
        if all(word.isascii() and word.isdigit() for word in words):
            return np.array([int(word) for word in words])
        unknown = next(word for word in words if word not in number)
        raise CausalFTError(f"{path}: label {unknown!r} is no class; {nearest(unknown, names)}")
    raise CausalFTError(f"{path}: labels must be class numbers or names, not {values.dtype}")


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
    import pandas as pd

    kind = _existing(path)
    try:
        return pd.read_parquet(path) if kind == ".parquet" else pd.read_csv(path)
    except (ValueError, OSError) as error:  # pyarrow's and pandas' errors are of these kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CausalFTError(f"{path}: cannot be read: {reason}") from error


def _known(path: Path, name: str, names: list[str]) -> None:
    if name not in names:
        raise CausalFTError(f"{path}: nothing named {name!r} in it; {nearest(name, names)}")


def _existing(path: Path) -> str:
    if not path.is_file():
        raise CausalFTError(f"{path}: no such file")
    kind = path.suffix.lower()
    if kind not in _KINDS:
        raise CausalFTError(f"{path}: cannot read {kind or 'a file without ending'}; use {', '.join(_KINDS)}")
    return kind


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise CausalFTError(f"{path}: no such file") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise CausalFTError(f"{path}: is not a text file") from None
    return [line.strip() for line in lines if line.strip()]


def _repeated(names: list[str]) -> str:
    return next(name for name in names if names.count(name) > 1)
