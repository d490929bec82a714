"""When glibc gives memory back: large buffers at once, little is kept, and all threads share one heap.

By default glibc keeps what was freed, between blocks that live on, until a training takes half as much again.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

__all__ = ["KEPT_OF_MIB", "PASSING_OF_MIB", "return_buffers"]

# What a training keeps of a piece of a batch is half as large as of the batch, and would stay on the heap between
# blocks that live on. Elsewhere the buffers of a layer are taken again at once: to map smaller ones costs int8 a sixth
# of its time.
KEPT_OF_MIB, PASSING_OF_MIB = 4, 8

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of malloc.h
_MIB = 2**20
_KEPT = 64 * _MIB


def return_buffers(of_mib: int) -> bool:
    """Have glibc map blocks of ``of_mib`` MiB and more by themselves, and keep up to 64 MiB of free heap.

    Threads that start later take from one heap, where each would keep 64 MiB of its own; unless there are many heaps
    already, when glibc leaves their number as it is.

    With the first threshold alone glibc would return memory after every layer and take it again, which costs the wide
    layers of a ViT a sixth of their time. Mapping costs a little without huge pages; ``THP_MEM_ALLOC_ENABLE=1``, which
    the command line sets, wins it back.

    Returns
    -------
    bool
        Whether there are such settings: other C libraries have none.
    """
    glibc = _glibc()
    return bool(
        glibc is not None
        and glibc.mallopt(_M_MMAP_THRESHOLD, of_mib * _MIB)
        and glibc.mallopt(_M_TRIM_THRESHOLD, _KEPT)
        and glibc.mallopt(_M_ARENA_MAX, 1)
    )


@cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallopt.argtypes, library.mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
        return library
    except (OSError, AttributeError):  # another C library
        return None
