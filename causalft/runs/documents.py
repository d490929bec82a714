"""JSON documents are checked against a dataclass or type when they are read."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Collection
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from causalft.errors import CausalFTError, nearest

__all__ = ["Document", "check_shape"]

Document = dict[str, Any]
"""A JSON object that is about to be written, or was just read."""


def check_shape(
    document: Any,
    shape: Any,
    file: object,
    *,
    strict: bool = False,
    at: str = "",
    required: Collection[str] = (),
) -> Any:
    """Return a document that has the given shape.

    Parameters
    ----------
    document : parsed JSON
    shape : type
        A dataclass (an object with these keys; those with defaults are optional, unknown keys ignored), ``str``,
        ``int``, ``float`` (finite), ``bool``, ``None``, ``Any``, ``Literal``, ``list[T]``, ``tuple[T, ...]``,
        ``dict[str, T]``, or a union of these.
    file : path
        Name of the document in errors.
    strict : bool
        Refuse unknown keys.
    at : str
        Path of the document within the file.
    required : collection of str
        Fields with defaults that must be present and not null all the same.

    Raises
    ------
    CausalFTError
        Names the file, the key and the value found.

    Examples
    --------
    >>> check_shape({"a": [1, 2]}, dict[str, list[int]], "x.json")
    {'a': [1, 2]}
    >>> check_shape({"a": [1, "2"]}, dict[str, list[int]], "x.json")
    Traceback (most recent call last):
    ...
    causalft.errors.CausalFTError: x.json: a[1] is "2", not a whole number; the file is damaged, or was changed by hand
    """
    missing = _missing(document, required, at) if isinstance(document, dict) else None
    wrong = missing or _problem(document, shape, at, strict)
    if wrong:
        raise CausalFTError(f"{file}: {wrong}; the file is damaged, or was changed by hand")
    return document


def _missing(document: dict[str, Any], required: Collection[str], at: str) -> str | None:
    for key in required:
        if key not in document:
            return f"{_below(at, key)} is missing"
        if document[key] is None:
            return f"{_below(at, key)} is null, not a text"
    return None


def _problem(value: Any, shape: Any, at: str, strict: bool) -> str | None:
    """Describe what is wrong, or return None."""
    if shape is Any:
        return None
    if is_dataclass(shape):
        return _fields_problem(value, shape, at, strict)
    origin, inner = get_origin(shape), get_args(shape)
    if origin in (Union, types.UnionType):
        return _union_problem(value, inner, at, strict)
    if origin is Literal:
        known = " or ".join(map(str, inner))
        return (
            None
            if value in inner and isinstance(value, str)
            else f"{_name(at)} is {_shown(value)}, not {known}"
        )
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            return f"{_name(at)} is {_shown(value)}, not a list"
        if origin is tuple and inner[-1] is not Ellipsis:
            if len(value) != len(inner):
                return f"{_name(at)} has {len(value)} entries, not {len(inner)}"
            pairs = list(zip(value, inner, strict=True))
        else:
            pairs = [(each, inner[0]) for each in value]
        found = (_problem(each, kind, f"{at}[{k}]", strict) for k, (each, kind) in enumerate(pairs))
        return next((wrong for wrong in found if wrong), None)
    if origin is dict or (origin is not None and issubclass(origin, typing.Mapping)):
        if not isinstance(value, dict):
            return f"{_name(at)} is {_shown(value)}, not an object"
        found = (_problem(each, inner[1], _below(at, key), strict) for key, each in value.items())
        return next((wrong for wrong in found if wrong), None)
    words, right = _PLAIN[shape]
    return None if right(value) else f"{_name(at)} is {_shown(value)}, not {words}"


def _fields_problem(value: Any, shape: Any, at: str, strict: bool) -> str | None:
    if not isinstance(value, dict):
        return f"{_name(at)} is {_shown(value)}, not an object"
    kinds, required = _described(shape)
    for key in required:
        if key not in value:
            return f"{_below(at, key)} is missing"
    if strict:
        for key in value:
            if key not in kinds:
                return f"{_below(at, key)} is not known here ({nearest(key, kinds)})"
    found = (
        _problem(value[key], kind, _below(at, key), strict) for key, kind in kinds.items() if key in value
    )
    return next((wrong for wrong in found if wrong), None)


@cache
def _described(shape: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The types of a dataclass's fields, and the required ones."""
    kinds = typing.get_type_hints(shape)
    required = tuple(
        item.name for item in fields(shape) if item.default is MISSING and item.default_factory is MISSING
    )
    return kinds, required


def _union_problem(value: Any, kinds: tuple[Any, ...], at: str, strict: bool) -> str | None:
    """None if one of the types fits; else what is wrong for the last one, the most specific."""
    said = None
    for kind in kinds:
        wrong = _problem(value, kind, at, strict)
        if wrong is None:
            return None
        said = wrong if kind is not type(None) else said
    return said


_PLAIN: dict[Any, tuple[str, Any]] = {
    str: ("a text", lambda value: isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: (
        "a finite number",
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
    ),
    type(None): ("null", lambda value: value is None),
    dict: ("an object", lambda value: isinstance(value, dict)),
    list: ("a list", lambda value: isinstance(value, list)),
}


def _name(at: str) -> str:
    return at or "the document"


def _below(at: str, key: object) -> str:
    shown = str(key) if len(str(key)) <= 60 else f"{str(key)[:60]}..."
    return f"{at}.{shown}" if at else shown


def _shown(value: Any) -> str:
    """The value found, shortened."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "null"
    text = (
        f'"{value}"'
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
    return text if len(text) <= 60 else f"{text[:50]}..."
