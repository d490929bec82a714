"""A setting is written once: a dataclass field with its help, limits and option; everything else is derived from it.

A frozen dataclass of such fields gives the options of a command (:func:`causalft.cli.options.options_of`), the check of
its values in Python (:func:`check_settings`), the shape of its entry in ``config.json``
(:func:`causalft.runs.documents.check_shape`) and its own documentation (:func:`documented`).
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from typing import Any, TypeVar

from causalft.errors import CausalFTError, nearest
from causalft.runs.limits import Limits

__all__ = [
    "Choice",
    "Nested",
    "Setting",
    "check_settings",
    "choices_of",
    "defaults",
    "documented",
    "made_of",
    "nested",
    "one_of",
    "own_settings",
    "setting",
    "values_of",
]


_KEY = "setting"
Class = TypeVar("Class", bound=type)
Made = TypeVar("Made")


@dataclass(frozen=True)
class Setting:
    """What is known of one field beside its name, type and default.

    Attributes
    ----------
    help : str
        A phrase that stands alone.
    group : str
        Heading in ``--help``.
    option : str, optional
        ``""``: ``--`` and the field's name with dashes. None: the command line does not have it.
    former : tuple of str
        Hidden alternative spellings.
    metavar : str
    usual : str, optional
        The default as help shows it; ``""`` to leave it out.
    limits : Limits, optional
        Range of the number, or of each number of a tuple.
    words : tuple of str
        Texts that are allowed instead of a number.
    choices : collection of str
        All allowed values. With a ``metavar`` the option takes any text, which the check refuses.
    repeated : bool
        The option is given once per entry of a tuple.
    read : callable, optional
        Turns the option's text into the value; raises `CausalFTError`.
    check : callable, optional
        Refuses a value by raising `CausalFTError`.
    noun : str
        Its name in messages; by default that of the field.
    """

    help: str = ""
    group: str = ""
    option: str | None = ""
    former: tuple[str, ...] = ()
    metavar: str | None = None
    usual: str | None = None
    limits: Limits | None = None
    words: tuple[str, ...] = ()
    choices: Collection[str] = ()
    repeated: bool = False
    read: Callable[[str], Any] | None = None
    check: Callable[[Any], object] | None = None
    noun: str = ""


@dataclass(frozen=True)
class Nested:
    """A field that holds settings of its own.

    Attributes
    ----------
    of : type
        Their dataclass.
    only : tuple of str
        Its fields that are options here; all by default.
    changes : dict of str to dict
        Field to attributes of `Setting`, or ``default``, that differ here.
    """

    of: type
    only: tuple[str, ...] = ()
    changes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


def setting(default: Any = MISSING, help: str = "", *, factory: Any = MISSING, **about: Any) -> Any:
    """Return a dataclass field with its :class:`Setting`.

    Examples
    --------
    >>> from causalft.runs import limits
    >>> @dataclass(frozen=True)
    ... class Cut:
    ...     n_test: int = setting(5, "Test images of each class.", limits=limits.IMAGES_PER_CLASS)
    >>> check_settings(Cut(n_test=-1))
    Traceback (most recent call last):
    ...
    causalft.errors.CausalFTError: n_test -1 is out of range; give a whole number from 0 to 1,000,000,000
    """
    given = {"default": default} if factory is MISSING else {"default_factory": factory}
    return field(**given, metadata={_KEY: Setting(help, **about)})


def nested(of: type, *, default: Any = MISSING, factory: Any = None, **about: Any) -> Any:
    """Return a dataclass field that holds settings of its own, or with ``factory=dict`` those that were given."""
    given = {"default_factory": factory or of} if default is MISSING else {"default": default}
    return field(**given, metadata={_KEY: Nested(of, **about)})


@dataclass(frozen=True)
class Choice:
    """A setting as an option: the name and type of its field, and its default here.

    Attributes
    ----------
    name : str
    hint : type
    about : Setting
    default : Any
        None where a dataclass makes it.
    forced : bool
        The default is not that of the field, so it is always passed on.
    """

    name: str
    hint: Any
    about: Setting
    default: Any
    forced: bool = False

    @property
    def flag(self) -> str:
        """The option, such as ``--n-test``."""
        return self.about.option or f"--{self.name.replace('_', '-')}"


def one_of(names: Iterable[str]) -> str:
    """List names for a help text.

    Examples
    --------
    >>> one_of(["none", "flip", "crop-flip"])
    'none, flip or crop-flip'
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def own_settings(cls: type) -> Iterator[tuple[dataclasses.Field[Any], Setting | Nested]]:
    """Yield the fields of a dataclass that are settings, in order."""
    for each in dataclasses.fields(cls):
        if _KEY in each.metadata:
            yield each, each.metadata[_KEY]


def choices_of(
    cls: type, only: Sequence[str] = (), changes: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[Choice]:
    """Yield the settings of a dataclass that are options, those of nested settings in their place."""
    hints = typing.get_type_hints(cls)
    for each, about in own_settings(cls):
        if isinstance(about, Nested):
            yield from choices_of(about.of, about.only or only, {**about.changes, **(changes or {})})
        elif about.option is not None and (not only or each.name in only):
            change = dict((changes or {}).get(each.name, {}))
            default = None if each.default is MISSING else each.default
            forced = "default" in change
            default = change.pop("default", default)
            yield Choice(each.name, hints[each.name], dataclasses.replace(about, **change), default, forced)


def made_of(cls: type[Made], given: Mapping[str, Any]) -> Made:
    """Make settings from given values by name, including those of nested settings.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Speed:
    ...     lr: float = setting(0.1)
    >>> @dataclass(frozen=True)
    ... class Plan:
    ...     seed: int = setting(0)
    ...     speed: Speed = nested(Speed)
    >>> made_of(Plan, {"lr": 0.5})
    Plan(seed=0, speed=Speed(lr=0.5))
    """
    own: dict[str, Any] = {}
    later: dict[str, dict[str, Any]] = {}
    for each, about in own_settings(cls):
        if isinstance(about, Nested):
            inner = {c.name: given[c.name] for c in choices_of(about.of, about.only) if c.name in given}
            factory: object = each.default_factory
            if factory is about.of:
                own[each.name] = made_of(about.of, inner)
            elif each.default is MISSING:
                own[each.name] = {name: value for name, value in inner.items() if value}
            else:  # made by the dataclass, from its other settings
                later[each.name] = inner
        elif about.option is not None and each.name in given:
            own[each.name] = given[each.name]
    made = cls(**own)
    changed = {
        name: dataclasses.replace(getattr(made, name), **inner) for name, inner in later.items() if inner
    }
    return dataclasses.replace(made, **changed) if changed else made  # type: ignore[type-var]


def values_of(cls: type, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a dataclass that a JSON document holds: its lists as tuples, nested settings as objects.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Line:
    ...     alphas: tuple[float, ...] = setting((0.0, 1.0))
    ...     seed: int = setting(0)
    >>> values_of(Line, {"alphas": [0.5]})
    {'alphas': (0.5,)}
    """
    found = {each.name: document[each.name] for each in dataclasses.fields(cls) if each.name in document}
    for each, about in own_settings(cls):
        value = found.get(each.name)
        if isinstance(about, Nested) and each.default_factory is not dict and value is not None:
            found[each.name] = about.of(**values_of(about.of, value))
        elif isinstance(value, list) and "tuple" in str(each.type):
            found[each.name] = tuple(value)
    return found


def defaults(cls: type) -> dict[str, Any]:
    """Return the default of every setting that has a fixed one."""
    return {each.name: each.default for each in dataclasses.fields(cls) if each.default is not MISSING}


def check_settings(values: Any) -> None:
    """Refuse the first invalid value; nested settings are not checked.

    Raises
    ------
    CausalFTError
        Names the setting, the value and what is allowed.
    """
    for each, about in own_settings(type(values)):
        value, what = getattr(values, each.name), each.name
        if isinstance(about, Nested) or (value is None and each.default is None):
            continue
        what = about.noun or what
        if about.limits is not None and not (isinstance(value, str) and value in about.words):
            for number in value if isinstance(value, list | tuple) else (value,):
                about.limits.check(number, what)
        if about.choices and value not in about.choices:
            raise CausalFTError(f"unknown {what} {value!r}; {nearest(str(value), about.choices)}")
        if about.check is not None:
            about.check(value)


def documented(*classes: type) -> Callable[[Class], Class]:
    """Put the settings of ``classes`` (of the decorated one, by default) where its docstring says ``{settings}``."""

    def decorate(cls: Class) -> Class:
        if cls.__doc__:
            taken = inspect.signature(cls).parameters
            found = (pair for of in classes or (cls,) for pair in own_settings(of))
            lines = [_entry(each, about) for each, about in found if each.name in taken]
            cls.__doc__ = re.sub(
                r"^( *)\{settings\}\n",
                lambda at: textwrap.indent("".join(lines), at[1]),
                cls.__doc__,
                flags=re.M,
            )
        return cls

    return decorate


def _entry(each: dataclasses.Field[Any], about: Setting | Nested) -> str:
    """One parameter as numpydoc has it."""
    kind = str(each.type)
    if isinstance(about, Nested):
        return f"{each.name} : {about.of.__name__}\n"
    text = about.help + (f" One of {', '.join(about.choices)}." if about.choices else "")
    if about.limits is not None:
        text += f" {about.limits.words().capitalize()}{''.join(f', or {word!r}' for word in about.words)}."
    usual = "" if each.default in (MISSING, None) else f", default {each.default!r}"
    return f"{each.name} : {kind}{usual}\n" + textwrap.indent(textwrap.fill(text.strip(), 100), "    ") + "\n"
