"""Options that several verbs read the same way."""

from __future__ import annotations

from collections.abc import Iterable

import click
from click.core import ParameterSource

from causalft.errors import CausalFTError

__all__ = ["name_value_pairs", "refuse_given"]


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
