"""How long ``causalft diagnose`` takes on 5,000 images and three minis, without features and with them in the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from timing import CAUSALFT, summary

N_IMAGES, SIZE = 5000, 64


def diagnose_first_seconds(repeats: int) -> dict[str, Any]:
    """From a cold process to the page, with an empty feature cache."""
    return summary(_taken(repeats)["first"], "seconds")


def diagnose_cached_seconds(repeats: int) -> dict[str, Any]:
    """The same again, with every feature in the cache."""
    return summary(_taken(repeats)["cached"], "seconds")


@cache
def _taken(repeats: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {"first": [], "cached": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_images(folder / "images")
        settings = {**os.environ, "CAUSALFT_CACHE": str(folder / "cache")}
        for _ in range(min(repeats, 3)):
            shutil.rmtree(folder / "cache", ignore_errors=True)
            for which in taken:
                out = folder / "run"
                shutil.rmtree(out, ignore_errors=True)
                # All images are read: those that are not tested complete the labelled images of their class.
                words = ["diagnose", "--data", str(folder / "images"), "--zoo", "mini", "--n-test", "60"]
                words += ["--prior-images", "40", "--out", str(out)]
                started = time.perf_counter()
                subprocess.run([*CAUSALFT, *words], check=True, env=settings, capture_output=True)
                taken[which].append(time.perf_counter() - started)
    return taken


def write_images(folder: Path, n_images: int = N_IMAGES) -> None:
    """Creatures as JPEG files, one folder per class."""
    import numpy as np
    from PIL import Image

    from synthetic.creatures import CLASS_NAMES, part_table, render_creatures

    rng = np.random.default_rng(0)
    labels = np.arange(n_images) % len(CLASS_NAMES)
    factors = rng.integers(0, 4, n_images)
    for start in range(0, n_images, 500):
        rows = slice(start, start + 500)
        for number, picture in enumerate(
            render_creatures(part_table()[labels[rows]], factors[rows], size=SIZE, seed=start)
        ):
            home = folder / CLASS_NAMES[labels[start + number]]
            home.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(home / f"{start + number:05d}.jpg", quality=92)
