"""Options made from settings, their types and headings in --help, and output."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_origin

import click
from click.core import ParameterSource

from causalft.cli.failures import VERB
from causalft.errors import CausalFTError
from causalft.runs import limits
from causalft.runs.folder import to_json
from causalft.runs.settings import Choice, choices_of, made_of

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "ANY_TEXT",
    "Checked",
    "DEVICE",
    "FILE",
    "GroupedCommand",
    "NAMES",
    "Number",
    "Numbers",
    "PATH",
    "SEED",
    "SpelledOption",
    "TEXT",
    "VerbGroup",
    "console",
    "given_options",
    "name_value_pairs",
    "options_of",
    "print_json",
    "refuse_given",
    "repeat_command",
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


def given_options(*names: str) -> list[str]:
    """Return which of these parameters were given to the running command, as their options."""
    context = click.get_current_context()
    flags = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    return [
        flags[name] for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]


def refuse_given(names: Iterable[str], reason: str) -> None:
    """Refuse options that were given but would have no effect."""
    for flag in given_options(*names):
        raise CausalFTError(f"{flag} {reason}")


class VerbGroup(click.Group):
    """A click group that wraps long descriptions of its verbs instead of truncating them."""

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
    """A value read by a function, which raises `CausalFTError` for invalid text."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name, self._read = name, read

    def __repr__(self) -> str:
        return f"Checked({self.name})"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value  # a default, or already converted
        try:
            return self._read(value)
        except CausalFTError as error:
            self.fail(str(error), param, ctx)


class Number(Checked):
    """A number within limits, or one of ``words``, such as ``auto``."""

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


TEXT = Checked("text", lambda text: limits.check_text(text))
"""Any text that is not empty."""
ANY_TEXT = Checked("text", lambda text: text)
"""Any text, also an empty one."""
NAMES = Checked("names", limits.read_names)
"""Names separated by commas; received as a tuple."""
PATH = Checked("path", lambda text: Path(limits.check_text(text)))
"""A path, received as `pathlib.Path`."""
FILE = Checked("path", lambda text: limits.check_text(text))
"""A path or a pattern of paths, received as typed."""
DEVICE = Checked("device", lambda text: limits.check_device(text, ""))
SEED = Number(limits.SEED)


def console(json_mode: bool = False) -> Console:
    """Return the console: standard output, or standard error if standard output carries JSON.

    Text is printed without markup: a class or folder may be called ``[red]`` or ``:dog:``.
    """
    from rich.console import Console  # not needed for a refusal
    from rich.table import Table

    class Screen(Console):
        """Words that are too long for a column are broken, not cut."""

        def print(self, *objects: Any, **settings: Any) -> None:
            for table in objects:
                for column in table.columns if isinstance(table, Table) else ():
                    column.overflow = "fold" if column.overflow == "ellipsis" else column.overflow
            super().print(*objects, **settings)

    return Screen(stderr=json_mode, highlight=False, soft_wrap=False, markup=False, emoji=False)


def print_json(obj: Any) -> None:
    """Print ``obj`` as strict JSON on standard output, escaping characters that its encoding lacks."""
    text = to_json(obj)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = "".join(
            each if each.isascii() else json.dumps(each)[1:-1] for each in re.split(r"([^\x00-\x7f]+)", text)
        )
    sys.stdout.write(text)


_OTHER = "Other options"


class GroupedCommand(click.Command):
    """A command whose help lists its options under headings.

    Parameters
    ----------
    groups : mapping of str to sequence of str
        Heading to the parameters listed first under it; other options of that group follow. Options without a group
        come last.
    """

    def __init__(self, *args: Any, groups: Mapping[str, Sequence[str]], **settings: Any) -> None:
        super().__init__(*args, **settings)
        named = {name for names in groups.values() for name in names}
        self.groups = {
            title: (
                *names,
                *(
                    str(p.name)
                    for p in self.params
                    if p.name not in named and getattr(p, "group", "") == title
                ),
            )
            for title, names in groups.items()
        }

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
        # One width for all sections.
        wide = max((len(name) for _, rows in sections for name, _ in rows if len(name) <= 28), default=0)
        for title, rows in sections:
            if rows:
                with formatter.section(title):
                    formatter.write_dl([(name.ljust(wide), text) for name, text in rows])


class SpelledOption(click.Option):
    """An option with a group, and hidden alternative spellings.

    Parameters
    ----------
    former : sequence of str
        Earlier spellings, or those of a sibling command, such as ``("--output",)``.
    group : str
        Heading in the help of a `GroupedCommand`.
    """

    def __init__(self, *args: Any, former: Sequence[str] = (), group: str = "", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.former, self.group = list(former), group

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        shown = self.opts
        self.opts = [*shown, *self.former]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = shown

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """All spellings, because any may have been typed."""
        return " / ".join(f"'{name}'" for name in (*self.opts, *self.former))


Command = TypeVar("Command", bound=Callable[..., Any])


def options_of(cls: type, into: str = "settings") -> Callable[[Command], Command]:
    """Give a command the options of a settings dataclass (`causalft.runs.settings`), and pass it an instance.

    Only options that were given are passed on; the others keep the defaults of the dataclass.

    Parameters
    ----------
    cls : type
    into : str
        The argument of the command that receives the settings.
    """
    found = list(choices_of(cls))

    def decorate(command: Command) -> Command:
        @wraps(command)
        def collected(*args: Any, **values: Any) -> Any:
            source = click.get_current_context().get_parameter_source
            given = {}
            for choice in found:
                value = values.pop(choice.name)
                if source(choice.name) is ParameterSource.COMMANDLINE:
                    given[choice.name] = _pairs(choice, value) if _is_mapping(choice) else value
                elif choice.forced:
                    given[choice.name] = choice.default
            return command(*args, **{into: made_of(cls, given)}, **values)

        decorated: Any = collected
        for choice in reversed(found):
            decorated = _option(choice)(decorated)
        return decorated

    return decorate


def _is_mapping(choice: Choice) -> bool:
    return get_origin(choice.hint) is Mapping


def _pairs(choice: Choice, values: tuple[str, ...]) -> dict[str, str]:
    return name_value_pairs(values, choice.flag, str(choice.about.metavar).partition("=")[2])


def _option(choice: Choice) -> Callable[[Any], Any]:
    """The click option of a setting."""
    about, flag = choice.about, choice.flag
    settings: dict[str, Any] = {"group": about.group, "former": about.former, "metavar": about.metavar}
    if choice.hint is bool:
        flag += f"/--no-{flag[2:]}" * bool(choice.default)
        settings["is_flag"] = True
    else:
        settings |= {"type": _type(choice), "multiple": about.repeated or _is_mapping(choice)}
    return click.option(flag, choice.name, cls=SpelledOption, help=_help(choice, flag), **settings)


def _help(choice: Choice, flag: str) -> str:
    """The help with the default in brackets."""
    usual = choice.about.usual
    if usual is None:
        usual = _shown(choice.default) if choice.default is not True else flag[2:].partition("/")[0]
    return (
        f"{choice.about.help}{'  ' * bool(choice.about.help)}[default: {usual}]"
        if usual
        else choice.about.help
    )


def _shown(default: Any) -> str:
    if default is None or default is False:
        return ""
    return f"{default:g}" if isinstance(default, float) else _as_typed(default)


def _type(choice: Choice) -> click.ParamType:
    about, hint = choice.about, str(choice.hint)
    if about.limits is not None:
        return (Numbers if "tuple" in hint else Number)(about.limits, *about.words)
    if about.choices and about.metavar is None:
        return click.Choice(list(about.choices))
    if about.read is not None:
        return Checked("text", about.read)
    if about.check is limits.check_device:
        return DEVICE
    if "Path" in hint:
        return PATH
    return NAMES if "tuple" in hint and not about.repeated else TEXT


def repeat_command(*left_out: str) -> str:
    """Return the running command as a line that repeats the run.

    Parameters
    ----------
    left_out : str
        Parameters that do not change the run, such as those of printing.
    """
    context = click.get_current_context()
    words = ["causalft", str(context.info_name)]
    for parameter in context.command.params:
        name = str(parameter.name)
        if name in left_out or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        if isinstance(parameter, click.Argument):
            words += [str(each) for each in value] if parameter.nargs == -1 else [str(value)]
        elif getattr(parameter, "is_flag", False):
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        else:
            for each in value if getattr(parameter, "multiple", False) else (value,):
                words += [parameter.opts[0], _as_typed(each)]
    return shlex.join(words)


def _as_typed(value: Any) -> str:
    """A value as it is typed: lists are separated by commas."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
