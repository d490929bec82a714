"""Augmentation of training images: one record each."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.models.tuning.choices import AUGMENTATIONS, Augmentation
from causalft.models.tuning.devices import to_device

__all__ = ["AUGMENTATIONS", "augment", "least_area"]

NONE = Augmentation(name="none", help="the square that the model sees")
FLIP = Augmentation(name="flip", help="half of the images mirrored", flips=True)
CROP_FLIP = Augmentation(
    name="crop-flip",
    help="35 to 100 % of the square, sides at most 4:3, half of them mirrored",
    flips=True,
    least_area=0.35,
    sides=(4, 3),
)
WIDE_CROP_FLIP = Augmentation(
    name="wide-crop-flip",
    help="8 to 100 % of the square, sides at most 4:3, half of them mirrored",
    flips=True,
    least_area=0.08,
    sides=(4, 3),
    source="Szegedy et al., CVPR 2015; LIFT (Shi et al., ICML 2024)",
)
GROWING_CROP = Augmentation(
    name="growing-crop",
    help="a square of at least 8 % in the first epoch and the whole in the last, never mirrored",
    least_area=0.08,
    grows=True,
    source="LIFT+ (Shi et al., 2025)",
)


def least_area(kind: str, progress: float) -> float:
    """Return the smallest share of the square that a crop may show.

    Parameters
    ----------
    kind : str
        A name of :data:`AUGMENTATIONS` that crops.
    progress : float
        t in [0, 1]: 0 in the first epoch, 1 in the last. ``growing-crop`` raises the share by 1 - sqrt(1 - t^2) of the
        way to 1.

    Examples
    --------
    >>> [round(least_area("growing-crop", t), 3) for t in (0, 0.25, 0.5, 0.75, 1)]
    [0.08, 0.109, 0.203, 0.391, 1.0]
    >>> least_area("crop-flip", 1.0)
    0.35
    """
    record = AUGMENTATIONS.get_or_refuse(kind)
    assert record.least_area is not None
    if not record.grows:
        return record.least_area
    return record.least_area + (1 - record.least_area) * (1 - math.sqrt(1 - progress**2))


def augment(images: Tensor, kind: str, generator: torch.Generator, progress: float = 0.0) -> Tensor:
    """Mirror half of the images, cut random resized crops, or both.

    Crops are cut out of the square that the model sees, at its resolution.

    Parameters
    ----------
    images : Tensor
        Shape (n, 3, size, size), normalised.
    kind : str
        A name of :data:`AUGMENTATIONS`.
    generator : torch.Generator
        On the CPU.
    progress : float
        As in :func:`least_area`.

    Returns
    -------
    Tensor
        The same shape.
    """
    record = AUGMENTATIONS.get_or_refuse(kind)
    n = len(images)
    mirror = torch.ones(n)
    if record.flips:
        mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    if record.least_area is None:
        if not record.flips:
            return images
        mirrored = to_device(mirror < 0, images.device).view(-1, 1, 1, 1)
        return torch.where(mirrored, images.flip(-1), images)
    least, widest = least_area(kind, progress), record.sides[0] / record.sides[1]
    area = least + (1 - least) * torch.rand(n, generator=generator)
    aspect = torch.ones(n)
    if widest > 1:
        aspect = torch.exp((2 * torch.rand(n, generator=generator) - 1) * math.log(widest))
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    x = (2 * torch.rand(n, generator=generator) - 1) * (1 - width)
    y = (2 * torch.rand(n, generator=generator) - 1) * (1 - height)
    zero = torch.zeros(n)
    window = torch.stack([torch.stack([width * mirror, zero, x], 1), torch.stack([zero, height, y], 1)], 1)
    grid = F.affine_grid(to_device(window, images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
