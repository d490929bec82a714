"""Measures of single parts: start-up, renderer, mini models, estimators, the generator."""

from __future__ import annotations

import subprocess
from typing import Any

from timing import CAUSALFT, seconds, summary


def help_startup(repeats: int) -> dict[str, Any]:
    """`causalft --help` from a cold process to its exit."""

    def run() -> None:
        subprocess.run([*CAUSALFT, "--help"], check=True, stdout=subprocess.DEVNULL)

    run()  # byte-compile once
    return summary(seconds(run, repeats), "seconds")


def renderer(repeats: int, n_images: int = 2048) -> dict[str, Any]:
    """Creatures of 48 pixels."""
    import numpy as np

    from synthetic.creatures import part_table, render_creatures

    rng = np.random.default_rng(0)
    parts, factors = part_table()[rng.integers(0, 60, n_images)], rng.integers(0, 4, n_images)
    render_creatures(parts[:256], factors[:256], size=48)
    taken = seconds(lambda: render_creatures(parts, factors, size=48), repeats)
    return summary([n_images / each for each in taken], "images per second")


def encoding(repeats: int, n_images: int = 2048) -> dict[str, Any]:
    """The image tower of one mini."""
    import numpy as np
    import torch

    from causalft.models.strata.zoo import open_zoo

    stratum = open_zoo("mini").load("clip")
    shape = (n_images, stratum.image_size, stratum.image_size, 3)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    stratum.image_features(pixels[:256])
    taken = seconds(lambda: stratum.image_features(pixels), repeats)
    return summary([n_images / each for each in taken], "images per second")


def tuning(repeats: int) -> dict[str, Any]:
    """One stratum of the mini zoo tuned on creatures-lt with the settings of `causalft fit`, loading included."""
    from causalft.data.creatures import creatures_longtail
    from causalft.methods.adaptation.settings import default_tuning
    from causalft.methods.estimators.member import fit_member
    from causalft.models.strata.zoo import open_zoo

    splits, zoo = creatures_longtail(), open_zoo("mini")
    taken = seconds(lambda: fit_member(splits, "clip", zoo, default_tuning("mini"), progress=False), repeats)
    return summary(taken, "seconds")


def mini_diffusion(repeats: int, n_images: int = 64) -> dict[str, Any]:
    """Pictures of the embedded mini Stable Diffusion with its own sampler, steps and guidance."""
    from synthetic.generate import Request, open_source

    source = open_source("stable-diffusion")
    wanted = [Request("cat", seed % 2, seed) for seed in range(n_images)]
    source.draw(wanted[: source.batch_size])
    return summary(
        [n_images / taken for taken in seconds(lambda: source.draw(wanted), repeats)], "images per second"
    )


def bias_curve(repeats: int) -> dict[str, Any]:
    """Bias and coverage of four estimators at 20,000 rows, 200 repetitions, on the design `confounded`."""
    from causalft.analysis.confounding.curve import curve
    from synthetic.designs import make_design

    design = make_design("confounded")
    return summary(seconds(lambda: curve(design, [20_000], progress=False), repeats), "seconds")
