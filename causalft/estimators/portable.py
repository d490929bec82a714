"""What leaves this machine names no path of it: absolute paths of a configuration are cut to their last part."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Mapping
from typing import Any

__all__ = ["portable"]


def portable(text: str, config: Mapping[str, Any]) -> str:
    """Return a text with every absolute path that a configuration holds cut to its last part.

    Examples
    --------
    >>> portable("fit --data /data/me/photos --out x", {"data": "/data/me/photos", "seed": 0})
    'fit --data photos --out x'
    """
    for path in sorted(_absolute(config), key=len, reverse=True):
        short = os.path.basename(path.rstrip("/\\")) or "data"
        # as it is, as JSON writes it, as HTML writes it
        for written in {path, json.dumps(path)[1:-1], html.escape(path)}:
            text = text.replace(written, short)
    return text


def _absolute(document: Any) -> set[str]:
    if isinstance(document, Mapping):
        return set().union(*map(_absolute, document.values())) if document else set()
    if isinstance(document, (list, tuple)):
        return set().union(*map(_absolute, document)) if document else set()
    return {document} if isinstance(document, str) and os.path.isabs(document) else set()
