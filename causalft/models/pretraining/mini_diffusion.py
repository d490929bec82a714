"""The mini Stable Diffusion: its networks, small enough to train on one core, its training images and captions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.errors import CausalFTError
from synthetic.objects import CLASSES, N_NUISANCE, render
from synthetic.pipelines import import_diffusers

__all__ = [
    "BETA_END",
    "FAULTS",
    "TEMPLATES",
    "CaptionTable",
    "DiffusionConfig",
    "Pool",
    "build_scheduler",
    "build_text_encoder",
    "build_unet",
    "build_vae",
    "caption_table",
    "import_diffusion",
    "rendered_pool",
    "save_tokenizer",
    "words_of",
]


BETA_START, BETA_END, TRAIN_STEPS = 0.00085, 0.02, 1000
"""Noise schedule of Stable Diffusion (scaled linear) with a higher end: on 8 x 8 latents its own end, 0.012, leaves the
mean colour of an image visible in the last step, and images that start from pure noise then come out less varied."""

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
        One per level; every level but the last halves the side.
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
                f"images of {self.image_size} pixels do not fit the networks; use a multiple of {step}, "
                f"at least {2 * step}"
            )

    @property
    def latent_size(self) -> int:
        """Side of the latent image."""
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
    """Return the words of some texts in alphabetical order; ``'s`` and punctuation count as words.

    Examples
    --------
    >>> words_of(["a photo of a cat's head", "a close-up"])
    ["'s", '-', 'a', 'cat', 'close', 'head', 'of', 'photo', 'up']
    """
    return sorted({word for text in texts for word in _PIECES.findall(text.lower())})


def save_tokenizer(texts: Iterable[str], context_length: int, folder: Path) -> Any:
    """Write and return a ``CLIPTokenizer`` with one token per word of ``texts``; other words are spelt in bytes.

    ``vocab.json`` and ``merges.txt`` are written too, for older versions of transformers.

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
    """The printable character of a byte in a byte-level vocabulary (GPT-2's and CLIP's)."""
    hidden = [b for b in range(256) if not (33 <= b <= 126 or 161 <= b <= 172 or 174 <= b)]
    return chr(256 + hidden.index(byte)) if byte in hidden else chr(byte)


def _encode(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Byte-pair encoding: join the pair of the earliest merge until none is left."""
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
    """Number of parameters of a network."""
    return sum(parameter.numel() for parameter in model.parameters())


TEMPLATES = (
    "a photo of a {class}'s {part}",
    "a picture of a {class}'s {part}",
    "a close-up photo of a {class}'s {part}",
)
"""The prompt of the A/B experiment (paper, section on A/B sets) and the other two that ship with the prompts file."""

FAULTS = ("blurry", "low quality", "dark")
"""What spoils an image, as named in captions: they give a negative prompt its meaning."""

EMPTY = 0.10
"""Share of images without a caption, for classifier-free guidance (Ho and Salimans, 2022)."""


@dataclass(frozen=True)
class CaptionTable:
    """All captions, and how likely each is for an image of each kind.

    Attributes
    ----------
    texts : list of str
    law : torch.Tensor
        Shape (cells, 1 + faults, texts), float32; rows over texts sum to 1. Cell ``c * parts + p`` is part ``p`` of
        class ``c``; fault 0 is none.
    """

    texts: list[str]
    law: Tensor

    def draw(self, cells: Tensor, faults: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a caption for each image: its index in ``texts``, int64 (n,)."""
        return torch.multinomial(self.law[cells, faults], 1, generator=generator)[:, 0]


def part_words(part: str) -> list[str]:
    """Return the names of a part, the usual one first.

    Examples
    --------
    >>> part_words("head (cockpit)")
    ['head', 'head (cockpit)', 'cockpit']
    >>> part_words("body")
    ['body']
    """
    name, _, other = part.partition(" (")
    return [name, part, other.removesuffix(")")] if other else [name]


def caption_table(class_names: Sequence[str], parts: Mapping[str, Sequence[str]]) -> CaptionTable:
    """List the captions of a world of classes and parts.

    Half of the images have the usual prompt. The rest: another template, a class without a part, a part without a
    class, the word for a fault, or nothing.

    Parameters
    ----------
    class_names : sequence of str
    parts : mapping
        Class name to its parts, equally many for each class.

    Raises
    ------
    CausalFTError
        If there is no class, or the classes differ in their number of parts.

    Examples
    --------
    >>> table = caption_table(["cat", "dog"], {"cat": ("head", "body"), "dog": ("head", "body")})
    >>> table.law.shape[:2], table.texts[0]
    (torch.Size([4, 4]), '')
    """
    counts = {len(parts.get(name, ())) for name in class_names}
    if len(counts) != 1 or 0 in counts:
        raise CausalFTError("every class needs the same number of parts, at least one")
    rows: list[dict[str, float]] = []
    for name in class_names:
        for part in parts[name]:
            rows.append(_clean(name, part))
            rows.extend(_spoilt(name, part, fault) for fault in FAULTS)
    texts = sorted({text for row in rows for text in row})
    law = np.array([[row.get(text, 0.0) for text in texts] for row in rows])
    law /= law.sum(1, keepdims=True)
    shape = (len(rows) // (1 + len(FAULTS)), 1 + len(FAULTS), len(texts))
    return CaptionTable(texts, torch.from_numpy(law).float().reshape(shape))


def _clean(name: str, part: str) -> dict[str, float]:
    row = {"": EMPTY, "a photo": 0.005, "a picture": 0.005}
    names = part_words(part)
    usual, other = (1.0, 0.0) if len(names) == 1 else (0.75, 0.25 / (len(names) - 1))
    for number, word in enumerate(names):
        share = usual if number == 0 else other
        _add(row, TEMPLATES[0], name, word, 0.5 * share)
        for template in TEMPLATES[1:]:
            _add(row, template, name, word, 0.1 * share)
        _add(row, "a {class}'s {part}", name, word, 0.03 * share)
        _add(row, "{class} {part}", name, word, 0.02 * share)
        _add(row, "a photo of a {part}", name, word, 0.02 * share)
    for template, weight in zip(TEMPLATES, (0.06, 0.02, 0.02), strict=True):
        _add(row, template.removesuffix("'s {part}"), name, "", weight)
    _add(row, "{class}", name, "", 0.02)
    return row


def _spoilt(name: str, part: str, fault: str) -> dict[str, float]:
    row = {fault: 0.3, f"a {fault} photo": 0.05, ", ".join(FAULTS): 0.05}
    for one in FAULTS:
        if one != fault:
            row[", ".join(word for word in FAULTS if word in (fault, one))] = 0.05
    for word in part_words(part):
        _add(row, f"a {fault} photo of a {{class}}'s {{part}}", name, word, 0.3 / len(part_words(part)))
        _add(row, TEMPLATES[0] + f", {fault}", name, word, 0.2 / len(part_words(part)))
    return row


def _add(row: dict[str, float], template: str, name: str, part: str, weight: float) -> None:
    """Add a caption; before a vowel half of the time with "an", because templates say "a"."""
    text = template.replace("{class}", name).replace("{part}", part)
    with_an = template.replace("a {class}", "an {class}").replace("{class}", name).replace("{part}", part)
    both = [text, with_an] if name[:1] in "aeiou" and with_an != text else [text]
    for one in both:
        row[one] = row.get(one, 0.0) + weight / len(both)


@dataclass(frozen=True)
class Pool:
    """The training images.

    Attributes
    ----------
    pixels : numpy.ndarray
        Shape (n, size, size, 3), uint8.
    cells : numpy.ndarray
        Shape (n,), int64: class times the number of parts, plus part.
    faults : numpy.ndarray
        Shape (n,), int64: 0 for none, else 1 + its index in ``FAULTS``.
    """

    pixels: np.ndarray
    cells: np.ndarray
    faults: np.ndarray

    def __len__(self) -> int:
        return len(self.cells)


def rendered_pool(n_per_cell: int, size: int, seed: int, *, spoilt: float = 0.08) -> Pool:
    """Draw images of every class and part, and spoil some more of them.

    Parameters
    ----------
    n_per_cell : int
    size : int
        Pixels.
    seed : int
    spoilt : float
        Spoilt images, as a share of the good ones.

    Raises
    ------
    CausalFTError
        If the size or the number is too small.

    Examples
    --------
    >>> pool = rendered_pool(10, 16, seed=0, spoilt=0.1)
    >>> pool.pixels.shape, len(set(pool.cells.tolist())), int((pool.faults > 0).sum())
    ((132, 16, 16, 3), 12, 12)
    """
    if n_per_cell < 1:
        raise CausalFTError(f"{n_per_cell} images per cell are no training set; give 1 or more")
    rng = np.random.default_rng([seed, 3])
    n_spoilt = max(1, round(spoilt * n_per_cell)) if spoilt else 0
    total = n_per_cell + n_spoilt
    pixels = np.concatenate(
        [render(name, part, rng.random((total, N_NUISANCE)), size) for name in CLASSES for part in (0, 1)]
    )
    cells = np.repeat(np.arange(2 * len(CLASSES)), total)
    faults = np.tile(np.where(np.arange(total) < n_per_cell, 0, 1), 2 * len(CLASSES))
    rows = np.flatnonzero(faults)
    faults[rows] = 1 + rng.integers(len(FAULTS), size=len(rows))
    for fault in range(1, 1 + len(FAULTS)):
        chosen = np.flatnonzero(faults == fault)
        pixels[chosen] = spoil(pixels[chosen], FAULTS[fault - 1], rng)
    return Pool(pixels, cells, faults)


def spoil(pixels: np.ndarray, fault: str, rng: np.random.Generator) -> np.ndarray:
    """Blur, coarsen or darken uint8 images (n, size, size, 3)."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    strength = torch.from_numpy(rng.random((len(x), 1, 1, 1))).float()
    if fault == "blurry":
        once = _blur(x, x.shape[-1] / 20)
        x = torch.lerp(once, _blur(once, x.shape[-1] / 16), strength)
    elif fault == "low quality":
        coarse = F.interpolate(F.avg_pool2d(x, 4), scale_factor=4.0, mode="nearest")
        noise = torch.from_numpy(rng.standard_normal(x.shape)).float()
        x = torch.lerp(x, coarse, 0.5 + 0.5 * strength) + noise * (15 + 20 * strength)
    elif fault == "dark":
        x = x * (0.15 + 0.2 * strength)
    else:
        raise CausalFTError(f"unknown fault {fault!r}; known: {', '.join(FAULTS)}")
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _blur(x: Tensor, sigma: float) -> Tensor:
    reach = max(1, round(2 * sigma))
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    line = (line / line.sum()).repeat(3, 1)
    x = F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), line[:, None, :, None], groups=3)
    return F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), line[:, None, None, :], groups=3)
