"""Predictions to rows of JSON lines, CSV or Parquet, a few at a time."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FORMATS", "CsvRows", "JsonRows", "ParquetRows", "Questions", "RowWriter"]

FORMATS = ("jsonl", "csv", "parquet")


@dataclass(frozen=True)
class Questions:
    """What every row answers: the classes, the strata, and how many classes of each are given (None: all)."""

    classes: list[str]
    strata: list[str]
    top: int | None

    def best(self, probabilities: np.ndarray) -> np.ndarray:
        """The classes given of each row, most probable first: (b, K) to (b, top) class numbers."""
        import numpy as np

        k = min(self.top or len(self.classes), len(self.classes))
        if k == len(self.classes):
            return np.argsort(-probabilities, axis=1, kind="stable")
        few = np.argpartition(-probabilities, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(probabilities, few, axis=1), axis=1, kind="stable")
        return np.take_along_axis(few, order, axis=1)


class RowWriter(ABC):
    """Takes predictions in order and writes a row for each image, also for one that could not be read.

    File names and messages are printable already (`causalft.errors.escape_name`).
    """

    def __init__(self, questions: Questions) -> None:
        self.questions = questions

    @abstractmethod
    def add(self, files: Sequence[str], strata: np.ndarray, fused: np.ndarray) -> None:
        """Write the rows of ``files``: ``strata`` has shape (n_strata, b, K), ``fused`` (b, K)."""

    @abstractmethod
    def fail(self, file: str, message: str) -> None:
        """Write the row of an image that could not be read."""


class JsonRows(RowWriter):
    """One JSON object a line."""

    def __init__(self, questions: Questions, write: Callable[[str], Any]) -> None:
        super().__init__(questions)
        self._write = write

    def add(self, files: Sequence[str], strata: np.ndarray, fused: np.ndarray) -> None:
        mixed = self._answers(fused)
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
        # All classes keep the order of the run, so that rows can be stacked.
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
    """What CSV and Parquet share: names of columns, and their values."""

    def names(self) -> list[str]:
        """All columns in order."""
        found = ["file", "prediction", "probability"]
        for name in self.questions.strata:
            found += [f"{name}_prediction", f"{name}_probability"]
        if self.questions.top is not None:
            for who in ("", *(f"{name}_" for name in self.questions.strata)):
                for rank in range(2, min(self.questions.top, len(self.questions.classes)) + 1):
                    found += [f"{who}top{rank}", f"{who}top{rank}_probability"]
        return found

    def columns(self, files: Sequence[str], strata: np.ndarray, fused: np.ndarray) -> Iterator[list[Any]]:
        """Their values, in the same order."""
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

    @staticmethod
    def _rank(
        classes: np.ndarray, probabilities: np.ndarray, best: np.ndarray, rank: int
    ) -> Iterator[list[Any]]:
        chosen = best[:, rank]
        yield classes[chosen].tolist()
        yield probabilities[range(len(chosen)), chosen].round(6).tolist()


class CsvRows(_Columns):
    """Comma-separated values with a header; all probabilities as ``p:CLASS`` and ``STRATUM:CLASS``."""

    def __init__(self, questions: Questions, write: Callable[[str], Any], header: bool) -> None:
        super().__init__(questions)
        self._write = write
        self._names = self.names()
        if questions.top is None:
            self._names += [f"{who}:{k}" for who in ("p", *questions.strata) for k in questions.classes]
        if header:
            self._lines([[*self._names, "error"]])

    def add(self, files: Sequence[str], strata: np.ndarray, fused: np.ndarray) -> None:
        columns = list(self.columns(files, strata, fused))
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

    The order of the classes in these lists stands in the metadata of the schema, as JSON under ``classes``.
    """

    ROWS = 8192

    def __init__(self, questions: Questions, sink: IO[bytes]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        super().__init__(questions)
        kinds = [
            (name, pa.float32() if name.endswith("probability") else pa.string()) for name in self.names()
        ]
        if questions.top is None:
            lists = pa.list_(pa.float32())
            kinds += [(f"{who}probabilities", lists) for who in ("", *(f"{s}_" for s in questions.strata))]
        classes = json.dumps(questions.classes, ensure_ascii=False)
        self.schema = pa.schema([*kinds, ("error", pa.string())], metadata={"classes": classes})
        self._waiting: list[Any] = []
        self._writer = parquet.ParquetWriter(sink, self.schema)

    def add(self, files: Sequence[str], strata: np.ndarray, fused: np.ndarray) -> None:
        columns: list[Any] = list(self.columns(files, strata, fused))
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
