"""What a golden test compares with, in files beside the tests.

After a change that is meant, write the files again and read the difference before it is committed::

    CAUSALFT_GOLDEN=refresh python -m pytest tests/golden
    git diff tests/golden
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["HERE", "REFRESH", "stored_json", "stored_text"]

HERE = Path(__file__).resolve().parent
REFRESH = os.environ.get("CAUSALFT_GOLDEN") == "refresh"


def stored_text(name: str, found: str) -> str:
    """The content of a golden file; ``found`` is written there first if the files are refreshed."""
    path = HERE / name
    if REFRESH:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found, encoding="utf-8", newline="\n")
    return path.read_bytes().decode("utf-8")


def stored_json(name: str, found: Any) -> Any:
    """The same of a JSON document."""
    return json.loads(stored_text(name, json.dumps(found, indent=1, ensure_ascii=False) + "\n"))
