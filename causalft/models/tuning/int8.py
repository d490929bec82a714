"""Frozen linear layers in int8 on a CPU, by the kernels of oneDNN that come with PyTorch.

Weights are rounded once, one scale per output. Activations are rounded row by row (token by token) as they come, so
that nothing has to be calibrated and one token with large values costs the others no accuracy. Products of integers are
exact and the same on every processor; scales, biases and everything between the layers stay in fp32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from causalft.errors import CausalFTError
from causalft.models.tuning.frozen_layers import ProductWithGradient, truncated

__all__ = ["Int8Linear", "has_int8", "require_int8"]

LARGEST_WEIGHT = 64
"""Without VNNI, two products of 8 bits are added in 16 bits: 2 * 255 * 64 fits into them, 2 * 255 * 127 does not."""

GELU_MINIMUM = 0.17
"""GELU and quick-GELU are nowhere smaller than -0.17 (-0.16997 and -0.16361)."""

# At a time, so that the rounded rows and what is made of them stay in the caches.
_ROWS = 394

ZERO_POINT = 128
TINY = 1e-30


def has_int8() -> bool:
    """Whether this build of PyTorch has the int8 layers of oneDNN."""
    return bool(torch.backends.mkldnn.is_available()) and all(
        hasattr(torch.ops.onednn, name) for name in ("qlinear_prepack", "qlinear_pointwise")
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
    at_least : float, optional
        The input is nowhere smaller (-0.17 after a GELU): all 8 bits go to what lies above. By default they are
        shared by both signs.

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

    def __init__(self, linear: nn.Linear, at_least: float | None = None) -> None:
        super().__init__()
        self.in_features, self.out_features, self.at_least = linear.in_features, linear.out_features, at_least
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(1).div_(LARGEST_WEIGHT).clamp_min_(TINY)
        rounded = (weight / scale[:, None]).round_().to(torch.int8)
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().float()
        if at_least is not None:  # x = at_least + (x - at_least)
            bias = bias + at_least * scale * rounded.sum(1)
        # no buffers: they follow from the model's own weights
        self._bias, self._scale = bias.clone(), scale
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
        scale, rounded, zero = _round_rows(rows, self.at_least)
        integers = _integer_product(rounded, zero, self._forward, self._scale)
        place = integers if place is None else place
        torch.add(integers.mul_(scale), self._bias, out=place)  # addcmul is not vectorised here
        return torch.ops.aten.gelu_(place) if kind == "gelu" else place

    def back(self, gradient: Tensor) -> Tensor:
        """``gradient W``."""
        if self._backward is None:  # only training pays for the second layout
            self._backward = torch.ops.onednn.qlinear_prepack(self._forward.to_dense(), None)
        rows = gradient.reshape(-1, gradient.shape[-1])
        found, ones = torch.empty(len(rows), self.in_features), torch.ones(self.in_features)
        for part, place in zip(rows.split(_ROWS), found.split(_ROWS), strict=True):
            scale, rounded, zero = _round_rows(part * self._scale, None)
            torch.mul(_integer_product(rounded, zero, self._backward, ones), scale, out=place)
        return found.view(*gradient.shape[:-1], self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        return ProductWithGradient.apply(x.float(), self)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"


def _round_rows(rows: Tensor, at_least: float | None) -> tuple[Tensor, Tensor, int]:
    """Scales (n, 1), uint8 (n, d) and its zero point: row = scale (uint8 - zero point), or that plus ``at_least``."""
    if at_least is None:
        scale = rows.abs().amax(-1, keepdim=True).div_(127).clamp_min_(TINY)
        return scale, truncated(torch.div(rows, scale).add_(ZERO_POINT + 0.5)), ZERO_POINT
    scale = rows.amax(-1, keepdim=True).sub_(at_least).div_(255).clamp_min_(TINY)
    shifted = torch.sub(rows, at_least).div_(scale).add_(0.5)
    return scale, truncated(shifted), 0


def _integer_product(rows: Tensor, zero_point: int, weight: Tensor, weight_scale: Tensor) -> Tensor:
    """(rows - zero_point) W^T, times the scale of each output; fp32."""
    zeros = torch.zeros(len(weight_scale), dtype=torch.int32)
    return torch.ops.onednn.qlinear_pointwise(
        rows, 1.0, zero_point, weight, weight_scale, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
