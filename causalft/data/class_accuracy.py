"""The accuracy of each class under one model or several, from a table that anyone published."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isnan
from typing import Any

import numpy as np

from causalft.data.class_tables import name_key
from causalft.data.labels import clean_text
from causalft.errors import CausalFTError, first_few, nearest, short
from causalft.runs.files import existing, parse_json, read_text
from causalft.runs.tables import TABLE_SUFFIXES, Table, read_table

__all__ = [
    "ClassAccuracy",
    "accuracy_unit",
    "join_models",
    "pick_models",
    "read_class_accuracy",
    "resolve_model",
]

_NAMES = frozenset({"class", "classname", "name", "label", "category", "concept"})
_TESTS = frozenset({"n", "ntest", "nimages", "images", "testimages", "support", "total"})
_ALONE = frozenset({"accuracy", "acc", "top1", "top1accuracy", "recall", "value", "score"})
_MISSING = frozenset({"", "nan", "none", "null", "na", "n/a", "-"})
_NUMBER = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*(%?)")


@dataclass(frozen=True)
class ClassAccuracy:
    """The accuracy of each class under one model.

    Attributes
    ----------
    model : str
    accuracy : dict of str to float
        Class to a fraction; NaN where the table has none. In the order of the file.
    source : str
        The file.
    unit : {"percent", "fractions"}
        What the file holds.
    unit_reason : str
        How that was told.
    n_test : dict of str to float, optional
        Test images of each class.
    """

    model: str
    accuracy: dict[str, float]
    source: str
    unit: str
    unit_reason: str
    n_test: dict[str, float] | None = None


def read_class_accuracy(path: str | os.PathLike[str], unit: str = "auto") -> list[ClassAccuracy]:
    """Read a table of class accuracies.

    JSON: ``{model: {"classwise": {class: accuracy}}}`` (other keys beside ``classwise`` are ignored), ``{model:
    {class: accuracy}}``, or ``{class: accuracy}`` for one model, called like the file. CSV, TSV, Parquet: a column of
    class names (``class``, ``name``, ``label``, or the only one of text), one of accuracies per model (called
    ``accuracy``: one model, called like the file), and perhaps one of test images (``n``, ``n_test``, ``images``,
    ``support``).

    Parameters
    ----------
    path : path
    unit : {"auto", "percent", "fractions"}
        ``auto``: percent if an accuracy is above 1, see :func:`accuracy_unit`.

    Raises
    ------
    CausalFTError
        If the file is missing or of another shape, an accuracy is no number or out of range, a class comes twice, or
        the unit cannot be told.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "clip.json"
    >>> _ = file.write_text('{"tench": 92.0, "goldfish": 84}')
    >>> [found] = read_class_accuracy(file)
    >>> found.model, found.accuracy, found.unit
    ('clip', {'tench': 0.92, 'goldfish': 0.84}, 'percent')
    """
    file = existing(path)
    where, ending = short(file, 300), file.suffix.lower()
    if file.is_dir():
        raise CausalFTError(f"{where} is a folder; give the file with the accuracy of each class")
    if ending != ".json" and ending not in TABLE_SUFFIXES:
        raise CausalFTError(
            f"{where}: ending {short(ending, 20) or '(none)'} is unknown; give class accuracies as .json, "
            ".csv, .tsv or .parquet"
        )
    tests = None
    if ending == ".json":
        cells = _json_models(parse_json(read_text(file), where, _SHAPES), file.stem, where)
    else:
        cells, tests = _table_models(read_table(file), file.stem, where)
    signs: set[str] = set()
    values = {model: _numbers(table, model, where, signs) for model, table in cells.items()}
    if "%" in signs and unit == "fractions":
        raise CausalFTError(
            f"{where} has percent signs, so it does not hold fractions; use --accuracy-unit percent"
        )
    if "%" in signs and "" in signs:
        raise CausalFTError(f"{where} has accuracies with and without a percent sign; write all in one way")
    found, reason = ("percent", "percent signs") if "%" in signs else accuracy_unit(values, where, unit)
    scale = 100.0 if found == "percent" else 1.0
    return [
        ClassAccuracy(
            model, {name: value / scale for name, value in table.items()}, str(path), found, reason, tests
        )
        for model, table in values.items()
    ]


def accuracy_unit(
    values: Mapping[str, Mapping[str, float]], where: str, unit: str = "auto"
) -> tuple[str, str]:
    """Tell percent from fractions, and how.

    An accuracy above 1 means percent, none above 1 means fractions. What could be both is refused: only zeros and ones;
    a model with nothing above 1 beside one in percent; accuracies between 0 and 1 among whole percentages, or more of
    them than above 1.

    Parameters
    ----------
    values : mapping of str to mapping of str to float
        Model to class to accuracy, NaN where missing; all of one file.
    where : str
        The file, for messages.
    unit : {"auto", "percent", "fractions"}

    Returns
    -------
    unit, reason : str

    Raises
    ------
    CausalFTError
        If an accuracy is out of range, or the unit cannot be told; names a class.

    Examples
    --------
    >>> accuracy_unit({"clip": {"tench": 0.5, "eel": 1.0}}, "a.json")
    ('fractions', 'no accuracy is above 1')
    >>> accuracy_unit({"clip": {"tench": 50.0, "eel": 1.0}}, "a.json")
    ('percent', 'accuracies are up to 50')
    """
    every = [(m, c, v) for m, table in values.items() for c, v in table.items() if not isnan(v)]
    if not every:
        raise CausalFTError(f"{where} has no accuracy at all; give one for each class")
    most = 1.0 if unit == "fractions" else 100.0
    for model, name, value in every:
        if not 0 <= value <= most:
            allowed = "a fraction from 0 to 1" if most == 1 else "0 to 100 percent, or a fraction from 0 to 1"
            raise CausalFTError(
                f"{where}: the accuracy of '{short(name)}' under {short(model)} is {value:g}, not {allowed}"
            )
    if unit != "auto":
        return unit, "as given"
    way_out = "say which with --accuracy-unit percent or fractions"
    largest = max(value for *_, value in every)
    if largest <= 1:
        if largest == 1 and all(value in (0.0, 1.0) for *_, value in every):
            raise CausalFTError(
                f"{where} holds only zeros and ones, which may be percent or fractions; {way_out}"
            )
        return "fractions", "no accuracy is above 1"
    for model in values:
        own = [(name, value) for of, name, value in every if of == model]
        small = [name for name, value in own if 0 < value < 1]
        big = [value for _, value in own if value > 1]
        mixed = f"{where} seems to mix percent and fractions"
        if small and not big:
            raise CausalFTError(
                f"{mixed}: no accuracy of {short(model)} is above 1, and those of other models are; {way_out}"
            )
        if small and (len(small) > len(big) or all(float(value).is_integer() for value in big)):
            value = dict(own)[small[0]]
            raise CausalFTError(
                f"{mixed}: '{short(small[0])}' has {value:g} under {short(model)}, others up to {max(big):g}; {way_out}"
            )
    return "percent", f"accuracies are up to {largest:g}"


_SHAPES = "write {model: {class: accuracy}}, {model: {classwise: {class: accuracy}}} or {class: accuracy}"


def _json_models(document: Any, stem: str, where: str) -> dict[str, dict[str, Any]]:
    wrong = CausalFTError(f"{where} holds no table of class accuracies; {_SHAPES}")
    if not isinstance(document, dict) or not document:
        raise wrong
    if isinstance(document.get("classwise"), dict):
        return {stem: document["classwise"]}
    if not any(isinstance(value, dict | list) for value in document.values()):
        return {stem: document}
    found = {}
    for model, value in document.items():
        table = value.get("classwise", value) if isinstance(value, dict) else None
        if (
            not isinstance(table, dict)
            or not table
            or any(isinstance(v, dict | list) for v in table.values())
        ):
            raise CausalFTError(f"{where}: '{short(model)}' holds no accuracies of classes; {_SHAPES}")
        found[clean_text(model) or stem] = table
    return found


def _table_models(
    table: Table, stem: str, where: str
) -> tuple[dict[str, dict[str, Any]], dict[str, float] | None]:
    cells = {column: table.values(column) for column in table.columns if column}
    if table.separator == ";":
        cells = {column: [_decimal_point(cell) for cell in rows] for column, rows in cells.items()}
    texts = [column for column, rows in cells.items() if not any(map(_is_number, rows))]
    named = [column for column in cells if name_key(column) in _NAMES] or texts[:1]
    if not named:
        shown = first_few(list(cells), 10)
        raise CausalFTError(f"{where} has the columns {shown}; call the one with the class names 'class'")
    classes = [clean_text(str(cell)) if cell is not None else "" for cell in cells[named[0]]]
    if "" in classes:
        raise CausalFTError(
            f"{where}: row {classes.index('') + 1} below the header has no class name; write one"
        )
    counted = [column for column in cells if name_key(column) in _TESTS and column not in named]
    models = [column for column in cells if column not in (*named, *counted, *texts)]
    if not models:
        raise CausalFTError(f"{where} has no column of accuracies; call it 'accuracy', or like its model")
    called = {column: column for column in models}
    if len(models) == 1 and name_key(models[0]) in _ALONE:
        called = {models[0]: stem}
    _refuse_twice(classes, where)
    tests = None
    if counted:
        tests = {}
        for name, cell in zip(classes, cells[counted[0]], strict=True):
            if cell is None:
                continue
            if not _is_number(cell) or not float(cell) > 0:
                raise CausalFTError(
                    f"{where}: '{short(name)}' has {short(repr(cell), 40)} test images; write a number above 0, or "
                    "nothing"
                )
            tests[name] = float(cell)
    return {called[c]: dict(zip(classes, cells[c], strict=True)) for c in models}, tests


def _decimal_point(cell: Any) -> Any:
    return (
        cell.replace(",", ".") if isinstance(cell, str) and re.fullmatch(r"[+-]?\d+,\d+\s*%?", cell) else cell
    )


def _is_number(cell: Any) -> bool:
    if isinstance(cell, str):
        return _NUMBER.fullmatch(cell.strip()) is not None
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _numbers(table: Mapping[str, Any], model: str, where: str, signs: set[str]) -> dict[str, float]:
    """The accuracies as written; the signs behind them are added to ``signs``."""
    _refuse_twice(list(table), where)
    found = {}
    for key, cell in table.items():
        name = clean_text(key)
        if not name:
            raise CausalFTError(f"{where} has a class without a name; write one")
        if cell is None or (isinstance(cell, str) and cell.strip().casefold() in _MISSING):
            found[name] = float("nan")
            continue
        match = _NUMBER.fullmatch(cell.strip()) if isinstance(cell, str) else None
        if not _is_number(cell):
            raise CausalFTError(
                f"{where}: the accuracy of '{short(name)}' under {short(model)} is {short(repr(cell), 40)}; write a "
                "number, or nothing if it is not known"
            )
        signs.add(match[2] if match else "")
        found[name] = float(match[1]) if match else float(cell)
    return found


def _refuse_twice(classes: Sequence[str], where: str) -> None:
    keys: dict[str, str] = {}
    for name in classes:
        key = name_key(name)
        if key in keys:
            alike = "" if keys[key] == name else f", as '{short(keys[key])}'"
            raise CausalFTError(f"{where} has the class '{short(name)}' twice{alike}; keep one")
        keys[key] = name


def pick_models(names: Sequence[str], patterns: Iterable[str]) -> list[str]:
    """Return the names that match a pattern (``*``, ``?``, ``[...]``), or hold it if it has no such character.

    Raises
    ------
    CausalFTError
        If a pattern matches none.

    Examples
    --------
    >>> pick_models(["RN50_cc12m", "ViT-B-16_cc12m", "ViT-B-16_laion2b"], ["vit-b-16"])
    ['ViT-B-16_cc12m', 'ViT-B-16_laion2b']
    >>> pick_models(["RN50_cc12m", "RN50x4_cc12m"], ["RN50_*"])
    ['RN50_cc12m']
    """
    chosen: set[str] = set()
    for pattern in patterns:
        wild, low = re.search(r"[*?\[]", pattern), pattern.casefold()
        hits = [n for n in names if (fnmatchcase(n.casefold(), low) if wild else low in n.casefold())]
        if not hits:
            raise CausalFTError(f"--models '{short(pattern)}' matches no model; {nearest(pattern, names)}")
        chosen.update(hits)
    return [name for name in names if name in chosen]


def resolve_model(name: str, names: Sequence[str]) -> str:
    """Return the model that a name, or a part of one, means, whatever its case and punctuation.

    Raises
    ------
    CausalFTError
        If it means none, or several (naming them).

    Examples
    --------
    >>> resolve_model("laion2b", ["ViT-B-16_cc12m", "ViT-B-16_laion2b"])
    'ViT-B-16_laion2b'
    """
    if name in names:
        return name
    key = name_key(name)
    hits = [each for each in names if name_key(each) == key] or [n for n in names if key in name_key(n)]
    if not hits:
        raise CausalFTError(f"--prior-of {short(name)}: no model is called so; {nearest(name, names)}")
    if len(hits) > 1:
        raise CausalFTError(
            f"--prior-of {short(name)} could be {len(hits)} models ({first_few(hits)}); write more of the name, or "
            "choose among them with --models"
        )
    return hits[0]


def join_models(
    tables: Sequence[ClassAccuracy],
) -> tuple[list[str], np.ndarray, list[str]]:
    """Put the tables of several models side by side, on the classes of the first.

    Returns
    -------
    classes : list of K str
    accuracy : (M, K) array
        NaN where a table lacks the class.
    notes : list of str
        What did not match.

    Raises
    ------
    CausalFTError
        If a table has fewer than half of the classes.

    Examples
    --------
    >>> one = ClassAccuracy("a", {"sea lion": 0.5, "eel": 0.1}, "a.json", "fractions", "")
    >>> other = ClassAccuracy("b", {"eel": 0.3, "sea_lion": 0.7}, "b.json", "fractions", "")
    >>> join_models([one, other])[1].tolist()
    [[0.5, 0.1], [0.7, 0.3]]
    """
    classes = list(tables[0].accuracy)
    place = {name_key(name): k for k, name in enumerate(classes)}
    accuracy, notes = np.full((len(tables), len(classes)), np.nan), []
    for m, table in enumerate(tables):
        at = {name: place.get(name_key(name)) for name in table.accuracy}
        strange = [name for name, k in at.items() if k is None]
        seen = {k for k in at.values() if k is not None}
        if 2 * len(seen) < len(classes):
            lacking = first_few([name for k, name in enumerate(classes) if k not in seen])
            raise CausalFTError(
                f"{short(table.source, 300)} has {len(seen)} of the {len(classes)} classes of "
                f"{short(tables[0].source, 300)}, not {lacking}; "
                "give tables of one set of classes"
            )
        for name, k in at.items():
            if k is not None:
                accuracy[m, k] = table.accuracy[name]
        missing = [name for k, name in enumerate(classes) if k not in seen]
        if missing or strange:
            notes.append(
                f"{table.model}: {len(seen)} of {len(classes)} classes have an accuracy"
                + (f", not {first_few(missing)}" if missing else "")
                + (f"; of other classes: {first_few(strange)}" if strange else "")
            )
    return classes, accuracy, notes
