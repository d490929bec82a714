"""Records: each loss, tuner, head, ... is a frozen dataclass in the file that implements it, found by its folder.

A file declares a record as ``NAME = Kind(...)``, with literals and the names of functions of the file as arguments.
Records are read from the source, and the functions imported when they are called: names are listed and refused
without PyTorch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
        A frozen dataclass with a field ``name``, and perhaps ``order``, by which records are then sorted.
    what : str
        The word for one of them in messages.

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
        found = [record for file in files for record in self._read(file, origin)]
        found.sort(key=lambda record: getattr(record, "order", 0))
        return {record.name: record for record in found}  # type: ignore[attr-defined]

    def _read(self, file: Path, origin: Path) -> Iterator[T]:
        module = self.place if file == origin else f"{self.place}.{file.stem}"
        text = file.read_text(encoding="utf-8")
        # Only the records are parsed, which is far quicker than the whole file: from their name to the last bracket.
        for found in re.finditer(
            rf"^\w+ = {self.kind.__name__}\((?:[^\n]*\)$|.*?^\)$)", text, re.MULTILINE | re.DOTALL
        ):
            call = cast(ast.Call, cast(ast.Assign, ast.parse(found[0]).body[0]).value)
            yield self.kind(**{str(k.arg): _value(k.value, module) for k in call.keywords})

    def __getitem__(self, name: str) -> T:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def get_or_refuse(self, name: str) -> T:
        """Return a record; an unknown name raises a :class:`CausalFTError` with the nearest names."""
        if name not in self:
            raise CausalFTError(f"no {self.what} is named {name!r}; {nearest(name, self)}")
        return self[name]


def _value(node: ast.expr, module: str) -> Any:
    return LateFunction(module, node.id) if isinstance(node, ast.Name) else ast.literal_eval(node)
