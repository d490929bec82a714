"""Pre-training of the mini Stable Diffusion's text encoder and U-Net: captions and noisy latents in, v out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from causalft.strata.diffusion_captions import CaptionTable
from causalft.strata.diffusion_pool import Pool
from causalft.strata.diffusion_vae import encode, rounds
from causalft.strata.mini_diffusion import (
    DiffusionConfig,
    build_scheduler,
    build_text_encoder,
    build_unet,
    import_diffusion,
)
from causalft.tuning.train import History, Recipe, train

__all__ = ["DENOISER", "Denoiser", "tokenize", "train_denoiser"]

DENOISER = Recipe(
    epochs=1, batch_size=64, lr=1e-3, optimizer="adamw", weight_decay=0.01, schedule="onecycle", grad_clip=1.0
)
"""The measured recipe; the number of steps sets the epochs."""

_AVERAGE = 0.999  # decay of the running mean of the weights (EMA)


class Denoiser(nn.Module):
    """Text encoder and U-Net with the running mean (EMA) of their weights, kept as buffers of one module.

    The mean is brought up to date by :meth:`update`, before each step of the loop; so a checkpoint holds it.
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
        """Take the weights of now into the running mean; the first ones weigh little."""
        done = int(self.updates)
        decay = min(_AVERAGE, (1 + done) / (10 + done))
        means, weights = zip(
            *[(self.get_buffer(_mean_name(name)), value) for name, value in self.named_parameters()]
        )
        torch._foreach_lerp_(means, weights, 1 - decay)
        self.updates += 1

    @torch.no_grad()
    def take_mean(self) -> None:
        """Put the running mean in the place of the weights."""
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

    The weights are kept in float32; each step computes with a copy in bfloat16, and with the plain attention
    of diffusers: both are the faster choice on a processor.

    References
    ----------
    Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, 2022; v-prediction: Salimans
    and Ho, Progressive Distillation for Fast Sampling of Diffusion Models, 2022.

    Raises
    ------
    CausalFTError
        See :func:`causalft.tuning.train.train`.
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
    """Token numbers as the pipeline makes them, int64 (n, context length)."""
    return tokenizer(
        list(texts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
