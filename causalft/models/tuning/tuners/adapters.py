"""Bottleneck adapters: AdaptFormer beside the MLP of a block, Adapter behind it, and their width."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from causalft.models.tuning.choices import Tuner
from causalft.models.tuning.towers import Tower, stage_channels
from causalft.models.tuning.tuners import has_blocks, is_resnet, is_vit

__all__ = [
    "AdaptedMLP",
    "ResidualBottleneck",
    "add_behind",
    "add_beside",
    "add_beside_scaled",
    "bottleneck_width",
]

SCALE = 1.0


def bottleneck_width(n_classes: int, n_blocks: int, least: int = 1) -> int:
    """Return LIFT's bottleneck 2^floor(log2(K / (2 L))) for K classes and L blocks, at least ``least``.

    Shi et al., "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts", ICML 2024.

    Examples
    --------
    ImageNet-LT, Places-LT and CIFAR-100-LT on a ViT-B/16:

    >>> [bottleneck_width(n_classes, 12) for n_classes in (1000, 365, 100)]
    [32, 8, 4]
    """
    return max(least, 2 ** max(0, math.floor(math.log2(n_classes / (2 * n_blocks)))))


class AdaptedMLP(nn.Module):
    """A frozen MLP with a trained bottleneck in parallel: ``mlp(h) + s * up(relu(down(h)))``.

    ``h`` is the block's layer-normed input (AdaptFormer: Chen et al., NeurIPS 2022, Eq. 3). The up-projection starts at
    zero, so the adapted model starts as the frozen one.

    Parameters
    ----------
    mlp : torch.nn.Module
    width, bottleneck : int
    scale : float
    learned : bool
        Whether the scale s is trained.
    """

    def __init__(
        self, mlp: nn.Module, width: int, bottleneck: int, scale: float = SCALE, learned: bool = False
    ) -> None:
        super().__init__()
        self.mlp = mlp
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        self.scale = nn.Parameter(torch.tensor(scale)) if learned else scale
        _start(self.down, self.up)

    def forward(self, h: Tensor) -> Tensor:
        return self.mlp(h) + self.scale * self.up(torch.relu(self.down(h)))


class ResidualBottleneck(nn.Module):
    """A trained bottleneck after a frozen layer: ``x + up(relu(down(x)))``, initially the identity.

    The Adapter of Houlsby et al. (ICML 2019, Fig. 2); in a convolutional network its layers are 1x1 convolutions
    (Rebuffi et al., CVPR 2018).

    Parameters
    ----------
    width, bottleneck : int
    convolution : bool
        For maps (n, width, h, w) instead of tokens (n, n_tokens, width).
    """

    def __init__(self, width: int, bottleneck: int, convolution: bool = False) -> None:
        super().__init__()
        self.down: nn.Module = (
            nn.Conv2d(width, bottleneck, 1) if convolution else nn.Linear(width, bottleneck)
        )
        self.up: nn.Module = nn.Conv2d(bottleneck, width, 1) if convolution else nn.Linear(bottleneck, width)
        _start(self.down, self.up)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(torch.relu(self.down(x)))


def _start(down: Any, up: Any) -> None:
    nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
    nn.init.zeros_(down.bias)
    nn.init.zeros_(up.weight)
    nn.init.zeros_(up.bias)


def add_beside(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> list[nn.Parameter]:
    """Replace every block's MLP by an :class:`AdaptedMLP`; draws from torch's default generator."""
    trained: list[nn.Parameter] = []
    for number in blocks:
        block: Any = tower.blocks[number]
        block.mlp = AdaptedMLP(block.mlp, tower.width, bottleneck)
        trained += [*block.mlp.down.parameters(), *block.mlp.up.parameters()]
    return trained


def add_beside_scaled(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> list[nn.Parameter]:
    """As :func:`add_beside`, with a trained scale, one number per block, that starts at 1."""
    trained: list[nn.Parameter] = []
    for number in blocks:
        block: Any = tower.blocks[number]
        block.mlp = AdaptedMLP(block.mlp, tower.width, bottleneck, learned=True)
        trained += [block.mlp.scale, *block.mlp.down.parameters(), *block.mlp.up.parameters()]
    return trained


def add_behind(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> list[nn.Parameter]:
    """Add a :class:`ResidualBottleneck` after every stage or MLP, inside an AdaptFormer if there is one."""
    trained: list[nn.Parameter] = []
    for number in blocks:
        block: Any = tower.blocks[number]
        if is_resnet(tower):
            adapter = ResidualBottleneck(stage_channels(block), bottleneck, convolution=True)
            block.add_module("adapter", adapter)
        else:
            adapter = ResidualBottleneck(tower.width, bottleneck)
            holder = block.mlp if isinstance(block.mlp, AdaptedMLP) else block
            holder.mlp = nn.Sequential(OrderedDict(mlp=holder.mlp, adapter=adapter))
        trained += adapter.parameters()
    return trained


ADAPTFORMER = Tuner(
    name="adaptformer",
    trains="a bottleneck beside every MLP",
    order=30,
    fits=is_vit,
    apply=add_beside,
    stays=True,
    uses_bottleneck=True,
    towers="ViT",
    source="Chen et al., NeurIPS 2022",
)
ADAPTFORMER_SCALED = Tuner(
    name="adaptformer-scaled",
    trains="a bottleneck beside every MLP, and its scale",
    order=30,
    fits=is_vit,
    apply=add_beside_scaled,
    stays=True,
    uses_bottleneck=True,
    excludes={
        "adaptformer": "adaptformer and adaptformer-scaled are one bottleneck, with a scale of 1 and a trained one"
    },
    towers="ViT",
    source="LIFT (Shi et al., ICML 2024)",
)
ADAPTER = Tuner(
    name="adapter",
    trains="a bottleneck behind every MLP; behind every stage of a ResNet, as 1x1 convolutions",
    order=31,
    fits=has_blocks,
    apply=add_behind,
    stays=True,
    uses_bottleneck=True,
    towers="ViT, ResNet",
    source="Houlsby et al., ICML 2019; Rebuffi et al., CVPR 2018",
)
