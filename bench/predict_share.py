"""How much of the encoder's speed is left when the pictures come from files: a ViT-B/16 of random weights.

Prints a list of ratios: images per second of the stream that `causalft predict` reads, over those of the same model on
the same pictures in memory, one after the other.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the command line does, before PyTorch is loaded

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from timing import CAUSALFT

N_IMAGES, BATCH = 320, 64


def fitted(folder: Path) -> Path:
    """A run whose one stratum is a ViT-B/16, from a local file and two classes of noise."""
    import open_clip

    logging.disable(logging.WARNING)  # that the weights are random is the point
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-16-quickgelu")
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "clip.safetensors"
    )
    rng = np.random.default_rng(0)
    for number in range(8):
        path = folder / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    words = [
        "--zoo",
        "pretrained",
        "--strata",
        "clip",
        "--weights",
        f"clip={folder / 'clip.safetensors'}",
        "--offline",
    ]
    words += ["--tuner", "zero-shot", "--n-validation", "1", "--n-test", "1", "--no-cache", "--json"]
    run = folder / "run"
    data = ["--data", str(folder / "images"), "--out", str(run)]
    subprocess.run([*CAUSALFT, "fit", *words, *data], check=True, stdout=subprocess.DEVNULL)
    return run


def main() -> None:
    """Measure both sides in turn."""
    from causalft.data.given import unlabelled_images
    from causalft.methods.estimators.fitted import predict_stream
    from causalft.methods.estimators.strata import StrataClassifier

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = StrataClassifier.load(fitted(folder))
        (member,) = model.members_.values()
        rng = np.random.default_rng(1)
        files = []
        for number in range(N_IMAGES):
            files.append(str(folder / f"{number}.jpg"))
            Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(files[-1])
        images = unlabelled_images(files)
        pixels = torch.from_numpy(np.stack([member.cut(images.image(row)) for row in range(N_IMAGES)]))

        def encode() -> None:
            for part in pixels.split(BATCH):
                member.logits_of(part)

        def predict() -> None:
            for _ in predict_stream(model, images, BATCH, progress=False):
                pass

        member.logits_of(pixels[:BATCH])
        ratios = []
        for _ in range(int(sys.argv[1])):
            taken = []
            for side in (encode, predict):
                started = time.perf_counter()
                side()
                taken.append(time.perf_counter() - started)
            ratios.append(taken[0] / taken[1])
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
