"""Measures at full size: a prior of 8,142 classes, predictions of 100,000 images, two processes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from timing import CAUSALFT, HERE, child, ratio, seconds, summary

GLA = """
import json, resource, time
import numpy as np
from causalft.methods.priors import estimate_prior
rng = np.random.default_rng(0); K, n = 8142, 25_000
labels = np.concatenate([np.arange(K), rng.integers(0, K, n - K)])
text = rng.normal(size=(K, 64)).astype(np.float32); text /= np.linalg.norm(text, axis=1, keepdims=True)
images = text[labels] + (0.16 * rng.normal(size=(n, 64))).astype(np.float32)
logits = 15 * images @ text.T + np.log(100.0 ** (-rng.permutation(K) / (K - 1))).astype(np.float32)
started = time.perf_counter(); found = estimate_prior(logits, labels); assert found.converged
print(json.dumps({"seconds": time.perf_counter() - started,
                  "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
"""

PREDICT = """
import resource, sys
from causalft.cli import main
main(sys.argv[1:], standalone_mode=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@cache
def gla_runs(repeats: int) -> list[dict[str, float]]:
    """GLA's prior for 8,142 classes from 25,000 rows, each time in a process of its own."""
    return [json.loads(child(GLA)) for _ in range(max(1, min(repeats, 3)))]


def gla_seconds(repeats: int) -> dict[str, Any]:
    """Time of that estimate."""
    return summary([each["seconds"] for each in gla_runs(repeats)], "seconds")


def gla_peak_gb(repeats: int) -> dict[str, Any]:
    """Largest resident set of its process."""
    return summary([each["gb"] for each in gla_runs(repeats)], "GB")


def predict_peak_gb(repeats: int, n_images: int = 100_000) -> dict[str, Any]:
    """`causalft predict` over 100,000 small images with one mini: memory, and its speed beside the encoder's own.

    The encoder's own speed is that of its crops in memory, with the threads that `predict` leaves to it.
    """
    import numpy as np
    from PIL import Image

    from causalft.methods.estimators.strata import StrataClassifier

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fit = [*CAUSALFT, "fit", "--strata", "clip", "--epochs", "1", "--out", str(folder / "run"), "--json"]
        subprocess.run(fit, check=True, capture_output=True)
        rng = np.random.default_rng(0)
        files = []
        for number in range(1000):
            files.append(str(folder / f"{number}.jpg"))
            Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(files[-1])
        listed = "\n".join((files * (n_images // 1000 + 1))[:n_images])
        started = time.perf_counter()
        words = ["predict", str(folder / "run"), "-", "-o", str(folder / "out.csv")]
        peak = float(child(PREDICT, *words, text=listed))
        taken = time.perf_counter() - started
        member = StrataClassifier.load(folder / "run").members_["clip"]
        import torch

        pixels = torch.from_numpy(rng.integers(0, 256, (4096, 40, 40, 3), dtype=np.uint8))
        encode = seconds(lambda: [member.logits_of(part) for part in pixels.split(64)], repeats)
    return {
        **summary([peak], "GB"),
        "images_per_second": n_images / taken,
        "encoder_images_per_second": len(pixels) / statistics.median(encode),
    }


def predict_share_of_encoder(repeats: int) -> dict[str, Any]:
    """Images per second of prediction from small files over those of the encoder alone, both a ViT-B/16."""
    found = subprocess.run(
        [sys.executable, str(HERE / "predict_share.py"), str(max(3, repeats))],
        check=True,
        capture_output=True,
        text=True,
    )
    return ratio(json.loads(found.stdout.strip().splitlines()[-1]))


def two_process_max_diff(repeats: int) -> dict[str, Any]:
    """Largest difference of the weights after 50 steps, two processes against one (`bench/two_processes.py`)."""
    found = subprocess.run(
        [sys.executable, str(HERE / "two_processes.py")], check=True, capture_output=True, text=True
    )
    return summary([float(found.stdout.strip().splitlines()[-1])], "largest difference")


@cache
def shared_by_two(repeats: int) -> dict[str, Any]:
    """Two processes of one core each against one (`bench/two_shares.py`)."""
    found = subprocess.run(
        [sys.executable, str(HERE / "two_shares.py"), str(max(1, min(repeats, 3)))],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(found.stdout.strip().splitlines()[-1])


def two_process_encode_speedup(repeats: int) -> dict[str, Any]:
    """Seconds of encoding in one process of one core, over those in two."""
    return ratio(shared_by_two(repeats)["encode"])


def two_process_predict_speedup(repeats: int) -> dict[str, Any]:
    """Seconds of `causalft predict` after loading in one process of one core, over those in two."""
    return ratio(shared_by_two(repeats)["predict"])


def two_process_rows_max_diff(repeats: int) -> dict[str, Any]:
    """Largest difference of their features and probabilities."""
    return summary([shared_by_two(repeats)["largest difference"]], "largest difference")
