"""The strong view of an image: RandAugment, then a cut-out square."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["strong_view"]

_PER_DRAW = 8
"""Images that share one draw of operations: torchvision draws once per call."""
_CUT_SHARE = 0.5
"""Side of the cut-out square, as a share of the image's."""


def strong_view(
    pixels: Tensor, generator: torch.Generator, *, operations: int = 2, magnitude: int = 10
) -> Tensor:
    """Return a strongly augmented view of each image: RandAugment (Cubuk et al., 2020) and Cutout (DeVries, 2017).

    Groups of eight images share the operations, each has a cut-out square of its own: half of the side at most, grey,
    with a centre drawn over the whole image.

    Parameters
    ----------
    pixels : (n, s, s, 3) Tensor of uint8
    generator : torch.Generator
        On the CPU; all that is drawn comes from it.
    operations : int
        Of RandAugment, one after the other.
    magnitude : int
        0 to 30.

    Returns
    -------
    Tensor
        The same shape and type.

    Examples
    --------
    >>> pixels = torch.zeros(3, 8, 8, 3, dtype=torch.uint8)
    >>> strong_view(pixels, torch.Generator().manual_seed(0)).shape
    torch.Size([3, 8, 8, 3])
    """
    from torchvision.transforms import v2

    randomly = v2.RandAugment(num_ops=operations, magnitude=magnitude, fill=127)
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
        torch.manual_seed(seed)
        parts = [randomly(part.permute(0, 3, 1, 2)) for part in pixels.split(_PER_DRAW)]
    found = torch.cat(parts).permute(0, 2, 3, 1).contiguous() if parts else pixels.clone()
    side = pixels.shape[1]
    half = _CUT_SHARE * side / 2
    centre = torch.rand(len(pixels), 2, generator=generator) * side
    places = torch.arange(side) + 0.5
    inside = (places[None, :, None] - centre[:, None]).abs() <= half  # (n, s, 2)
    hole = inside[:, :, None, 0] & inside[:, None, :, 1]
    found[hole.to(found.device)] = 127
    return found
