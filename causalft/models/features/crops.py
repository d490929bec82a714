"""What a stratum is shown of an image: one crop or several, kept in memory while they fit, else read in batches."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from causalft.data.decoding import decode
from causalft.data.image_set import ImageSet
from causalft.data.images import end_pieces, middle_of_strip
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.choices import AUGMENTATIONS, TEST_VIEWS, n_views

__all__ = ["AUGMENTATIONS", "Crops", "TEST_VIEWS", "augment", "n_views", "resized_side", "view_cut"]


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


_MARGIN = 24 / 224


def resized_side(size: int) -> int:
    """Return the shorter side, in pixels, of the picture that several squares of side ``size`` are cut from.

    Examples
    --------
    >>> resized_side(224), resized_side(16)
    (248, 18)
    """
    return size + round(_MARGIN * size)


def view_cut(stratum: Stratum, view: str = "centre") -> Callable[[Image.Image], NDArray[np.uint8]]:
    """Return the function from a picture to what the stratum sees of it.

    ``five-crop`` is the test-time ensembling of LIFT (Shi et al., ICML 2024): the shorter side is resized to
    s + 24 s / 224, then the four corners and the centre of size s are cut; ``ten-crop`` adds their mirror images.

    Parameters
    ----------
    stratum : Stratum
    view : {"centre", "five-crop", "ten-crop"}

    Returns
    -------
    callable
        PIL image in; uint8 array of shape (s, s, 3) for ``centre``, else (n_views, s, s, 3), out.

    Raises
    ------
    CausalFTError
        For an unknown view.
    """
    if n_views(view) == 1:
        return stratum.crop
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    size = stratum.image_size
    interpolation = InterpolationMode(stratum.interpolation)
    cut = F.five_crop if view == "five-crop" else F.ten_crop

    def five(image: Image.Image) -> list[NDArray[np.uint8]]:
        wide = F.resize(image.convert("RGB"), resized_side(size), interpolation=interpolation)
        return [np.asarray(square, dtype=np.uint8) for square in F.five_crop(wide, [size, size])]

    def crops(image: Image.Image) -> NDArray[np.uint8]:
        ends = end_pieces(image)
        if ends is not None:
            return np.stack(_of_strip(image, five(ends[0]), five(ends[1]), five, n_views(view)))
        wide = F.resize(image.convert("RGB"), resized_side(size), interpolation=interpolation)
        return np.stack([np.asarray(square, dtype=np.uint8) for square in cut(wide, [size, size])])

    return crops


Squares = list[NDArray[np.uint8]]


def _of_strip(
    image: Image.Image, first: Squares, last: Squares, five: Callable[[Image.Image], Squares], n_squares: int
) -> Squares:
    """The corners of a strip from its ends, the centre from its middle; the rest of it is never scaled."""
    upright = image.height > image.width
    corners = [first[0], first[1] if upright else last[1], last[2] if upright else first[2], last[3]]
    squares = [*corners, five(middle_of_strip(image))[4]]
    if n_squares == 10:  # a mirrored image has its right corners on the left
        squares += [squares[k][:, ::-1] for k in (1, 0, 3, 2, 4)]
    return squares
