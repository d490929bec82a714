"""Where a command prints: tables for people on standard output, or one JSON document alone there with --json."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console

from causalft.runs import to_json

__all__ = ["console", "print_json"]


def console(json_mode: bool = False) -> Console:
    """Return the console for people: standard output, or standard error when standard output carries JSON.

    Text is printed as it is: a class or a folder may be called ``[red]`` or ``:dog:``.
    """
    return Console(stderr=json_mode, highlight=False, soft_wrap=False, markup=False, emoji=False)


def print_json(obj: Any) -> None:
    """Print ``obj`` as one strict JSON document on standard output."""
    sys.stdout.write(to_json(obj))
