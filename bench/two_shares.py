"""Two processes of one core each against one: a ViT-B/16 of random weights encodes and predicts the same images.

Prints one JSON object: the ratios of the seconds (one process over two), and the largest difference of what came out.
Loading is not timed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

N_IMAGES, BATCH = 96, 8


def pin() -> None:
    """Keep this process on one core of its own, if the system can."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(os.environ.get("LOCAL_RANK", "0")) % len(cores)]})


def work(run: str, files: list[str], out: Path) -> None:
    """Encode and predict in whatever processes there are; the first one writes seconds and results."""
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from causalft.data.given import unlabelled_images
    from causalft.data.image_set import ImageSet
    from causalft.models.features.cache import cached_features
    from causalft.models.features.encoder import frozen_encoder
    from causalft.models.strata.zoo import open_zoo
    from causalft.models.tuning.team import work_together
    from causalft.pipelines.workflows.predict import Prediction

    torch.set_num_threads(1)
    images = unlabelled_images(files)
    with work_together() as team:
        prediction = Prediction(run, images, "cpu", BATCH)
        stratum = open_zoo(
            "pretrained", {"clip": str(Path(run).parent / "clip.safetensors")}, offline=True
        ).load("clip")
        encode, precision = frozen_encoder(stratum)

        def encoded(images: ImageSet) -> NDArray[np.float32]:
            return cached_features(
                None, stratum, images, batch_size=BATCH, encode=encode, precision=precision, progress=False
            )

        encoded(images.subset(range(2 * BATCH)))
        taken = {}
        for name in ("encode", "predict"):
            team.exchange(lambda: None)
            started = time.perf_counter()
            if name == "encode":
                features = encoded(images)
            else:
                prediction.to_file(str(out.with_suffix(".csv")), "csv", None, say=lambda line: None)
            taken[name] = time.perf_counter() - started
    if team.is_main:
        np.save(out.with_suffix(".npy"), features)
        out.write_text(json.dumps(taken))


def main() -> None:
    """With arguments: be one of the processes. Without: start one, then two, in turn."""
    if len(sys.argv) > 2:
        pin()
        work(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3]))
        return
    import numpy as np
    import pandas as pd
    from PIL import Image
    from predict_share import fitted

    alone = [sys.executable]
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ratios: dict[str, list[float]] = {"encode": [], "predict": []}
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = fitted(folder)
        rng = np.random.default_rng(1)
        files = [str(folder / f"{number}.jpg") for number in range(N_IMAGES)]
        for file in files:
            Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(file)
        listed = folder / "files.json"
        listed.write_text(json.dumps(files))
        for number in range(int(sys.argv[1])):
            outs = [folder / f"one-{number}.json", folder / f"two-{number}.json"]
            for launcher, out in zip((alone, launched), outs, strict=True):
                subprocess.run([*launcher, __file__, str(run), str(listed), str(out)], check=True)
            one, two = (json.loads(out.read_text()) for out in outs)
            for stage, found in ratios.items():
                found.append(one[stage] / two[stage])
            features = [np.load(out.with_suffix(".npy")) for out in outs]
            tables = [pd.read_csv(out.with_suffix(".csv")) for out in outs]
            numbers = [table.select_dtypes("number").to_numpy() for table in tables]
            assert tables[0]["file"].equals(tables[1]["file"])
            worst = max(
                worst,
                float(np.abs(features[0] - features[1]).max()),
                float(np.nanmax(np.abs(numbers[0] - numbers[1]))),
            )
    print(json.dumps({**ratios, "largest difference": worst}))


if __name__ == "__main__":
    main()
