"""Parquet with a column of images, as the Hugging Face hub stores them: one file, or several, such as one per split."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from causalft.data.containers import MAX_FILE_BYTES
from causalft.data.formats import Format, Place
from causalft.data.formats.huggingface import class_labels
from causalft.data.images import read_image
from causalft.data.labels import encode
from causalft.data.reading import Reading, ReadOptions, assemble, factor_values, split_of_name
from causalft.errors import CausalFTError, first_few, nearest
from causalft.runs.files import parse_json, read_bytes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORMAT", "read_parquet"]

_SUFFIXES = (".parquet", ".pq")

#: Row groups are kept until they hold so many bytes; the newest always stays.
_KEPT_BYTES = 2**28


@dataclass(frozen=True)
class _Group:
    """A row group: where it lies, its first row in the set, and the bytes of its images."""

    file: str
    number: int
    start: int
    n_bytes: int


class ParquetStore:
    """Images in the row groups of Parquet files; a group is read when one of its images is asked for.

    Nothing is held open, so threads, forks and pickled copies need no care.
    """

    def __init__(self, location: str, groups: Sequence[_Group], column: str) -> None:
        self.location, self._groups, self._column = location, tuple(groups), column
        self._starts = [group.start for group in self._groups]
        self._kept: dict[int, pa.ChunkedArray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}

    def _cells(self, number: int) -> pa.ChunkedArray:
        kept = self._kept
        if number in kept:
            return kept[number]
        import pyarrow as pa
        import pyarrow.parquet as pq

        group = self._groups[number]
        try:
            with pq.ParquetFile(group.file) as file:
                found = file.read_row_group(group.number, columns=[self._column]).column(self._column)
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CausalFTError(f"cannot read {group.file}: {reason}; get it again") from None
        room = _KEPT_BYTES - found.nbytes
        newest = {number: found}
        for other, cells in reversed(kept.items()):
            room -= cells.nbytes
            if room < 0:
                break
            newest[other] = cells
        self._kept = dict(
            reversed(newest.items())
        )  # one assignment: another thread sees all of it or nothing
        return found

    def _find(self, row: int) -> tuple[int, int]:
        number = bisect_right(self._starts, row) - 1
        return number, row - self._starts[number]

    def _name(self, row: int) -> str:
        group = self._groups[self._find(row)[0]]
        first = next(each.start for each in self._groups if each.file == group.file)
        return f"row {row - first} of {group.file}"

    def read(self, row: int) -> bytes:
        number, inside = self._find(row)
        cell = self._cells(number)[inside].as_py()
        data, path = (cell, None) if not isinstance(cell, dict) else (cell.get("bytes"), cell.get("path"))
        if data is not None:
            return data
        if path is None:
            raise CausalFTError(f"cannot read {self._name(row)}: it holds no image; remove that row")
        beside = Path(self._groups[number].file).parent / path
        try:
            return read_bytes(beside, MAX_FILE_BYTES)
        except CausalFTError as error:
            raise CausalFTError(f"{self._name(row)}: {error}") from None

    def size(self, row: int) -> int:
        """Bytes of the images of its row group: Parquet does not store the size of one cell."""
        return self._groups[self._find(row)[0]].n_bytes

    def quick_key(self, row: int) -> tuple[int | bytes, ...]:
        data = self.read(row)
        return len(data), sha256(data).digest()

    def image(self, row: int) -> Image.Image:
        return read_image(self.read(row), self._name(row))


def read_parquet(place: Place, files: Sequence[Path], options: ReadOptions) -> Reading:
    """Read the labels of Parquet files; their images stay where they are.

    An image is a cell of bytes, or of ``bytes`` and ``path`` (relative to the file). The image column is the only one,
    or ``options.path_column``; the label the only `ClassLabel`, the column ``label`` or ``options.label_column``; the
    factor ``factor`` or ``options.factor_column``. Names such as ``train-00000-of-00004`` tell the splits.
    """
    import pyarrow.parquet as pq

    where = place.written
    schemas = [_schema(file) for file in files]
    odd = next((file for file, schema in zip(files, schemas) if not schema.equals(schemas[0])), None)
    if odd is not None:
        raise CausalFTError(
            f"{odd.name} of {where} has other columns than {files[0].name}; open files of one set"
        )
    features = _features(schemas[0])
    image, label, factor = _columns(schemas[0], features, options, where)
    splits = [split_of_name(file.stem) for file in files]
    if len(files) > 1 and None in splits and set(splits) != {None}:
        raise CausalFTError(
            f"only some files of {where} name a split; call all train-..., validation-... or test-..."
        )
    groups: list[_Group] = []
    names: list[str] = []
    member: list[str | None] = []
    labels: list[Any] = []
    factors: list[Any] = []
    for file, split in zip(files, splits):
        with pq.ParquetFile(file) as opened:
            inside = [f"{file.name}/{row:07d}" for row in range(opened.metadata.num_rows)]
            start = len(names)
            for number in range(opened.metadata.num_row_groups):
                about = opened.metadata.row_group(number)
                columns = (about.column(i) for i in range(about.num_columns))
                n_bytes = sum(
                    c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] == image
                )
                groups.append(_Group(str(file), number, start, n_bytes))
                start += about.num_rows
            rows = opened.read(columns=[label, *([factor] if factor else [])])
        labels += _values(rows, label, file)
        factors += _values(rows, factor, file) if factor else []
        names += inside
        member += [split] * len(inside)
    if not names:
        raise CausalFTError(f"{where} holds no row; give a file with a row for each image")
    classes = features.get(label, {}).get("names")
    if classes is None:
        found = encode(labels, where, places=names)
    else:
        found = class_labels(labels, classes, f"column '{label}' of {where}")
    largest = max(group.n_bytes for group in groups)
    notes = list(found.notes)
    if largest > _KEPT_BYTES:
        notes.append(
            f"a row group has up to {largest / 2**20:,.0f} MiB of images, which are read for one; write the file with "
            "row groups of about 100 rows"
        )
    in_split = np.array([split or "" for split in member])
    return assemble(
        format="parquet",
        name=_name(place),
        where=where,
        store=ParquetStore(where, groups, image),
        files=names,
        codes=found.codes,
        ids=found.ids,
        options=options,
        splits={s: np.flatnonzero(in_split == s) for s in ("train", "validation", "test") if s in splits},
        factors=factor_values(factors, where, names) if factor else None,
        notes=notes,
    )


def _name(place: Place) -> str:
    if len(place.paths) > 1:
        return place.path.resolve().parent.name
    return place.path.resolve().name if place.is_folder else place.path.stem


def _schema(file: Path) -> pa.Schema:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CausalFTError(
            f"{file} cannot be read as a parquet table: it is not a whole Parquet file ({reason}); write it again"
        ) from None


def _image_columns(schema: pa.Schema) -> list[str]:
    """Columns of bytes, alone or in a struct with ``path``; none in a table, which has a column ``path``."""
    import pyarrow as pa

    def holds_bytes(kind: pa.DataType) -> bool:
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    found = []
    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if holds_bytes(kind):
            found.append(field.name)
    return [] if "path" in schema.names else found


def _features(schema: pa.Schema) -> dict[str, Any]:
    """What `datasets` wrote about the columns."""
    written = parse_json(
        (schema.metadata or {}).get(b"huggingface", b"{}").decode(), "the metadata of `datasets`"
    )
    return written.get("info", {}).get("features", {})


def _columns(
    schema: pa.Schema, features: dict[str, Any], options: ReadOptions, where: str
) -> tuple[str, str, str | None]:
    """Which columns hold image, label and factor."""
    given = {"path": options.path_column, "label": options.label_column, "factor": options.factor_column}
    for role, name in given.items():
        if name is not None and name not in schema.names:
            raise CausalFTError(
                f"{where} has no column '{name}' for the {role}: {nearest(name, schema.names)}; "
                f"choose it with {role}_column (--{role}-column)"
            )
    images = _image_columns(schema)
    image = options.path_column or (images[0] if len(images) == 1 else None)
    if image not in images:
        what = f"column '{image}' holds no images" if image else f"{len(images)} columns hold images"
        raise CausalFTError(
            f"{where}: {what} (it has {', '.join(schema.names)}); choose one with --path-column, or give "
            "--format table if it holds paths"
        )
    named = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel"]
    label = options.label_column or (named[0] if len(named) == 1 else "label")
    if label not in schema.names:
        raise CausalFTError(
            f"{where}: which column is the label? choose it with --label-column (it has "
            f"{', '.join(schema.names)})"
        )
    return str(image), label, options.factor_column or ("factor" if "factor" in schema.names else None)


def _values(rows: pa.Table, column: str, file: Path) -> list[Any]:
    values = rows.column(column).to_pylist()
    empty = [str(row + 1) for row, value in enumerate(values) if value is None]
    if empty:
        raise CausalFTError(
            f"column '{column}' of {file} is empty in {len(empty)} of {len(values)} rows ({first_few(empty, 3)}); fill "
            "it in or remove the rows"
        )
    return values


def _recognise(place: Place) -> tuple[Path, ...] | None:
    if not place.is_folder:
        suffix = place.path.suffix.lower()
        return (
            place.paths
            if suffix in _SUFFIXES and (place.forced or _image_columns(_schema(place.path)))
            else None
        )
    for folder in (place.path, place.path / "data"):
        files = sorted(file for file in folder.glob("*.parquet") if file.is_file())
        if files and all(_image_columns(_schema(file)) for file in files):
            return tuple(files)
    return None


FORMAT = Format(
    name="parquet",
    help="Parquet with a column of images, as the Hugging Face hub stores them",
    sign="ends in .parquet or .pq, has a column of bytes, or of `bytes` and `path`, and no column `path`; a folder of "
    "such files, perhaps in data/",
    order=25,
    recognise=_recognise,
    read=read_parquet,
    options=("path_column", "label_column", "factor_column"),
    several="parquet",
    looks_for="Parquet file with a column of images",
    source="https://huggingface.co/docs/hub/datasets-image",
)
