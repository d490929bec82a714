"""Where on this machine the package keeps what it has computed or fetched: a variable's folder, or the user's cache."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder(name: str, variable: str) -> Path:
    """Return the folder that an environment variable names, or ``causalft/NAME`` in the user's cache folder.

    Parameters
    ----------
    name : str
        Below ``$XDG_CACHE_HOME`` (``~/.cache`` where it is not set).
    variable : str
        Of the environment; empty counts as not set.

    Examples
    --------
    >>> os.environ["MY_WEIGHTS"] = "/data/weights"
    >>> cache_folder("weights", "MY_WEIGHTS").as_posix()
    '/data/weights'
    >>> del os.environ["MY_WEIGHTS"]
    >>> cache_folder("weights", "MY_WEIGHTS").parts[-2:]
    ('causalft', 'weights')
    """
    if chosen := os.environ.get(variable):
        return Path(chosen).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "causalft" / name
