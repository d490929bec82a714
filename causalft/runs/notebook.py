"""Results in a notebook: an HTML table, by default of the fields of a dataclass."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

__all__ = ["ShownAsTable", "table_html", "written"]

MOST_ROWS = 40
_LONGEST = 300


class ShownAsTable:
    """A result that a notebook shows as a table; override :meth:`_table` to choose its rows."""

    def _table(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """Header and rows."""
        assert is_dataclass(self)
        return ("", ""), [(item.name, getattr(self, item.name)) for item in fields(self)]

    def _repr_html_(self) -> str:
        header, rows = self._table()
        return table_html(header, rows, title=repr(self).partition("\n")[0])


def table_html(header: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> str:
    """Return a table as HTML, shortened in the middle if long.

    Examples
    --------
    >>> table_html(["class", "images"], [["<lynx>", 3]])
    '<table><thead><tr><th>class</th><th>images</th></tr></thead><tbody><tr><td>&lt;lynx&gt;</td><td>3</td></tr></tbody></table>'
    """
    lines = [[written(cell) for cell in row] for row in rows]
    if len(lines) > MOST_ROWS:
        left = len(lines) - MOST_ROWS
        middle = [f"... {left} more ..."] + [""] * (len(header) - 1)
        lines = [*lines[: MOST_ROWS // 2], middle, *lines[-MOST_ROWS // 2 :]]
    caption = f'<caption style="text-align: left">{html.escape(_cut(title))}</caption>' if title else ""
    head = _line(header, "th") if any(header) else ""
    body = "".join(_line(line, "td") for line in lines)
    return f"<table>{caption}{f'<thead>{head}</thead>' if head else ''}<tbody>{body}</tbody></table>"


def written(value: Any) -> str:
    """Return a value as short text.

    Examples
    --------
    >>> written(0.123456), written(None), written({"clip": 0.5}), written(("a", "b"))
    ('0.1235', '', 'clip: 0.5', 'a, b')
    """
    if value is None:
        return ""
    if isinstance(value, bool | str):
        return _cut(str(value))
    if isinstance(value, float) or type(value).__name__.startswith("float"):
        return f"{float(value):.4g}"
    if all(hasattr(value, name) for name in ("estimate", "low", "high")):
        return f"{written(value.estimate)} [{written(value.low)}, {written(value.high)}]"
    if hasattr(value, "shape"):
        return f"array of shape {tuple(value.shape)}" if value.shape else written(value.item())
    if isinstance(value, Mapping):
        return _few([f"{key}: {written(item)}" for key, item in value.items()])
    if isinstance(value, (list, tuple, set, frozenset)):
        return _few([written(item) for item in value])
    return _cut(str(value))


def _few(words: list[str]) -> str:
    if len(words) > 8:
        words = [*words[:8], f"... ({len(words)} in all)"]
    return _cut(", ".join(words))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _line(cells: Sequence[str], kind: str) -> str:
    return "<tr>" + "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells) + "</tr>"
