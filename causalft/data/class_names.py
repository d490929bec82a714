"""Class names from a file (one per line, WordNet lines, JSON), matched with the classes of a set."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.data.labels import clean_text, is_whole_number, label_text, whole_number
from causalft.errors import CausalFTError, nearest, several, short
from causalft.runs.files import existing, parse_json, read_text

__all__ = ["ClassNames", "is_wordnet_id", "name_classes", "read_class_names"]

_WORDNET_ID = re.compile(r"n\d{8}")
_NUMBER_FIRST = re.compile(r"(\d+)(?:\s+|\s*[:,]\s*)(\S.*)")
_NUMBER_LAST = re.compile(r"(\S.*?)[\s,]+(\d+)")


@dataclass(frozen=True)
class ClassNames:
    """Names as a file gives them: ``ordered`` by label, ``by_id`` from label, folder or WordNet id, or ``by_folder``.

    ``by_folder`` reads the lines of ``ordered`` as folder and name; ``folders_first`` if most names repeat the folder,
    as in LIFT's file of Places-LT. ``where`` is the file, for messages.
    """

    where: str
    ordered: tuple[str, ...] | None = None
    by_id: Mapping[str, str] | None = None
    by_folder: Mapping[str, str] | None = None
    folders_first: bool = False


def is_wordnet_id(text: str) -> bool:
    """Whether a text is the WordNet id of a noun, like the folders of ImageNet.

    Examples
    --------
    >>> is_wordnet_id("n01440764"), is_wordnet_id("n01")
    (True, False)
    """
    return _WORDNET_ID.fullmatch(text) is not None


def read_class_names(
    given: str | os.PathLike[str] | Sequence[str] | Mapping[Any, str] | ClassNames,
) -> ClassNames:
    """Read class names from a file, list or mapping.

    A text file holds one name per line in the order of the labels, or per line a label or WordNet id and a name
    (``n01440764 tench, Tinca tinca``: the first synonym counts; ``0 tench``; ``/a/airfield 0``), or a folder and a name
    (``amusement_park amusement park``, as LIFT has it), recognised by the folders of the set or by names that repeat
    the folder; numeric labels take those names in the order of the lines. A JSON file holds a list of names, a list of
    categories with ``id`` and ``name`` (COCO, iNaturalist), or a map from label, folder or WordNet id to name, also as
    ``{"0": ["n01440764", "tench"]}``.

    Examples
    --------
    >>> read_class_names({"n01440764": "tench"}).by_id
    {'n01440764': 'tench'}
    >>> read_class_names(["cat", "dog"]).ordered
    ('cat', 'dog')
    """
    if isinstance(given, ClassNames):
        return given
    if isinstance(given, Mapping):
        return _from_mapping(given, "the class names")
    if not isinstance(given, (str, os.PathLike)):
        return _from_list(list(given), "the class names")
    path = existing(given)
    if path.is_dir():
        raise CausalFTError(f"{path} is a folder; class names are read from a text or JSON file")
    text = read_text(path)
    if path.suffix.lower() == ".json":
        return _from_json(text, path)
    lines = [line.strip() for line in text.splitlines()]
    return _from_lines([line for line in lines if line and not line.startswith("#")], str(path))


def name_classes(
    ids: Sequence[str], names: ClassNames | None, where: str
) -> tuple[tuple[str, ...], NDArray[np.int64], list[str]]:
    """Name the classes that a reader found.

    ``ids`` are distinct labels, folders or WordNet ids, in order. Returns K class names, the index among them of each
    id, (len(ids),), and notes. Refused are labels outside the list and classes without a name.

    Examples
    --------
    >>> names = read_class_names({"n02084071": "dog", "n02121620": "cat"})
    >>> name_classes(["n02084071", "n02121620"], names, "photos")
    (('dog', 'cat'), array([0, 1]), [])
    """
    if names is None:
        return tuple(ids), np.arange(len(ids)), _about_bare_ids(ids)
    ordered, by_id = names.ordered, names.by_id
    numbered = bool(ids) and all(map(is_whole_number, ids))
    if names.by_folder is not None and (
        names.folders_first
        if numbered
        else names.by_folder.keys() >= set(ids) and not set(ids) <= set(ordered or ())
    ):
        ordered, by_id = tuple(names.by_folder.values()), names.by_folder
    if numbered and by_id is not None and ordered is not None and not by_id.keys() & set(ids):
        by_id = None  # lines in the order of the labels
    if numbered and by_id is not None and set(by_id) == {str(k) for k in range(len(by_id))}:
        ordered, by_id = tuple(by_id[str(k)] for k in range(len(by_id))), None
    if by_id is not None:
        by_value = {str(whole_number(key)): name for key, name in by_id.items() if is_whole_number(key)}
        found = [
            by_id.get(i) or (by_value.get(str(whole_number(i))) if is_whole_number(i) else None) for i in ids
        ]
        strangers = [i for i, name in zip(ids, found) if name is None]
        if strangers:
            raise CausalFTError(
                f"{names.where} has no name for class '{short(strangers[0])}' of {where} ({len(strangers)} of "
                f"{len(ids)} are missing): {nearest(strangers[0], by_id)}"
            )
        unique, notes = _distinct([name for name in found if name is not None], list(ids))
        return unique, np.arange(len(ids)), notes
    assert ordered is not None
    unique, notes = _distinct(list(ordered), [str(k) for k in range(len(ordered))])
    if numbered:
        values = [whole_number(i) for i in ids]
        outside = [value for value in values if not 0 <= value < len(unique)]
        if outside:
            raise CausalFTError(
                f"label {short(outside[-1])} of {where} lies outside the "
                f"{several(unique, 'class name', 'class names')} of {names.where} (0 to {len(unique) - 1}); "
                "give one name per label, counted from 0"
            )
        return unique, np.array(values, dtype=np.int64), notes
    place = {name: k for k, name in enumerate(unique)}
    strangers = [i for i in ids if i not in place]
    if not strangers:
        return unique, np.array([place[i] for i in ids], dtype=np.int64), notes
    if len(ids) == len(unique) and all(map(is_wordnet_id, ids)):
        notes.append(
            f"{names.where} names the {len(ids)} WordNet ids in their order: {ids[0]} is {unique[0]}"
        )
        return unique, np.arange(len(ids)), notes
    raise CausalFTError(
        f"the {several(unique, 'class name', 'class names')} of {names.where} and the "
        f"{several(ids, 'class', 'classes')} of {where} do not match: "
        f"'{short(strangers[0])}' is not among them, {nearest(strangers[0], unique)}; list the same names, or map each "
        "class to its name in a JSON file"
    )


def _about_bare_ids(ids: Sequence[str]) -> list[str]:
    if ids and all(map(is_wordnet_id, ids)):
        what, example = "WordNet ids", f"{ids[0]} the name"
    elif ids and all(map(is_whole_number, ids)):
        what, example = "numbers", "the name of class 0"
    else:
        return []
    return [
        f"the classes are called by their {what} ({ids[0]}, ...), which mean nothing to a text encoder; "
        f"give class names: a file with lines such as '{example}'"
    ]


def _from_lines(lines: list[str], where: str) -> ClassNames:
    if not lines:
        raise CausalFTError(f"{where} holds no class name; write one per line")
    fields = [line.split(None, 1) for line in lines]
    if all(is_wordnet_id(field[0].rstrip(",")) for field in fields) and any(len(f) > 1 for f in fields):
        bare = next((f[0] for f in fields if len(f) < 2), None)
        if bare is not None:
            raise CausalFTError(f"{where} has no name for {bare}; write it behind the id")
        by_wordnet = _from_pairs([(f[0].rstrip(","), f[1].split(",")[0]) for f in fields], where)
        by_id = by_wordnet.by_id or {}
        return replace(by_wordnet, ordered=tuple(by_id.values()) if len(by_id) == len(lines) else None)
    for pattern, number, name in ((_NUMBER_FIRST, 1, 2), (_NUMBER_LAST, 2, 1)):
        found = [pattern.fullmatch(line) for line in lines]
        if not all(found):
            continue
        numbers = [int(match[number]) for match in found if match]
        if len({match[name] for match in found if match}) < len(lines):
            continue  # "grade 1", "grade 2": the number belongs to the name
        counted = sorted(set(numbers))
        if counted in (list(range(len(counted))), list(range(1, len(counted) + 1))) and len(counted) > 1:
            return _from_pairs([(n, match[name]) for n, match in zip(numbers, found) if match], where)
    return replace(_from_list(lines, where), **_folders_and_names(lines))


def _folders_and_names(lines: list[str]) -> dict[str, Any]:
    """The fields of lines of folder, tab or space, and name."""
    sign = "\t" if all("\t" in line for line in lines) else None
    pairs = [line.split(sign, 1) for line in lines]
    if any(len(pair) < 2 for pair in pairs) or len({folder for folder, *_ in pairs}) < len(pairs):
        return {}
    by_folder = {clean_text(folder): clean_text(name) for folder, name in pairs}
    repeated = sum(_letters(folder) == _letters(name) for folder, name in by_folder.items())
    return {"by_folder": by_folder, "folders_first": 2 * repeated > len(pairs)}


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _from_json(text: str, path: Path) -> ClassNames:
    found = parse_json(text, str(path), "write a list or a map of class names")
    if isinstance(found, dict) and isinstance(found.get("categories"), list):
        found = found["categories"]
    if isinstance(found, list) and all(
        isinstance(item, dict) and {"id", "name"} <= set(item) for item in found
    ):
        return _from_pairs([(item["id"], item["name"]) for item in found], str(path))
    if isinstance(found, list):
        return _from_list(found, str(path))
    if isinstance(found, dict):
        pairs = [value for value in found.values() if isinstance(value, list) and len(value) == 2]
        if pairs and len(pairs) == len(found):
            # ImageNet's class index: number -> [WordNet id, name]
            by_number = {number: name for number, (_, name) in found.items()}
            return _from_mapping({**by_number, **dict(pairs)}, str(path))
        return _from_mapping(found, str(path))
    raise CausalFTError(f"{path} holds neither a list nor a map of class names")


def _from_list(names: Sequence[Any], where: str) -> ClassNames:
    if not names:
        raise CausalFTError(f"{where} holds no class name; give one for each class")
    for place, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise CausalFTError(
                f"name {place} of {where} is {short(repr(name))}; each class name must be a text"
            )
    return ClassNames(where, ordered=tuple(map(clean_text, names)))


def _from_mapping(names: Mapping[Any, Any], where: str) -> ClassNames:
    return _from_pairs(list(names.items()), where)


def _from_pairs(pairs: Sequence[tuple[Any, Any]], where: str) -> ClassNames:
    """From pairs of label, folder or WordNet id and name; refuses two names for one."""
    if not pairs:
        raise CausalFTError(f"{where} holds no class name; give one for each class")
    by_id: dict[str, str] = {}
    by_value: dict[str, str] = {}
    for key, name in pairs:
        text = label_text(key)
        if text is None:
            raise CausalFTError(
                f"{where} has a class name without an id ({short(repr(name))}); write the label or folder that it "
                "is for"
            )
        if not isinstance(name, str) or not clean_text(name):
            raise CausalFTError(
                f"the name of '{short(text)}' in {where} is {short(repr(name))}; each class name must be a text"
            )
        clean = clean_text(name)
        value = str(whole_number(text)) if is_whole_number(text) else text
        if by_value.setdefault(value, clean) != clean:
            raise CausalFTError(
                f"{where} calls '{short(text)}' both '{short(by_value[value])}' and '{short(clean)}'; keep one name"
            )
        by_id[text] = clean
    return ClassNames(where, by_id=by_id)


def _distinct(names: list[str], ids: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """Add ids to names that occur twice (ImageNet has two cranes)."""
    twice = {name for name, n in Counter(names).items() if n > 1}
    if not twice:
        return tuple(names), []
    first = sorted(twice)[0]
    note = f"{len(twice)} class name(s) occur more than once and are followed by their id: {first}"
    return tuple(f"{name} ({i})" if name in twice else name for name, i in zip(names, ids)), [note]
