"""Frozen linear layers in int8 on a CPU, by the kernels of oneDNN and FBGEMM that come with PyTorch.

Weights are rounded once, one scale per output. Activations are rounded row by row (token by token) as they come, from
their smallest value to their largest, so that nothing has to be calibrated and one token with large values costs the
others no accuracy. Products of integers are exact and the same on every processor; scales, biases and everything
between the layers stay in fp32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from causalft.errors import CausalFTError
from causalft.models.tuning.frozen_layers import ProductWithGradient

__all__ = ["Int8Linear", "has_int8", "require_int8"]

LARGEST_WEIGHT = 64
"""Without VNNI, two products of 8 bits are added in 16 bits: 2 * 255 * 64 fits into them, 2 * 255 * 127 does not."""

# At a time: small enough for the caches, large enough for what a product costs whatever its size.
_ROWS = 788

TINY = 1e-30

RANGE_TINY = 1e-8
"""The kernel that rounds rows adds this to the range of each."""

# Of a row's largest value, where the kernel rounds it as it is.
_SMALL, _LARGE = 1e-5, 1e30


def has_int8() -> bool:
    """Whether this build of PyTorch has the int8 layers of oneDNN."""
    return (
        bool(torch.backends.mkldnn.is_available())
        and all(hasattr(torch.ops.onednn, name) for name in ("qlinear_prepack", "qlinear_pointwise"))
        and hasattr(torch.ops.quantized, "embedding_bag_byte_prepack")
    )


def require_int8() -> None:
    """Refuse int8 where PyTorch has no layers for it; raises a :class:`CausalFTError`."""
    if not has_int8():
        raise CausalFTError(
            "this build of PyTorch has no int8 layers (oneDNN); use --precision fp32, or install PyTorch for an x86 or "
            "ARM processor from its own wheels"
        )


class Int8Linear(nn.Module):
    """A frozen linear layer in int8; takes and gives fp32, and the gradient for the input flows through it.

    Rows of activations are rounded to 8 bits as in LLM.int8(), without its outlier columns; rows of gradients as in
    SwitchBack. The weight has no gradient.

    Parameters
    ----------
    linear : torch.nn.Linear
        Its weights are copied; it is not kept.

    References
    ----------
    Dettmers et al., "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale", NeurIPS 2022. Wortsman et al.,
    "Stable and low-precision training for large-scale vision-language models", NeurIPS 2023.

    Examples
    --------
    >>> linear = nn.Linear(8, 4)
    >>> bool((Int8Linear(linear)(torch.ones(1, 8)) - linear(torch.ones(1, 8))).abs().max() < 0.05)
    True
    """

    dtype = torch.float32

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(1).div_(LARGEST_WEIGHT).clamp_min_(TINY)
        rounded = (weight / scale[:, None]).round_().to(torch.int8)
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().float()
        # no buffers: they follow from the model's own weights
        self._scale = scale
        of_least = scale * rounded.sum(1)  # what a row's smallest value is multiplied by
        self._constant = torch.stack([of_least, bias])
        self._forward = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._backward: Tensor | None = None

    def product(self, x: Tensor, kind: str = "none") -> Tensor:
        """``kind`` ("none" or "gelu") of ``x W^T + b``; no gradient."""
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) <= _ROWS:
            return self._of_part(rows, kind, None).view(*x.shape[:-1], self.out_features)
        found = torch.empty(len(rows), self.out_features)
        for part, place in zip(rows.split(_ROWS), found.split(_ROWS), strict=True):
            self._of_part(part, kind, place)
        return found.view(*x.shape[:-1], self.out_features)

    def _of_part(self, rows: Tensor, kind: str, place: Tensor | None) -> Tensor:
        """The product of a few rows, in a place of its own or where the integers are."""
        rounded, scale, least = _round_rows(rows)
        integers = _integer_product(rounded, self._forward, self._scale)
        with_bias = torch.cat([least, torch.ones_like(least)], 1)
        found = torch.addmm(
            integers.mul_(scale), with_bias, self._constant, out=integers if place is None else place
        )
        return torch.ops.aten.gelu_(found) if kind == "gelu" else found

    def back(self, gradient: Tensor) -> Tensor:
        """``gradient W``."""
        if self._backward is None:  # only training pays for the second layout
            transposed = self._forward.to_dense()
            self._of_least = transposed.sum(1, dtype=torch.float32)[None]
            self._backward = torch.ops.onednn.qlinear_prepack(transposed, None)
        rows = gradient.reshape(-1, gradient.shape[-1])
        found, ones = torch.empty(len(rows), self.in_features), torch.ones(self.in_features)
        for part, place in zip(rows.split(_ROWS), found.split(_ROWS), strict=True):
            rounded, scale, least = _round_shares(part * self._scale)  # gradients are small
            integers = _integer_product(rounded, self._backward, ones)
            torch.addmm(integers.mul_(scale), least, self._of_least, out=place)
        return found.view(*gradient.shape[:-1], self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        return ProductWithGradient.apply(x.float(), self)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"


def _round_rows(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """uint8 (n, d), scales (n, 1) and smallest values (n, 1): row = scale * uint8 + smallest, rounded.

    A value that is not finite makes the smallest of its row so, or the scale.
    """
    rounded, scale, least = _packed(rows)
    if not torch.compiler.is_compiling():
        largest = torch.maximum(least.abs(), (least + 255 * scale).abs())
        if bool((((largest > 0) & (largest < _SMALL)) | (largest > _LARGE)).any()):
            return _round_shares(rows)
    return rounded, scale, least


def _round_shares(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same, of rows of any size: as shares of the largest value of each."""
    largest = torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True)).clamp_min_(TINY)
    rounded, scale, least = _packed(rows / largest)
    return rounded, scale * largest, least * largest


def _packed(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What `_round_rows` gives, of rows that the kernel can round as they are."""
    if torch.compiler.is_compiling():  # the compiler takes the kernel's bytes for floats
        least, largest = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
        scale = (largest - least + RANGE_TINY) / 255
        return ((rows - least) / scale).round().to(torch.uint8), scale, least
    packed = torch.ops.quantized.embedding_bag_byte_prepack(rows)  # scale and smallest value behind each row
    scale, least = packed[:, -8:].clone(memory_format=torch.contiguous_format).view(torch.float32).split(1, 1)
    # the kernel passes NaN over
    return packed[:, :-8].contiguous(), scale + RANGE_TINY / 255, least + 0 * rows.amax(1, keepdim=True)


def _integer_product(rows: Tensor, weight: Tensor, weight_scale: Tensor) -> Tensor:
    """rows W^T, times the scale of each output; fp32."""
    zeros = torch.zeros(len(weight_scale), dtype=torch.int32)
    return torch.ops.onednn.qlinear_pointwise(
        rows, 1.0, 0, weight, weight_scale, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
