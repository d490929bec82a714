"""Under a launcher (``torchrun``, ``accelerate launch``): one process speaks, and one says what failed."""

from __future__ import annotations

import datetime
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from causalft.runs.launch import is_launched

__all__ = ["SHARED", "follows", "is_launched", "one_speaks", "said_by_another"]

SHARED = ("fit", "probe", "predict", "evaluate")
"""Verbs whose work the processes of a launcher share; the others are refused under one."""

_SECONDS = 3  # to reach the launcher
_PAUSE = 0.5  # a launcher ends the others as soon as one has ended


def follows() -> bool:
    """Whether another process speaks and writes."""
    return is_launched() and os.environ.get("RANK", "0") != "0"


@contextmanager
def one_speaks() -> Iterator[None]:
    """Discard the standard output of all processes but the first."""
    if not follows():
        yield
        return
    speaking = sys.stdout
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stdout = nowhere
        try:
            yield
        finally:
            sys.stdout = speaking


def said_by_another(code: int) -> int | None:
    """Claim the one error message of a launch.

    Parameters
    ----------
    code : int
        Exit code of this process.

    Returns
    -------
    int or None
        None if this process is the first to fail, and is to print; else the exit code of that one.
    """
    if not is_launched():
        return None
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # is there, or was about to be

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        store = TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=datetime.timedelta(seconds=_SECONDS),
        )
        first = store.add(f"causalft/failed/{attempt}", 1) == 1
        if first:
            store.set(f"causalft/code/{attempt}", str(code))
            return None
        found = int(store.get(f"causalft/code/{attempt}"))
    except (KeyError, ValueError, RuntimeError):  # no launcher answers: rather twice than never
        return None
    time.sleep(_PAUSE)
    return found
