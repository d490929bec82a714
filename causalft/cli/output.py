"""Where a command prints: tables for people on standard output, or one JSON document alone there with --json."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

from causalft.runs.folder import to_json

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "print_json"]


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
