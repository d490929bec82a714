"""Whether this process is one of several that a launcher (``torchrun``, ``accelerate launch``) started."""

from __future__ import annotations

import os

__all__ = ["is_launched"]


def is_launched() -> bool:
    """Whether a launcher started several processes, of which this is one."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")
