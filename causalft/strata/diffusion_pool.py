"""The pictures that the mini Stable Diffusion is trained on: renders of every class and part, some of them spoilt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.strata.diffusion_captions import FAULTS
from synthetic.objects import CLASSES, N_NUISANCE, render

__all__ = ["Pool", "rendered_pool", "spoil"]


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
