"""Results for the rows of an image set, in order: made here, by the processes of a launcher, or by workers of Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError, nearest
from causalft.models.tuning.team import current_team

__all__ = ["ENGINES", "Engine", "Launched", "Part", "Work", "as_parts", "open_engine"]

ENGINES = ("local", "ray")
"""``local``: this process, or those of a launcher. ``ray``: workers of a Ray cluster."""


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


class Engine(Protocol):
    """Who does the work."""

    def parts(
        self, images: ImageSet, rows: Sequence[int], batch_size: int, work: Work, *, everywhere: bool = False
    ) -> Iterator[Part]:
        """Yield the parts of all rows, in order.

        ``everywhere``: in all processes of a launcher, not only in the first.
        """
        ...


@dataclass(frozen=True)
class Launched:
    """This process, or those that work together (:func:`causalft.models.tuning.team.work_together`).

    Attributes
    ----------
    batches : int
        Batches that each process does before they exchange results.
    """

    batches: int = 4

    def parts(
        self, images: ImageSet, rows: Sequence[int], batch_size: int, work: Work, *, everywhere: bool = False
    ) -> Iterator[Part]:
        def own(rows: Sequence[int]) -> Iterator[tuple[int, Part]]:
            for part in work(images, rows):
                yield part.last, part

        return current_team().in_order(rows, batch_size * self.batches, own, everywhere=everywhere)


def open_engine(name: str = "local", workers: int | None = None) -> Engine:
    """Return the engine of a name.

    Parameters
    ----------
    name : {"local", "ray"}
    workers : int, optional
        Of Ray: by default one per GPU of the cluster, or per processor if it has none.

    Raises
    ------
    CausalFTError
        For an unknown name, workers without Ray, or Ray where it is not installed or under a launcher.

    Examples
    --------
    >>> open_engine()
    Launched(batches=4)
    """
    if name not in ENGINES:
        raise CausalFTError(f"unknown engine {name!r}; {nearest(name, ENGINES)}")
    if name == "local":
        if workers is not None:
            raise CausalFTError(
                "--workers goes with --engine ray; without Ray, a launcher starts the processes: "
                "`torchrun --nproc-per-node 2 --no-python causalft ...`"
            )
        return Launched()
    from causalft.models.features.ray_workers import RayWorkers

    return RayWorkers.open(workers)


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
