"""How a measure is taken: repeats, their summary, and Python in a process of its own."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CAUSALFT = [sys.executable, "-c", "from causalft.cli import main; main()"]


def seconds(action: Callable[[], Any], repeats: int) -> list[float]:
    """Return the wall-clock seconds of each repeat."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return taken


def summary(values: list[float], unit: str) -> dict[str, Any]:
    """Return the median with the range and the number of repeats."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "repeats": len(values),
        "unit": unit,
    }


def ratio(values: list[float]) -> dict[str, Any]:
    """Summary of a ratio."""
    return summary(values, "times")


def child(code: str, *words: str, text: str | None = None) -> str:
    """What a Python process prints last."""
    found = subprocess.run(
        [sys.executable, "-c", code, *words], check=True, capture_output=True, text=True, input=text
    )
    return found.stdout.strip().splitlines()[-1]
