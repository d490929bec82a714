"""The types of options and arguments: every value of the command line is checked by one of these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from causalft.errors import CausalFTError
from causalft.runs import limits

__all__ = ["ANY_TEXT", "DEVICE", "FILE", "NAMES", "PATH", "SEED", "TEXT", "Checked", "Number", "Numbers"]


class Checked(click.ParamType):
    """A value that a function reads from its text; the function raises `CausalFTError` for what it does not take."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name, self._read = name, read

    def __repr__(self) -> str:
        return f"Checked({self.name})"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value  # a default, or what was converted before
        try:
            return self._read(value)
        except CausalFTError as error:
            self.fail(str(error), param, ctx)


class Number(Checked):
    """A number within the limits of its setting; ``words`` are texts that stand for themselves, as in ``auto``."""

    def __init__(self, within: limits.Limits, *words: str) -> None:
        self.limits, self.words = within, words
        super().__init__("integer" if within.whole else "float", self._number)

    def _number(self, text: str) -> Any:
        if text in self.words:
            return text
        try:
            return self.limits.read(text)
        except CausalFTError as error:
            raise CausalFTError(f"{error}{''.join(f', or {word}' for word in self.words)}") from None


class Numbers(Checked):
    """Numbers within limits, separated by commas; received as a tuple."""

    def __init__(self, within: limits.Limits, *words: str) -> None:
        self.limits, self.words = within, words
        super().__init__("numbers", self._numbers)

    def _numbers(self, text: str) -> Any:
        if text in self.words:
            return text
        return tuple(self.limits.read(part.strip()) for part in text.split(","))


def _text(text: str) -> str:
    return limits.check_text(text)


def _names(text: str) -> tuple[str, ...]:
    limits.check_text(text)
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise CausalFTError(f"{limits.shown(text)} names nothing; give names separated by commas")
    return names


TEXT = Checked("text", _text)
"""Any text that is not empty."""
ANY_TEXT = Checked("text", lambda text: text)
"""Any text, also an empty one."""
NAMES = Checked("names", _names)
"""Names separated by commas; received as a tuple."""
PATH = Checked("path", lambda text: Path(_text(text)))
"""A path, received as `pathlib.Path`."""
FILE = Checked("path", _text)
"""A path or a pattern of paths, received as it was typed."""
DEVICE = Checked("device", lambda text: limits.check_device(text, ""))
SEED = Number(limits.SEED)
