"""How a measure is taken: repeats, their summary, a clock and a memory gauge, Python in a process of its own."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
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


def now(device: str = "cpu") -> float:
    """Seconds of a clock, when everything that was asked of the device is done."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_mib(device: str = "cpu", *, children: bool = False) -> float:
    """Largest memory of this process in MiB: allocated on a GPU, else resident; or of its largest child."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    return resource.getrusage(who).ru_maxrss * unit / 2**20


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
    """Summary of a ratio, and the units of the processor that it was read on."""
    return {**summary(values, "times"), "units": processor_units()}


UNITS = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "vnni": ("avx512_vnni", "avx_vnni"),
    "bf16": ("avx512_bf16", "amx_bf16"),
    "amx": ("amx_tile",),
}
"""Units that decide how fast a precision is, and the flags of Linux for them."""


@cache
def processor_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Which of `UNITS` this processor has; elsewhere than on Linux, what PyTorch finds."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    flags = next((line.split(":")[1].split() for line in text.splitlines() if line.startswith("flags")), None)
    if flags is not None:
        return [unit for unit, names in UNITS.items() if set(names) & set(flags)]
    import torch

    asked = {
        "avx2": "_is_avx2_supported",
        "avx512": "_is_avx512_supported",
        "vnni": "_is_vnni_supported",
        "bf16": "_is_avx512_bf16_supported",
        "amx": "_is_amx_tile_supported",
    }
    return [unit for unit, name in asked.items() if getattr(torch.cpu, name, bool)()]


def child(code: str, *words: str, text: str | None = None) -> str:
    """What a Python process prints last."""
    found = subprocess.run(
        [sys.executable, "-c", code, *words], check=True, capture_output=True, text=True, input=text
    )
    return found.stdout.strip().splitlines()[-1]
