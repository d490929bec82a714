"""The squares that a model with test-time crops sees, cut inside the graph from the resized picture."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["squares"]


def squares(pictures: Tensor, size: int, view: str) -> Tensor:
    """Cut pictures as :func:`causalft.models.features.crops.view_cut` does, after the shorter side was resized.

    Parameters
    ----------
    pictures : Tensor
        Shape (n, 3, height, width), no side shorter than ``size``; height and width may be symbols of a trace.
    size : int
    view : {"five-crop", "ten-crop"}

    Returns
    -------
    Tensor
        Shape (n_views * n, 3, size, size), one view after the other: the corners and the centre, then the same of the
        mirror images.

    Examples
    --------
    >>> squares(torch.zeros(2, 3, 20, 30), 16, "ten-crop").shape
    torch.Size([20, 3, 16, 16])
    """
    # Chosen by number, not sliced: a trace cannot prove of every height and width that the middle lies inside.
    steps = torch.arange(size, device=pictures.device)
    rows, columns = (steps + _middle(pictures.shape[axis] - size) for axis in (2, 3))
    found = []
    for seen in (pictures, pictures.flip(-1)) if view == "ten-crop" else (pictures,):
        for strip in (seen[:, :, :size], seen[:, :, seen.shape[2] - size :]):
            found += [strip[..., :size], strip[..., strip.shape[3] - size :]]
        found.append(seen.index_select(2, rows).index_select(3, columns))
    return torch.cat(found)


def _middle(spare: int) -> int:
    """Half of the spare pixels, a half one to the even side, as torchvision rounds: in whole numbers for the trace."""
    return spare // 2 + (spare % 2) * ((spare // 2) % 2)
