"""P-values in words: two digits, and never more zeros than a test can tell."""

from __future__ import annotations

from math import isnan

__all__ = ["p_relation", "p_words"]

SMALLEST = 1e-4
"""Below this a p-value is printed as "< 1e-4": no test of ours knows its tail further than that."""


def p_words(p: float) -> str:
    """A p-value as a cell of a table.

    Examples
    --------
    >>> p_words(0.0312), p_words(3e-17), p_words(0.0001), p_words(1.0), p_words(float("nan"))
    ('0.031', '< 1e-4', '0.0001', '1', '')
    """
    if isnan(p):
        return ""
    return "< 1e-4" if p < SMALLEST else f"{p:.2g}"


def p_relation(p: float) -> str:
    """A p-value as the end of a sentence, after the letter p.

    Examples
    --------
    >>> f"p {p_relation(0.031)}", f"p {p_relation(1e-9)}"
    ('p = 0.031', 'p < 1e-4')
    """
    words = p_words(p)
    return words if words.startswith("<") else f"= {words or 'unknown'}"
