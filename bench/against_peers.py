"""Measures on a ViT-B/16 beside plain PyTorch as the peers write it (`bench/vit_b16.py`)."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from functools import cache
from typing import Any

from timing import HERE, ratio, summary


def vit(side: str, task: str, *words: str) -> dict[str, Any]:
    """One side of the comparison, in a process of its own."""
    command = [sys.executable, str(HERE / "vit_b16.py"), side, task, *words]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(found.stdout)


Pairs = list[tuple[dict[str, Any], dict[str, Any]]]
"""(reference, causalft) of each repeat."""


def pairs(task: str, repeats: int, precision: str = "auto", *more: str) -> Pairs:
    """Both sides after each other, so that what else the machine does falls on both; the reference is in fp32."""
    words = ("--precision", precision, *more)
    return [(vit("reference", task), vit("causalft", task, *words)) for _ in range(max(1, min(repeats, 3)))]


@cache
def training_pairs(repeats: int, precision: str = "auto") -> Pairs:
    """Speed and memory are of the same runs."""
    return pairs("train", repeats, precision)


def train_speedup(repeats: int, precision: str = "auto") -> dict[str, Any]:
    """Training images per second of ViT-B/16 with AdaptFormer over the plain fp32 reference, same batch."""
    found = training_pairs(repeats, precision)
    assert all(a["n_trained"] == b["n_trained"] for a, b in found)
    return _speedup(found)


def train_memory_ratio(repeats: int, precision: str = "auto") -> dict[str, Any]:
    """Largest resident set of that training over the reference's, libraries included."""
    return ratio([b["peak_mib"] / a["peak_mib"] for a, b in training_pairs(repeats, precision)])


def infer_speedup(repeats: int, precision: str = "auto", *more: str) -> dict[str, Any]:
    """Inference images per second over the reference, batch 16."""
    return _speedup(pairs("infer", repeats, precision, *more))


def merged_infer_speedup(repeats: int) -> dict[str, Any]:
    """The same with 8 tokens merged in each block."""
    return infer_speedup(repeats, "auto", "--merge-tokens", "8")


def merged_int8_infer_speedup(repeats: int) -> dict[str, Any]:
    """The same in int8."""
    return infer_speedup(repeats, "int8", "--merge-tokens", "8")


def _speedup(found: Pairs) -> dict[str, Any]:
    times = [statistics.median(a["seconds"]) / statistics.median(b["seconds"]) for a, b in found]
    return {**ratio(times), "precision": found[0][1]["precision"]}


def int8_infer_speedup(repeats: int) -> dict[str, Any]:
    """The same in int8."""
    return infer_speedup(repeats, "int8")


def int8_train_speedup(repeats: int) -> dict[str, Any]:
    """Training in int8, forward and backward, over the reference."""
    return train_speedup(repeats, "int8")


def int8_train_memory_ratio(repeats: int) -> dict[str, Any]:
    """Largest resident set of the training in int8 over the reference's."""
    return train_memory_ratio(repeats, "int8")


def int8_agreement(repeats: int) -> dict[str, Any]:
    """`infer_agreement` in int8."""
    return infer_agreement(repeats, "int8")


def infer_agreement(repeats: int, precision: str = "auto") -> dict[str, Any]:
    """Share of pictures to which the nearest class mean gives the same class as in fp32, 50 classes, random weights."""
    import numpy as np

    exact, fast = vit("reference", "agree"), vit("causalft", "agree", "--precision", precision)
    labels = np.array(exact["labels"])
    features = {name: np.array(side["features"]) for name, side in (("exact", exact), ("fast", fast))}
    means = np.stack([features["exact"][labels == k].mean(0) for k in range(labels.max() + 1)])
    predicted = {name: (found @ means.T).argmax(1) for name, found in features.items()}
    right = float((predicted["exact"] == labels).mean())
    found = summary([float((predicted["exact"] == predicted["fast"]).mean())], "share")
    return {**found, "accuracy_of_fp32": right, "precision": fast["precision"]}


def loss_trajectory(repeats: int, steps: int = 20) -> dict[str, Any]:
    """Largest relative difference of the loss to the reference's over 20 steps in fp32, same weights and batches."""
    import numpy as np

    words = ("--steps", str(steps - 1))
    exact, ours = vit("reference", "train", *words), vit("causalft", "train", *words, "--precision", "fp32")
    return summary(
        [float(np.max(np.abs(np.array(ours["losses"]) / np.array(exact["losses"]) - 1)))], "relative"
    )


def sweep_speedup(
    repeats: int, n_images: int = 1024, n_classes: int = 100, epochs: int = 10
) -> dict[str, Any]:
    """Eight losses times five seeds of a cosine head on cached features of a ViT-B/16, over refitting from images.

    A refit encodes every image in every epoch; what that takes is the reference's own inference, measured beside it.
    """
    import numpy as np

    from causalft.methods.estimators.probes import sweep_heads
    from causalft.models.tuning.recipe import Recipe

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(n_classes, 512)).astype(np.float32)
    labels = np.arange(n_images) % n_classes
    features = centres[labels] + rng.normal(size=(n_images, 512)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    losses = ["CE", "Focal", "LDAM", "CB", "GRW", "BS", "LA", "LADE"]
    recipe = Recipe(epochs=epochs, batch_size=128, lr=0.01)
    found = []
    for _ in range(max(1, min(repeats, 3))):
        per_image = statistics.median(vit("reference", "infer")["seconds"]) / 16
        started = time.perf_counter()
        sweep_heads(features, labels, losses=losses, seeds=range(5), recipe=recipe, progress=False)
        swept = time.perf_counter() - started
        # the cache is filled once, by the same encoder; a refit takes the same steps of the head, after encoding
        refit = len(losses) * 5 * epochs * n_images * per_image + swept
        found.append(refit / (n_images * per_image + swept))
    return ratio(found)
