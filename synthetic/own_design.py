"""A design of the user's own: its classes and the tables of both sets, read from a YAML file and checked row by row."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from causalft.errors import CausalFTError, nearest
from causalft.scm.exact import PositivityError
from synthetic.design import Design, check_classes
from synthetic.own_tables import SetTables

__all__ = ["read_design"]

_KEYS = ("name", "meaning", "classes", "sets")


def read_design(path: str | os.PathLike[str], known_parts: Mapping[str, tuple[str, str]]) -> Design:
    """Read a design from a YAML file.

    For each of the sets A and B the file gives a table for each of `synthetic.own_tables.NODES`: a list of
    probabilities for a node without causes, else ``{given: [causes], rows: {"values of the causes": [...]}}``. A list
    follows the order of the values: 0 and 1 for ``C`` and ``part``; the classes for ``U``, ``look``, ``content`` and
    ``Y``; no and yes for ``S``. A row may also be written ``{cat: 0.9, dog: 0.1}`` with the zeros left out, and a
    probability as ``1/3``. Without a table, ``content`` is the class drawn and ``Y`` is the content; ``U`` and ``S``
    are left out. ``docs/designs/own.yaml`` is an example with comments.

    Parameters
    ----------
    path : str or PathLike
    known_parts : dict of str to (str, str)
        The classes that the generator draws, and their two parts.

    Raises
    ------
    CausalFTError
        One line with file, set, node and row: no such file, not YAML, a key given twice, a missing set or node, an
        unknown class, node or value, a missing or extra row, a row that is no distribution, causes in a circle, a class
        that no row is filed under.

    Examples
    --------
    >>> import tempfile
    >>> text = '''
    ... name: heads
    ... classes: [cat, dog]
    ... sets:
    ...   A: &A
    ...     C: [0.5, 0.5]
    ...     look: [0.5, 0.5]
    ...     part: {given: [C], rows: {0: [1, 0], 1: [0, 1]}}
    ...   B:
    ...     <<: *A
    ...     C: [0.9, 0.1]
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "heads.yaml"
    ...     _ = file.write_text(text)
    ...     design = read_design(file, {"cat": ("head", "body"), "dog": ("head", "body")})
    >>> design.name, design.strength, design.law("B").round(3).tolist()
    ('heads', 0.8, [[0.9, 0.1], [0.9, 0.1]])
    """
    file = Path(path)
    content = _load(file)
    if not isinstance(content, dict):
        raise CausalFTError(
            f"{file}: a design has the keys {', '.join(_KEYS)}; docs/designs.md has an example"
        )
    for key in content:
        if key not in _KEYS:
            raise CausalFTError(f"{file}: unknown key {key!r}; {nearest(str(key), _KEYS)}")
    for key in ("classes", "sets"):
        if key not in content:
            raise CausalFTError(f"{file}: {key!r} is missing; a design has the keys {', '.join(_KEYS)}")
    name, meaning = content.get("name", file.stem), content.get("meaning", f"tables of {file.name}")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise CausalFTError(
            f"{file}: name {name!r}: pictures are filed under it; use letters, digits, '-', '_' and '.'"
        )
    if not isinstance(meaning, str):
        raise CausalFTError(f"{file}: meaning {meaning!r} is not a sentence; quote it")
    classes = _classes(file, content["classes"], known_parts)
    parts = tuple((known_parts[each][0], known_parts[each][1]) for each in classes)
    sets = content["sets"]
    if not isinstance(sets, dict) or set(sets) != {"A", "B"}:
        shown = ", ".join(map(str, sets)) if isinstance(sets, dict) and sets else "none"
        raise CausalFTError(f"{file}: 'sets' needs A and B, each with its tables; it has {shown}")
    models = {which: SetTables(file, which, classes, parts).model(sets[which]) for which in ("A", "B")}
    design = Design(name, " ".join(meaning.split()), classes, parts, 0.0, (0,) * len(classes), models)
    for which in ("A", "B"):
        try:
            of_label = design.joint(which).sum((0, 1, 2))
        except PositivityError:
            raise CausalFTError(f"{file}: set {which}, node S: no row is ever kept; raise P(yes)") from None
        for k in np.flatnonzero(of_label <= 0):
            raise CausalFTError(
                f"{file}: set {which}: no row is ever filed under {classes[k]!r} (P(Y={classes[k]}) = 0)"
            )
    law = design.law("B")
    return Design(
        name=design.name,
        meaning=design.meaning,
        classes=classes,
        parts=parts,
        strength=round(2 * float(law.max()) - 1, 12),
        # a tie within rounding goes to C=0
        majority=tuple(int(row[1] > row[0] + 1e-9) for row in law),
        models=models,
    )


def _classes(file: Path, names: Any, known: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CausalFTError(f"{file}: 'classes' is a list of class names such as [cat, dog]")
    try:
        check_classes(names, known)
    except CausalFTError as error:
        raise CausalFTError(f"{file}: {error}") from None
    return tuple(names)


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that a mapping has twice; YAML would silently keep the last."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} is given twice", key.start_mark
                )
            seen.add(str(key.value))
        super().flatten_mapping(node)


def _load(file: Path) -> Any:
    if not file.is_file():
        raise CausalFTError(f"{file}: no such file; --design takes a name or a YAML file with a design")
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except UnicodeDecodeError:
        raise CausalFTError(f"{file} is not text in UTF-8") from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        raise CausalFTError(f"{file}{place}: not YAML ({getattr(error, 'problem', error)})") from None
