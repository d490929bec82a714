"""A table of a result: what its columns hold, and its text as CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nextafter

from causalft.errors import CausalFTError

__all__ = ["Table", "sort_number"]

# What a cell of numbers holds beside digits and signs: units, words for "no number here", and a star.
_UNITS = re.compile(
    r"(?<=\d)e(?=[-+]?\d)|\b(nats|points|of|to|and|inf|nan|none|unknown|not known|not measurable|no class|n)\b",
    re.IGNORECASE,
)
_PROSE = 48
"""Characters from which a cell of words may wrap."""

# The number that a cell begins with: a relation, a sign, digits in groups of thousands, an exponent, its unit.
# Dates, versions and fractions are words.
_NUMBER = re.compile(
    r"[\[(]?([<>\N{LESS-THAN OR EQUAL TO}\N{GREATER-THAN OR EQUAL TO}]?)\s*"
    r"([-+\N{MINUS SIGN}]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?(?!\d|\.\d|-\d+-|[/:]\d)|[-+]?inf\b)"
    r"\s*([^\W\d_]*)",
    re.IGNORECASE,
)
_NO_NUMBER = re.compile(r"(none|nan|n/a|not|no|unknown)\b|\W*$", re.IGNORECASE)
_PLAIN = re.compile(r"-?\d+(\.\d+)?")


def sort_number(cell: str) -> float | None:
    """Return the number by which a cell is sorted: the first, which is the estimate of one with an interval.

    Returns
    -------
    float or None
        None if the cell does not begin with a number; a bound (``< x``) comes just before or after ``x``.

    Examples
    --------
    >>> [sort_number(cell) for cell in ("12.3 % [11.0, 13.6]", "1,234", "3 of 12", "< 1e-4", "none", "")]
    [12.3, 1234.0, 3.0, 9.999999999999999e-05, None, None]
    """
    found = _NUMBER.match(cell.strip())
    if found is None:
        return None
    relation, digits, _ = found.groups()
    value = float(digits.replace(",", "").replace("\N{MINUS SIGN}", "-"))
    return nextafter(value, {"<": -inf, ">": inf}[relation]) if relation in ("<", ">") else value


# LaTeX's special characters, and those that pdfLaTeX has only in mathematics or, like < in text, draws as another.
_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": "$<$",
        ">": "$>$",
        "|": r"\textbar{}",
        "[": "{[}",  # after \\ a bracket would be read as a length
        "\N{MINUS SIGN}": "$-$",
        "\N{PLUS-MINUS SIGN}": r"$\pm$",
        "\N{MULTIPLICATION SIGN}": r"$\times$",
        "\N{LESS-THAN OR EQUAL TO}": r"$\le$",
        "\N{GREATER-THAN OR EQUAL TO}": r"$\ge$",
        "\N{RIGHTWARDS ARROW}": r"$\rightarrow$",
        "\N{EN DASH}": "--",
        "\n": " ",
    }
)


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes
    ----------
    columns : sequence of str
        Header. Columns of numbers are right-aligned.
    rows : list of list of str
        Each as long as ``columns``. Empty tables and columns are left out of the page.
    caption : str
        One sentence above the table.

    Raises
    ------
    CausalFTError
        A row is shorter or longer than the header.
    """

    columns: Sequence[str]
    rows: list[list[str]]
    caption: str = ""

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise CausalFTError(
                    f"row {index} of table '{self.caption}' has {len(row)} cells, its header {len(self.columns)}"
                )

    @property
    def filled(self) -> Table:
        """The table without empty columns.

        Examples
        --------
        >>> Table(["model", "accuracy", "change"], [["clip", "53.1", ""], ["fused", "60.2", ""]]).filled.columns
        ['model', 'accuracy']
        """
        kept = [place for place in range(len(self.columns)) if any(row[place] for row in self.rows)]
        return Table(
            [self.columns[k] for k in kept], [[row[k] for k in kept] for row in self.rows], self.caption
        )

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold only numbers.

        Examples
        --------
        >>> row = ["v2", "53.1 [50.0, 56.2] %", "2 seeds differ", "< 1e-4"]
        >>> Table(["model", "accuracy", "why", "p"], [row]).numeric
        [False, True, False, True]
        """
        return [
            any(re.search(r"\d", row[place]) for row in self.rows)
            and not any(re.search(r"[^\W\d_]", _UNITS.sub("", row[place])) for row in self.rows)
            for place in range(len(self.columns))
        ]

    @property
    def sorted_by_number(self) -> list[bool]:
        """Which columns are sorted by :func:`sort_number`: those of numbers with one unit, and words for "no number".

        Examples
        --------
        >>> rows = [["a", "12.5, no interval (one seed)", "3 kB"], ["b", "not measurable", "2 MB"]]
        >>> Table(["model", "accuracy", "size"], rows).sorted_by_number
        [False, True, False]
        """
        return [self._by_number([row[place] for row in self.rows]) for place in range(len(self.columns))]

    @staticmethod
    def _by_number(cells: list[str]) -> bool:
        found = [_NUMBER.match(cell.strip()) for cell in cells]
        units = {match[3] for match in found if match} - {""}
        numbers = any(found) and all(match or _NO_NUMBER.match(cell) for match, cell in zip(found, cells))
        return numbers and len({unit for unit in units if not _UNITS.fullmatch(unit)}) <= 1

    @property
    def sort_keys(self) -> list[list[str | None]]:
        """What each cell is sorted by where that is not its text; empty cells and words for "no number" have ``""``.

        Examples
        --------
        >>> Table(["model", "p"], [["clip", "0.5"], ["fused", "< 1e-4"], ["mean", "none"]]).sort_keys
        [[None, None], [None, '9.999999999999999e-05'], [None, '']]
        """
        by_number = self.sorted_by_number if self.sortable else [False] * len(self.columns)
        return [
            [_sort_key(cell) if by_number[k] else None for k, cell in enumerate(row)] for row in self.rows
        ]

    @property
    def sortable(self) -> bool:
        """Whether there are enough rows to sort."""
        return len(self.rows) > 2

    @property
    def width(self) -> int:
        """Approximate width in units of 2 rem; on a narrower screen the table scrolls, with a note."""
        first, *others = self._longest
        rest = sum((longest if longest <= _PROSE else 34) + 2 for longest in others)
        # On a phone the first column is at most 20 characters wide, else 50.
        on_phone, elsewhere = (round((min(first, most) + rest) * 0.485 / 2) for most in (20, 50))
        return max(1, elsewhere if 2 * on_phone > 36 else on_phone)

    @property
    def _longest(self) -> list[int]:
        """Characters of the longest cell of each column, header included."""
        return [
            max(
                len(line)
                for cell in (column, *(row[place] for row in self.rows))
                for line in cell.split("\n")
            )
            for place, column in enumerate(self.columns)
        ]

    @property
    def long_names(self) -> bool:
        """Whether the first column wraps on a phone."""
        return self._longest[0] > 20

    @property
    def prose(self) -> list[bool]:
        """Which columns hold cells that wrap."""
        return [any(len(row[place]) > _PROSE for row in self.rows) for place in range(len(self.columns))]

    def to_csv(self) -> str:
        r"""Return the table as CSV (RFC 4180 with ``\n``): header and rows, empty columns included, no caption.

        Examples
        --------
        >>> Table(["model", "accuracy (%)"], [["clip", "53.1 [50.0, 56.2]"]]).to_csv()
        'model,accuracy (%)\nclip,"53.1 [50.0, 56.2]"\n'
        """
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()

    def to_latex(self, label: str = "") -> str:
        r"""Return the table as LaTeX, which needs ``\usepackage{booktabs}``; empty columns are left out.

        Special characters are escaped; letters outside ASCII stay as they are. Without caption and label it is a bare
        ``tabular``, otherwise a ``table``.

        Parameters
        ----------
        label : str
            For ``\ref``, such as ``tab:fig2``.

        Examples
        --------
        >>> print(Table(["model", "p"], [["a_b", "< 1e-4"]]).to_latex())
        \begin{tabular}{lr}
        \toprule
        model & p \\
        \midrule
        a\_b & $<$ 1e-4 \\
        \bottomrule
        \end{tabular}
        <BLANKLINE>
        """
        table = self.filled if self.rows else self
        header, *rows = (" & ".join(map(_latex, row)) + r" \\" for row in [table.columns, *table.rows])
        sides = "".join("r" if number else "l" for number in table.numeric)
        lines = [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", header, r"\midrule", *rows, r"\bottomrule"]
        lines.append(r"\end{tabular}")
        if self.caption or label:
            named = [rf"\caption{{{_latex(self.caption)}}}"] * bool(self.caption)
            named += [rf"\label{{{label}}}"] * bool(label)
            lines = [r"\begin{table}", r"\centering", *named, *lines, r"\end{table}"]
        return "\n".join(lines) + "\n"


def _sort_key(cell: str) -> str | None:
    if not cell or _PLAIN.fullmatch(cell):
        return None
    number = sort_number(cell)
    return "" if number is None else f"{number!r}".replace("inf", "Infinity")


def _latex(text: str) -> str:
    """Text for LaTeX; an arrow of ASCII (``A->B``) becomes one."""
    return text.replace("->", "\N{RIGHTWARDS ARROW}").translate(_LATEX)
