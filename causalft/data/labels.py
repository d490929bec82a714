"""Labels as files write them, to classes: certain duplicates become one class, doubtful ones are reported."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.errors import CausalFTError, escape_name, first_few, short

__all__ = [
    "Labels",
    "class_key",
    "class_order",
    "clean_text",
    "doubts",
    "encode",
    "is_whole_number",
    "label_text",
    "row_name",
    "whole_number",
]

_WHOLE = re.compile(r"[+-]?[0-9]+(?:\.0*)?")
_DECIMAL = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+")
_MISSING = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>", "#n/a", "nat"})
_TRUTH = frozenset({"true", "false"})
# White space and invisible characters at the ends, where they mean nothing.
_ENDS = re.compile(r"^[\s\ufeff\u200b\u2060\u00ad]+|[\s\ufeff\u200b\u2060\u00ad]+$")
_INVISIBLE = re.compile(r"[\ufeff\u200b-\u200f\u2060\u00ad\ufe0e\ufe0f]")
_BYTES = re.compile("[\udc80-\udcff]")
#: From here on different whole numbers can be the same float.
_EXACT = 2**53


@dataclass(frozen=True)
class Labels:
    """Labels as classes: ``codes`` (n,) are indices in ``ids``, which `class_order` sorts.

    ``notes`` report spellings that were merged, and similar classes that were not.
    """

    codes: NDArray[np.int64]
    ids: list[str]
    notes: list[str]


def clean_text(text: str) -> str:
    r"""Return a name composed (NFC), printable and without white space at its ends.

    Examples
    --------
    >>> clean_text(" cafe\u0301\u200b") == "caf\u00e9"
    True
    """
    if text.isascii() and text.isprintable():
        return escape_name(text.strip())
    if _BYTES.search(text):  # with LC_ALL=C folder names are read as bytes
        with suppress(UnicodeError):
            text = text.encode("utf-8", "surrogateescape").decode("utf-8")
    return escape_name(unicodedata.normalize("NFC", _ENDS.sub("", text)))


def label_text(value: Any) -> str | None:
    """Return a label as text; None if it is missing (None, NaN, empty).

    Whole numbers of any type are written without a point, truth values as ``true`` and ``false``. Refused are floats
    too large to tell whole numbers apart, and other values, such as lists.

    Examples
    --------
    >>> label_text(3.0), label_text(" 3 "), label_text(True), label_text(float("nan")), label_text(0.5)
    ('3', '3', 'true', None, '0.5')
    """
    if isinstance(value, str):
        return clean_text(value) or None
    if value is None:
        return None
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Decimal):
        if value.is_nan():
            return None
        return str(int(value)) if value == value.to_integral_value() else str(value.normalize())
    if isinstance(value, Real):
        number = float(value)
        if math.isnan(number):
            return None
        if math.isinf(number):
            raise CausalFTError(f"label {value!r} is not a finite number")
        if abs(number) >= _EXACT:
            raise CausalFTError(
                f"label {value!r} is a floating-point number above 2**53, which has lost its last digits; write such "
                "labels as whole numbers or as text"
            )
        return str(int(number)) if number.is_integer() else str(value)
    if isinstance(value, bytes):
        return clean_text(value.decode("utf-8", "surrogateescape")) or None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise CausalFTError(f"a label is {short(repr(value))}; a label is one text or number")


def is_whole_number(text: str) -> bool:
    """Whether a label is a whole number: 7, 07, 7.0, -7, but not 7e0."""
    return _WHOLE.fullmatch(text) is not None and len(text) < 4000


def whole_number(text: str) -> int:
    """The value of a label that `is_whole_number`."""
    return int(text.partition(".")[0])


def class_key(name: str) -> str:
    """What all spellings of a class share: the value of a number, or the clean text.

    Examples
    --------
    >>> class_key("07"), class_key("lynx ")
    ('7', 'lynx')
    """
    return str(whole_number(name)) if is_whole_number(name) else clean_text(name)


def class_order(ids: Iterable[str]) -> list[str]:
    """Sort classes: numbers by value, then names by alphabet.

    Examples
    --------
    >>> class_order(["10", "b", "9", "a", "2.5"])
    ['2.5', '9', '10', 'a', 'b']
    """

    def key(label: str) -> tuple[bool, Decimal, str]:
        number = _DECIMAL.fullmatch(label) is not None and len(label) < 4000
        return not number, Decimal(label) if number else Decimal(0), label

    return sorted(ids, key=key)


def encode(
    values: Sequence[Any],
    where: str = "the set",
    what: str = "label",
    places: Sequence[str] | None = None,
    *,
    words_are_names: bool = False,
) -> Labels:
    """Turn n labels (str, int, float, bool, Decimal, None) into classes.

    Merged are equal numbers (``1``, ``01``, ``1.0``) if all labels are whole numbers, names that differ in outer white
    space or Unicode composition, and truth values that differ in case. Names that differ in case, invisible characters
    or inner white space stay apart, with a note. Missing labels are refused, with their number and first row.

    Parameters
    ----------
    where, what : str
        File and kind of value, for messages.
    places : sequence of n str, optional
        Names of the rows in messages; ``row 1``, ``row 2``, ... by default.
    words_are_names : bool
        Among numbers, words such as ``nan`` and ``None`` are names (of folders) instead of missing labels.

    Examples
    --------
    >>> found = encode(["10", "9", "09"])
    >>> found.codes, found.ids
    (array([1, 0, 0]), ['9', '10'])
    >>> found.notes
    ["the same number is written in several ways and is one class: '09' and '9' are 9"]
    >>> encode([1.0, None])
    Traceback (most recent call last):
    causalft.errors.CausalFTError: the set has no label in 1 of 2 rows (first: row 2); fill it in or remove the rows
    """
    place: dict[Any, int] = {}  # few distinct labels, even among a million
    raw = np.fromiter(
        (place.setdefault((type(v), v) if v == v else None, len(place)) for v in map(_hashable, values)),
        np.int64,
        len(values),
    )
    texts: list[str | None] = []
    for number, key in enumerate(place):
        try:
            texts.append(None if key is None else label_text(key[1]))
        except CausalFTError as error:
            row = int(np.flatnonzero(raw == number)[0])
            raise CausalFTError(f"{row_name(places, row)} of {where}: {error}") from None
    numbered = [text for text in texts if text is not None and is_whole_number(text)]
    words = [text for text in texts if text is not None and not is_whole_number(text)]
    notes: list[str] = []
    if numbered and words and not words_are_names and all(text.lower() in _MISSING for text in words):
        texts = [None if text is None or text.lower() in _MISSING else text for text in texts]
        words = []
    missing = np.isin(raw, [k for k, text in enumerate(texts) if text is None])
    if missing.any():
        first = int(np.flatnonzero(missing)[0])
        raise CausalFTError(
            f"{where} has no {what} in {int(missing.sum())} of {len(values)} rows (first: {row_name(places, first)}); "
            "fill it in or remove the rows"
        )
    spelt = [text for text in texts if text is not None]
    ids_of = _one_spelling(spelt, list(place), numbers=bool(numbered) and not words, notes=notes)
    ids = class_order(set(ids_of))
    index = {label: k for k, label in enumerate(ids)}
    codes = np.array([index[label] for label in ids_of], dtype=np.int64)
    notes += doubts(ids)
    if words and len(numbered) > 1 and len(numbered) > len(ids) / 2:
        word = next(label for label in ids if not is_whole_number(label))
        notes.append(
            f"label '{short(word, 40)}' is no number among {len(numbered)} numbers; all are taken as names"
        )
    return Labels(codes[raw] if len(raw) else np.zeros(0, np.int64), ids, notes)


def _hashable(value: Any) -> Any:
    return value if value.__hash__ is not None else _Odd(value)


class _Odd:
    """A list or dict in place of a label; refused later, with its row."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


def row_name(places: Sequence[str] | None, row: int) -> str:
    """Name a row for a message: by its place, or as ``row 1``, ``row 2``, ...

    Examples
    --------
    >>> row_name(None, 0), row_name(["line 3", "line 7"], 1)
    ('row 1', 'line 7')
    """
    return f"row {row + 1}" if places is None else short(places[row])


def _one_spelling(texts: list[str], keys: list[Any], *, numbers: bool, notes: list[str]) -> list[str]:
    """The class of each distinct label; adds a note if several spellings were merged."""
    if not numbers:
        if texts and all(text.lower() in _TRUTH for text in texts):
            return [text.lower() for text in texts]
        by_text: dict[str, set[str]] = defaultdict(set)
        for text, key in zip(texts, keys):
            if isinstance(key[1], str):
                by_text[text].add(key[1])
        several = [text for text, ways in by_text.items() if len({way.strip() for way in ways}) > 1]
        if several:
            notes.append(
                f"{len(several)} class name(s) are written in several ways in Unicode and are one class each: "
                f"{first_few(several, 3)}"
            )
        return texts
    ways: dict[int, set[str]] = defaultdict(set)
    for text in texts:
        ways[whole_number(text)].add(text)
    several_numbers = sorted(number for number, found in ways.items() if len(found) > 1)
    if several_numbers:
        first = several_numbers[0]
        spellings = " and ".join(f"'{short(way, 24)}'" for way in sorted(ways[first]))
        more = f"; so are {len(several_numbers) - 1} more" if len(several_numbers) > 1 else ""
        notes.append(
            f"the same number is written in several ways and is one class: {spellings} are {first}{more}"
        )
    # Leading zeros may be part of a code, so they are kept if no number is written in two ways.
    padded = not several_numbers and all(text.isdigit() for text in texts)
    return [text if padded else str(whole_number(text)) for text in texts]


def doubts(class_names: Iterable[str]) -> list[str]:
    """Notes on classes that may be the same, or missing labels.

    Examples
    --------
    >>> doubts(["cat", "dog"])
    []
    """
    names = list(class_names)
    notes = []
    alike: dict[str, list[str]] = defaultdict(list)
    for label in names:
        alike[_likeness(label)].append(label)
    doubtful = [found for found in alike.values() if len(found) > 1]
    if doubtful:
        pairs = "; ".join(" and ".join(map(_shown, found[:3])) for found in doubtful[:3])
        more = f" (and {len(doubtful) - 3} more such pairs)" if len(doubtful) > 3 else ""
        notes.append(
            f"classes {pairs}{more} are spelt almost alike and stay apart; if they are one class, write it in one way"
        )
    blank = [label for label in names if label.lower() in _MISSING]
    if blank:
        notes.append(f"class '{blank[0]}' reads like a missing label; if it is one, remove its rows")
    return notes


def _shown(name: str) -> str:
    visible = _INVISIBLE.sub(lambda found: f"<U+{ord(found[0]):04X}>", name)
    return f"'{short(visible, 40)}'"


def _likeness(label: str) -> str:
    if is_whole_number(label):
        return str(whole_number(label))
    plain = _INVISIBLE.sub("", unicodedata.normalize("NFKC", label)).casefold()
    return re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", plain.strip())
