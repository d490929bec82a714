"""Tables of images: CSV, TSV or Parquet with columns for path and label, and perhaps split and factor."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from causalft.datasets.containers import open_container
from causalft.datasets.layout import first_few
from causalft.datasets.metadata import factor_values
from causalft.datasets.reading import Reading, ReadOptions, assemble, encode, split_rows, without_repeats
from causalft.errors import CausalFTError, nearest

__all__ = ["TABLE_SUFFIXES", "read_table"]

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")
_DEFAULTS = {"path": "path", "label": "label", "split": "split", "factor": "factor"}


def read_table(path: Path, options: ReadOptions) -> Reading:
    """Read a table with a row for each image.

    Columns are called ``path``, ``label``, ``split`` and ``factor`` unless the options name others; the last two may be
    absent. Paths are relative to ``options.root`` (a folder, zip or tar), by default the folder of the table. Labels
    are class names, or numbers that ``options.class_names`` names.

    Raises
    ------
    CausalFTError
        For a damaged table, a missing column, empty cells, missing images, images with two labels or in two splits.
    """
    given = {
        "path": options.path_column,
        "label": options.label_column,
        "split": options.split_column,
        "factor": options.factor_column,
    }
    columns = _columns(path, given)
    files = [name.replace("\\", "/").removeprefix("./") for name in _filled(columns["path"], "path", path)]
    codes, ids = encode(_filled(columns["label"], "label", path))
    splits: dict[str, np.ndarray] = {}
    in_split = np.zeros(len(files), dtype=np.int8)
    if "split" in columns:
        splits = split_rows([cell or "" for cell in columns["split"]], str(path))
        for number, rows in enumerate(splits.values()):
            in_split[rows] = number
    factors = factor_values(_filled(columns["factor"], "factor", path)) if "factor" in columns else None
    keep, notes = without_repeats(files, codes, ids, in_split.tolist(), str(path))
    if keep is not None:
        names = list(splits)
        files, codes, in_split = [files[i] for i in keep], codes[keep], in_split[keep]
        splits = {name: np.flatnonzero(in_split == number) for number, name in enumerate(names)}
        factors = None if factors is None else factors[keep]
    container = open_container(options.root or path.parent)
    refuse_missing(container.missing(files), len(files), str(path), container.location)
    return assemble(
        format="table",
        name=path.stem,
        where=str(path),
        store=container.store(files),
        files=files,
        codes=codes,
        ids=ids,
        options=options,
        splits=splits,
        factors=factors,
        notes=(*container.notes, *notes),
    )


def refuse_missing(missing: list[str], total: int, where: str, root: str) -> None:
    """Refuse a table or list of which images are missing: how many, and the first three.

    Raises
    ------
    CausalFTError
    """
    if missing:
        raise CausalFTError(
            f"{where} names {total:,} images and {len(missing):,} of them are missing under {root} "
            f"({first_few(missing, 3)}); give the folder, zip or tar that its paths start from (--root) or restore them"
        )


def _meant(column: str, header: list[str]) -> str:
    """The nearest columns, where some are near: all of them are named already."""
    hint = nearest(column, header)
    return f": {hint}" if hint.startswith("did you mean") else ""


def _columns(path: Path, given: dict[str, str | None]) -> dict[str, list[str | None]]:
    """The cells of the columns that are there, as text."""
    reader = _parquet if path.suffix.lower() in (".parquet", ".pq") else _separated
    header = reader(path, None)
    wanted: dict[str, str] = {}
    for role, default in _DEFAULTS.items():
        column = given[role] or default
        if column in header:
            wanted[role] = column
        elif given[role] is not None or role in ("path", "label"):
            raise CausalFTError(
                f"{path} has no column '{column}' for the {role} (it has {', '.join(header)})"
                f"{_meant(column, header)}; choose it with {role}_column (--{role}-column)"
            )
    cells = reader(path, sorted(set(wanted.values())))
    found = {role: cells[column] for role, column in wanted.items()}
    if not found["path"]:
        raise CausalFTError(f"{path} has a header and no row; write a row for each image")
    return found


def _separated(path: Path, columns: list[str] | None) -> Any:
    """Header of a CSV or TSV, or its columns as lists of text."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
    except UnicodeDecodeError:
        raise CausalFTError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise CausalFTError(f"cannot read {path}: {error.strerror}") from None
    delimiter = max(("\t", ",", ";"), key=first.count)
    header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    if columns is None:
        if not any(header):
            raise CausalFTError(f"{path} is empty; its first line must name the columns path and label")
        return header
    if len(set(header)) != len(header):
        raise CausalFTError(f"{path} has two columns of one name; rename one")
    try:
        table = arrow_csv.read_csv(
            path,
            read_options=arrow_csv.ReadOptions(column_names=header, skip_rows=1),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter),
            convert_options=arrow_csv.ConvertOptions(
                column_types={name: pa.string() for name in header},
                include_columns=columns,
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())[:200]
        raise CausalFTError(f"{path} is not a whole table ({reason}); mend that row") from None
    return {name: table.column(name).to_pylist() for name in columns}


def _parquet(path: Path, columns: list[str] | None) -> Any:
    """Column names of a Parquet file, or its columns as lists of text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if columns is None:
            return list(pq.read_schema(path).names)
        table = pq.read_table(path, columns=columns, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CausalFTError(f"{path} is not a whole Parquet file ({reason}); write it again") from None
    cells = {}
    for name in columns:
        column = table.column(name)
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            raise CausalFTError(
                f"column '{name}' of {path} holds {column.type}, not text or numbers; if it holds the pictures "
                "themselves, load it with Hugging Face `datasets` and open what its save_to_disk wrote"
            )
        cells[name] = column.cast(pa.string()).to_pylist()
    return cells


def _filled(cells: list[str | None], role: str, path: Path) -> list[str]:
    """The cells of a column, stripped; refuses empty ones."""
    stripped = [(cell or "").strip() for cell in cells]
    empty = [row for row, cell in enumerate(stripped) if not cell]
    if empty:
        raise CausalFTError(
            f"{path} has no {role} in {len(empty)} of {len(cells)} rows (first: row {empty[0] + 1}); "
            "fill it in or remove the rows"
        )
    return stripped
