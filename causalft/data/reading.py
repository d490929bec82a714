"""What every reader takes and returns, and its rules for classes, splits, repeats and factors."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.data.class_names import ClassNames, name_classes
from causalft.data.containers import Container, ImageStore, typed_path
from causalft.data.labels import doubts, encode, is_whole_number, row_name, whole_number
from causalft.errors import (
    CausalFTError,
    escape_name,
    first_few,
    nearest,
    one_line,
    several,
    short,
    unescape_name,
)
from causalft.runs.tables import header_of, parse_table

__all__ = [
    "SPLIT_NAMES",
    "ReadOptions",
    "Reading",
    "assemble",
    "factor_values",
    "factors_from_csv",
    "split_of_name",
    "split_rows",
    "without_repeats",
]


#: Names of the three splits, in lower case.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class ReadOptions:
    """Options of `causalft.open_images` for a reader; None if not given."""

    drop_empty_classes: bool = False
    min_classes: int = 2
    root: Container | None = None
    class_names: ClassNames | None = None
    path_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    factor_column: str | None = None
    imbalance_factor: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Reading:
    """What a reader found: n images in K classes.

    ``rows`` (n,) are rows in the store, ``files`` printable names, ``labels`` (n,) numbers in [0, K), ``splits`` the
    rows of each split (empty if there are none), ``factors`` (n,) or None.
    """

    format: str
    name: str
    store: ImageStore
    rows: NDArray[np.int64]
    files: list[str]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    splits: dict[str, NDArray[np.int64]]
    factors: NDArray[Any] | None
    notes: tuple[str, ...]


def assemble(
    *,
    format: str,
    name: str,
    where: str,
    store: ImageStore,
    files: Sequence[str],
    codes: ArrayLike,
    ids: Sequence[str],
    options: ReadOptions,
    splits: dict[str, NDArray[np.int64]] | None = None,
    factors: NDArray[Any] | None = None,
    notes: Sequence[str] = (),
) -> Reading:
    """Name the classes, refuse or drop those without a training image, and return the reading.

    ``codes`` (n,) are the indices in ``ids``, the labels in order; ``where`` is for messages.
    """
    refuse_negative(codes, ids, where)
    class_names, index, naming = name_classes(ids, options.class_names, where)
    labels = index[np.asarray(codes, dtype=np.int64)]
    splits = dict(splits or {})
    rows = np.arange(len(files))
    all_notes = list(dict.fromkeys([*notes, *doubts(class_names), *naming]))
    source = splits.get("train", rows)
    counts = np.bincount(labels[source], minlength=len(class_names))
    missing = np.flatnonzero(counts == 0)
    if len(missing) and not options.drop_empty_classes:
        k = int(missing[0])
        kind = "training image" if "train" in splits else "image"
        also = next((f" but has some in {part}" for part in splits if (labels[splits[part]] == k).any()), "")
        raise CausalFTError(
            f"class '{short(class_names[k])}' has no {kind} in {where}{also} (found "
            f"{len(class_names) - len(missing)} of {len(class_names)} classes); add images or drop empty classes"
        )
    if len(missing):
        dropped = [class_names[k] for k in missing]
        all_notes.append(
            f"dropped {several(dropped, 'class', 'classes')} without a training image: {first_few(dropped)}"
        )
        class_names = tuple(label for label, count in zip(class_names, counts) if count)
        keep = counts[labels] > 0
        labels = (np.cumsum(counts > 0) - 1)[labels[keep]]
        place = np.cumsum(keep) - 1
        splits = {part: place[members[keep[members]]] for part, members in splits.items()}
        rows = np.flatnonzero(keep)
        files = [files[i] for i in rows.tolist()]
        factors = None if factors is None else factors[rows]
    if len(class_names) < options.min_classes:
        only = f"one class only ('{class_names[0]}')" if class_names else "no class"
        raise CausalFTError(f"{where} holds {only}; at least {options.min_classes} with images are needed")
    return Reading(
        format,
        escape_name(name),
        store,
        rows,
        [escape_name(file) for file in files],
        labels,
        class_names,
        splits,
        factors,
        tuple(map(one_line, all_notes)),
    )


def refuse_negative(
    codes: ArrayLike, ids: Sequence[str], where: str, places: Sequence[str] | None = None
) -> None:
    """Refuse negative labels; with ``places`` (`Places`) the message names the first row.

    Examples
    --------
    >>> refuse_negative([0, 1], ["-1", "3"], "l.txt", ["line 1", "line 2"])
    Traceback (most recent call last):
    causalft.errors.CausalFTError: l.txt has label -1 (line 1); labels count from 0, so leave images without a label out
    """
    for k, label in enumerate(ids):
        if not is_whole_number(label) or whole_number(label) >= 0:
            continue
        rows = np.flatnonzero(np.asarray(codes) == k)
        first = f" ({row_name(places, int(rows[0]))})" if places is not None and len(rows) else ""
        raise CausalFTError(
            f"{where} has label {short(label)}{first}; labels count from 0, so leave images without a label out"
        )


class Places(Sequence[str]):
    """The place of each row in one or more files, for messages; four bytes per row.

    Examples
    --------
    >>> places = Places("line")
    >>> places.begin("train.txt")
    >>> places.add(3)
    >>> places[0]
    'line 3'
    >>> places.begin("val.txt")
    >>> places.add(1)
    >>> list(places)
    ['line 3 of train.txt', 'line 1 of val.txt']
    """

    def __init__(self, word: str) -> None:
        self._word, self._numbers = word, array("I")
        self._starts: list[int] = []
        self._files: list[str] = []

    def begin(self, file: str) -> None:
        """Start the rows of another file."""
        self._starts.append(len(self._numbers))
        self._files.append(file)

    def add(self, number: int) -> None:
        """Add a row by its number in the file."""
        self._numbers.append(number)

    def number(self, n: int) -> None:
        """Add n rows, numbered from 1."""
        self._numbers.extend(range(1, n + 1))

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, row: Any) -> Any:
        place = f"{self._word} {self._numbers[row]}"
        if len(self._files) == 1:
            return place
        return f"{place} of {self._files[bisect_right(self._starts, row) - 1]}"


def split_of_name(stem: str) -> str | None:
    """The split in the name of a file; None if it names no split, or two.

    Examples
    --------
    >>> [split_of_name(stem) for stem in ("ImageNet_LT_val", "train2018", "Places-LT", "train_val2018")]
    ['validation', 'train', None, None]
    """
    words = re.findall(r"[a-z]+", stem.lower())
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


def split_rows(values: Sequence[str], where: str) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each split from a column of split names; unknown and missing names are refused.

    Examples
    --------
    >>> split_rows(["train", "val", "train"], "labels.csv")
    {'train': array([0, 2]), 'validation': array([1])}
    """
    of: dict[str, list[int]] = {}
    place: dict[str, int] = {}
    codes = np.fromiter((place.setdefault(value, len(place)) for value in values), np.int64, len(values))
    for given, code in place.items():
        split = SPLIT_NAMES.get(given.strip().lower())
        if split is None:
            n = int((codes == code).sum())
            state = (
                f"'{short(given)}' is no split: {nearest(given, SPLIT_NAMES)}"
                if given.strip()
                else "they name none"
            )
            raise CausalFTError(
                f"{n} row(s) of {where} are in no split ({state}); use train, validation and test"
            )
        of.setdefault(split, []).append(code)
    return {
        split: np.flatnonzero(np.isin(codes, of[split]))
        for split in ("train", "validation", "test")
        if split in of
    }


def without_repeats(
    files: Sequence[str],
    labels: NDArray[np.int64],
    ids: Sequence[str],
    splits: Sequence[int],
    where: str,
    places: Sequence[str] | None = None,
) -> tuple[NDArray[np.int64] | None, list[str]]:
    """Return the rows of the first occurrence of each image, or None without repeats, and notes.

    ``labels`` (n,) are indices in ``ids``, ``splits`` a number for the split of each row. An image with two labels, or
    in two splits, is refused; ``places`` name the rows in messages.
    """
    first: dict[str, int] = {}
    keep = np.ones(len(files), dtype=bool)
    if len(set(files)) == len(files):
        return None, []
    for row, file in enumerate(files):
        other = first.setdefault(file, row)
        if other == row:
            continue
        if labels[row] != labels[other]:
            raise CausalFTError(
                f"{where} names {short(file, 300)} twice, as '{short(ids[labels[other]])}' and as "
                f"'{short(ids[labels[row]])}' ({row_name(places, other)} and {row_name(places, row)}); keep one label"
            )
        if splits[row] != splits[other]:
            raise CausalFTError(
                f"{where} names {short(file, 300)} in two splits ({row_name(places, other)} and "
                f"{row_name(places, row)}); keep it in one"
            )
        keep[row] = False
    repeated = [files[row] for row in np.flatnonzero(~keep).tolist()]
    note = f"left out {several(repeated, 'repeated row', 'repeated rows')}: {first_few(repeated, 3)}"
    return np.flatnonzero(keep), [note]


def factors_from_csv(text: str, files: Sequence[str], where: str) -> NDArray[Any] | None:
    """Read the column ``factor`` of a CSV for the images in its column ``file_name``.

    Returns (n,) int64 or str for the n ``files``; None if a column is missing, as the CSV is then about something else.
    An image without a row or factor is refused.

    Examples
    --------
    >>> factors_from_csv("file_name,factor\\na/1.png,0\\na/2.png,1\\n", ["a/2.png", "a/1.png"], "metadata.csv")
    array([1, 0])
    """
    if not text.strip() or not {"file_name", "factor"} <= set(header_of(text, where)):
        return None
    table = parse_table(text, where, ("file_name", "factor"))
    factor_of: dict[str, str | None] = {}
    for name, factor in zip(table.values("file_name"), table.values("factor")):
        written = name or ""
        factor_of[typed_path(written.replace("\\", "/")).lstrip("/")] = factor
        factor_of[unescape_name(written)] = factor
    for name in files:
        if not factor_of.get(name):
            state = "no factor for" if name in factor_of else "no row for"
            raise CausalFTError(
                f"{where} has {state} image {short(name, 300)}; complete it, or remove the file"
            )
    return factor_values([factor_of[name] for name in files], where)


def factor_values(
    values: Sequence[Any], where: str = "the set", places: Sequence[str] | None = None
) -> NDArray[Any]:
    """Return factors as int64 if all are whole numbers, else as text; missing ones are refused, naming the row.

    Examples
    --------
    >>> factor_values(["1", "0", "1.0"]), factor_values(["head", "1"])
    (array([1, 0, 1]), array(['head', '1'], dtype='<U4'))
    """
    found = encode(values, where, "factor", places)
    if all(map(is_whole_number, found.ids)) and all(abs(whole_number(i)) < 2**63 for i in found.ids):
        return np.array([whole_number(label) for label in found.ids], dtype=np.int64)[found.codes]
    return np.array(found.ids, dtype=str)[found.codes]
