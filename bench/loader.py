"""Images per second of a loader of JPEG files, by number of workers: this project's, or that of the peers.

Decoded, scaled and cut to a square: to uint8 by the threads that `causalft fit` and `causalft predict` read with; to
normalised floats by torchvision's transforms in the processes of PyTorch's `DataLoader`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from timing import now, peak_mib

N_CLASSES = 10


def write_jpegs(folder: Path, n: int, width: int = 500, height: int = 375) -> None:
    """Write photographs of no thing: smooth colours under noise, about as many bytes as those of ImageNet."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for row in range(n):
        place = folder / f"class{row % N_CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = (smooth + rng.normal(0, 12, (height, width, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(place / f"{row:05d}.jpg", quality=90)


def ours(folder: Path, workers: int, batch: int, side: int) -> Iterator[int]:
    """Sizes of the batches that threads read."""
    import numpy as np

    from causalft import open_images
    from causalft.models.features.encoder import stream_crops
    from causalft.models.strata.stratum import square_crop

    crop = square_crop(side)
    images = open_images(folder)
    for rows, _ in stream_crops(
        images, [lambda image: np.asarray(crop(image))], batch, threads=workers, progress=False
    ):
        yield len(rows)


def reference(folder: Path, workers: int, batch: int, side: int) -> Iterator[int]:
    """Sizes of the batches of a `DataLoader`."""
    import torch
    from torchvision import datasets, transforms

    steps = [
        transforms.Resize(side, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(side),
        transforms.ToTensor(),
        transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ]
    images = datasets.ImageFolder(str(folder), transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(
        images, batch, num_workers=workers, pin_memory=torch.cuda.is_available()
    )
    for pixels, _ in loader:
        yield len(pixels)


def measure(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Seconds of an image, from the first batch to the last, and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loader", choices=["reference", "causalft"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=224, help="of the square, in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args(words)
    read = reference if given.loader == "reference" else ours
    seconds = []
    for _ in range(given.repeats):
        stream = read(given.folder, given.workers, given.batch, given.side)
        next(stream)  # starts threads or processes
        started = now()
        n_images = sum(stream)
        seconds.append((now() - started) / n_images)
    return {"seconds": seconds, "peak_mib": peak_mib()}


if __name__ == "__main__":
    print(json.dumps(measure()))
