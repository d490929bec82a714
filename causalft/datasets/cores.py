"""How many processors this process may use: fewer than the machine has where a scheduler or a container binds it."""

from __future__ import annotations

import os

__all__ = ["decode_threads", "usable_cores"]


def usable_cores() -> int:
    """Return the number of processors that this process may use, at least 1.

    Examples
    --------
    >>> 1 <= usable_cores() <= os.cpu_count()
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode_threads(threads: int | None = None) -> int:
    """Return how many threads read pictures: as many as asked for, or one a usable processor, at most 8.

    Pillow gives up the interpreter's lock while it decodes and resizes, so threads are enough.

    Examples
    --------
    >>> decode_threads(3), decode_threads(0), decode_threads() <= 8
    (3, 1, True)
    """
    return min(8, usable_cores()) if threads is None else max(1, threads)
