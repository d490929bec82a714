"""Visual prompts (VPT): trained tokens that enter before a block and leave before pooling."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from causalft.models.tuning.choices import Tuner
from causalft.models.tuning.towers import Tower
from causalft.models.tuning.tuners import is_vit

__all__ = ["N_PROMPTS", "Prompts", "add_deep_prompts", "add_shallow_prompts"]

N_PROMPTS = 10
"""Prompts of a block, as in LIFT (Shi et al., ICML 2024)."""


class Prompts(nn.Module):
    """Prompts of consecutive blocks, after the class token and before the patches.

    Shallow prompts enter before the first block and leave after the last. Deep prompts are new in every block (Jia et
    al., "Visual Prompt Tuning", ECCV 2022, Eq. 4-7). They start uniform in ``+-sqrt(6 / (3 p^2 + width))`` for patches
    of p pixels and take part in attention at once, so a prompted tower does *not* start as the frozen one.

    Parameters
    ----------
    blocks : range
    width : int
    deep : bool
    n_prefix : int
        Tokens before the prompts: class token and registers.
    patch_size : int
    n_prompts : int

    Examples
    --------
    >>> prompts = Prompts(range(1, 3), 4, deep=False, n_prefix=1, patch_size=8, n_prompts=2)
    >>> tokens = torch.zeros(5, 10, 4)
    >>> inside = prompts.enter(1, prompts.leave(0, prompts.enter(0, tokens)))
    >>> inside.shape, torch.equal(prompts.leave(2, prompts.leave(1, inside)), tokens)
    (torch.Size([5, 12, 4]), True)
    """

    def __init__(
        self,
        blocks: range,
        width: int,
        *,
        deep: bool,
        n_prefix: int,
        patch_size: int,
        n_prompts: int = N_PROMPTS,
    ) -> None:
        super().__init__()
        self.first = blocks.start
        self.entries = list(blocks) if deep else [blocks.start]
        self.exits = list(blocks) if deep else [blocks.stop - 1]
        self.n_prefix = n_prefix
        limit = math.sqrt(6 / (3 * patch_size**2 + width))
        self.tokens = nn.Parameter(torch.empty(len(self.entries), n_prompts, width).uniform_(-limit, limit))

    def enter(self, number: int, tokens: Tensor) -> Tensor:
        """Add the prompts of block ``number``, if any: (n, n_tokens, width) to (n, n_tokens + p, width)."""
        if number not in self.entries:
            return tokens
        prompts = self.tokens[self.entries.index(number)].to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        return torch.cat([tokens[:, : self.n_prefix], prompts, tokens[:, self.n_prefix :]], dim=1)

    def leave(self, number: int, tokens: Tensor) -> Tensor:
        """Remove the prompts after block ``number``, if they leave there."""
        if number not in self.exits:
            return tokens
        after = self.n_prefix + self.tokens.shape[1]
        return torch.cat([tokens[:, : self.n_prefix], tokens[:, after:]], dim=1)


def add_shallow_prompts(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> list[nn.Parameter]:
    """Add prompts before the first of the blocks."""
    return _add_prompts(tower, blocks, deep=False)


def add_deep_prompts(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> list[nn.Parameter]:
    """Add prompts before every block."""
    return _add_prompts(tower, blocks, deep=True)


def _add_prompts(tower: Tower, blocks: range, deep: bool) -> list[nn.Parameter]:
    for number in blocks:
        # Rotary positions leave the prefix out; the prompts have no place in the image either.
        attention: Any = tower.parts(tower.blocks[number]).attention
        if hasattr(attention, "num_prefix_tokens"):
            attention.num_prefix_tokens += N_PROMPTS
    tower.prompts = Prompts(
        blocks, tower.width, deep=deep, n_prefix=tower.n_prefix, patch_size=tower.patch_size
    )
    return [tower.prompts.tokens]


SHALLOW = Tuner(
    name="vpt-shallow",
    trains="10 prompts before the first block",
    order=40,
    fits=is_vit,
    apply=add_shallow_prompts,
    stays=True,
    towers="ViT",
    source="Jia et al., ECCV 2022",
)
DEEP = Tuner(
    name="vpt-deep",
    trains="10 prompts before every block",
    order=41,
    fits=is_vit,
    apply=add_deep_prompts,
    stays=True,
    excludes={"vpt-shallow": "deep prompts include the shallow ones"},
    towers="ViT",
    source="Jia et al., ECCV 2022",
)
