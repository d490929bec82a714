"""SSF: a trained scale and shift after every linear layer, convolution and norm, which fold into the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from causalft.errors import CausalFTError
from causalft.models.tuning.choices import Tuner
from causalft.models.tuning.towers import Tower
from causalft.models.tuning.tuners import has_blocks, names_in, replace_module
from causalft.models.tuning.tuners.own_tensors import is_batch_norm, is_layer_norm

__all__ = ["ScaleShift", "add_scale_shift", "merge_scale_shift"]


class ScaleShift(nn.Module):
    """A frozen layer followed by ``scale * y + shift``, one of each per channel (Lian et al., NeurIPS 2022, Eq. 3).

    Scale starts at 1 and shift at 0 (the paper adds noise).

    Parameters
    ----------
    inner : torch.nn.Module
        A linear layer, a convolution, or a norm.

    Examples
    --------
    >>> layer = ScaleShift(nn.Linear(3, 5, bias=False))
    >>> x = torch.randn(2, 3)
    >>> torch.equal(layer(x), layer.inner(x)), sum(p.numel() for p in (layer.scale, layer.shift))
    (True, 10)
    """

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        channels = _channels(inner)
        device = next(inner.parameters()).device
        self.scale = nn.Parameter(torch.ones(channels, device=device))
        self.shift = nn.Parameter(torch.zeros(channels, device=device))
        self.maps = isinstance(inner, (nn.Conv2d, nn.modules.batchnorm._BatchNorm))

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, 1, 1) if self.maps else (-1,)
        return self.inner(x) * self.scale.view(shape) + self.shift.view(shape)

    def folded(self) -> nn.Module | None:
        """The layer with scale and shift in its weights; None for a norm without a bias."""
        inner = self.inner
        if not hasattr(inner, "bias"):
            return None
        with torch.no_grad():
            weight = inner.weight * self.scale.view(-1, *[1] * (inner.weight.ndim - 1))
            bias = self.shift.clone() if inner.bias is None else inner.bias * self.scale + self.shift
        inner.weight = nn.Parameter(
            weight, requires_grad=False
        )  # new: the old one is shared with the frozen model
        inner.bias = nn.Parameter(bias, requires_grad=False)
        return inner


def _channels(layer: Any) -> int:
    for name in ("out_features", "out_channels", "num_features"):
        if hasattr(layer, name):
            return getattr(layer, name)
    return layer.normalized_shape[-1]


def add_scale_shift(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> list[nn.Parameter]:
    """Wrap convolutions, norms, and the linear layers of blocks in a :class:`ScaleShift`."""
    names = [
        name
        for name, module in tower.named_modules()
        if isinstance(module, nn.Conv2d)
        or is_layer_norm(module)
        or is_batch_norm(module)
        or (isinstance(module, nn.Linear) and name.startswith("blocks."))
    ]
    trained = []
    # An attention pool reads the weights of its layers past them, and is no linear layer, norm or convolution.
    for name in names_in([name for name in names if "pool" not in name], blocks, confined):
        layer = ScaleShift(tower.get_submodule(name))
        replace_module(tower, name, layer)
        trained += [layer.scale, layer.shift]
    return trained


def merge_scale_shift(tower: Tower) -> bool:
    """Fold every scale and shift into its layer; return whether all could be (a norm without a bias takes no shift).

    Raises
    ------
    CausalFTError
        If the layers are in bfloat16, without exact weights to multiply.
    """
    left = False
    for name, module in list(tower.named_modules()):
        if isinstance(module, ScaleShift):
            if not hasattr(module.inner, "weight"):
                raise CausalFTError(
                    "ssf cannot be merged into layers that were rounded to bf16; load it into a tower in fp32"
                )
            folded = module.folded()
            if folded is None:
                left = True
            else:
                replace_module(tower, name, folded)
    return not left


SSF = Tuner(
    name="ssf",
    trains="a scale and a shift behind the patch embedding, every linear layer, convolution and norm",
    order=10,
    fits=has_blocks,
    apply=add_scale_shift,
    merge=merge_scale_shift,
    towers="ViT, ResNet",
    source="Lian et al., NeurIPS 2022",
)
