"""The training images of the mini Stable Diffusion and their captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.errors import CausalFTError
from synthetic.objects import CLASSES, N_NUISANCE, render

__all__ = [
    "CaptionTable",
    "FAULTS",
    "Pool",
    "TEMPLATES",
    "caption_table",
    "part_words",
    "rendered_pool",
    "spoil",
]


TEMPLATES = (
    "a photo of a {class}'s {part}",
    "a picture of a {class}'s {part}",
    "a close-up photo of a {class}'s {part}",
)
"""The prompt of the A/B experiment (paper, section on A/B sets) and the other two that ship with the prompts file."""

FAULTS = ("blurry", "low quality", "dark")
"""What spoils a picture, and its name in a caption: with them a negative prompt means something."""

EMPTY = 0.10
"""Share of pictures without a caption, for classifier-free guidance (Ho and Salimans, 2022)."""


@dataclass(frozen=True)
class CaptionTable:
    """All captions, and how likely each is for a picture of each kind.

    Attributes
    ----------
    texts : list of str
    law : torch.Tensor
        Shape (cells, 1 + faults, texts), float32; each row over texts sums to 1. Cell ``c * parts + p`` is part
        ``p`` of class ``c``; fault 0 is none.
    """

    texts: list[str]
    law: Tensor

    def draw(self, cells: Tensor, faults: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a caption for each picture: its number in ``texts``, int64 (n,)."""
        return torch.multinomial(self.law[cells, faults], 1, generator=generator)[:, 0]


def part_words(part: str) -> list[str]:
    """Return what a part may be called, the usual name first.

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

    Half of the pictures carry the usual prompt. The rest: another template, a class without a part, a part
    without a class, a word for what spoils the picture, or nothing.

    Parameters
    ----------
    class_names : sequence of str
    parts : mapping
        Class name to the names of its parts; as many for each class.

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
    """Add a caption; before a vowel half of the time with "an", for templates are written with "a"."""
    text = template.replace("{class}", name).replace("{part}", part)
    with_an = template.replace("a {class}", "an {class}").replace("{class}", name).replace("{part}", part)
    both = [text, with_an] if name[:1] in "aeiou" and with_an != text else [text]
    for one in both:
        row[one] = row.get(one, 0.0) + weight / len(both)


@dataclass(frozen=True)
class Pool:
    """The pictures to train on.

    Attributes
    ----------
    pixels : numpy.ndarray
        Shape (n, size, size, 3), uint8.
    cells : numpy.ndarray
        Shape (n,), int64: class times the number of parts, plus part.
    faults : numpy.ndarray
        Shape (n,), int64: 0 for a good picture, else 1 + the number of what spoils it in ``FAULTS``.
    """

    pixels: np.ndarray
    cells: np.ndarray
    faults: np.ndarray

    def __len__(self) -> int:
        return len(self.cells)


def rendered_pool(n_per_cell: int, size: int, seed: int, *, spoilt: float = 0.08) -> Pool:
    """Draw pictures of every class and part, and spoil some more of them.

    Parameters
    ----------
    n_per_cell : int
    size : int
        Pixels.
    seed : int
    spoilt : float
        Spoilt pictures, as a share of the good ones.

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
        raise CausalFTError(f"{n_per_cell} pictures a cell are no training set; give 1 or more")
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
    """Blur, coarsen or darken pictures: uint8 (n, size, size, 3), as they came."""
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
