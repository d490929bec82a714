"""Wide residual networks of Zagoruyko and Komodakis (2016), trained from scratch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["WideResNet", "wide_resnet"]

_SLOPE = 0.1


class _Block(nn.Module):
    """Two pre-activated 3 x 3 convolutions; a 1 x 1 convolution as shortcut where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        same = channels_in == channels and stride == 1
        self.shortcut = None if same else nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.leaky_relu(self.norm1(x), _SLOPE)
        inner = self.conv2(F.leaky_relu(self.norm2(self.conv1(active)), _SLOPE))
        return inner + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """WRN-d-k with leaky ReLU of slope 0.1, as in FixMatch; made by :func:`wide_resnet`.

    Takes images (n, 3, height, width) in [0, 1] and gives logits (n, n_classes).
    """

    def __init__(self, depth: int, width: int, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        stages: list[nn.Module] = []
        channels = 16
        for wider, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
            for number in range((depth - 4) // 6):
                stages.append(_Block(channels, wider, stride if number == 0 else 1))
                channels = wider
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        features = F.leaky_relu(self.norm(self.stages(self.stem((x - 0.5) / 0.25))), _SLOPE)
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


def wide_resnet(n_classes: int, seed: int, *, depth: int = 28, width: int = 2) -> WideResNet:
    """Make a wide ResNet with weights drawn from ``seed``; the global random state is not touched.

    Examples
    --------
    >>> round(sum(p.numel() for p in wide_resnet(10, seed=0).parameters()) / 1e6, 2)
    1.47
    """
    with torch.random.fork_rng(devices=[]):
        model = WideResNet(depth, width, n_classes)
    weights = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=_SLOPE, generator=weights)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight, generator=weights)
            nn.init.zeros_(module.bias)
    return model
