"""Measures of big sets: a list of 437,513 files in 8,142 classes, the size of iNaturalist 2018, opened and cut."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from timing import child, summary

N_FILES, N_CLASSES = 437_513, 8142

SHOW = """
import json, resource, sys
from causalft.cli import main
sys.stdout, shown = open(sys.argv[2], "w"), sys.stdout
main(["data", "show", sys.argv[1]], standalone_mode=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, file=shown)
"""

SPLITS = """
import json, resource, sys, time
from causalft.data import cut_splits
from causalft.data.opening import open_images
started = time.perf_counter(); cpu = time.process_time()
splits = cut_splits(open_images(sys.argv[1]), seed=0)
print(json.dumps({"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu,
                  "training_images": len(splits.train),
                  "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
"""


def make_list(folder: Path, n_files: int = N_FILES, n_classes: int = N_CLASSES) -> Path:
    """Write a long-tailed list ``path label`` and the small images that it names; return the list.

    Bytes after the end of a JPEG make every file its own, in a few sizes, so that a search for duplicates looks into
    all of them.
    """
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    jpegs = []
    for side in range(16, 36):
        Image.fromarray(rng.integers(0, 256, (side, 16, 3), dtype=np.uint8)).save(folder / "one.jpg")
        jpegs.append((folder / "one.jpg").read_bytes())
    shares = 1000.0 ** (-np.arange(n_classes) / (n_classes - 1))
    counts = np.maximum(2, n_files * shares / shares.sum()).astype(int)
    counts[0] += n_files - counts.sum()
    lines, number = [], 0
    for label in rng.permutation(n_classes).tolist():
        os.makedirs(folder / f"images/{label:04d}")
        for _ in range(counts[label]):
            name = f"images/{label:04d}/{number:032x}.jpg"
            (folder / name).write_bytes(jpegs[number % len(jpegs)] + b"%08d" % number)
            lines.append(f"{name} {label}\n")
            number += 1
    path = folder / "list.txt"
    path.write_text("".join(lines[i] for i in rng.permutation(n_files)))
    return path


def open_list_seconds(repeats: int, n_files: int = N_FILES, n_classes: int = N_CLASSES) -> dict[str, Any]:
    """`causalft data show` on a list of files that exist, from a cold process to its exit; its peak memory.

    ``splits`` is `causalft.data.cut_splits` as `fit` calls it, with the search for equal files, in another process.
    """
    with tempfile.TemporaryDirectory() as name:
        path = make_list(Path(name), n_files, n_classes)
        taken, peaks = [], []
        for _ in range(max(1, min(repeats, 3))):
            started = time.perf_counter()
            peaks.append(float(child(SHOW, str(path), os.devnull)))
            taken.append(time.perf_counter() - started)
        splits = json.loads(child(SPLITS, str(path)))
    return {**summary(taken, "seconds"), "peak_gb": max(peaks), "splits": splits}
