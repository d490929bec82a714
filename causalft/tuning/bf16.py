"""Frozen layers in bfloat16 on a CPU that multiplies matrices in it: linear layers, the MLP's activation, attention.

Only what is frozen is touched: trained weights, norms and the sum over blocks stay in fp32. Two facts shape this file.
The attention kernel of PyTorch is no faster in bf16 than in fp32, and its backward is slower: two batched products with
a softmax between them are twice as fast as either. And oneDNN is faster with weights that it has laid out once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FrozenLinear", "attention_bf16", "has_bf16_matrices"]

_BF16 = torch.bfloat16


def has_bf16_matrices() -> bool:
    """Whether this CPU multiplies matrices in bfloat16 in hardware, through oneDNN."""
    try:
        return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


class FrozenLinear(nn.Module):
    """A linear layer that is never trained, in bfloat16; it may hold the activation that follows it.

    Takes any float dtype and gives bfloat16. The gradient for the input flows through it.

    Parameters
    ----------
    linear : torch.nn.Linear
        Its weights are copied in bfloat16; it is not kept.
    activation : {"none", "gelu", "quick_gelu"}
        In inference it is applied by the same kernel, before the result is written.

    Examples
    --------
    >>> linear = nn.Linear(8, 4)
    >>> bool((FrozenLinear(linear)(torch.ones(1, 8)).float() - linear(torch.ones(1, 8))).abs().max() < 0.02)
    True
    """

    def __init__(self, linear: nn.Linear, activation: str = "none") -> None:
        super().__init__()
        self.in_features, self.out_features, self.activation = (
            linear.in_features,
            linear.out_features,
            activation,
        )
        weight = linear.weight.detach().to(_BF16)
        self.bias16: Tensor | None
        self.register_buffer(
            "bias16", None if linear.bias is None else linear.bias.detach().to(_BF16), persistent=False
        )
        # laid out by oneDNN: not tensors that can be saved, so no buffers
        self._forward = _laid_out(weight)
        self._backward: Tensor | None = None
        self._transposed: Tensor | None = weight

    def product(self, x: Tensor, kind: str = "none") -> Tensor:
        """``kind`` of ``x W^T + b`` in one kernel; no gradient."""
        return _linear(x.to(_BF16), self._forward, self.bias16, kind)

    def back(self, gradient: Tensor) -> Tensor:
        """``gradient W``."""
        if self._transposed is not None:  # only training pays for the second layout
            self._backward, self._transposed = _laid_out(self._transposed.t().contiguous()), None
        assert self._backward is not None
        return _linear(gradient.to(_BF16).contiguous(), self._backward, None, "none")

    def forward(self, x: Tensor) -> Tensor:
        return _Linear.apply(x, self)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, activation={self.activation}"


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FrozenLinear) -> Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        if layer.activation == "none":
            return layer.product(x)
        if not ctx.needs_input_grad[0]:
            return _activated(layer, x)
        before = layer.product(x)
        ctx.save_for_backward(before)
        return F.gelu(before) if layer.activation == "gelu" else _quick_gelu(before)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        if ctx.layer.activation != "none":
            (before,) = ctx.saved_tensors
            gradient = gradient.to(_BF16)
            if ctx.layer.activation == "gelu":
                gradient = torch.ops.aten.gelu_backward(gradient, before)
            else:
                gradient = torch.ops.aten.silu_backward(gradient, 1.702 * before)
        return ctx.layer.back(gradient).to(ctx.dtype), None


def _activated(layer: FrozenLinear, x: Tensor) -> Tensor:
    if layer.activation == "gelu":
        return layer.product(x, "gelu")
    return _quick_gelu(layer.product(x))


def _quick_gelu(x: Tensor) -> Tensor:
    return F.silu(1.702 * x).div_(1.702)


def attention_bf16(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """Softmax attention in bfloat16 by batched products, as `torch.nn.functional.scaled_dot_product_attention`.

    Parameters
    ----------
    q : Tensor
        Shape (n, heads, n_queries, d), any float dtype.
    k, v : Tensor
        Shape (n, heads, n_tokens, d).
    attn_mask : Tensor, optional
        Added to the scores, or bool; goes the way of the kernel of PyTorch.

    Returns
    -------
    Tensor
        Shape (n, heads, n_queries, d), bfloat16.
    """
    q, k, v = q.to(_BF16), k.to(_BF16), v.to(_BF16)
    if attn_mask is not None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
    return _Attention.apply(q, k, v)


class _Attention(torch.autograd.Function):
    """Keeps q, k and v; the backward computes the weights again, which is cheaper than to store them."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        flat_q, flat_k, flat_v = _flat(q), _flat(k), _flat(v)
        return torch.bmm(_weights(flat_q, flat_k), flat_v).view(q.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = ctx.saved_tensors
        flat_q, flat_k, flat_v, g = _flat(q), _flat(k), _flat(v), _flat(gradients[0].to(_BF16))
        weights = _weights(flat_q, flat_k)
        of_v = torch.bmm(weights.transpose(1, 2), g)
        of_weights = torch.bmm(g, flat_v.transpose(1, 2))
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, _BF16)
        scale = q.shape[-1] ** -0.5
        of_q = torch.bmm(of_scores, flat_k).mul_(scale)
        of_k = torch.bmm(of_scores.transpose(1, 2), flat_q).mul_(scale)
        return of_q.view(q.shape), of_k.view(k.shape), of_v.view(v.shape)


def _flat(x: Tensor) -> Tensor:
    return x.reshape(-1, *x.shape[2:])


def _weights(q: Tensor, k: Tensor) -> Tensor:
    return torch.bmm(q * q.shape[-1] ** -0.5, k.transpose(1, 2)).softmax(-1)


def _laid_out(weight: Tensor) -> Tensor:
    """The weight as oneDNN wants it; where this build of PyTorch has no such operation, as it is."""
    if _has_layout():
        return torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return weight


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, kind: str) -> Tensor:
    if weight.is_mkldnn:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, kind, [], "none" if kind == "gelu" else "")
    found = F.linear(x, weight, bias)
    return F.gelu(found) if kind == "gelu" else found


def _has_layout() -> bool:
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return has_bf16_matrices() and all(hasattr(torch.ops.mkldnn, name) for name in names)
