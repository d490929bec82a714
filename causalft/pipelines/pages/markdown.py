"""Numbers and names as Markdown, for the model card: percent only here, and no name that breaks a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from causalft.scm.intervals import interval_text

__all__ = ["GROUPS", "cells", "code", "count", "number", "percent", "points", "share", "table", "text"]

Document = Mapping[str, Any]

GROUPS = ("many", "medium", "few")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the cells are Markdown already."""
    lines = [list(header), ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def text(value: Any) -> str:
    """Any text inside Markdown: no cell, row, tag or link of its own."""
    written = " ".join(str(value).split())
    for sign in ("\\", "|", "<", "[", "`", "*"):
        written = written.replace(sign, f"\\{sign}")
    return written


def code(value: Any) -> str:
    """Any text as code, one line."""
    written = " ".join(str(value).split()).replace("`", "'").replace("|", "\\|")
    return f"`{written}`"


def percent(value: float | None, ci95: Sequence[float | None] | None = None, unit: str = " %") -> str:
    """A fraction in percent with its interval; the unit is left out where the table says it."""
    return interval_text(value, ci95, unit=unit, missing="–")


def cells(groups: Document | None, ci95: Document | None) -> list[str]:
    """The accuracies of the groups with their intervals, without unit."""
    return [percent((groups or {}).get(group), (ci95 or {}).get(group), "") for group in GROUPS]


def points(measure: Document | None) -> str:
    """A difference of fractions in percentage points with its interval."""
    if not measure:
        return "–"
    return interval_text(measure.get("estimate"), measure.get("ci95"), measure.get("reason", ""), missing="–")


def share(measure: Document | None) -> str:
    """A relative change in percent; a dash where it has no interval, which is where nothing is left to divide by."""
    if not measure or measure.get("estimate") is None or not measure.get("ci95"):
        return "–"
    return f"{100 * measure['estimate']:.0f} %"


def number(value: float | None, form: str = ".3f") -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else f"{value:{form}}"


def count(n: int, what: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{n} {what}" + ("" if n == 1 else "s")
