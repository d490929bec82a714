"""CIFAR ResNets of He et al. (2016), trained from scratch."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from causalft.errors import CausalFTError, nearest

__all__ = ["BACKBONES", "ResNet", "as_input", "resnet"]

BACKBONES = {"resnet32": 32, "resnet20": 20, "resnet8": 8}
"""Name -> number of weighted layers, 6 n + 2 with n blocks in each of three stages."""


class _Block(nn.Module):
    """Two 3 x 3 convolutions and a parameter-free shortcut (option A: stride and zero channels)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.stride, self.more = stride, channels - channels_in

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.more:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(inner + x)


class ResNet(nn.Module):
    """CIFAR ResNet with ``6 * blocks + 2`` layers and 16, 32 and 64 channels; made by `resnet`.

    Takes images (n, 3, height, width) in [0, 1] and gives logits (n, n_classes).
    """

    def __init__(self, blocks: int, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        stages: list[nn.Module] = []
        channels = 16
        for wider, stride in ((16, 1), (32, 2), (64, 2)):
            for number in range(blocks):
                stages.append(_Block(channels, wider, stride if number == 0 else 1))
                channels = wider
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(64, n_classes)

    def features(self, x: Tensor) -> Tensor:
        """Input of the last layer, (n, 64)."""
        return self.stages(self.stem((x - 0.5) / 0.25)).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def resnet(name: str, n_classes: int, seed: int) -> ResNet:
    """Make a CIFAR ResNet with He-normal weights drawn from ``seed``.

    Parameters
    ----------
    name : {"resnet32", "resnet20", "resnet8"}
        ``resnet32`` has 0.46 million parameters.
    n_classes : int
    seed : int
        The global random state is not touched.

    Raises
    ------
    CausalFTError
        For an unknown name.

    Examples
    --------
    >>> sum(p.numel() for p in resnet("resnet32", 10, seed=0).parameters())
    464154
    """
    if name not in BACKBONES:
        raise CausalFTError(f"no backbone {name!r}; {nearest(name, BACKBONES)}")
    with torch.random.fork_rng(devices=[]):
        model = ResNet((BACKBONES[name] - 2) // 6, n_classes)
    weights = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=weights)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.05, generator=weights)
            nn.init.zeros_(module.bias)
    return model


def as_input(pixels: np.ndarray) -> Tensor:
    """Convert uint8 images (n, size, size, 3) to floats in [0, 1], (n, 3, size, size), channels last in memory.

    Examples
    --------
    >>> as_input(np.full((2, 4, 4, 3), 255, np.uint8)).shape
    torch.Size([2, 3, 4, 4])
    """
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255.0)
    return x.contiguous(memory_format=torch.channels_last)
