"""Records: each loss, tuner, head, ... is a frozen dataclass in the file that implements it, found by its folder.

A file declares a record as ``NAME = Kind(...)``, with literals and the names of functions of the file as keyword
arguments. Records are read from the source, and the functions imported when they are called: names are listed and
refused without PyTorch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from causalft.errors import CausalFTError, nearest

__all__ = ["LateFunction", "Records"]

T = TypeVar("T")


@dataclass(frozen=True)
class LateFunction:
    """A function that is imported when it is called."""

    module: str
    name: str

    @property
    def __wrapped__(self) -> Any:  # what `inspect.signature` looks at
        return getattr(import_module(self.module), self.name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.__wrapped__(*args, **options)


class Records(Mapping[str, T], Generic[T]):
    """The records of one kind by name.

    Parameters
    ----------
    place : str
        A module, or a package, whose files are read in alphabetical order.
    kind : type
        A frozen dataclass with a field ``name``, and perhaps ``order``, by which records are then sorted, and ``also``,
        further names: a record is found by each, and listed once.
    what : str
        The word for one of them in messages.

    Raises
    ------
    CausalFTError
        At the first look: for two records of one name, a field that is unknown or missing, a value that is neither a
        literal nor the name of a function, or an argument without its name. File and line are named.

    Examples
    --------
    >>> from causalft.models.tuning.choices import Sampler
    >>> samplers = Records("causalft.models.tuning.samplers", Sampler, "sampler")
    >>> list(samplers), samplers["square-root"].power
    (['uniform', 'class-balanced', 'square-root'], 0.5)
    """

    def __init__(self, place: str, kind: type[T], what: str) -> None:
        self.place, self.kind, self.what = place, kind, what

    @cached_property
    def _found(self) -> dict[str, T]:
        spec = find_spec(self.place)
        assert spec is not None and spec.origin is not None
        origin = Path(spec.origin)
        folders = spec.submodule_search_locations
        files = (
            [file for folder in folders for file in sorted(Path(folder).glob("*.py"))]
            if folders
            else [origin]
        )
        found: list[T] = []
        first: dict[str, str] = {}
        for file in files:
            for record, place in self._read(file, origin):
                for name in (record.name, *_also(record)):  # type: ignore[attr-defined]
                    if first.setdefault(name, place) != place:
                        raise CausalFTError(
                            f"the {self.what} {name!r} is in {first[name]} and in {place}; rename one"
                        )
                found.append(record)
        found.sort(key=lambda record: getattr(record, "order", 0))
        return {record.name: record for record in found}  # type: ignore[attr-defined]

    def _read(self, file: Path, origin: Path) -> Iterator[tuple[T, str]]:
        """Yield each record with its place, ``FILE:LINE``."""
        module = self.place if file == origin else f"{self.place}.{file.stem}"
        text = file.read_text(encoding="utf-8")
        # Only the records are parsed, which is far quicker than the whole file: from their name to the last bracket.
        for found in re.finditer(
            rf"^\w+ = {self.kind.__name__}\((?:[^\n]*\)$|.*?^\)$)", text, re.MULTILINE | re.DOTALL
        ):
            place = f"{file}:{text.count(chr(10), 0, found.start()) + 1}"
            call = cast(ast.Call, cast(ast.Assign, ast.parse(found[0]).body[0]).value)
            if call.args or any(keyword.arg is None for keyword in call.keywords):
                raise CausalFTError(
                    f"{place}: a {self.what} is declared with every argument named, as in "
                    f'{self.kind.__name__}(name="...")'
                )
            given = {str(keyword.arg): _value(keyword, module, place) for keyword in call.keywords}
            self._check_fields(given, place)
            yield self.kind(**given), place

    def _check_fields(self, given: Mapping[str, Any], place: str) -> None:
        known = {field.name: field for field in fields(cast(Any, self.kind)) if field.init}
        for name in given:
            if name not in known:
                raise CausalFTError(f"{place}: a {self.what} has no field {name!r}; {nearest(name, known)}")
        for name, field in known.items():
            if name not in given and field.default is MISSING and field.default_factory is MISSING:
                raise CausalFTError(f"{place}: this {self.what} has no {name}; give {name}=...")

    def __getitem__(self, name: str) -> T:
        if name not in self._found:
            for record in self._found.values():
                if name in _also(record):
                    return record
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def get_or_refuse(self, name: str) -> T:
        """Return a record; an unknown name raises a :class:`CausalFTError` with the nearest names."""
        if name not in self:
            names = [each for own, record in self.items() for each in (own, *_also(record))]
            raise CausalFTError(f"no {self.what} is named {name!r}; {nearest(name, names)}")
        return self[name]


def _also(record: Any) -> tuple[str, ...]:
    return getattr(record, "also", ())


def _value(keyword: ast.keyword, module: str, place: str) -> Any:
    if isinstance(keyword.value, ast.Name):
        return LateFunction(module, keyword.value.id)
    try:
        return ast.literal_eval(keyword.value)
    except ValueError:
        raise CausalFTError(
            f"{place}: {keyword.arg} is {ast.unparse(keyword.value)}, and records are read without being run; give a "
            "literal or the name of a function of the file"
        ) from None
