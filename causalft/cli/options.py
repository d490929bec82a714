"""Options that several commands share: types, groups in --help, output."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from causalft.cli.failures import VERB
from causalft.errors import CausalFTError
from causalft.runs import limits
from causalft.runs.folder import to_json

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "ANY_TEXT",
    "Checked",
    "DATA_GROUP",
    "DEVICE",
    "FILE",
    "GENERATOR_GROUP",
    "GroupedCommand",
    "NAMES",
    "Number",
    "Numbers",
    "PATH",
    "SEED",
    "SPLIT_GROUP",
    "SpelledOption",
    "TEXT",
    "VerbGroup",
    "console",
    "name_value_pairs",
    "print_json",
    "refuse_given",
]


def name_value_pairs(values: tuple[str, ...], option: str, what: str = "FILE") -> dict[str, str]:
    """Read repeated options of the form NAME=FILE, or whatever ``what`` follows the name.

    Examples
    --------
    >>> name_value_pairs(("clip=upper", "openclip=lower"), "--member", "VIEW")
    {'clip': 'upper', 'openclip': 'lower'}
    """
    pairs: dict[str, str] = {}
    for value in values:
        name, separator, rest = value.partition("=")
        if not (separator and name and rest):
            raise CausalFTError(f"{option} {value!r} is not NAME={what}")
        if name in pairs:
            raise CausalFTError(f"{option}: {name!r} is given twice")
        pairs[name] = rest
    return pairs


def refuse_given(names: Iterable[str], reason: str) -> None:
    """Refuse options of the running command that were given but would do nothing: no option is ignored silently."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise CausalFTError(f"--{name.replace('_', '-')} {reason}")


class VerbGroup(click.Group):
    """A click group that wraps what its verbs do where click would cut it off with three dots."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        found = super().resolve_command(ctx, args)
        ctx.meta[VERB] = f"{ctx.info_name} {found[0]}"
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            verb = self.get_command(ctx, name)
            if verb is not None and not verb.hidden:
                rows.append((name, verb.get_short_help_str(limit=10_000)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


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


def console(json_mode: bool = False) -> Console:
    """Return the console for people: standard output, or standard error when standard output carries JSON.

    Text is printed as it is: a class or a folder may be called ``[red]`` or ``:dog:``.
    """
    from rich.console import Console  # a refusal does without

    return Console(stderr=json_mode, highlight=False, soft_wrap=False, markup=False, emoji=False)


def print_json(obj: Any) -> None:
    """Print ``obj`` as one strict JSON document on standard output, in ASCII where its encoding lacks a character."""
    text = to_json(obj)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = "".join(
            each if each.isascii() else json.dumps(each)[1:-1] for each in re.split(r"([^\x00-\x7f]+)", text)
        )
    sys.stdout.write(text)


DATA_GROUP = (
    "format",
    "root",
    "class_names",
    "path_column",
    "label_column",
    "split_column",
    "factor_column",
    "split_as",
)
"""How the data is opened (:mod:`causalft.cli.data_options`)."""

SPLIT_GROUP = (
    "n_validation",
    "n_test",
    "imbalance_factor",
    "profile",
    "order",
    "order_by",
    "drop_empty_classes",
)
"""How splits are cut and a tail is drawn (:mod:`causalft.cli.data_options`)."""

GENERATOR_GROUP = (
    "model",
    "revision",
    "model_config",
    "prompts",
    "template",
    "negative_prompt",
    "scheduler",
    "steps",
    "guidance",
    "precision",
    "device",
    "batch_size",
    "attention_slicing",
    "safety_checker",
)
"""Stable Diffusion's own (:mod:`causalft.cli.generator_options`)."""

_OTHER = "Other options"


class GroupedCommand(click.Command):
    """A command whose help lists its options under headings.

    Parameters
    ----------
    groups : mapping of str to sequence of str
        Heading to names of parameters, in the order of the help. What is named in none comes last.
    """

    def __init__(self, *args: Any, groups: Mapping[str, Sequence[str]], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.groups = {title: tuple(names) for title, names in groups.items()}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = {
            parameter.name: record
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option)
            if (record := parameter.get_help_record(ctx)) is not None
        }
        sections = [
            (title, [records.pop(name) for name in names if name in records])
            for title, names in self.groups.items()
        ]
        sections.append((_OTHER, list(records.values())))
        # One column for all sections, so that they can be read as one table.
        wide = max((len(name) for _, rows in sections for name, _ in rows if len(name) <= 28), default=0)
        for title, rows in sections:
            if rows:
                with formatter.section(title):
                    formatter.write_dl([(name.ljust(wide), text) for name, text in rows])


class SpelledOption(click.Option):
    """An option with other spellings, former ones or those of a sibling command: they work and are not shown.

    Parameters
    ----------
    former : sequence of str
        Such as ``("--output",)``.
    """

    def __init__(self, *args: Any, former: Sequence[str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.former = list(former)

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        shown = self.opts
        self.opts = [*shown, *self.former]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = shown

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """All spellings, so that the one that was typed is among them."""
        return " / ".join(f"'{name}'" for name in (*self.opts, *self.former))
