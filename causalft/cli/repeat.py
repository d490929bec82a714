"""The running command as a line that makes the same run again, for its report."""

from __future__ import annotations

import shlex
from typing import Any

import click
from click.core import ParameterSource

__all__ = ["repeat_command"]


def repeat_command(*left_out: str) -> str:
    """Return the command as it was given.

    Parameters
    ----------
    left_out : str
        Names of parameters that do not change the run: how it prints, say.
    """
    context = click.get_current_context()
    words = ["causalft", str(context.info_name)]
    for parameter in context.command.params:
        name = str(parameter.name)
        if name in left_out or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        if isinstance(parameter, click.Argument):
            words.append(str(value))
        elif getattr(parameter, "is_flag", False):
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        else:
            for each in value if getattr(parameter, "multiple", False) else (value,):
                words += [parameter.opts[0], _as_typed(each)]
    return shlex.join(words)


def _as_typed(value: Any) -> str:
    """A value as it may be typed again: lists were separated by commas."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
