"""Where streamed predictions go: standard output, or a file that appears whole and resumes if it was interrupted."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from causalft.cli.predict_rows import FORMATS, CsvRows, JsonRows, ParquetRows, Questions, RowWriter
from causalft.errors import CausalFTError, as_bytes
from causalft.runs.folder import atomic_path, check_regular, read_json, write_json
from causalft.runs.locks import writing

__all__ = ["Place", "choose_format", "open_rows"]

_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}
_SAVE_SECONDS = 5.0


def choose_format(output: str, named: str | None) -> str:
    """Return the format of an output: the named one, or that of the file's ending (JSON lines for ``-``).

    Raises
    ------
    CausalFTError
        If the ending says nothing, the place is a folder or no regular file (a device, a pipe), or Parquet should go to
        standard output.

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
        Images of an earlier, interrupted call whose rows are there already.
    done : int
        Images whose rows are written, up to the first that is not; kept by the caller, who calls :meth:`save` then.
    """

    rows: RowWriter
    start: int = 0
    done: int = 0

    def save(self) -> None:
        """Make what was written safe, now and then."""


@contextmanager
def open_rows(output: str, kind: str, questions: Questions, identity: list[str]) -> Iterator[Place]:
    """Open an output for the rows of a call.

    JSON lines and CSV grow in ``.NAME.part`` beside the file; the record ``.NAME.part.json`` says how far they are
    safe. The same call goes on from there. A Parquet file has its index at the end and is written anew.

    Parameters
    ----------
    output : str
        A path, or ``-``.
    kind : {"jsonl", "csv", "parquet"}
    questions : Questions
    identity : list of str
        What makes two calls the same: the run, the images.
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
    """A growing text file with its record."""

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
    key = hashlib.sha256(as_bytes("\0".join(said))).hexdigest()
    place = _TextPlace(part, record, kind, questions, key)
    with place.file:
        try:
            yield place
        except BaseException:
            with suppress(OSError):  # the reason why it stopped is what should be seen
                place.save(now=True)
            raise
        place.save(now=True)
    check_regular(target, way_out=f"the rows are in {part}")
    os.replace(part, target)
    record.unlink(missing_ok=True)
