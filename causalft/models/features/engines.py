"""Who works on the rows of an image set: this process, the processes of a launcher, or workers of Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError, nearest
from causalft.models.features.parts import Part, Work
from causalft.models.features.ray_workers import RayWorkers
from causalft.models.tuning.team import current_team

__all__ = ["ENGINES", "Engine", "Launched", "open_engine"]

ENGINES = ("local", "ray")
"""``local``: this process, or those of a launcher. ``ray``: workers of a Ray cluster."""


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

        return current_team().in_order(rows, batch_size, own, batches=self.batches, everywhere=everywhere)


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
                "--workers goes with --engine ray; without Ray, start several processes with torchrun"
            )
        return Launched()
    return RayWorkers.open(workers)
