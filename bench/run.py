"""Measure speed and memory on this machine: medians of several repeats, written to bench/results.json."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
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


MEASURES: dict[str, Callable[[int], dict[str, Any]]] = {
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
            print(f"{name:16s} not measured: {error}")
            continue
        results["measures"][name] = result
        print(
            f"{name:16s} {result['median']:10.2f} {result['unit']}  ({result['min']:.2f} to {result['max']:.2f})"
        )
    results["peak_memory_mib"] = peak_memory_mib()
    print(f"{'peak memory':16s} {results['peak_memory_mib']:10.0f} MiB")
    print(f"written to {write_json(arguments.out, results)}")


if __name__ == "__main__":
    main()
