"""Imports DoWhy without what its imports change in the caller's session: SymPy takes over how a prompt shows values."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

__all__ = ["import_dowhy"]


def import_dowhy(name: str = "dowhy") -> ModuleType:
    """Import a module of DoWhy and leave ``sys.displayhook`` as it was.

    Examples
    --------
    >>> hook = sys.displayhook
    >>> callable(import_dowhy("dowhy.graph").get_instruments), sys.displayhook is hook
    (True, True)
    """
    hook = sys.displayhook
    try:
        return importlib.import_module(name)
    finally:
        sys.displayhook = hook
