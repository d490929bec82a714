"""Estimates as cells of a table: in percent or points, with their interval and p."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from causalft.diagnosis.conclusion import points
from causalft.diagnosis.intervals import Interval

__all__ = ["interval_text", "p_text"]


def interval_text(value: Mapping[str, Any] | None) -> str:
    """An interval as JSON, in percent or points, as :func:`causalft.scm.intervals.interval_text` writes it.

    Examples
    --------
    >>> interval_text({"estimate": 0.123, "ci95": [0.11, 0.136], "p": 0.01})
    '12.3 [11.0, 13.6]'
    >>> interval_text({"estimate": 0.0, "ci95": None, "p": None, "reason": "the two are one model"})
    '0.0, no interval (the two are one model)'
    """
    return points(Interval.from_json(value))


def p_text(p: float | None) -> str:
    """A p-value in a cell; nothing for None.

    Examples
    --------
    >>> p_text(0.00004), p_text(0.0004), p_text(0.0312), p_text(None)
    ('< 0.0001', '0.0004', '0.031', '')
    """
    if p is None or p != p:
        return ""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.001 else f"{p:.3f}"
