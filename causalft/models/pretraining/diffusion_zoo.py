"""The folder of a mini Stable Diffusion: made from a seed, described by a card, verified by its hashes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from causalft.errors import CausalFTError
from causalft.models.pretraining.diffusion_training import (
    DECODER,
    DENOISER,
    VAE,
    sharpen_decoder,
    train_denoiser,
    train_vae,
)
from causalft.models.pretraining.mini_diffusion import (
    FAULTS,
    TEMPLATES,
    DiffusionConfig,
    build_scheduler,
    build_vae,
    caption_table,
    count_parameters,
    import_diffusion,
    rendered_pool,
    save_tokenizer,
    words_of,
)
from causalft.models.tuning.train import History
from causalft.runs import limits
from causalft.runs.files import sha256_file
from causalft.runs.folder import atomic_path, read_json, write_json
from synthetic.objects import CLASSES, PARTS
from synthetic.pipelines import mini_pipeline_folder

__all__ = [
    "GUIDANCE",
    "MINI_DIFFUSION",
    "SAMPLING_STEPS",
    "STEPS_DECODER",
    "STEPS_UNET",
    "STEPS_VAE",
    "check_files",
    "check_plan",
    "estimate_seconds",
    "pretrain_diffusion",
]

MINI_DIFFUSION = mini_pipeline_folder()
"""The folder that is shipped."""

STEPS_VAE, STEPS_DECODER, STEPS_UNET, N_PER_CELL = 2000, 1500, 5000, 2000
SAMPLING_STEPS, GUIDANCE = 10, 2.5


def pretrain_diffusion(
    folder: Path,
    *,
    seed: int = 0,
    steps_vae: int = STEPS_VAE,
    steps_decoder: int = STEPS_DECODER,
    steps_unet: int = STEPS_UNET,
    config: DiffusionConfig | None = None,
    n_per_cell: int = N_PER_CELL,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Train a mini Stable Diffusion on rendered images and write it in diffusers' format, in float16.

    A killed training resumes from its last checkpoint and ends with the same weights. One thread computes, so that the
    weights do not depend on the number of cores.

    Parameters
    ----------
    folder : pathlib.Path
    seed : int
        Of images, captions, initial weights and noise.
    steps_vae, steps_decoder, steps_unet : int
        Of the autoencoder, its decoder alone, and text encoder with U-Net.
    config : DiffusionConfig, optional
    n_per_cell : int
        Images per part and class.
    progress : bool, optional

    Returns
    -------
    dict
        The content of ``card.json``, which is written last.

    Raises
    ------
    CausalFTError
        If diffusers is missing, or there is nothing to train.
    """
    import_diffusion()
    config = config or DiffusionConfig()
    folder.mkdir(parents=True, exist_ok=True)
    with _one_thread():
        pool = rendered_pool(n_per_cell, config.image_size, seed)
        captions = caption_table(CLASSES, PARTS)
        tokenizer = save_tokenizer(captions.texts, config.context_length, folder / "tokenizer")
        coder, first = _autoencoder(
            folder,
            "vae",
            config,
            lambda checkpoint: train_vae(
                pool, config, replace(VAE, seed=seed), steps_vae, progress=progress, checkpoint=checkpoint
            ),
        )
        vae, second = _autoencoder(
            folder,
            "decoder",
            config,
            lambda checkpoint: (
                coder,
                sharpen_decoder(
                    coder,
                    pool,
                    replace(DECODER, seed=seed),
                    steps_decoder,
                    progress=progress,
                    checkpoint=checkpoint,
                ),
            ),
        )
        text_encoder, unet, third = train_denoiser(
            pool,
            captions,
            vae,
            tokenizer,
            config,
            replace(DENOISER, seed=seed),
            steps_unet,
            progress=progress,
            checkpoint=folder / ".unet.checkpoint.safetensors",
        )
    networks = {"vae": vae, "text_encoder": text_encoder, "unet": unet}
    _save(folder, networks, tokenizer)
    save_tokenizer(captions.texts, config.context_length, folder / "tokenizer")
    card = {
        "name": "mini-diffusion",
        "what": "A small Stable Diffusion pipeline that this project trained on its own rendered pictures. It is not a "
        "model of Stability AI and draws nothing but the classes and parts below.",
        "class_names": list(CLASSES),
        "parts": {name: list(parts) for name, parts in PARTS.items()},
        "templates": list(TEMPLATES),
        "faults": list(FAULTS),
        "words": words_of(captions.texts),
        "architecture": asdict(config),
        "parameters": {name: count_parameters(network) for name, network in networks.items()},
        "recipe": {
            "seed": seed,
            "n_per_cell": n_per_cell,
            "vae": {**asdict(replace(VAE, seed=seed)), "steps": steps_vae, **first},
            "decoder": {**asdict(replace(DECODER, seed=seed)), "steps": steps_decoder, **second},
            "unet": {
                **asdict(replace(DENOISER, seed=seed)),
                "steps": steps_unet,
                "losses": third.losses,
                "seconds": third.seconds,
            },
            "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
        },
        "sampler": {
            "scheduler": "DPMSolverMultistepScheduler",
            "steps": SAMPLING_STEPS,
            "guidance": GUIDANCE,
        },
        "sha256": {
            path.relative_to(folder).as_posix(): sha256_file(path)
            for path in sorted(folder.glob("*/*.safetensors"))
        },
    }
    write_json(folder / "card.json", card)
    for stage in ("vae", "decoder"):
        for leftover in folder.glob(f".{stage}.*"):
            leftover.unlink()
    return card


def _autoencoder(
    folder: Path, name: str, config: DiffusionConfig, stage: Callable[[Path], tuple[Any, History]]
) -> tuple[Any, dict[str, Any]]:
    """Train one stage, or read it if it is done; either way the weights are rounded to float16."""
    weights, notes = folder / f".{name}.safetensors", folder / f".{name}.json"
    if not notes.exists():
        trained, history = stage(folder / f".{name}.checkpoint.safetensors")
        tensors = {key: value.half().contiguous() for key, value in trained.state_dict().items()}
        with atomic_path(weights) as temporary:
            save_file(tensors, temporary)
        scale = trained.config.scaling_factor
        write_json(notes, {"scaling_factor": scale, "losses": history.losses, "seconds": history.seconds})
    found = read_json(notes)
    vae = build_vae(config).eval().requires_grad_(False)
    vae.load_state_dict({key: value.float() for key, value in load_file(weights).items()})
    vae.register_to_config(scaling_factor=found.pop("scaling_factor"))
    return vae, found


def _save(folder: Path, networks: dict[str, Any], tokenizer: Any) -> None:
    diffusers, _ = import_diffusion()
    pipeline = diffusers.StableDiffusionPipeline(
        **{name: network.half() for name, network in networks.items()},
        tokenizer=tokenizer,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    for path in folder.glob("*/*.safetensors"):
        path.chmod(0o644)  # readable by all, like every other file: safetensors writes for the owner alone


def check_plan(seed: int, n_per_cell: int, *steps: int) -> None:
    """Refuse an invalid plan before a folder is made.

    Raises
    ------
    CausalFTError
        If a number is out of range.
    """
    limits.SEED.check(seed, "seed")
    limits.PICTURES_PER_CLASS.check(n_per_cell, "the number of images per cell")
    for number in steps:
        limits.TRAINING_STEPS.check(number, "the number of steps")


def estimate_seconds(config: DiffusionConfig, steps_vae: int, steps_decoder: int, steps_unet: int) -> float:
    """Time three steps of each stage on throw-away networks; return the seconds of the training."""
    with _one_thread(), tempfile.TemporaryDirectory() as name:
        pool = rendered_pool(8, config.image_size, 0)
        captions = caption_table(CLASSES, PARTS)
        tokenizer = save_tokenizer(captions.texts, config.context_length, Path(name))
        vae, first = train_vae(pool, config, VAE, 3, progress=False)
        second = sharpen_decoder(vae, pool, DECODER, 3, progress=False)
        *_, third = train_denoiser(pool, captions, vae, tokenizer, config, DENOISER, 3, progress=False)
    return (first.seconds * steps_vae + second.seconds * steps_decoder + third.seconds * steps_unet) / 3


def check_files(folder: Path) -> dict[str, Any]:
    """Return the card of a folder whose weights match it.

    Raises
    ------
    CausalFTError
        If the card or a file is missing, or a hash differs.
    """
    if not (folder / "card.json").exists():
        raise CausalFTError(
            f"{folder} is no mini Stable Diffusion (it has no card.json); make one: causalft zoo pretrain-diffusion"
        )
    card = read_json(folder / "card.json")
    hashes = card.get("sha256") if isinstance(card, dict) else None
    if not isinstance(hashes, dict) or not hashes:
        raise CausalFTError(f"{folder / 'card.json'} names no weights; make the folder again")
    for name, expected in hashes.items():
        if not (folder / name).is_file():
            raise CausalFTError(f"{folder / name} is missing; make the folder again")
        if sha256_file(folder / name) != expected:
            raise CausalFTError(f"{folder / name} is not the file of its card; make the folder again")
    return card


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
