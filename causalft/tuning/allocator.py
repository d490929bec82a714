"""Large buffers go back to the system at once, so that a training does not hold the holes between them.

glibc keeps freed blocks of up to 32 MB in its heap. Aligned blocks, as PyTorch asks for them, are then hardly ever
reused (repaired in glibc 2.38), and a ViT in training takes a third more memory than it needs.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

__all__ = ["return_large_buffers"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_MAPPED = 8 * 2**20
_KEPT = 64 * 2**20


@cache
def return_large_buffers() -> bool:
    """Ask glibc to map blocks of 8 MB and more by themselves, for the rest of the process; whether it did.

    Of what lies below that, up to 64 MB stay when they are free at the end of the heap. Told of the first threshold,
    glibc would no longer adapt this one, give memory back after every layer and take it again, page by page: the wide
    layers of a ViT then take a sixth longer.

    Elsewhere nothing happens. Mapping costs a little time where the system has no huge pages for it;
    ``THP_MEM_ALLOC_ENABLE=1``, which the command line sets before PyTorch is loaded, wins it back.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        glibc = ctypes.CDLL("libc.so.6")
        return bool(glibc.mallopt(_M_MMAP_THRESHOLD, _MAPPED) and glibc.mallopt(_M_TRIM_THRESHOLD, _KEPT))
    except (OSError, AttributeError):  # another C library
        return False
