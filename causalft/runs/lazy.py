"""Lazy imports of the public names of a package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    Parameters
    ----------
    package : str
        Its ``__name__``.
    homes : mapping of str to str
        Public name to the module that defines it.

    Examples
    --------
    >>> find, _ = lazy_names("shapes", {"sqrt": "math"})
    >>> find("sqrt")(9.0)
    3.0

    Submodules are found, too:

    >>> import causalft.methods.priors
    >>> causalft.methods.priors.estimate.__name__
    'causalft.methods.priors.estimate'
    """

    def __getattr__(name: str) -> Any:
        if name not in homes:
            # submodules are found as after an eager import
            if not name.startswith("_") and find_spec(f"{package}.{name}") is not None:
                return importlib.import_module(f"{package}.{name}")
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return __getattr__, __dir__
