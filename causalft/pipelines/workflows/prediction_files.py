"""Files of predictions: JSON lines, CSV or Parquet, written atomically; text files resume."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from causalft.errors import CausalFTError, as_bytes
from causalft.runs.folder import atomic_path, check_regular, read_json, write_json
from causalft.runs.locks import writing
from causalft.runs.resources import require_room

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "FORMATS",
    "CsvRows",
    "JsonRows",
    "ParquetRows",
    "Place",
    "Questions",
    "RowWriter",
    "choose_format",
    "least_bytes",
    "most_likely",
    "open_rows",
    "require_room_for_rows",
]

FORMATS = ("jsonl", "csv", "parquet")
Names = Sequence[str]


@dataclass(frozen=True)
class Questions:
    """Content of a row: classes, strata, the number of classes given of each (None: all), and prediction sets.

    ``threshold`` (K,) is the probability from which a class is in the set of an image; None: no sets. ``adapts``: a
    row names the strata that had adapted to the images.
    """

    classes: list[str]
    strata: list[str]
    top: int | None
    threshold: np.ndarray | None = field(default=None, compare=False)
    adapts: bool = False

    @property
    def sets(self) -> bool:
        """Whether a row has a prediction set."""
        return self.threshold is not None

    def set_of(self, probabilities: np.ndarray) -> list[list[str]]:
        """Return the set of each row, most probable class first: (b, K) to b lists of names."""
        import numpy as np

        assert self.threshold is not None
        return [
            [self.classes[k] for k in np.argsort(-row, kind="stable") if row[k] >= self.threshold[k]]
            for row in probabilities
        ]

    def best(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the most probable classes of each row, in order: (b, K) to (b, top) class numbers."""
        return most_likely(probabilities, self.top or len(self.classes))


def most_likely(probabilities: np.ndarray, top: int) -> np.ndarray:
    """Return the ``top`` most probable classes of each row, in order: (b, K) to (b, top).

    Examples
    --------
    >>> import numpy as np
    >>> most_likely(np.array([[.1, .6, .3], [.2, .2, .6]]), 2).tolist()
    [[1, 2], [2, 0]]
    """
    import numpy as np

    if top >= probabilities.shape[1]:
        return np.argsort(-probabilities, axis=1, kind="stable")
    few = np.sort(np.argpartition(-probabilities, top, axis=1)[:, :top], axis=1)
    order = np.argsort(-np.take_along_axis(probabilities, few, axis=1), axis=1, kind="stable")
    return np.take_along_axis(few, order, axis=1)


class RowWriter(ABC):
    """Writes one row per image, in order, also for unreadable images.

    File names and messages are already escaped (`causalft.errors.escape_name`).
    """

    def __init__(self, questions: Questions) -> None:
        self.questions = questions

    @abstractmethod
    def add(self, files: Names, strata: np.ndarray, fused: np.ndarray, adapted: Names = ()) -> None:
        """Write the rows of ``files``: ``strata`` has shape (n_strata, b, K), ``fused`` (b, K).

        ``adapted`` names the strata that had adapted, for all of these rows.
        """

    @abstractmethod
    def fail(self, file: str, message: str) -> None:
        """Write the row of an unreadable image."""


class JsonRows(RowWriter):
    """One JSON object per line."""

    def __init__(self, questions: Questions, write: Callable[[str], Any]) -> None:
        super().__init__(questions)
        self._write = write

    def add(self, files: Names, strata: np.ndarray, fused: np.ndarray, adapted: Names = ()) -> None:
        mixed = self._answers(fused)
        if self.questions.sets:
            mixed = [{**answer, "set": names} for answer, names in zip(mixed, self.questions.set_of(fused))]
        if self.questions.adapts:
            mixed = [{**answer, "adapted": list(adapted)} for answer in mixed]
        each = [self._answers(probabilities) for probabilities in strata]
        lines = []
        for number, file in enumerate(files):
            said = {name: answers[number] for name, answers in zip(self.questions.strata, each)}
            lines.append(json.dumps({"file": file, **mixed[number], "strata": said}, ensure_ascii=False))
        self._write("".join(f"{line}\n" for line in lines))

    def fail(self, file: str, message: str) -> None:
        self._write(json.dumps({"file": file, "error": message}, ensure_ascii=False) + "\n")

    def _answers(self, probabilities: np.ndarray) -> list[dict[str, Any]]:
        import numpy as np

        classes = self.questions.classes
        best = self.questions.best(probabilities)
        first = best[:, 0].tolist()
        # all classes keep the order of the run, so that rows can be stacked
        shown = best if self.questions.top else np.broadcast_to(np.arange(len(classes)), best.shape)
        values = np.take_along_axis(probabilities, shown, axis=1).round(6).tolist()
        top = np.take_along_axis(probabilities, best[:, :1], axis=1)[:, 0].round(6).tolist()
        return [
            {
                "prediction": classes[k],
                "probability": p,
                "probabilities": {classes[c]: value for c, value in zip(row, found)},
            }
            for k, p, row, found in zip(first, top, shown.tolist(), values)
        ]


class _Columns(RowWriter):
    """Columns shared by CSV and Parquet."""

    def names(self) -> list[str]:
        """Return the names of all columns."""
        found = ["file", "prediction", "probability"]
        for name in self.questions.strata:
            found += [f"{name}_prediction", f"{name}_probability"]
        if self.questions.top is not None:
            for who in ("", *(f"{name}_" for name in self.questions.strata)):
                for rank in range(2, min(self.questions.top, len(self.questions.classes)) + 1):
                    found += [f"{who}top{rank}", f"{who}top{rank}_probability"]
        return [*found, *self.lists()]

    def lists(self) -> list[str]:
        """Return the names of the columns that hold lists of names, which come last."""
        return ["adapted"] * self.questions.adapts + ["set"] * self.questions.sets

    def columns(
        self, files: Names, strata: np.ndarray, fused: np.ndarray, adapted: Names = ()
    ) -> Iterator[list[Any]]:
        """Yield the values of the columns."""
        import numpy as np

        classes = np.asarray(self.questions.classes, dtype=object)
        every = [fused, *strata]
        best = [self.questions.best(probabilities) for probabilities in every]
        yield list(files)
        for probabilities, found in zip(every, best):
            yield from self._rank(classes, probabilities, found, 0)
        if self.questions.top is not None:
            for probabilities, found in zip(every, best):
                for rank in range(1, found.shape[1]):
                    yield from self._rank(classes, probabilities, found, rank)
        if self.questions.adapts:
            yield [list(adapted)] * len(files)
        if self.questions.sets:
            yield self.questions.set_of(fused)

    @staticmethod
    def _rank(
        classes: np.ndarray, probabilities: np.ndarray, best: np.ndarray, rank: int
    ) -> Iterator[list[Any]]:
        chosen = best[:, rank]
        yield classes[chosen].tolist()
        yield probabilities[range(len(chosen)), chosen].round(6).tolist()


class CsvRows(_Columns):
    """Comma-separated values with a header; all probabilities as ``p:CLASS`` and ``STRATUM:CLASS``.

    Lists of names are written as JSON.
    """

    def __init__(self, questions: Questions, write: Callable[[str], Any], header: bool) -> None:
        super().__init__(questions)
        self._write = write
        self._names = self.names()
        if questions.top is None:
            self._names += [f"{who}:{k}" for who in ("p", *questions.strata) for k in questions.classes]
        if header:
            self._lines([[*self._names, "error"]])

    def add(self, files: Names, strata: np.ndarray, fused: np.ndarray, adapted: Names = ()) -> None:
        columns = list(self.columns(files, strata, fused, adapted))
        for place in range(len(columns) - len(self.lists()), len(columns)):
            columns[place] = [json.dumps(names, ensure_ascii=False) for names in columns[place]]
        if self.questions.top is None:
            for probabilities in (fused, *strata):
                columns += probabilities.round(6).T.tolist()
        self._lines([[*row, ""] for row in zip(*columns)])

    def fail(self, file: str, message: str) -> None:
        self._lines([[file, *[""] * (len(self._names) - 1), message]])

    def _lines(self, rows: list[list[Any]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._write(text.getvalue())


class ParquetRows(_Columns):
    """A Parquet file; all probabilities as lists in ``probabilities`` and ``STRATUM_probabilities``.

    The metadata of the schema holds the order of the classes, as JSON under ``classes``.
    """

    ROWS = 8192

    def __init__(self, questions: Questions, sink: IO[bytes]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        super().__init__(questions)
        kinds = [
            (name, pa.float32() if name.endswith("probability") else pa.string()) for name in self.names()
        ]
        for place, name in enumerate(self.lists(), len(kinds) - len(self.lists())):
            kinds[place] = (name, pa.list_(pa.string()))
        if questions.top is None:
            lists = pa.list_(pa.float32())
            kinds += [(f"{who}probabilities", lists) for who in ("", *(f"{s}_" for s in questions.strata))]
        classes = json.dumps(questions.classes, ensure_ascii=False)
        self.schema = pa.schema([*kinds, ("error", pa.string())], metadata={"classes": classes})
        self._waiting: list[Any] = []
        self._writer = parquet.ParquetWriter(sink, self.schema)

    def add(self, files: Names, strata: np.ndarray, fused: np.ndarray, adapted: Names = ()) -> None:
        columns: list[Any] = list(self.columns(files, strata, fused, adapted))
        if self.questions.top is None:
            columns += [list(probabilities.astype("float32")) for probabilities in (fused, *strata)]
        self._keep([*columns, [None] * len(files)])

    def fail(self, file: str, message: str) -> None:
        self._keep([[file], *[[None]] * (len(self.schema) - 2), [message]])

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _keep(self, columns: list[Any]) -> None:
        import pyarrow as pa

        arrays = [pa.array(column, field.type) for column, field in zip(columns, self.schema)]
        self._waiting.append(pa.record_batch(arrays, schema=self.schema))
        if sum(batch.num_rows for batch in self._waiting) >= self.ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting, self.schema).combine_chunks())
            self._waiting.clear()


def require_room_for_rows(output: str, kind: str, questions: Questions, files: Sequence[str]) -> None:
    """Refuse rows that do not fit on the disk, those of an interrupted call taken off.

    Raises
    ------
    CausalFTError
        As :func:`causalft.runs.resources.require_room`.
    """
    if output == "-":
        return
    target = Path(output)
    part = target.with_name(f".{target.name}.part")
    there = part.stat().st_size if kind != "parquet" and part.is_file() else 0
    needed = least_bytes(kind, questions, files) - there
    require_room(target.parent, max(0, needed), "the file of predictions", "give --top, or another --out")


def least_bytes(kind: str, questions: Questions, files: Sequence[str]) -> int:
    """Return the bytes that the rows of these files take at least.

    Examples
    --------
    >>> questions = Questions([str(k) for k in range(1000)], ["clip", "openclip"], None)
    >>> least_bytes("parquet", questions, ["1.jpg"] * 100_000) / 1e9
    1.2
    """
    n_classes = len(questions.classes)
    kept = n_classes if questions.top is None else min(questions.top, n_classes)
    each = 4.0  # of a float32, or of `0.0,`
    if kind == "jsonl":
        each += sum(map(len, questions.classes)) / n_classes + 4  # the name in quotes, colon, space
    rows = len(files) * (1 + len(questions.strata)) * kept * each
    return int(rows) + (0 if kind == "parquet" else sum(map(len, files)))  # Parquet packs similar names


_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}
_SAVE_SECONDS = 5.0


def choose_format(output: str, named: str | None) -> str:
    """Return the format of an output: as named, else by file extension (JSON lines for ``-``).

    Raises
    ------
    CausalFTError
        For an unknown extension, a folder or other irregular file, or Parquet on standard output.

    Examples
    --------
    >>> choose_format("out/answers.csv", None), choose_format("-", None)
    ('csv', 'jsonl')
    """
    if output != "-":
        check_regular(output, way_out="use - for standard output")
    chosen = named or ("jsonl" if output == "-" else _SUFFIXES.get(Path(output).suffix.lower()))
    if chosen is None:
        raise CausalFTError(f"the ending of {output} names no format; add --format {'|'.join(FORMATS)}")
    if output == "-" and chosen == "parquet":
        raise CausalFTError("a Parquet file cannot be streamed to standard output; give --out FILE")
    if output != "-" and Path(output).is_dir():
        raise CausalFTError(f"{output} is a folder; give --out a file")
    return chosen


@dataclass
class Place:
    """An open output.

    Attributes
    ----------
    rows : RowWriter
    start : int
        Images already written by an interrupted call.
    done : int
        Images written so far; updated by the caller, who then calls :meth:`save`.
    """

    rows: RowWriter
    start: int = 0
    done: int = 0

    def save(self) -> None:
        """Flush to disk from time to time."""


@contextmanager
def open_rows(output: str, kind: str, questions: Questions, identity: list[str]) -> Iterator[Place]:
    """Open an output for rows.

    JSON lines and CSV grow in ``.NAME.part`` beside the file; ``.NAME.part.json`` records how much is on disk, and the
    same call resumes there. Parquet files are rewritten from the start.

    Parameters
    ----------
    output : str
        A path, or ``-``.
    kind : {"jsonl", "csv", "parquet"}
    questions : Questions
    identity : list of str
        Identifies the call: hashes of the run, and the images.
    """
    with writing(output):
        yield from _opened(output, kind, questions, identity)


def _opened(output: str, kind: str, questions: Questions, identity: list[str]) -> Iterator[Place]:
    if output == "-":

        def write(text: str) -> None:
            sys.stdout.buffer.write(text.encode("utf-8"))
            sys.stdout.buffer.flush()

        yield Place(JsonRows(questions, write) if kind == "jsonl" else CsvRows(questions, write, True))
    elif kind == "parquet":
        with atomic_path(output) as temporary, open(temporary, "wb") as file:
            rows = ParquetRows(questions, file)
            yield Place(rows)
            rows.close()
    else:
        with _text_file(Path(output), kind, questions, identity) as place:
            yield place


class _TextPlace(Place):
    """A growing text file and its record."""

    def __init__(self, part: Path, record: Path, kind: str, questions: Questions, key: str) -> None:
        self._record, self._key = record, key
        self.start, size = self._found(part)
        self.done = self.start
        self.file = open(part, "r+b" if self.start else "w+b")  # closed by `_text_file`
        self.file.truncate(size)
        self.file.seek(size)
        if kind == "jsonl":
            self.rows = JsonRows(questions, self._write)
        else:
            self.rows = CsvRows(questions, self._write, header=not self.start)
        self._saved = time.monotonic()

    def _write(self, text: str) -> None:
        self.file.write(text.encode("utf-8"))

    def _found(self, part: Path) -> tuple[int, int]:
        try:
            record = read_json(self._record)
            size = int(record["bytes"])
            if record["key"] == self._key and part.stat().st_size >= size:
                return int(record["rows"]), size
        except (CausalFTError, OSError, KeyError, TypeError, ValueError):
            pass
        return 0, 0

    def save(self, now: bool = False) -> None:
        if now or time.monotonic() - self._saved >= _SAVE_SECONDS:
            self.file.flush()
            os.fsync(self.file.fileno())
            write_json(self._record, {"key": self._key, "rows": self.done, "bytes": self.file.tell()})
            self._saved = time.monotonic()


@contextmanager
def _text_file(target: Path, kind: str, questions: Questions, identity: list[str]) -> Iterator[Place]:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    record = target.with_name(f".{target.name}.part.json")
    said = [*identity, kind, str(questions.top), *questions.classes, *questions.strata]
    if questions.threshold is not None:
        said.append(str(questions.threshold.tolist()))
    key = hashlib.sha256(as_bytes("\0".join(said))).hexdigest()
    place = _TextPlace(part, record, kind, questions, key)
    with place.file:
        try:
            yield place
        except BaseException:
            with suppress(OSError):  # report why it stopped instead
                place.save(now=True)
            raise
        place.save(now=True)
    check_regular(target, way_out=f"the rows are in {part}")
    os.replace(part, target)
    record.unlink(missing_ok=True)
