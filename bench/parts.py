"""Measures of single parts: start-up, renderer, mini models, estimators, the generator."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from timing import CAUSALFT, ratio, seconds, summary


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


def close_ups_over_encoder(repeats: int, per_class: int = 300) -> dict[str, Any]:
    """Close-ups of 48 pixels drawn with their seeds per second, over images that the tower of one mini encodes.

    Above 1 the encoder waits for no image.
    """
    import torch

    from causalft.models.strata.zoo import open_zoo
    from synthetic.designs import make_design
    from synthetic.generate import make_set

    design, stratum = make_design("paper"), open_zoo("mini").load("clip")
    side, n_images = stratum.image_size, len(make_set(design, "A_train", per_class, 0, size=48).labels)
    pixels = torch.zeros((n_images, side, side, 3), dtype=torch.uint8)
    stratum.image_features(pixels[:256])
    drawing = seconds(lambda: make_set(design, "A_train", per_class, 0, size=48), repeats)
    encoding = seconds(lambda: stratum.image_features(pixels), repeats)
    return ratio([slow / fast for slow, fast in zip(encoding, drawing, strict=True)])


def near_duplicates_over_decoding(repeats: int, n_images: int = 5000) -> dict[str, Any]:
    """Seconds of the search for nearly equal images among JPEG files over those of decoding them."""
    import numpy as np
    from diagnose_images import write_images

    from causalft.data.duplicates import duplicate_groups
    from causalft.data.image_set import decode
    from causalft.data.opening import open_images

    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), n_images)
        images, rows = open_images(folder), np.arange(n_images)
        decode(images, rows, threads=2)
        decoding = seconds(lambda: decode(images, rows, threads=2), repeats)
        search = seconds(lambda: duplicate_groups(images, "near", threads=2), repeats)
    return ratio([slow / fast for slow, fast in zip(search, decoding, strict=True)])


def interval_batch_speedup(repeats: int, n_tables: int = 200) -> dict[str, Any]:
    """Intervals of the four estimators for tables given one by one, over those for all of them in one call."""
    import numpy as np

    from causalft.analysis.confounding.estimates import ESTIMATORS, interval

    law = np.random.default_rng(0).dirichlet(np.ones(2 * 12 * 6 * 6))
    counts = np.random.default_rng(1).multinomial(1000, law, n_tables).reshape(n_tables, 2, 12, 6, 6) * 1.0
    apart = seconds(lambda: [interval(name, each) for name in ESTIMATORS for each in counts], repeats)
    together = seconds(lambda: [interval(name, counts) for name in ESTIMATORS], repeats)
    return ratio([slow / fast for slow, fast in zip(apart, together, strict=True)])


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
