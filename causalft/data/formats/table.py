"""Tables of images: CSV, TSV or Parquet with columns for path and label, optionally split and factor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from causalft.data.containers import FolderContainer, find_files
from causalft.data.formats import Format, Place
from causalft.data.labels import encode
from causalft.data.reading import (
    Places,
    Reading,
    ReadOptions,
    assemble,
    factor_values,
    refuse_negative,
    split_rows,
    without_repeats,
)
from causalft.errors import CausalFTError, first_few, nearest, short
from causalft.runs.tables import TABLE_SUFFIXES, Table, read_table

__all__ = ["FORMAT", "read_image_table"]

_DEFAULTS = {"path": "path", "label": "label", "split": "split", "factor": "factor"}


def read_image_table(place: Place, files: Sequence[Path], options: ReadOptions) -> Reading:
    """Read a table with one row per image.

    Columns are ``path``, ``label``, and optionally ``split`` and ``factor``, unless the options name others. Paths are
    relative to ``options.root``, by default the folder of the table (`causalft.data.containers.find_files`). Labels are
    class names, or numbers named by ``options.class_names``.
    """
    path = files[0]
    given = {
        "path": options.path_column,
        "label": options.label_column,
        "split": options.split_column,
        "factor": options.factor_column,
    }
    table, columns = _columns(path, given)
    written = _paths(table, columns["path"])
    places = Places("row")
    places.begin(path.name)
    places.number(len(written))
    labels = encode(table.values(columns["label"]), str(path), places=places)
    container = options.root or FolderContainer(path.parent)
    names = find_files(container, written, str(path), places)
    codes, ids = labels.codes, labels.ids
    refuse_negative(codes, ids, str(path), places)
    splits: dict[str, np.ndarray] = {}
    in_split = np.zeros(len(names), dtype=np.int8)
    if "split" in columns:
        splits = split_rows(
            ["" if cell is None else str(cell) for cell in table.values(columns["split"])], str(path)
        )
        for number, rows in enumerate(splits.values()):
            in_split[rows] = number
    factors = factor_values(table.values(columns["factor"]), str(path)) if "factor" in columns else None
    keep, notes = without_repeats(names, codes, ids, in_split.tolist(), str(path), places)
    if keep is not None:
        names, codes, in_split = [names[i] for i in keep], codes[keep], in_split[keep]
        splits = {split: np.flatnonzero(in_split == number) for number, split in enumerate(splits)}
        factors = None if factors is None else factors[keep]
    return assemble(
        format="table",
        name=path.stem,
        where=str(path),
        store=container.store(names),
        files=names,
        codes=codes,
        ids=ids,
        options=options,
        splits=splits,
        factors=factors,
        notes=(*container.notes, *labels.notes, *notes),
    )


def _meant(column: str, header: list[str]) -> str:
    """The nearest columns, if any; the message lists all."""
    hint = nearest(column, header)
    return f": {hint}" if hint.startswith("did you mean") else ""


def _columns(path: Path, given: dict[str, str | None]) -> tuple[Table, dict[str, str]]:
    """The table, and the column of each role."""
    table = read_table(path, [given[role] or default for role, default in _DEFAULTS.items()])
    found: dict[str, str] = {}
    for role, default in _DEFAULTS.items():
        column = given[role] or default
        if column in table.columns:
            found[role] = column
        elif given[role] is not None or role in ("path", "label"):
            raise CausalFTError(
                f"{path} has no column '{short(column)}' for the {role} (it has {first_few(table.columns, 20)})"
                f"{_meant(column, table.columns)}; choose it with {role}_column (--{role}-column)"
            )
    if not len(table):
        raise CausalFTError(f"{path} has a header and no row; write a row for each image")
    for role, column in found.items():
        kind = str(table.arrow.column(column).type)
        if "struct" in kind or "list" in kind or (role == "path" and "binary" in kind):
            raise CausalFTError(
                f"column '{column}' of {path} holds {kind[:80]}, not text or numbers; if it holds the images "
                "themselves, rename the column `path`, so that the file is read as Parquet with images"
            )
    return table, found


def _paths(table: Table, column: str) -> list[str]:
    """The paths; refuses empty cells."""
    paths = [str(cell).strip() if cell is not None else "" for cell in table.values(column)]
    empty = [row for row, path in enumerate(paths) if not path]
    if empty:
        raise CausalFTError(
            f"{table.path} has no path in {len(empty)} of {len(paths)} rows (first: row {empty[0] + 1}); "
            "fill it in or remove the rows"
        )
    return paths


def _recognise(place: Place) -> tuple[Path, ...] | None:
    return place.paths if not place.is_folder and place.path.suffix.lower() in TABLE_SUFFIXES else None


FORMAT = Format(
    name="table",
    help="a CSV, TSV or Parquet table with columns path and label",
    sign="ends in .csv, .tsv, .parquet or .pq",
    order=30,
    recognise=_recognise,
    read=read_image_table,
    options=("root", "path_column", "label_column", "factor_column", "split_column"),
    reads="file",
)
