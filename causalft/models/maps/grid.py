"""The patches of a tower as a grid: where tokens lie in the image, and where a map can be read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from causalft.models.maps import MapTarget, NoSuchMap
from causalft.models.tuning.towers import ResNetTower, Tower

__all__ = ["GridModel", "grid_side", "is_vit", "map_side"]


def is_vit(tower: Tower) -> bool:
    """Whether the tower has patches as tokens."""
    return tower.kind.endswith("ViT")


def grid_side(tower: Tower, tokens: Tensor) -> int:
    """Side of the square grid of patches in tokens (n, n_tokens, width) after the prefix.

    Raises
    ------
    NoSuchMap
        If the patches form no square.
    """
    n_patches = tokens.shape[1] - tower.n_prefix
    side = round(max(0, n_patches) ** 0.5)
    if side == 0 or side * side != n_patches:
        raise NoSuchMap(
            f"{n_patches} patches of this image tower form no square grid; use --method occlusion"
        )
    return side


OTHER_SIDE = 7
"""Cells along each side of a map of a tower without patches: the last stage of a ResNet has as many at 224 pixels."""


def map_side(tower: Tower, images: Tensor) -> int:
    """Cells along each side of a map: the patches of a vision transformer, else 7, at most the pixels."""
    if is_vit(tower) and tower.patch_size:
        return max(1, images.shape[-1] // tower.patch_size)
    return min(OTHER_SIDE, images.shape[-1])


class GridModel(nn.Module):
    """A model with one layer, :attr:`grid`, at which the image is a grid of vectors (n, width, h, w).

    In a vision transformer it is the input of a block, in a ResNet the output of the last stage.

    Parameters
    ----------
    target : MapTarget
    block : int
        Of a vision transformer; negative numbers count from the end.

    Raises
    ------
    NoSuchMap
        If the tower has no such layer.
    """

    def __init__(self, target: MapTarget, block: int = -1) -> None:
        super().__init__()
        tower = target.tower
        if not (is_vit(tower) or isinstance(tower, ResNetTower)):
            raise NoSuchMap(
                f"the image tower of {target.name!r} is no vision transformer and no ResNet that can be opened; "
                "use --method occlusion, which needs nothing of a tower"
            )
        self.target = target
        self.tower = tower
        self.block = block % len(tower.blocks) if is_vit(tower) else len(tower.blocks)
        self.grid = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape (n, K)."""
        tower = self.tower
        states = tower.run(tower.embed(images), stop=self.block) if self.block else tower.embed(images)
        states = self._through_grid(states)
        if self.block < len(tower.blocks):
            states = tower.run(states, start=self.block)
        found = self.target.head(tower.pool(states))
        return found if self.target.rest is None else found + self.target.rest(images)

    def _through_grid(self, states: Tensor) -> Tensor:
        if not is_vit(self.tower):
            return self.grid(states)
        side = grid_side(self.tower, states)
        prefix, patches = states[:, : self.tower.n_prefix], states[:, self.tower.n_prefix :]
        found = self.grid(patches.transpose(1, 2).unflatten(2, (side, side)))
        return torch.cat([prefix, found.flatten(2).transpose(1, 2)], dim=1)
