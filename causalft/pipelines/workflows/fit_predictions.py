"""``predictions.parquet`` of a fit: one row per test image, written in blocks; of many classes the most likely ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from causalft.data.splits import Splits
from causalft.methods.estimators.member import MemberPrediction
from causalft.methods.estimators.mixing import Mixing
from causalft.methods.estimators.probabilities import member_blocks, members_rows
from causalft.methods.estimators.stored_logits import MANY_CLASSES
from causalft.pipelines.workflows.prediction_files import most_likely
from causalft.runs.folder import Run, atomic_path
from causalft.runs.progress import named

__all__ = ["write_predictions"]

_NUMBERS = 16_000_000  # of a row group: 64 MB of float32


@named("writing the predictions")
def write_predictions(
    run: Run,
    splits: Splits,
    members: Mapping[str, MemberPrediction],
    mixing: Mixing,
    *,
    top: int = 5,
    all_probabilities: bool = False,
) -> None:
    """Write one row per test image: file, label, predictions and probabilities of fusion and strata.

    Parameters
    ----------
    run : Run
    splits : Splits
    members : mapping of str to MemberPrediction
    mixing : Mixing
        How they are fused.
    top : int
        Above 200 classes, ``top_classes`` and ``top_probabilities`` hold this many, most likely first, and
        ``label_probability`` that of the label.
    all_probabilities : bool
        ``probabilities`` holds all classes, as it does up to 200.
    """
    every = all_probabilities or len(splits.class_names) <= MANY_CLASSES
    names = pa.array(list(splits.class_names), pa.string())
    labels, files = splits.test.labels, splits.test.files
    schema = _schema(list(members), every)
    of_group = max(1, _NUMBERS // len(names)) if every else len(labels)
    readers = members_rows([found.test_logits for found in members.values()], "logits")
    with atomic_path(run.file("predictions.parquet")) as temporary:
        with parquet.ParquetWriter(temporary, schema) as writer:
            waiting: list[list[NDArray[Any]]] = []
            start = 0
            for rows, log_p in member_blocks(readers):
                fused = mixing.of_log_probabilities(log_p)
                waiting.append([*_best(fused), *(part for each in log_p for part in _best(np.exp(each)))])
                if every:
                    waiting[-1].append(fused.astype(np.float32))
                else:
                    classes = most_likely(fused, min(top, len(names)))
                    found = np.take_along_axis(fused, classes, axis=1)
                    waiting[-1] += [fused[np.arange(len(fused)), labels[rows]], classes, found]
                if rows.stop - start >= of_group or rows.stop == len(labels):
                    numbers = [np.concatenate(column) for column in zip(*waiting, strict=True)]
                    texts = [
                        pa.array(files[start : rows.stop]),
                        names.take(pa.array(labels[start : rows.stop])),
                    ]
                    columns = [*texts, *(_column(column, names) for column in numbers)]
                    arrays = [column.cast(kind) for column, kind in zip(columns, schema.types, strict=True)]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                    waiting, start = [], rows.stop


def _schema(strata: list[str], every: bool) -> pa.Schema:
    text, number, numbers = pa.string(), pa.float64(), pa.list_(pa.float32())
    columns = [("file", text), ("label", text), ("prediction", text), ("probability", number)]
    for name in strata:
        columns += [(f"{name}_prediction", text), (f"{name}_probability", number)]
    if every:
        return pa.schema([*columns, ("probabilities", numbers)])
    few = [("label_probability", number), ("top_classes", pa.list_(text)), ("top_probabilities", numbers)]
    return pa.schema([*columns, *few])


def _best(probabilities: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Most probable class of each row, and its probability."""
    best = probabilities.argmax(axis=1)
    return best, probabilities[np.arange(len(best)), best]


def _column(values: NDArray[Any], names: pa.Array) -> pa.Array:
    """Numbers, or names of whole numbers; one list per row of a table."""
    flat = pa.array(values.reshape(-1))
    flat = names.take(flat) if values.dtype.kind == "i" else flat
    if values.ndim == 1:
        return flat
    return pa.ListArray.from_arrays(
        pa.array(np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)), flat
    )
