"""What a stratum sees of a set of images: cropped once and kept while they fit in memory, else read batch by batch."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.data.decode import decode
from causalft.data.sources import ImageSet
from causalft.strata.stratum import Stratum
from causalft.tuning.names import AUGMENTATIONS

__all__ = ["AUGMENTATIONS", "Crops", "augment"]

IN_MEMORY_BYTES = 2 * 2**30


class Crops:
    """Square uint8 crops of an image set, as one stratum takes them.

    Parameters
    ----------
    images : ImageSet
    stratum : Stratum
    progress : bool, optional
    in_memory_bytes : int
        Sets up to this size are read once and kept; larger ones are read again for every batch.

    Examples
    --------
    ``crops[torch.tensor([4, 2])]`` has shape (2, size, size, 3), uint8.
    """

    def __init__(
        self,
        images: ImageSet,
        stratum: Stratum,
        *,
        progress: bool | None = None,
        in_memory_bytes: int = IN_MEMORY_BYTES,
    ) -> None:
        self.images, self.stratum = images, stratum
        self.kept: Tensor | None = None
        if len(images) * stratum.image_size**2 * 3 <= in_memory_bytes:
            label = f"reading {len(images)} images for {stratum.name}"
            self.kept = torch.from_numpy(decode(images, None, stratum.crop, label, progress=progress))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Tensor) -> Tensor:
        if self.kept is not None:
            return self.kept[indices]
        return torch.from_numpy(decode(self.images, np.asarray(indices), self.stratum.crop, progress=False))


def augment(pictures: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Mirror half of the pictures, or cut and mirror them as random resized crops.

    Parameters
    ----------
    pictures : Tensor
        Shape (n, 3, size, size), normalised.
    kind : {"none", "flip", "crop-flip"}
        ``crop-flip`` cuts 35 to 100 % of the area at an aspect of 3:4 to 4:3 out of the square that the model sees.
    generator : torch.Generator
        On the CPU; the same state gives the same pictures.

    Returns
    -------
    Tensor
        The same shape.
    """
    if kind == "none":
        return pictures
    n = len(pictures)
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    if kind == "flip":
        flipped = pictures.clone()
        flipped[mirror < 0] = pictures[mirror < 0].flip(-1)
        return flipped
    area = 0.35 + 0.65 * torch.rand(n, generator=generator)
    aspect = torch.exp((2 * torch.rand(n, generator=generator) - 1) * math.log(4 / 3))
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    x = (2 * torch.rand(n, generator=generator) - 1) * (1 - width)
    y = (2 * torch.rand(n, generator=generator) - 1) * (1 - height)
    zero = torch.zeros(n)
    window = torch.stack([torch.stack([width * mirror, zero, x], 1), torch.stack([zero, height, y], 1)], 1)
    grid = F.affine_grid(window.to(pictures.device), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
