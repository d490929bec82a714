"""Large buffers go back to the system at once, so that a training does not hold the holes between them.

glibc keeps freed blocks of up to 32 MB in its heap. Aligned blocks, as PyTorch asks for them, are then hardly ever
reused (repaired in glibc 2.38), and a ViT in training takes a third more memory than it needs.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

__all__ = ["return_large_buffers"]

_M_MMAP_THRESHOLD = -3  # of malloc.h
_BYTES = 8 * 2**20


@cache
def return_large_buffers() -> bool:
    """Ask glibc to map blocks of 8 MB and more by themselves, for the rest of the process; whether it did.

    Elsewhere nothing happens. Mapping costs a little time where the system has no huge pages for it;
    ``THP_MEM_ALLOC_ENABLE=1``, which the command line sets before PyTorch is loaded, wins it back.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, _BYTES))
    except (OSError, AttributeError):  # another C library
        return False
