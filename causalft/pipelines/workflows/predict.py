"""The work of ``causalft predict``: classify a stream of images with a fitted run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError
from causalft.methods.estimators.fitted import FittedStrata, load_fitted, predict_stream
from causalft.pipelines.workflows.prediction_files import Questions, open_rows
from causalft.runs.files import sha256_file

__all__ = ["Prediction"]

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows (b,), probabilities of the strata (n_strata, b, K) and fused (b, K)."""


@dataclass
class Prediction:
    """Classification of images by a run; each method reads them once.

    Attributes
    ----------
    run : path
        Folder of the fit.
    images : ImageSet
    device : str
    batch_size : int
        Images per batch.
    on_error : {"stop", "skip"}
        Whether an unreadable image stops the call, or is reported on standard error and skipped.
    skipped : list of (int, str)
        Row and message of each skipped image.
    """

    run: str | Path
    images: ImageSet
    device: str = "auto"
    batch_size: int = 64
    on_error: str = "stop"
    skipped: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model: FittedStrata = load_fitted(self.run, device=self.device)
        self.classes: list[str] = self.model.classes_.tolist()

    def stream(self, rows: range | None = None) -> Iterator[Batch]:
        """Yield batches of all rows, or of some, without unreadable images."""
        label = f"predicting {len(self.images)} images"
        options: dict[str, Any] = {} if rows is None else {"rows": rows}
        yield from predict_stream(
            self.model,
            self.images,
            label=label,
            batch_size=self.batch_size,
            on_error=self.on_error,
            bad=self._skip,
            **options,
        )

    def _skip(self, row: int, message: str) -> None:
        self.skipped.append((row, message))
        tqdm.write(f"causalft: skipped: {message}", file=sys.stderr)

    def document(self) -> list[dict[str, Any]]:
        """Return one entry per image with all probabilities, fused and per stratum."""
        document: dict[int, dict[str, Any]] = {}
        for rows, strata, fused in self.stream():
            for i, row in enumerate(rows.tolist()):
                each = {name: self._answer(strata[c, i]) for c, name in enumerate(self.model.members_)}
                document[row] = {"file": self.images.files[row], **self._answer(fused[i]), "strata": each}
        for row, message in self.skipped:
            document[row] = {"file": self.images.files[row], "error": message}
        return [document[row] for row in sorted(document)]

    def _answer(self, probabilities: np.ndarray) -> dict[str, Any]:
        named = dict(zip(self.classes, probabilities.tolist(), strict=True))
        return {"prediction": self.classes[int(probabilities.argmax())], "probabilities": named}

    def to_file(self, output: str, kind: str, top: int | None, say: Callable[[str], None]) -> None:
        """Write one row per image; an interrupted call resumes.

        Parameters
        ----------
        output : str
            A file, or ``-`` for standard output.
        kind : {"jsonl", "csv", "parquet"}
        top : int, optional
            Number of classes per image; all by default.
        say : callable
            Called with progress messages.

        Raises
        ------
        CausalFTError
            If no image could be read, or the file cannot be written.
        """
        images = self.images
        questions = Questions(self.classes, list(self.model.members_), top)
        fitted = [sha256_file(Path(self.run) / name) for name in ("config.json", "metrics.json")]
        started, written = time.perf_counter(), 0
        with open_rows(output, kind, questions, [*fitted, *images.files]) as place:
            if place.start:
                say(f"{place.start:,} of {len(images):,} images are there already; going on")
            rows = range(place.start, len(images))
            for piece in self._in_order(self.stream(rows)):
                if isinstance(piece[1], str):
                    place.rows.fail(images.files[piece[0]], piece[1])
                    place.done = piece[0] + 1
                else:
                    found, strata, fused = piece
                    place.rows.add([images.files[row] for row in found], strata, fused)
                    place.done, written = int(found[-1]) + 1, written + len(found)
                place.save()
            if rows and not written:
                raise CausalFTError(f"none of {len(rows):,} images could be read (they are named above)")
        seconds = time.perf_counter() - started
        where = "standard output" if output == "-" else output
        done = f"{written:,} image{'' if written == 1 else 's'}"
        rate = f"{written / max(seconds, 1e-9):,.0f} a second"
        bad = f"; {len(self.skipped):,} could not be read" if self.skipped else ""
        say(f"{done} in {seconds:,.1f} s ({rate}) to {where}{bad}")

    def _in_order(self, batches: Iterator[Batch]) -> Iterator[Any]:
        """Yield batches, and (row, message) of skipped images, in the order of the images."""
        told = 0
        for found, strata, fused in batches:
            start = 0
            while told < len(self.skipped) and self.skipped[told][0] < found[-1]:
                end = int(np.searchsorted(found, self.skipped[told][0]))
                if end > start:
                    yield found[start:end], strata[:, start:end], fused[start:end]
                yield self.skipped[told]
                start, told = end, told + 1
            yield found[start:], strata[:, start:], fused[start:]
        yield from self.skipped[told:]
