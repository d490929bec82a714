"""Training of the mini Stable Diffusion: the autoencoder and its latents, then text encoder and U-Net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.pretraining.mini_diffusion import (
    CaptionTable,
    DiffusionConfig,
    Pool,
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
    import_diffusion,
)
from causalft.models.tuning.train import History, Recipe, train

__all__ = [
    "DECODER",
    "DENOISER",
    "Denoiser",
    "VAE",
    "encode",
    "rounds",
    "sharpen_decoder",
    "tokenize",
    "train_denoiser",
    "train_vae",
]


VAE = Recipe(
    epochs=1, batch_size=32, lr=2e-3, optimizer="adamw", weight_decay=1e-4, schedule="onecycle", grad_clip=1.0
)
DECODER = Recipe(
    epochs=1, batch_size=32, lr=1e-3, optimizer="adamw", weight_decay=1e-4, schedule="cosine", grad_clip=1.0
)
"""Recipes of the two stages; the number of steps sets the epochs (see :func:`rounds`)."""

_ROUND = 100  # steps between two checkpoints


def rounds(recipe: Recipe, steps: int) -> tuple[Recipe, int]:
    """Cut a number of steps into epochs of about 100, each followed by a checkpoint.

    Returns the recipe with its epochs, and the samples per epoch. Steps are rounded up to whole epochs.

    Raises
    ------
    CausalFTError
        If there is no step.

    Examples
    --------
    >>> recipe, n = rounds(VAE, 250)
    >>> recipe.epochs, n // recipe.batch_size
    (3, 84)
    """
    if steps < 1:
        raise CausalFTError(f"{steps} steps are no training; give 1 or more")
    epochs = -(-steps // _ROUND)
    return replace(recipe, epochs=epochs), -(-steps // epochs) * recipe.batch_size


def to_unit(pixels: Tensor) -> Tensor:
    """Convert uint8 images (n, size, size, 3) to floats in [-1, 1], (n, 3, size, size)."""
    return (pixels.float() / 127.5 - 1).permute(0, 3, 1, 2).contiguous()


def train_vae(
    pool: Pool,
    config: DiffusionConfig,
    recipe: Recipe,
    steps: int,
    *,
    progress: bool | None = None,
    checkpoint: Path | None = None,
) -> tuple[Any, History]:
    """Train the autoencoder; its ``scaling_factor`` becomes one over the spread of the latents.

    Loss: L1 + squared error + L1 of the gradients (sharp edges) + 0.001 KL divergence from N(0, 1).

    Raises
    ------
    CausalFTError
        See :func:`causalft.models.tuning.train.train`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        vae = build_vae(config).train()
    pixels = torch.from_numpy(pool.pixels)

    def batch_loss(model: Any, indices: Tensor, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pixels), (len(indices),), generator=generator)
        x = to_unit(pixels[chosen])
        law = model.encode(x).latent_dist
        latents = law.mean + law.std * torch.randn(law.mean.shape, generator=generator)
        error = model.decode(latents).sample - x
        edges = _edges(error)
        divergence = 0.5 * (law.mean.square() + law.var - 1 - law.logvar).mean()
        return error.abs().mean() + error.square().mean() + edges + 1e-3 * divergence

    recipe, n = rounds(recipe, steps)
    history = train(vae, n, batch_loss, recipe, label="autoencoder", progress=progress, checkpoint=checkpoint)
    vae.eval().requires_grad_(False)
    mean, std = encode(vae, pool.pixels[:: max(1, len(pool) // 2000)])
    spread = (mean.var() + std.square().mean()).sqrt().item()
    vae.register_to_config(scaling_factor=round(1 / spread, 5))
    return vae, history


def sharpen_decoder(
    vae: Any,
    pool: Pool,
    recipe: Recipe,
    steps: int,
    *,
    progress: bool | None = None,
    checkpoint: Path | None = None,
) -> History:
    """Train the decoder alone until its images are as rough as the real ones; the latents do not change.

    A decoder trained for small errors leaves out grain, stripes and whiskers. Here the local edge strength (root mean
    square of the Laplacian over 4 x 4 pixels) has to agree as well.

    Raises
    ------
    CausalFTError
        See :func:`causalft.models.tuning.train.train`.
    """
    vae.requires_grad_(False)
    vae.decoder.requires_grad_(True)
    vae.post_quant_conv.requires_grad_(True)
    pixels, (mean, std) = torch.from_numpy(pool.pixels), encode(vae, pool.pixels)

    def batch_loss(model: Any, indices: Tensor, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pixels), (len(indices),), generator=generator)
        x = to_unit(pixels[chosen])
        latents = mean[chosen] + std[chosen] * torch.randn(std[chosen].shape, generator=generator)
        drawn = model.decode(latents).sample
        error = drawn - x
        rough = (roughness(drawn) - roughness(x)).abs().mean()
        return error.abs().mean() + error.square().mean() + 0.3 * _edges(error) + 2.5 * rough

    recipe, n = rounds(recipe, steps)
    history = train(vae, n, batch_loss, recipe, label="decoder", progress=progress, checkpoint=checkpoint)
    vae.requires_grad_(False)
    return history


def roughness(x: Tensor) -> Tensor:
    """Root mean square of the Laplacian over blocks of 4 x 4 pixels: (n, 3, h, w) to (n, h / 4, w / 4).

    Examples
    --------
    >>> flat, noise = torch.ones(1, 3, 8, 8), torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> bool(roughness(flat).max() < 0.1 < roughness(noise).min())
    True
    """
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    middle = x[..., 1:-1, 1:-1]
    around = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return (F.avg_pool2d((middle - around / 4).square(), 4).mean(1) + 1e-4).sqrt()


def _edges(error: Tensor) -> Tensor:
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


@torch.inference_mode()
def encode(vae: Any, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and spread of the latents of uint8 images, each (n, channels, side, side), not scaled."""
    laws = [vae.encode(to_unit(part)).latent_dist for part in torch.from_numpy(pixels).split(256)]
    return torch.cat([law.mean for law in laws]), torch.cat([law.std for law in laws])


DENOISER = Recipe(
    epochs=1, batch_size=64, lr=1e-3, optimizer="adamw", weight_decay=0.01, schedule="onecycle", grad_clip=1.0
)
"""The measured recipe; the number of steps sets the epochs."""

_AVERAGE = 0.999  # decay of the running mean of the weights (EMA)


class Denoiser(nn.Module):
    """Text encoder and U-Net with the running mean (EMA) of their weights, kept as buffers.

    :meth:`update` is called before each step of the loop, so a checkpoint holds the mean.
    """

    text_encoder: nn.Module
    unet: Any
    updates: Tensor

    def __init__(self, text_encoder: nn.Module, unet: nn.Module) -> None:
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        for name, parameter in list(self.named_parameters()):
            self.register_buffer(_mean_name(name), parameter.detach().clone())

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights to the running mean; the first ones weigh little."""
        done = int(self.updates)
        decay = min(_AVERAGE, (1 + done) / (10 + done))
        means, weights = zip(
            *[(self.get_buffer(_mean_name(name)), value) for name, value in self.named_parameters()]
        )
        torch._foreach_lerp_(means, weights, 1 - decay)
        self.updates += 1

    @torch.no_grad()
    def take_mean(self) -> None:
        """Replace the weights by their running mean."""
        for name, parameter in self.named_parameters():
            parameter.copy_(self.get_buffer(_mean_name(name)))


def _mean_name(parameter: str) -> str:
    return "mean/" + parameter.replace(".", "/")


def train_denoiser(
    pool: Pool,
    captions: CaptionTable,
    vae: Any,
    tokenizer: Any,
    config: DiffusionConfig,
    recipe: Recipe,
    steps: int,
    *,
    progress: bool | None = None,
    checkpoint: Path | None = None,
) -> tuple[Any, Any, History]:
    """Train text encoder and U-Net to predict v from noisy latents and captions; return both and the history.

    Weights are float32; each step computes with a bfloat16 copy and the plain attention of diffusers, the faster
    choice on a CPU.

    References
    ----------
    Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, 2022; v-prediction: Salimans and Ho,
    Progressive Distillation for Fast Sampling of Diffusion Models, 2022.

    Raises
    ------
    CausalFTError
        See :func:`causalft.models.tuning.train.train`.
    """
    diffusers, _ = import_diffusion()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + 1)
        model = Denoiser(build_text_encoder(config, tokenizer), build_unet(config)).train()
    model.unet.set_attn_processor(diffusers.models.attention_processor.AttnProcessor())
    mean, std = encode(vae, pool.pixels)
    scale = vae.config.scaling_factor
    cells, faults = torch.from_numpy(pool.cells), torch.from_numpy(pool.faults)
    tokens = tokenize(tokenizer, captions.texts)
    kept = build_scheduler().alphas_cumprod

    def batch_loss(model: nn.Module, indices: Tensor, generator: torch.Generator) -> Tensor:
        assert isinstance(model, Denoiser)
        model.update()
        chosen = torch.randint(len(cells), (len(indices),), generator=generator)
        said = captions.draw(cells[chosen], faults[chosen], generator)
        x0 = (mean[chosen] + std[chosen] * torch.randn(mean[chosen].shape, generator=generator)) * scale
        noise = torch.randn(x0.shape, generator=generator)
        t = torch.randint(len(kept), (len(x0),), generator=generator)
        signal, sigma = (a.sqrt().view(-1, 1, 1, 1) for a in (kept[t], 1 - kept[t]))
        noisy, target = signal * x0 + sigma * noise, signal * noise - sigma * x0
        texts, back = said.unique(return_inverse=True)
        context = _half(model.text_encoder, input_ids=tokens[texts]).last_hidden_state[back]
        guess = _half(model.unet, noisy.bfloat16(), t, context).sample
        return F.mse_loss(guess.float(), target)

    recipe, n = rounds(recipe, steps)
    history = train(
        model, n, batch_loss, recipe, label="text encoder and U-Net", progress=progress, checkpoint=checkpoint
    )
    model.update()
    model.take_mean()
    model.eval().requires_grad_(False)
    model.unet.set_default_attn_processor()
    return model.text_encoder, model.unet, history


def _half(module: nn.Module, *arguments: Any, **keywords: Any) -> Any:
    """Call a module with its weights rounded to bfloat16; gradients reach the float32 weights."""
    weights = {name: value.bfloat16() for name, value in module.named_parameters()}
    return functional_call(module, weights, arguments, keywords)


def tokenize(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """Token ids as the pipeline makes them, int64 (n, context length)."""
    return tokenizer(
        list(texts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
