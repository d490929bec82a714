"""One number per class, from a file that anyone wrote: read, and matched with the classes of a set by name."""

from __future__ import annotations

import csv
import math
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.data.labels import clean_text
from causalft.errors import CausalFTError, first_few, nearest, short
from causalft.runs.files import existing, parse_json, read_text

__all__ = [
    "CLASS_TABLE_SUFFIXES",
    "MatchedTable",
    "match_classes",
    "name_key",
    "read_class_table",
    "read_name_map",
]

CLASS_TABLE_SUFFIXES = (".txt", ".tsv", ".csv", ".json")
"""Extensions of readable files."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_NAME_COLUMNS = frozenset({"class", "classname", "name", "label", "category", "concept"})
_COUNT_COLUMNS = frozenset({"count", "counts", "frequency", "n", "number", "captions", "images"})


def name_key(name: str) -> str:
    """Return what all spellings of a class name share: all but case and punctuation.

    A name of punctuation alone is its own key.

    Examples
    --------
    >>> name_key("arcade (passageway)"), name_key("Apartment_building-outdoor"), name_key("C++") == name_key("C")
    ('arcadepassageway', 'apartmentbuildingoutdoor', False)
    """
    plain = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in plain if unicodedata.category(c)[0] not in "PZC" and c != "_") or name


@dataclass(frozen=True)
class MatchedTable:
    """A class table matched with the K classes of a set.

    Attributes
    ----------
    values : (K,) array
        NaN where a class has no entry.
    missing : tuple of str
        Classes without an entry, in the order of the set.
    unused : tuple of str
        Names of the table that no class has, in the order of the file.
    respelt : mapping of str to str
        Classes to their name in the table, where the two differ.
    """

    values: NDArray[np.float64]
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    respelt: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_matched(self) -> int:
        """Classes with an entry."""
        return len(self.values) - len(self.missing)


def read_class_table(
    path: str | os.PathLike[str], what: str = "count", *, positive: bool = False
) -> dict[str, float]:
    """Read one number for each class.

    A ``.txt`` or ``.tsv`` file holds a class name and a number per line, separated by a tab (in ``.txt`` also by white
    space: the number is the last word); lines that start with ``#`` are comments. A ``.csv`` file has two columns, or
    names those of the class and of the number in its header. A ``.json`` file is an object from name to number.

    Parameters
    ----------
    path : path
    what : str
        The number, for messages; also the name of its column.
    positive : bool
        Every class needs a number above 0.

    Returns
    -------
    dict of str to float
        Names, without white space at their ends, to finite numbers of 0 or more, in the order of the file.

    Raises
    ------
    CausalFTError
        If the file is missing, special or of another format; has no class; or has a number that is negative, infinite
        or none, 0 where it must be positive, or a name twice. Names the line.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "counts.txt"
    >>> _ = file.write_text("great white shark\\t1696\\ntench\\t21\\n")
    >>> read_class_table(file)
    {'great white shark': 1696.0, 'tench': 21.0}
    """
    where, rows = _rows(path, what)
    found: dict[str, float] = {}
    first: dict[str, str] = {}
    for place, name, value in rows:
        number = _number(value)
        about = f"{place} of {where}: the {what} of '{short(name)}' is {short(repr(value), 40)}"
        if positive and not (number or 0) > 0:
            raise CausalFTError(f"{about}; write a number above 0")
        if number is None:
            raise CausalFTError(f"{about}; write a number, or leave the class out if it is not known")
        if number < 0:
            raise CausalFTError(f"{about}; a {what} is 0 or more")
        if name in found:
            raise CausalFTError(
                f"{where} has the class '{short(name)}' twice ({first[name]} and {place}); keep one"
            )
        found[name], first[name] = number, place
    return found


def read_name_map(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read what each class of a set is called in a class table: the same formats, with a name in place of the number.

    Raises
    ------
    CausalFTError
        As `read_class_table`.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "map.csv"
    >>> _ = file.write_text("class,name\\ncar,automobile\\n")
    >>> read_name_map(file)
    {'car': 'automobile'}
    """
    where, rows = _rows(path, "name")
    found: dict[str, str] = {}
    for place, name, value in rows:
        other = clean_text(value) if isinstance(value, str) else ""
        if not other:
            raise CausalFTError(f"{place} of {where} has no second name for '{short(name)}'; write one")
        if found.setdefault(name, other) != other:
            raise CausalFTError(f"{where} maps '{short(name)}' to two names; keep one")
    return found


def match_classes(
    table: Mapping[str, float],
    classes: Sequence[str],
    *,
    what: str = "count",
    path: str | os.PathLike[str] = "the table",
    name_map: Mapping[str, str] | None = None,
) -> MatchedTable:
    """Match a class table with the classes of a set: equal names first, then those equal but for case and punctuation.

    Parameters
    ----------
    table : mapping of str to float
        From `read_class_table`.
    classes : sequence of K str
    what, path
        For messages: the number, and the file.
    name_map : mapping of str to str, optional
        Classes to their name in the table; comes first. A name that the table lacks is not used.

    Raises
    ------
    CausalFTError
        If fewer than half of the classes match (naming some, and the nearest names of the table), two names could be
        meant for one class, or the map names a class that the set lacks.

    Examples
    --------
    >>> found = match_classes({"Aquarium fish": 2, "apple": 5, "pear": 1}, ["apple", "aquarium_fish", "baby"])
    >>> found.values.tolist(), found.missing, found.unused
    ([5.0, 2.0, nan], ('baby',), ('pear',))
    """
    where = short(path, 300)
    by_key: dict[str, list[str]] = defaultdict(list)
    for name in table:
        by_key[name_key(name)].append(name)
    entry = _mapped(table, by_key, classes, name_map or {})
    chosen_by_hand = set(entry)
    entry |= {name: name for name in classes if name in table and name not in entry}
    taken = set(entry.values())
    alike: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        if name not in entry:
            alike[name_key(name)].append(name)
    for key, names in alike.items():
        left = [name for name in by_key.get(key, ()) if name not in taken]
        if len(left) > 1 or (left and len(names) > 1):
            one, other = (left if len(left) > 1 else names)[:2]
            of, whom = (where, names[0]) if len(left) > 1 else ("the data", left[0])
            raise CausalFTError(
                f"'{short(one)}' and '{short(other)}' of {of} are one name but for case and punctuation, so either "
                f"could be '{short(whom)}' of {'the data' if of == where else where}; keep one, or say which with "
                "--prior-map FILE"
            )
        if left:
            entry[names[0]] = left[0]
    _refuse_doubles(entry, by_key, where, chosen_by_hand)
    values = np.array([table[entry[name]] if name in entry else np.nan for name in classes], dtype=float)
    missing = tuple(name for name in classes if name not in entry)
    taken = set(entry.values())
    if 2 * len(entry) < len(classes) or not entry:
        raise CausalFTError(_too_few(table, classes, missing, what, where))
    return MatchedTable(
        values=values,
        missing=missing,
        unused=tuple(name for name in table if name not in taken),
        respelt={name: other for name, other in entry.items() if name != other},
    )


def _mapped(
    table: Mapping[str, float],
    by_key: Mapping[str, list[str]],
    classes: Sequence[str],
    name_map: Mapping[str, str],
) -> dict[str, str]:
    """The entries that a map names."""
    known, keys = set(classes), defaultdict(list)
    for name in classes:
        keys[name_key(name)].append(name)
    entry = {}
    for given, other in name_map.items():
        meant = [given] if given in known else keys.get(name_key(given), [])
        if len(meant) != 1:
            raise CausalFTError(
                f"--prior-map maps '{short(given)}', which is no class of the data; {nearest(given, classes)}; each "
                "line is a class of the data and its name in the file"
            )
        named = [other] if other in table else by_key.get(name_key(other), [])
        if len(named) == 1:
            entry[meant[0]] = named[0]
    return entry


def _refuse_doubles(
    entry: Mapping[str, str], by_key: Mapping[str, list[str]], where: str, chosen_by_hand: set[str]
) -> None:
    """Refuse an entry that is left over beside a spelling of the same name: whose number would count?"""
    taken = set(entry.values())
    for name, chosen in entry.items():
        others = [other for other in by_key[name_key(chosen)] if other not in taken]
        if others and name not in chosen_by_hand:
            raise CausalFTError(
                f"{where} has the class '{short(name)}' twice, as '{short(chosen)}' and '{short(others[0])}', which "
                "are one name but for case and punctuation; keep one, or say which with --prior-map FILE"
            )


def _too_few(
    table: Mapping[str, float], classes: Sequence[str], missing: Sequence[str], what: str, where: str
) -> str:
    near = nearest(missing[0], table)
    if not near.startswith("did you mean"):
        near = f"nothing is near ({near});"
    return (
        f"{where} has a {what} for only {len(classes) - len(missing)} of {len(classes)} classes; not for "
        f"{first_few(missing)}; for '{short(missing[0])}' {near} give the names that differ with --prior-map FILE "
        "(lines of class and name in the file)"
    )


Row = tuple[str, str, Any]


def _rows(path: str | os.PathLike[str], what: str) -> tuple[str, list[Row]]:
    """The file for messages, and place, name and value of each row."""
    file = existing(path)
    where, ending = short(file, 300), file.suffix.lower()
    if file.is_dir():
        raise CausalFTError(f"{where} is a folder; give the file with the {what} of each class")
    if ending not in CLASS_TABLE_SUFFIXES:
        raise CausalFTError(
            f"{where}: ending {short(ending, 20) or '(none)'} is unknown; give lines of class name and {what} as "
            ".txt, .tsv or .csv, or an object as .json"
        )
    text = read_text(file)
    rows = list(_of_json(text, where, what) if ending == ".json" else _of_lines(text, where, ending, what))
    if not rows:
        raise CausalFTError(f"{where} holds no class; write a class name and its {what} per line")
    return where, [(place, _named(name, place, where), value) for place, name, value in rows]


def _named(name: str, place: str, where: str) -> str:
    clean = clean_text(name)
    if not clean:
        raise CausalFTError(f"{place} of {where} has no class name; write one")
    return clean


def _of_json(text: str, where: str, what: str) -> Iterable[Row]:
    found = parse_json(text, where, f'write an object such as {{"cat": 5}} of class name and {what}')
    if not isinstance(found, dict):
        raise CausalFTError(f'{where} is no object of class name and {what}; write one such as {{"cat": 5}}')
    for number, (name, value) in enumerate(found.items(), start=1):
        yield f"entry {number}", name, value


def _of_lines(text: str, where: str, ending: str, what: str) -> Iterable[Row]:
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if ending != ".csv":
        lines = [(number, line) for number, line in lines if not line.lstrip().startswith("#")]
    if not lines:
        return
    if ending == ".csv":
        first = lines[0][1]
        separator = max(",;\t|", key=lambda each: len(next(csv.reader([first], delimiter=each), [])))
        cells = [(number, row) for number, row in _csv(lines, separator, where) if any(map(str.strip, row))]
    else:
        tabs = ending == ".tsv" or any("\t" in line for _, line in lines)
        cells = [(number, line.split("\t") if tabs else line.rsplit(None, 1)) for number, line in lines]
    columns = _header(cells[0][1], where, what)
    for number, row in cells if columns is None else cells[1:]:
        row = [cell.strip() for cell in row]
        while len(row) > 2 and not row[-1] and columns is None:
            row.pop()  # a separator at the end of the line
        name, value = columns or (0, 1)
        if len(row) <= max(name, value) or (columns is None and len(row) > 2):
            raise CausalFTError(
                f"line {number} of {where} is {short(repr(' '.join(row)), 60)}; write a class name and its {what}, "
                f"separated by a {'comma' if ending == '.csv' else 'tab'}"
            )
        yield f"line {number}", row[name], row[value]


def _csv(lines: Sequence[tuple[int, str]], separator: str, where: str) -> Iterable[tuple[int, list[str]]]:
    reader = csv.reader((line + "\n" for _, line in lines), delimiter=separator, strict=True)
    start = 0
    try:
        for row in reader:
            yield lines[start][0], row
            start = reader.line_num
    except csv.Error as error:
        raise CausalFTError(
            f"line {lines[start][0]} of {where} is not valid CSV ({error}); mend it"
        ) from None


def _header(first: Sequence[str], where: str, what: str) -> tuple[int, int] | None:
    """The columns of name and value if the first row names them."""
    names = [name_key(cell.strip()) for cell in first]
    own = {name_key(what)}
    by_name = [k for k, name in enumerate(names) if name in _NAME_COLUMNS]
    by_value = [k for k, name in enumerate(names) if name in own] or [
        k for k, name in enumerate(names) if name in _COUNT_COLUMNS
    ]
    if len(first) < 2 or not (by_name or by_value) or any(_number(cell) is not None for cell in first[1:]):
        return None
    if len(first) == 2:  # one of the two is known
        name = by_name[0] if by_name else 1 - by_value[0]
        return name, 1 - name
    if not by_name or not by_value:
        shown = first_few([cell.strip() for cell in first], 10)
        raise CausalFTError(
            f"{where} has the columns {shown}; call the one with the class names 'class' and the other '{what}'"
        )
    return by_name[0], by_value[0]


def _number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, str):
        return _finite(float(value)) if _NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return _finite(float(value))
    except OverflowError:
        return None


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
