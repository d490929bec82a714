"""Measure speed and memory on this machine: medians of several repeats, written to bench/results.json."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from causalft.errors import CausalFTError
from causalft.runs import write_json

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


def help_startup(repeats: int) -> dict[str, Any]:
    """`causalft --help` from a cold process to its exit."""

    def run() -> None:
        subprocess.run([*CAUSALFT, "--help"], check=True, stdout=subprocess.DEVNULL)

    run()  # byte-compile once
    return summary(seconds(run, repeats), "seconds")


def renderer(repeats: int, n_images: int = 2048) -> dict[str, Any]:
    """Creatures of 48 pixels."""
    import numpy as np

    from synthetic.render import render_creatures
    from synthetic.world import part_table

    rng = np.random.default_rng(0)
    parts, factors = part_table()[rng.integers(0, 60, n_images)], rng.integers(0, 4, n_images)
    render_creatures(parts[:256], factors[:256], size=48)
    taken = seconds(lambda: render_creatures(parts, factors, size=48), repeats)
    return summary([n_images / each for each in taken], "images per second")


def encoding(repeats: int, n_images: int = 2048) -> dict[str, Any]:
    """The image tower of one mini."""
    import numpy as np
    import torch

    from causalft.strata.zoo import open_zoo

    stratum = open_zoo("mini").load("clip")
    shape = (n_images, stratum.image_size, stratum.image_size, 3)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    stratum.image_features(pixels[:256])
    taken = seconds(lambda: stratum.image_features(pixels), repeats)
    return summary([n_images / each for each in taken], "images per second")


def tuning(repeats: int) -> dict[str, Any]:
    """One stratum of the mini zoo tuned on creatures-lt with the settings of `causalft fit`, loading included."""
    from causalft.datasets.creatures import creatures_longtail
    from causalft.estimators.members import fit_member
    from causalft.strata.tuning_settings import default_tuning
    from causalft.strata.zoo import open_zoo

    splits, zoo = creatures_longtail(), open_zoo("mini")
    taken = seconds(lambda: fit_member(splits, "clip", zoo, default_tuning("mini"), progress=False), repeats)
    return summary(taken, "seconds")


def mini_diffusion(repeats: int, n_images: int = 64) -> dict[str, Any]:
    """Pictures of the embedded mini Stable Diffusion with its own sampler, steps and guidance."""
    from synthetic.pictures import Request, open_source

    source = open_source("stable-diffusion")
    wanted = [Request("cat", seed % 2, seed) for seed in range(n_images)]
    source.draw(wanted[: source.batch_size])
    return summary(
        [n_images / taken for taken in seconds(lambda: source.draw(wanted), repeats)], "images per second"
    )


def bias_curve(repeats: int) -> dict[str, Any]:
    """Bias and coverage of four estimators at 20,000 rows, 200 repetitions, on the design `confounded`."""
    from causalft.confounding.curve import curve
    from synthetic.designs import make_design

    design = make_design("confounded")
    return summary(seconds(lambda: curve(design, [20_000], progress=False), repeats), "seconds")


def ratio(values: list[float]) -> dict[str, Any]:
    """Summary of a ratio."""
    return summary(values, "times")


def vit(side: str, task: str, *words: str) -> dict[str, Any]:
    """One side of the ViT-B/16 comparison, in a process of its own (`bench/vit_b16.py`)."""
    command = [sys.executable, str(HERE / "vit_b16.py"), side, task, *words]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(found.stdout)


def pairs(task: str, repeats: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(reference, causalft), side by side, so that what else the machine does falls on both."""
    return [(vit("reference", task), vit("causalft", task)) for _ in range(max(1, min(repeats, 3)))]


@cache
def training_pairs(repeats: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Speed and memory are of the same runs."""
    return pairs("train", repeats)


def train_speedup(repeats: int) -> dict[str, Any]:
    """Training images per second of ViT-B/16 with AdaptFormer over the plain fp32 reference, same batch."""
    found = training_pairs(repeats)
    assert all(a["n_trained"] == b["n_trained"] for a, b in found)
    return ratio([statistics.median(a["seconds"]) / statistics.median(b["seconds"]) for a, b in found])


def train_memory_ratio(repeats: int) -> dict[str, Any]:
    """Largest resident set of that training over the reference's, libraries included."""
    return ratio([b["peak_mib"] / a["peak_mib"] for a, b in training_pairs(repeats)])


def infer_speedup(repeats: int) -> dict[str, Any]:
    """Inference images per second over the reference, batch 16."""
    found = pairs("infer", repeats)
    return ratio([statistics.median(a["seconds"]) / statistics.median(b["seconds"]) for a, b in found])


def infer_agreement(repeats: int) -> dict[str, Any]:
    """Share of pictures to which the nearest class mean gives the same class in bf16 as in fp32, 50 classes."""
    import numpy as np

    exact, fast = vit("reference", "agree"), vit("causalft", "agree")
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

    from causalft.estimators.sweep import sweep_heads
    from causalft.tuning.recipe import Recipe

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


def gla(repeats: int) -> dict[str, Any]:
    """GLA's prior for 8,142 classes from 25,000 rows, in a process of its own."""
    found = [json.loads(child(GLA)) for _ in range(max(1, min(repeats, 3)))]
    return {
        **summary([each["seconds"] for each in found], "seconds"),
        "peak_gb": max(each["gb"] for each in found),
    }


def gla_peak_gb(repeats: int) -> dict[str, Any]:
    """Largest resident set of that process."""
    return summary([json.loads(child(GLA))["gb"]], "GB")


def child(code: str, *words: str, text: str | None = None) -> str:
    """What a Python process prints last."""
    found = subprocess.run(
        [sys.executable, "-c", code, *words], check=True, capture_output=True, text=True, input=text
    )
    return found.stdout.strip().splitlines()[-1]


GLA = """
import json, resource, time
import numpy as np
from causalft.priors import estimate_prior
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


def predict_peak_gb(repeats: int, n_images: int = 100_000) -> dict[str, Any]:
    """`causalft predict` over 100,000 small images with one mini: memory, and its speed beside the encoder's own.

    The encoder's own speed is that of its crops in memory, with the threads that `predict` leaves to it.
    """
    import numpy as np
    from PIL import Image

    from causalft.estimators.strata import StrataClassifier

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


def two_process_max_diff(repeats: int) -> dict[str, Any]:
    """Largest difference of the weights after 50 steps, two processes against one (`bench/two_processes.py`)."""
    found = subprocess.run(
        [sys.executable, str(HERE / "two_processes.py")], check=True, capture_output=True, text=True
    )
    return summary([float(found.stdout.strip().splitlines()[-1])], "largest difference")


MEASURES: dict[str, Callable[[int], dict[str, Any]]] = {
    "train_speedup": train_speedup,
    "train_memory_ratio": train_memory_ratio,
    "infer_speedup": infer_speedup,
    "infer_agreement": infer_agreement,
    "loss_trajectory": loss_trajectory,
    "sweep_speedup": sweep_speedup,
    "gla_seconds_8142": gla,
    "gla_peak_gb": gla_peak_gb,
    "predict_peak_gb": predict_peak_gb,
    "two_process_max_diff": two_process_max_diff,
    "help_startup": help_startup,
    "renderer_48px": renderer,
    "encode_mini": encoding,
    "tune_stratum": tuning,
    "bias_curve": bias_curve,
    "mini_diffusion": mini_diffusion,
}


def peak_memory_mib() -> float:
    """Largest resident memory of this process and of the largest child, in MiB."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return (
        max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        * unit
        / 2**20
    )


def main() -> None:
    """Run the measures named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measures", nargs="*", help=f"of: {', '.join(MEASURES)} (all)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    arguments = parser.parse_args()
    chosen = arguments.measures or list(MEASURES)
    unknown = [name for name in chosen if name not in MEASURES]
    if unknown:
        parser.error(f"no measure {unknown[0]!r}; choose from {', '.join(MEASURES)}")
    results: dict[str, Any] = {
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in ("causalft", "torch", "numpy", "open_clip_torch")},
        "measures": {},
    }
    for name in chosen:
        try:
            result = MEASURES[name](arguments.repeats)
        except CausalFTError as error:  # mini_diffusion without the extra `diffusion`
            print(f"{name:20s} not measured: {error}")
            continue
        results["measures"][name] = result
        results[name] = result["median"]
        print(
            f"{name:20s} {result['median']:10.4g} {result['unit']}  ({result['min']:.4g} to {result['max']:.4g})",
            flush=True,
        )
    results["peak_memory_mib"] = peak_memory_mib()
    print(f"{'peak memory':20s} {results['peak_memory_mib']:10.0f} MiB")
    print(f"written to {write_json(arguments.out, results)}")


if __name__ == "__main__":
    main()
