"""Disk and memory: what is free, what is used, and a refusal where a command needs more room than there is."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from causalft.errors import CausalFTError, short

__all__ = ["free_bytes", "peak_memory", "require_room", "size_words"]

_MARGIN = 1.05  # tables of contents, blocks of the file system, other writers


def free_bytes(path: str | os.PathLike[str]) -> int:
    """Return the bytes that are free where ``path`` is, or would be created."""
    place = Path(path).expanduser().absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def size_words(n_bytes: float) -> str:
    """Return a size in decimal units.

    Examples
    --------
    >>> size_words(999), size_words(1_500_000), size_words(2.34e9)
    ('1 kB', '1.5 MB', '2.3 GB')
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{max(1, round(n_bytes / 1e3))} kB"


def peak_memory() -> int:
    """Return the largest resident set of this process so far, in bytes; 0 where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def require_room(path: str | os.PathLike[str], n_bytes: float, what: str, way_out: str) -> None:
    """Refuse a command whose files do not fit on the disk.

    Parameters
    ----------
    path : path
        Where they are written; it need not exist yet.
    n_bytes : float
        What they need at least; 5 % are added.
    what : str
        The subject of the message.
    way_out : str
        What to do instead.

    Raises
    ------
    CausalFTError
        With both numbers.

    Examples
    --------
    >>> require_room(".", 1e24, "the run", "choose another folder (--out)")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    causalft.errors.CausalFTError: the run needs at least 1050000000000.0 TB in ., which has ... free; free ...
    """
    needed, free = _MARGIN * n_bytes, free_bytes(path)
    if free < needed:
        raise CausalFTError(
            f"{what} needs at least {size_words(needed)} in {short(path, 300)}, which has {size_words(free)} free; "
            f"free some space or {way_out}"
        )
