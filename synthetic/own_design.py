"""A user's design: classes and tables of both sets, read from YAML and checked row by row."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import networkx as nx
import numpy as np
import yaml

from causalft.errors import CausalFTError, nearest
from causalft.scm.exact import PositivityError
from causalft.scm.mechanisms import DiscreteSCM
from synthetic.design import FACTORS, KEPT, MEANING, Design, check_classes, codes

__all__ = ["NODES", "SetTables", "read_design"]


NODES = ("C", "U", "look", "part", "content", "Y", "S")
"""Nodes of a set in a file. C, look (the class drawn) and part (its part) are needed. ``look`` and ``part`` together
are X of the graph, ``content`` is B."""

_NODE_OF = {"look": "X", "part": "X", "content": "B"}
_FORM = "{given: [parents], rows: {'parent values': [probabilities]}}"


@dataclass(frozen=True)
class SetTables:
    """Reads the tables of one set.

    Attributes
    ----------
    file : the file they are from, for messages.
    which : ``"A"`` or ``"B"``.
    classes, parts : K class names, and the names of their two parts.
    """

    file: Path
    which: str
    classes: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]

    def model(self, tables: Any) -> DiscreteSCM:
        """Build the causal model of the set.

        Parameters
        ----------
        tables : what the file has under the set's name, as `synthetic.own_design.read_design` explains it.

        Raises
        ------
        CausalFTError
            One line with file, set, node and row.

        Examples
        --------
        >>> tables = {"C": [0.5, 0.5], "look": [0.5, 0.5], "part": {"given": ["C"], "rows": {"0": [1, 0], "1": [0, 1]}}}
        >>> SetTables(Path("own.yaml"), "A", ("cat", "dog"), (("head", "body"),) * 2).model(tables)
        DiscreteSCM(C: 2 states; X: 4 states | C; B: 2 states | X; Y: 2 states | B)
        """
        if not isinstance(tables, dict):
            self._fail(None, f"give a table for each node: {', '.join(NODES)}")
        for name in tables:
            if name not in NODES:
                self._fail(None, f"unknown node {name!r}; {self._hint(name)}")
        for name in ("C", "look", "part"):
            if name not in tables:
                self._fail(None, f"node {name!r} is missing; C, look and part must be there")
        found = {name: self._node(name, tables[name], tables) for name in NODES if name in tables}
        identity = np.eye(len(self.classes))
        found.setdefault("content", (("look",), identity))
        found.setdefault("Y", (("content",), identity))
        return self._merge(found)

    def _fail(self, node: str | None, message: str) -> NoReturn:
        where = "" if node is None else f", node {node}"
        raise CausalFTError(f"{self.file}: set {self.which}{where}: {message}")

    def _hint(self, name: Any) -> str:
        if name == "X":
            return "X is what 'look' and 'part' say together"
        return "B is called 'content' here" if name == "B" else nearest(str(name), NODES)

    def _values(self, name: str) -> tuple[str, ...]:
        return KEPT if name == "S" else ("0", "1") if name in ("C", "part") else self.classes

    def _node(self, name: str, table: Any, tables: Mapping[str, Any]) -> tuple[tuple[str, ...], np.ndarray]:
        """Return the causes of a node, as the file names them, and its table with an axis for each."""
        if isinstance(table, list):
            return (), self._row(name, "the table", table)
        if not isinstance(table, dict) or not set(table) <= {"given", "rows"} or "rows" not in table:
            self._fail(name, f"a table is a list of probabilities, or {_FORM}")
        given = table.get("given", [])
        given = [given] if isinstance(given, str) else given
        if not isinstance(given, list) or not given:
            self._fail(
                name, f"'given' names the causes, such as [C]; without causes give a list, not {_FORM}"
            )
        for cause in given:
            if cause not in NODES:
                self._fail(name, f"given {cause!r}: no such node; {self._hint(cause)}")
            if cause not in tables and cause not in ("content", "Y"):
                self._fail(name, f"given {cause!r}: this set has no table for it; add one")
            if cause == name or given.count(cause) > 1:
                self._fail(name, f"given {cause!r}: a node has other nodes as causes, each once")
        values = [self._values(cause) for cause in given]
        rows = self._rows(name, given, table["rows"])
        for key in rows:
            for cause, value in zip(given, key):
                if value not in self._values(cause):
                    hint = nearest(value, self._values(cause))
                    self._fail(name, f"row {_text(key)!r}: {cause} has no value {value!r}; {hint}")
        cells = list(itertools.product(*values))
        for key in cells:
            if key not in rows:
                missing = [cell for cell in cells if cell not in rows]
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                self._fail(name, f"row {_text(key)!r}{more} missing; 'given' asks for {len(cells)} rows")
        shape = (*map(len, values), len(self._values(name)))
        numbers = [self._row(name, f"row {_text(key)!r}", rows[key]) for key in cells]
        return tuple(given), np.array(numbers).reshape(shape)

    def _rows(self, name: str, given: Sequence[str], rows: Any) -> dict[tuple[str, ...], Any]:
        if not isinstance(rows, dict):
            self._fail(name, f"'rows' gives a list of probabilities for each value of {', '.join(given)}")
        found: dict[tuple[str, ...], Any] = {}
        for text, row in rows.items():
            key = tuple(each.strip() for each in str(text).split(","))
            if len(key) != len(given):
                self._fail(name, f"row {text!r} has {len(key)} values; 'given' names {', '.join(given)}")
            if key in found:
                self._fail(name, f"row {text!r} is given twice")
            found[key] = row
        return found

    def _row(self, name: str, what: str, row: Any) -> np.ndarray:
        values = self._values(name)
        if isinstance(row, dict):
            for value in row:
                if str(value) not in values:
                    self._fail(name, f"{what}: no value {str(value)!r}; {nearest(str(value), values)}")
            by_value = {str(value): number for value, number in row.items()}
            row = [by_value.get(value, 0) for value in values]
        if not isinstance(row, list) or len(row) != len(values):
            got = f"{len(row)} numbers" if isinstance(row, list) else repr(row)
            self._fail(name, f"{what} has {got}; it needs {len(values)}, for {', '.join(values)}")
        numbers = [self._number(name, what, number) for number in row]
        if abs(sum(numbers) - 1) > 1e-6:
            self._fail(name, f"{what} sums to {sum(numbers):.6g}, not to 1 (a third may be written 1/3)")
        return np.array(numbers) / sum(numbers)

    def _number(self, name: str, what: str, number: Any) -> float:
        try:
            # YAML reads 1e-3 as a text too
            value = float(Fraction(number)) if isinstance(number, str) else float(number)
        except (TypeError, ValueError, ZeroDivisionError, OverflowError):
            value = math.nan
        if isinstance(number, bool) or not math.isfinite(value):
            self._fail(name, f"{what}: {number!r} is not a number from 0 to 1")
        if value < 0:
            self._fail(name, f"{what}: {value:g} is negative; a probability is a number from 0 to 1")
        return value

    def _merge(self, found: Mapping[str, tuple[tuple[str, ...], np.ndarray]]) -> DiscreteSCM:
        """The model over C, U, X, B, Y, S: look and part become X, with the causes of both."""
        states = {"C": FACTORS, "U": self.classes, "X": codes(self.classes, self.parts)}
        states |= {"B": self.classes, "Y": self.classes, "S": KEPT}
        nodes = [
            node for node in states if node in ("C", "X", "B", "Y") or (node in ("U", "S") and node in found)
        ]
        causes: dict[str, set[str]] = {node: set() for node in nodes}
        for name, (given, _) in found.items():
            node = _NODE_OF.get(name, name)
            # part may depend on look: both are X
            causes[node] |= {_NODE_OF.get(each, each) for each in given} - (
                {node} if name == "part" else set()
            )
        graph = nx.DiGraph()
        for node in nodes:
            graph.add_node(node, latent=node == "U", meaning=MEANING[node])
        graph.add_edges_from((cause, node) for node in nodes for cause in nodes if cause in causes[node])
        if not nx.is_directed_acyclic_graph(graph):
            circle = [start for start, _ in nx.find_cycle(graph)]
            shown = " -> ".join([*circle, circle[0]]).replace("X", "look and part").replace("B", "content")
            self._fail(None, f"the causes go in a circle: {shown}; take one 'given' out")
        tables = {}
        for node in nodes:
            parents = [other for other in nodes if other in causes[node]]
            tables[node] = np.empty([len(states[each]) for each in (*parents, node)])
            for cell in np.ndindex(*tables[node].shape[:-1]):
                known = self._known(dict(zip(parents, cell)))
                if node != "X":
                    name = {"B": "content"}.get(node, node)
                    given, table = found[name]
                    tables[node][cell] = table[tuple(known[each] for each in given)]
                    continue
                looks, parts = found["look"], found["part"]
                for k, p in enumerate(looks[1][tuple(known[each] for each in looks[0])]):
                    row = parts[1][tuple({**known, "look": k}[each] for each in parts[0])]
                    tables[node][(*cell, slice(2 * k, 2 * k + 2))] = p * row
        return DiscreteSCM(graph, {node: states[node] for node in nodes}, tables)

    @staticmethod
    def _known(cell: Mapping[str, int]) -> dict[str, int]:
        """Values of the graph's nodes by the names in the file."""
        known = dict(cell)
        if "X" in known:
            known["look"], known["part"] = divmod(known["X"], 2)
        if "B" in known:
            known["content"] = known["B"]
        return known


def _text(key: tuple[str, ...]) -> str:
    return ", ".join(key)


_KEYS = ("name", "meaning", "classes", "sets")


def read_design(path: str | os.PathLike[str], known_parts: Mapping[str, tuple[str, str]]) -> Design:
    """Read a design from a YAML file.

    For the sets A and B the file gives a table for each of `NODES`: a list of probabilities for a node without causes,
    else ``{given: [causes], rows: {"values of the causes": [...]}}``. Lists follow the order of the values: 0 and 1
    for ``C`` and ``part``; the classes for ``U``, ``look``, ``content`` and ``Y``; no and yes for ``S``. A row may be
    written ``{cat: 0.9, dog: 0.1}``, zeros left out, and a probability ``1/3``. By default ``content`` is the class
    drawn and ``Y`` the content; ``U`` and ``S`` are left out. ``docs/designs/own.yaml`` is an example with comments.

    Parameters
    ----------
    path : str or PathLike
    known_parts : dict of str to (str, str)
        Classes that the generator draws, and their two parts.

    Raises
    ------
    CausalFTError
        One line with file, set, node and row: a missing file, set, node or row, invalid YAML, a repeated key, an
        unknown name, a row that is not a distribution, a cycle of causes, a class without a row.

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
            f"{file}: name {name!r}: images are filed under it; use letters, digits, '-', '_' and '.'"
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
    """Refuses repeated keys, of which YAML would keep the last."""

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
