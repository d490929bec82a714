"""The architecture of the mini Stable Diffusion: a real pipeline of diffusers, small enough to train on one core."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from causalft.errors import CausalFTError
from synthetic.pipelines import import_diffusers

__all__ = [
    "BETA_END",
    "DiffusionConfig",
    "build_scheduler",
    "build_text_encoder",
    "build_unet",
    "build_vae",
    "import_diffusion",
    "save_tokenizer",
    "words_of",
]

BETA_START, BETA_END, TRAIN_STEPS = 0.00085, 0.02, 1000
"""Noise schedule of Stable Diffusion (scaled linear) with a higher end: on 8 x 8 latents its own end, 0.012, leaves the
mean colour of a picture visible in the last step, and pictures that start from pure noise then come out less varied."""

_START, _END = "<|startoftext|>", "<|endoftext|>"
_PIECES = re.compile(r"'s|[a-z]+|[0-9]|[^\sa-z0-9]+")


@dataclass(frozen=True)
class DiffusionConfig:
    """Sizes of the four networks.

    Attributes
    ----------
    image_size : int
        Pixels; a multiple of four times two to the number of U-Net levels less one.
    vae_channels : tuple of int
        One level each; every level but the last halves the side.
    latent_channels : int
    text_width, text_layers, text_heads : int
    context_length : int
        Tokens of a prompt, start and end included; longer prompts are cut.
    unet_channels : tuple of int
    unet_heads : int
    """

    image_size: int = 32
    vae_channels: tuple[int, ...] = (16, 32, 64)
    latent_channels: int = 4
    text_width: int = 64
    text_layers: int = 2
    text_heads: int = 4
    context_length: int = 32
    unet_channels: tuple[int, ...] = (64, 96)
    unet_heads: int = 4

    def __post_init__(self) -> None:
        step = 2 ** (len(self.vae_channels) + len(self.unet_channels) - 2)
        if self.image_size < 2 * step or self.image_size % step:
            raise CausalFTError(
                f"pictures of {self.image_size} pixels do not fit the networks; use a multiple of {step}, "
                f"at least {2 * step}"
            )

    @property
    def latent_size(self) -> int:
        """Side of the latent picture."""
        return self.image_size // 2 ** (len(self.vae_channels) - 1)


def import_diffusion() -> tuple[Any, Any]:
    """Return the modules diffusers and transformers.

    Raises
    ------
    CausalFTError
        If the extra ``diffusion`` is not installed.
    """
    diffusers = import_diffusers()
    import transformers

    return diffusers, transformers


def build_vae(config: DiffusionConfig) -> Any:
    """Return an ``AutoencoderKL`` with fresh weights from torch's generator."""
    diffusers, _ = import_diffusion()
    levels = len(config.vae_channels)
    return diffusers.AutoencoderKL(
        block_out_channels=config.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=config.latent_channels,
        norm_num_groups=8,
        sample_size=config.image_size,
        scaling_factor=1.0,
    )


def build_text_encoder(config: DiffusionConfig, tokenizer: Any) -> Any:
    """Return a ``CLIPTextModel`` with fresh weights from torch's generator."""
    _, transformers = import_diffusion()
    settings = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.text_width,
        intermediate_size=4 * config.text_width,
        projection_dim=config.text_width,
        num_hidden_layers=config.text_layers,
        num_attention_heads=config.text_heads,
        max_position_embeddings=config.context_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return transformers.CLIPTextModel(settings)


def build_unet(config: DiffusionConfig) -> Any:
    """Return a ``UNet2DConditionModel`` with fresh weights from torch's generator."""
    diffusers, _ = import_diffusion()
    levels = len(config.unet_channels)
    return diffusers.UNet2DConditionModel(
        sample_size=config.latent_size,
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        block_out_channels=config.unet_channels,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        layers_per_block=1,
        cross_attention_dim=config.text_width,
        attention_head_dim=config.unet_heads,  # of this class, the number of heads
        norm_num_groups=16,
    )


def build_scheduler() -> Any:
    """Return DPM-Solver++ 2M on the noise schedule of the training (v-prediction)."""
    diffusers, _ = import_diffusion()
    return diffusers.DPMSolverMultistepScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )


def words_of(texts: Iterable[str]) -> list[str]:
    """Return every word of some texts once, in alphabetical order; ``'s`` and punctuation count as words.

    Examples
    --------
    >>> words_of(["a photo of a cat's head", "a close-up"])
    ["'s", '-', 'a', 'cat', 'close', 'head', 'of', 'photo', 'up']
    """
    return sorted({word for text in texts for word in _PIECES.findall(text.lower())})


def save_tokenizer(texts: Iterable[str], context_length: int, folder: Path) -> Any:
    """Write and return a ``CLIPTokenizer`` that has one token for each word of ``texts``.

    Other words are spelt in bytes, as byte-pair encoding does, so that any prompt can be encoded.
    ``vocab.json`` and ``merges.txt`` are written beside ``tokenizer.json`` for older versions of transformers.

    Raises
    ------
    CausalFTError
        If diffusers or transformers is missing.
    """
    _, transformers = import_diffusion()
    merges: list[tuple[str, str]] = []
    for word in words_of(texts):
        pieces = _encode(word, merges)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = _encode(word, merges)
    letters = [_visible(byte) for byte in range(256)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(a + b for a, b in merges), _START, _END]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = transformers.CLIPTokenizer(
        vocab=vocabulary, merges=merges, model_max_length=context_length, pad_token=_END
    )
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tokenizer


def _visible(byte: int) -> str:
    """The printable character that stands for a byte in a byte-level vocabulary (GPT-2's and CLIP's)."""
    hidden = [b for b in range(256) if not (33 <= b <= 126 or 161 <= b <= 172 or 174 <= b)]
    return chr(256 + hidden.index(byte)) if byte in hidden else chr(byte)


def _encode(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Byte-pair encoding: join the pair of the earliest merge until no pair has one."""
    pieces = [_visible(byte) for byte in word.encode()]
    pieces[-1] += "</w>"
    rank = {pair: number for number, pair in enumerate(merges)}
    while len(pieces) > 1:
        best = min(zip(pieces, pieces[1:]), key=lambda pair: rank.get(pair, len(rank)))
        if best not in rank:
            break
        joined: list[str] = []
        for piece in pieces:
            if joined and (joined[-1], piece) == best:
                joined[-1] += piece
            else:
                joined.append(piece)
        pieces = joined
    return pieces


def count_parameters(model: torch.nn.Module) -> int:
    """Number of weights of a network."""
    return sum(parameter.numel() for parameter in model.parameters())
