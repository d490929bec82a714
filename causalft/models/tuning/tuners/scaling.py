"""Trained factors that fold into the weights: SSF, a scale and a shift after every layer, and (IA)^3."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from causalft.models.tuning.choices import Tuner
from causalft.models.tuning.towers import Tower
from causalft.models.tuning.tuners import has_blocks, is_vit, names_in, need_exact_weights, replace_module
from causalft.models.tuning.tuners.own_tensors import is_batch_norm, is_layer_norm

__all__ = [
    "ScaleShift",
    "ScaledLinear",
    "add_factors",
    "add_scale_shift",
    "merge_factors",
    "merge_scale_shift",
]


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
            need_exact_weights(module.inner, "ssf")
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


class ScaledLinear(nn.Module):
    """A linear layer with one trained factor per input, or per output of the last ``n``; all factors start at 1.

    Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning", NeurIPS 2022,
    section 3.3. The ``peft`` library scales all outputs of a layer, queries too where they share it with the keys.

    Parameters
    ----------
    inner : torch.nn.Linear
    n : int
        Number of factors.
    on_input : bool
        Scale the inputs instead of the outputs.

    Examples
    --------
    >>> layer, x = ScaledLinear(nn.Linear(3, 6), 4), torch.ones(2, 3)
    >>> torch.equal(layer(x), layer.inner(x)), layer.scale.shape
    (True, torch.Size([4]))
    """

    def __init__(self, inner: Any, n: int, on_input: bool = False) -> None:
        super().__init__()
        self.inner, self.on_input = inner, on_input
        self.scale = nn.Parameter(torch.ones(n, device=inner.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        if self.on_input:
            return self.inner(x * self.scale.to(x.dtype))
        y = self.inner(x)
        n = len(self.scale)
        return torch.cat([y[..., :-n], y[..., -n:] * self.scale.to(y.dtype)], dim=-1)

    def folded(self) -> nn.Linear:
        """The layer with the factors in its weights, which are new tensors."""
        inner = self.inner
        scale = self.scale.detach()
        if self.on_input:
            inner.weight = nn.Parameter(inner.weight.detach() * scale, requires_grad=False)
            return inner
        whole = torch.cat([scale.new_ones(inner.out_features - len(scale)), scale])
        inner.weight = nn.Parameter(inner.weight.detach() * whole[:, None], requires_grad=False)
        if inner.bias is not None:
            inner.bias = nn.Parameter(inner.bias.detach() * whole, requires_grad=False)
        return inner


def add_factors(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> list[nn.Parameter]:
    """Wrap the layers of keys and values, and the last one of each MLP, in a :class:`ScaledLinear`."""
    names = {id(module): name for name, module in tower.named_modules()}
    trained: list[nn.Parameter] = []
    for number in blocks:
        parts = tower.parts(tower.blocks[number])
        attention, last = parts.attention, parts.fc2
        joined = parts.qkv is not None
        keys_and_values: list[Any] = [parts.qkv] if joined else [attention.k_proj, attention.v_proj]
        layers = [
            (layer, ScaledLinear(layer, layer.out_features * 2 // 3 if joined else layer.out_features))
            for layer in keys_and_values
        ]
        layers.append((last, ScaledLinear(last, last.in_features, on_input=True)))  # type: ignore[arg-type]
        for layer, scaled in layers:
            replace_module(tower, names[id(layer)], scaled)
            trained.append(scaled.scale)
    return trained


def merge_factors(tower: Tower) -> bool:
    """Fold every factor into its layer.

    Raises
    ------
    CausalFTError
        If the layers are in bfloat16, without exact weights to multiply.
    """
    for name, module in list(tower.named_modules()):
        if isinstance(module, ScaledLinear):
            need_exact_weights(module.inner, "ia3")
            replace_module(tower, name, module.folded())
    return True


IA3 = Tuner(
    name="ia3",
    trains="a factor on each key, value and inner activation of the MLP",
    order=5,
    fits=is_vit,
    apply=add_factors,
    merge=merge_factors,
    towers="ViT",
    source="Liu et al., NeurIPS 2022",
)
