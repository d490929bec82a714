"""One reader for tables: CSV with any usual separator, TSV and Parquet."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError, nearest, short
from causalft.runs.files import read_text, require_regular

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["TABLE_SUFFIXES", "Table", "header_of", "parse_table", "read_columns", "read_frame", "read_table"]

#: Extensions of readable files.
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")

_SEPARATORS = (",", "\t", ";", "|")
_EXCEL_LINE = re.compile(r'\s*"?sep=(.)"?\s*', re.IGNORECASE)
_DECIMAL_COMMA = r"[+-]?\d+(,\d+)?"


@dataclass(frozen=True)
class Table:
    """Columns by name.

    Attributes
    ----------
    path : pathlib.Path
    columns : list of str
        All names, in order.
    arrow : pyarrow.Table
        The selected columns: stripped text, null for empty cells, from CSV and TSV; native types from Parquet.
    separator : str or None
        None for Parquet.
    """

    path: Path
    columns: list[str]
    arrow: pa.Table
    separator: str | None

    def __len__(self) -> int:
        return self.arrow.num_rows

    def values(self, column: str) -> list[Any]:
        """The cells of a column as Python values, None where empty."""
        return self.arrow.column(column).to_pylist()


def read_table(path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> Table:
    """Read a table with a header.

    Text tables are UTF-8 or UTF-16, with or without a byte order mark. The separator (comma, tab, semicolon or bar) is
    that of Excel's line ``sep=;``, else the one that splits the header into most names. Blank lines and rows of empty
    cells are skipped; names and cells are stripped.

    Parameters
    ----------
    path : path
        Ends in ``.csv``, ``.tsv``, ``.parquet`` or ``.pq``.
    columns : sequence of str, optional
        Columns to read, ignoring missing ones; all by default.

    Raises
    ------
    CausalFTError
        If the file is missing, not a regular file, of another format, damaged, or has a duplicate column.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "t.csv"
    >>> _ = file.write_text("sep=;\\npath;label\\na.png;1\\nb.png;\\n")
    >>> table = read_table(file)
    >>> table.columns, table.values("label")
    (['path', 'label'], ['1', None])
    """
    file = Path(path).expanduser()
    ending = file.suffix.lower()
    if ending not in TABLE_SUFFIXES:
        raise CausalFTError(
            f"{short(file, 300)}: ending {ending or '(none)'} is unknown; give a .csv or .parquet table, or one that "
            "ends in .tsv or .pq"
        )
    if not os.path.lexists(file):
        near = [other.name for other in file.parent.glob("*") if other.suffix.lower() in TABLE_SUFFIXES]
        hint = nearest(file.name, near) if near else ""
        raise CausalFTError(
            f"{short(file, 300)}: no such table; {hint if hint.startswith('did') else 'check the path'}"
        )
    require_regular(file)
    if ending in (".parquet", ".pq"):
        return _parquet(file, columns)
    return parse_table(read_text(file), str(file), columns)


def read_columns(path: str | os.PathLike[str], columns: Sequence[str], optional: Sequence[str] = ()) -> Table:
    """Read columns that a table must have, such as those of a file that a run wrote.

    Raises
    ------
    CausalFTError
        As `read_table`, and if a column is missing.
    """
    table = read_table(path, [*columns, *optional])
    for name in columns:
        if name not in table.columns:
            raise CausalFTError(
                f"{path} lacks the column {name}; the file is damaged, or was changed by hand"
            )
    return table


def read_frame(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table (`read_table`) as a data frame of numbers, truth values and text.

    A column of a text table is numeric if all its cells are, boolean if all are ``true`` or ``false``. Decimal commas
    are read where semicolons separate the cells. Empty cells are missing; words such as ``NA`` are text.

    Raises
    ------
    CausalFTError
        As `read_table`.
    """
    import pandas as pd

    table = read_table(path)
    if table.separator is None:
        return table.arrow.to_pandas()
    semicolons = table.separator == ";"
    return pd.DataFrame(
        {name: _typed(table.arrow.column(name).to_pandas(), semicolons) for name in table.columns}
    )


def _typed(cells: Any, decimal_comma: bool) -> Any:
    import pandas as pd

    there = cells.dropna()
    if not len(cells):
        return cells.astype(object)
    if decimal_comma and len(there) and there.str.fullmatch(_DECIMAL_COMMA).all():
        cells, there = (each.str.replace(",", ".", regex=False) for each in (cells, there))
    if len(there) and there.str.fullmatch(r"(?i)true|false").all():
        truth = cells.str.lower().map({"true": True, "false": False})
        return truth.astype(bool) if len(there) == len(cells) else truth
    try:
        return pd.to_numeric(cells)
    except (ValueError, TypeError):
        return cells.astype(object).where(cells.notna(), None)


@dataclass(frozen=True)
class _Head:
    """Return the column names of a text, and where its rows begin."""

    names: list[str]
    separator: str
    body: int
    lines: int

    @property
    def header(self) -> list[str]:
        return [name for name in self.names if name]


def _head(text: str, where: str) -> _Head:
    start, line, separator = _header_line(text)
    if start == len(text):
        raise CausalFTError(f"{where} is empty; its first line must name the columns")
    try:
        if separator is None:
            first = text[start:].split("\n", 1)[0].rstrip("\r")
            # ties: the earlier one, for names hold semicolons less rarely than commas
            separator = max(_SEPARATORS, key=lambda each: len(next(csv.reader([first], delimiter=each), [])))
        reader = csv.reader((text[begin:end] for begin, end in _lines(text, start)), delimiter=separator)
        names = [name.strip("\ufeff \t\r\n") for name in next(reader)]
    except csv.Error as error:
        raise CausalFTError(f"{where} is not a whole table ({error}); mend its header") from None
    # quoted names may span lines
    ends = [end for _, end in islice(_lines(text, start), reader.line_num)]
    return _Head(names, separator, ends[-1], line + reader.line_num)


def header_of(text: str, where: str) -> list[str]:
    """Return the column names of a CSV or TSV text.

    Raises
    ------
    CausalFTError
        If the text is empty, or its header is damaged.

    Examples
    --------
    >>> header_of("path;label\\nx", "t.csv")
    ['path', 'label']
    """
    return _head(_unix(text), where).header


def parse_table(text: str, where: str, columns: Sequence[str] | None = None) -> Table:
    """Read the text of a CSV or TSV as `read_table` does.

    Raises
    ------
    CausalFTError
        As `read_table`; names the text ``where``.
    """
    import pyarrow as pa
    from pyarrow import compute as pc
    from pyarrow import csv as arrow_csv

    text = _unix(text)
    head = _head(text, where)
    _refuse_twice(head.header, where)
    # an unnamed column is an index, or follows a trailing separator
    names = [name or f"\0{place}" for place, name in enumerate(head.names)]
    source = text[head.body :].encode("utf-8", "surrogatepass")

    def parse(threads: bool) -> pa.Table:
        return arrow_csv.read_csv(
            pa.BufferReader(source),
            read_options=arrow_csv.ReadOptions(column_names=names, use_threads=threads),
            parse_options=arrow_csv.ParseOptions(delimiter=head.separator, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, strings_can_be_null=False
            ),
        )

    if not source.strip():
        rows = pa.table({name: pa.array([], pa.string()) for name in names})
    else:
        try:
            try:
                rows = parse(threads=True)
            except pa.ArrowInvalid:
                rows = parse(threads=False)  # this one names the row
        except pa.ArrowInvalid as error:
            reason = " ".join(str(error).removeprefix("CSV parse error: ").split())
            reason = re.sub(r"Row #(\d+)", lambda row: f"line {int(row[1]) + head.lines}", reason)
            raise CausalFTError(
                f"{where} cannot be read as a csv table: it is not a whole table ({reason[:200]}); mend that row"
            ) from None
    nothing = pa.scalar(None, pa.string())
    trimmed = [pc.utf8_trim_whitespace(rows.column(name)) for name in names]
    rows = pa.table([pc.if_else(pc.equal(c, ""), nothing, c) for c in trimmed], names=names)
    empty = rows.column(0).is_null()
    for name in names[1:]:
        empty = pc.and_(empty, rows.column(name).is_null())
    rows = rows.filter(pc.invert(empty))
    wanted = [name for name in head.header if columns is None or name in columns]
    return Table(Path(where), head.header, rows.select(wanted), head.separator)


def _unix(text: str) -> str:
    """Convert bare carriage returns to line feeds."""
    return text if "\n" in text else text.replace("\r", "\n")


def _refuse_twice(header: list[str], where: object) -> None:
    twice = next((name for place, name in enumerate(header) if name in header[:place]), None)
    if twice is not None:
        raise CausalFTError(f"{where} has the column '{short(twice)}' twice; rename or remove one")


def _lines(text: str, start: int) -> Iterator[tuple[int, int]]:
    """Start and end of each line, with its line ending."""
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield start, end
        start = end


def _header_line(text: str) -> tuple[int, int, str | None]:
    """Where the header begins (character, line), and the separator of Excel's ``sep=`` line."""
    separator = None
    number = 0
    for number, (begin, end) in enumerate(_lines(text, 0)):
        line = text[begin:end].strip("\ufeff \t\r\n")
        excel = _EXCEL_LINE.fullmatch(line) if separator is None else None
        if excel:
            separator = excel[1]
        elif line:
            return begin, number, separator
    return len(text), number, separator


def _parquet(file: Path, columns: Sequence[str] | None) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        header = list(pq.read_schema(file).names)
        _refuse_twice(header, file)
        wanted = [name for name in header if columns is None or name in columns]
        return Table(file, header, pq.read_table(file, columns=wanted, partitioning=None), None)
    except CausalFTError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CausalFTError(
            f"{file} cannot be read as a parquet table: it is not a whole Parquet file ({reason}); write it again"
        ) from None
