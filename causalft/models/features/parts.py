"""Results for consecutive rows of an image set, and the work that makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.data.image_set import ImageSet

__all__ = ["Part", "Work", "as_parts"]


@dataclass(frozen=True)
class Part:
    """What was made of consecutive rows.

    Attributes
    ----------
    rows : (b,) array of int64
        Rows whose image could be read, increasing.
    values : dict of str to (b, ...) array
        Empty if no image could be read.
    skipped : tuple of (int, str)
        Row and message of the others.
    """

    rows: NDArray[np.int64]
    values: dict[str, NDArray[Any]]
    skipped: tuple[tuple[int, str], ...] = ()

    @property
    def last(self) -> int:
        """The last row."""
        return max([*self.rows[-1:].tolist(), *(row for row, _ in self.skipped[-1:])])


Work = Callable[[ImageSet, Sequence[int]], Iterator[Part]]
"""``work(images, rows)`` yields the parts of these rows, in order, a part per batch. It must be picklable for Ray."""


def as_parts(
    stream: Iterable[tuple[NDArray[np.int64], Mapping[str, NDArray[Any]]]], skipped: list[tuple[int, str]]
) -> Iterator[Part]:
    """Yield the parts of a stream of batches.

    Parameters
    ----------
    stream : iterable of (rows, values)
    skipped : list of (int, str)
        To which the stream adds the rows that cannot be read, before it yields their batch; emptied here.
    """
    for rows, values in stream:
        yield Part(np.asarray(rows), dict(values), tuple(skipped))
        skipped.clear()
    if skipped:
        yield Part(np.empty(0, np.int64), {}, tuple(skipped))
        skipped.clear()
