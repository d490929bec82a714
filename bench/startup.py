"""What a command costs beside the library that it cannot do without, in processor seconds of whole processes."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from timing import CAUSALFT, ratio

REFUSALS: tuple[tuple[str, ...], ...] = (
    ("fot",),
    ("fit", "--epochs", "many"),
    ("fit", "--zoo", "no/such/zoo"),
    ("fit", "--strata", "clap"),
    ("fit", "--data", "no/such/folder"),
    ("predict", "no/such/run", "image.png"),
    ("card", "no/such/run"),
    ("push", "no/such/run", "--dry-run"),
    ("data", "show", "no/such/folder"),
)

LISTINGS: tuple[tuple[str, ...], ...] = (
    ("--help",),
    ("fit", "--help"),
    ("weights", "list"),
    ("zoo", "list"),
    ("zoo", "show", "clip"),
    ("cache", "list"),
    ("experiment", "list"),
)


def processor_seconds(command: list[str], code: int = 0) -> float:
    """User and system seconds of a process and its children, from its start to its exit.

    Raises
    ------
    RuntimeError
        If it ends with another exit code.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != code:
        raise RuntimeError(f"{command}: exit code {done.returncode}\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _importing(library: str) -> list[str]:
    return [sys.executable, "-c", f"import {library}"]


def _ratios(commands: tuple[tuple[str, ...], ...], code: int, library: str, repeats: int) -> dict[str, Any]:
    """The largest of the commands' median ratios; each round measures the library anew."""
    found: dict[str, list[float]] = {" ".join(words): [] for words in commands}
    processor_seconds(_importing(library))  # byte-compile once
    for words in commands:
        processor_seconds([*CAUSALFT, *words], code)
    for _ in range(repeats):
        alone = processor_seconds(_importing(library))
        for words in commands:
            found[" ".join(words)].append(processor_seconds([*CAUSALFT, *words], code) / alone)
    worst = max(found, key=lambda words: statistics.median(found[words]))
    each = {words: statistics.median(values) for words, values in found.items()}
    return {**ratio(found[worst]), "of": worst, "each": each}


def refusal_startup_ratio(repeats: int) -> dict[str, Any]:
    """The slowest of nine refusals over `import numpy`."""
    return _ratios(REFUSALS, 2, "numpy", repeats)


def listing_startup_ratio(repeats: int) -> dict[str, Any]:
    """The slowest of the listings, `card` and `push --dry-run` over `import numpy`."""
    with tempfile.TemporaryDirectory() as folder:
        run = _fitted(Path(folder))
        commands = (*LISTINGS, ("card", run), ("push", run, "--dry-run"))
        return _ratios(commands, 0, "numpy", repeats)


def predict_startup_ratio(repeats: int) -> dict[str, Any]:
    """`causalft predict` of one image with a run fitted on the mini zoo over `import torch`."""
    import numpy as np
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        run, image = _fitted(Path(folder)), str(Path(folder) / "image.png")
        noise = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(image)
        return _ratios((("predict", run, image),), 0, "torch", repeats)


def _fitted(folder: Path) -> str:
    """A run of all three strata of the mini zoo; how well it was trained does not matter here."""
    run = str(folder / "run")
    subprocess.run(
        [*CAUSALFT, "fit", "--epochs", "1", "--no-cache", "--out", run],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return run
