"""Small things that many tests need: a folder of learnable pictures, and a zoo of untrained minis."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import causalft.cli  # noqa: F401  sets what PyTorch and OpenMP read when they are loaded

KINDS = ("ant", "bee", "cow", "doe")


def write_pictures(folder: Path, counts: dict[str, int], size: int = 24, seed: int = 0) -> Path:
    """One folder per class; a class is a pair of colours, upper and lower half, under strong noise."""
    rng = np.random.default_rng(seed)
    for kind, count in counts.items():
        (folder / kind).mkdir(parents=True)
        colours = rng.integers(50, 206, (2, 1, 1, 3))
        for number in range(count):
            halves = np.repeat(colours, size // 2, axis=1).reshape(size, 1, 3) + np.zeros((1, size, 1))
            noisy = halves + rng.normal(0, 30, (size, size, 3)) + rng.normal(0, 20, 3)
            picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
            picture.save(folder / kind / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """No test reads or fills the user's cache of features."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAUSALFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def public_tables() -> Path:
    """The folder of ``pretraining-counts`` and ``class-accuracy``."""
    here = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("CAUSALFT_TEST_DATA") or here / "shared" / "data")
    for part in ("pretraining-counts", "class-accuracy"):
        if not (folder / part).is_dir():
            pytest.skip(f"no public tables: {folder} has no {part} (set CAUSALFT_TEST_DATA to run this)")
    return folder


@pytest.fixture(scope="session")
def pictures():
    """The function that writes a folder of pictures."""
    return write_pictures


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """30 pictures of each of four kinds."""
    return write_pictures(tmp_path_factory.mktemp("data") / "photos", dict.fromkeys(KINDS, 30))


@pytest.fixture(scope="session")
def tiny_zoo(tmp_path_factory) -> Path:
    """A zoo of untrained minis that know the four kinds: clip, clip@1, openclip, metaclip."""
    from causalft.models.pretraining.pretrain import Pretrained, save_mini
    from causalft.models.strata.mini import MiniConfig, WordTokenizer, build_mini, vocabulary_of

    folder = tmp_path_factory.mktemp("zoo")
    words, length = vocabulary_of(KINDS)
    tokenizer = WordTokenizer(words, length)
    config = MiniConfig(
        image_size=16,
        width=24,
        layers=2,
        heads=2,
        embed_dim=16,
        context_length=length,
        vocab_size=tokenizer.vocab_size,
    )
    for seed, name in enumerate(("clip", "clip@1", "openclip", "metaclip")):
        model = build_mini(config, seed=seed).eval().requires_grad_(False)
        prior = np.roll(np.array([0.7, 0.2, 0.07, 0.03]), seed if "@" not in name else 0)
        save_mini(
            Pretrained(model, tokenizer, config, list(KINDS), [1.0], 0.0),
            folder,
            name,
            world="photos",
            loss="caption-bank",
            prior=prior,
            view={"view": "full", "share": 1.0},
            recipe={"n_images": 0, "epochs": 0, "batch_size": 1, "seed": seed},
        )
    return folder
