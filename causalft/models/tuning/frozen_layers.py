"""Frozen layers of a ViT in bfloat16, and the frozen MLP in bfloat16 or int8.

On a CPU without tiles (AMX), PyTorch's attention kernel is no faster in bf16 than in fp32: two batched products with a
softmax between them are twice as fast. And oneDNN is faster with weights that it has laid out once.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "FrozenLinear",
    "FrozenMLP",
    "FrozenPatches",
    "Product",
    "TrainedLinear",
    "attention_bf16",
    "attention_fp32",
    "has_bf16_matrices",
]


_BF16 = torch.bfloat16

# At a time: small enough for the caches, large enough for the matrix units.
_ROWS = 788
_IMAGES = 4

# Whether this CPU multiplies tiles (AMX), as PyTorch's attention kernel does in bfloat16.
_TILES = bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


def has_bf16_matrices() -> bool:
    """Whether oneDNN multiplies matrices in bfloat16 on this CPU."""
    try:
        return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


class Product(Protocol):
    """A frozen linear layer whose product is called directly, with or without autograd.

    Attributes
    ----------
    dtype : torch.dtype
        Of the activations that it takes and gives.
    """

    out_features: int
    dtype: torch.dtype

    def product(self, x: Tensor, kind: str = "none") -> Tensor:
        """``kind`` of ``x W^T + b``; no gradient."""
        ...

    def back(self, gradient: Tensor) -> Tensor:
        """``gradient W``."""
        ...


class FrozenLinear(nn.Module):
    """A frozen linear layer: any float dtype to bfloat16; the gradient for the input flows through it.

    Parameters
    ----------
    linear : torch.nn.Linear
        Its weights are copied in bfloat16; it is not kept.

    Examples
    --------
    >>> linear = nn.Linear(8, 4)
    >>> bool((FrozenLinear(linear)(torch.ones(1, 8)).float() - linear(torch.ones(1, 8))).abs().max() < 0.02)
    True
    """

    dtype = _BF16

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().to(_BF16)
        self.bias16: Tensor | None
        self.register_buffer(
            "bias16", None if linear.bias is None else linear.bias.detach().to(_BF16), persistent=False
        )
        # laid out by oneDNN: not tensors that can be saved, so no buffers
        self._forward = _laid_out(weight)
        self._backward: Tensor | None = None

    def product(self, x: Tensor, kind: str = "none") -> Tensor:
        """``kind`` of ``x W^T + b`` in one kernel; no gradient."""
        return _linear(x.to(_BF16), self._forward, self.bias16, kind)

    def back(self, gradient: Tensor) -> Tensor:
        """``gradient W``."""
        if self._backward is None:  # only training pays for the second layout
            weight = self._forward.to_dense() if self._forward.is_mkldnn else self._forward
            self._backward = _laid_out(weight.t().contiguous())
        return _linear(gradient.to(_BF16).contiguous(), self._backward, None, "none")

    def forward(self, x: Tensor) -> Tensor:
        return ProductWithGradient.apply(x, self)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"


class FrozenPatches(nn.Module):
    """The frozen convolution that embeds patches, as one linear layer in bfloat16.

    Parameters
    ----------
    convolution : torch.nn.Conv2d
        Its kernels neither overlap nor leave a gap.

    Examples
    --------
    >>> convolution, images = nn.Conv2d(3, 8, kernel_size=4, stride=4), torch.ones(1, 3, 9, 8)
    >>> found = FrozenPatches(convolution)(images)
    >>> found.shape
    torch.Size([1, 8, 2, 2])
    >>> bool((found.float() - convolution(images)).abs().max() < 0.02)
    True
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.size = tuple(convolution.kernel_size)
        weight = convolution.weight
        flat = nn.Linear(weight[0].numel(), len(weight), bias=convolution.bias is not None, device="meta")
        flat.weight = nn.Parameter(weight.detach().flatten(1), requires_grad=False)
        flat.bias = convolution.bias  # type: ignore[assignment]
        self.linear = FrozenLinear(flat)

    def forward(self, images: Tensor) -> Tensor:
        n, channels, *extent = images.shape
        (height, width), (rows, columns) = self.size, (e // s for e, s in zip(extent, self.size, strict=True))
        whole = images[:, :, : rows * height, : columns * width].to(_BF16)  # a convolution drops the rest
        patches = whole.reshape(n, channels, rows, height, columns, width).permute(0, 2, 4, 1, 3, 5)
        found = self.linear(patches.reshape(n, rows * columns, -1))
        return found.transpose(1, 2).unflatten(2, (rows, columns))


class TrainedLinear(nn.Linear):
    """A linear layer with trained fp32 weights that computes in bfloat16; its gradients are fp32 again."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(_BF16)
        return F.linear(x.to(_BF16), self.weight.to(_BF16), bias)


class ProductWithGradient(torch.autograd.Function):
    """``layer.product(x)``; the gradient for ``x``, in its own dtype, is ``layer.back``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Product) -> Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        return layer.product(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.layer.back(gradients[0]).to(ctx.dtype), None


class FrozenMLP(nn.Module):
    """Two frozen linear layers with an activation between them, in the precision of the layers.

    Rows go through both in small groups. A training keeps what enters the activation, in 8 bits, for the backward.

    Parameters
    ----------
    fc1, fc2 : Product
        Such as :class:`FrozenLinear`, or :class:`causalft.models.tuning.int8.Int8Linear`.
    activation : {"gelu", "quick_gelu"}
    """

    fc1: Product
    fc2: Product

    def __init__(self, fc1: Product, fc2: Product, activation: str) -> None:
        super().__init__()
        self.fc1, self.fc2, self.activation = fc1, fc2, activation

    def forward(self, x: Tensor) -> Tensor:
        return _MLP.apply(x, self)

    def product(self, rows: Tensor) -> Tensor:
        """Both layers and the activation, which is one kernel with the first layer if possible."""
        if self.activation == "gelu":
            return self.fc2.product(self.fc1.product(rows, "gelu"))
        return self.fc2.product(self.activated_(self.fc1.product(rows)))

    def activated_(self, before: Tensor) -> Tensor:
        """The activation of what the first layer gives, in its place if possible."""
        if self.activation == "gelu":
            return torch.ops.aten.gelu_(before)
        return F.silu(before.mul_(1.702)).div_(1.702)

    def back(self, before: Tensor, gradient: Tensor) -> Tensor:
        """The gradient for rows, of which ``before`` is what enters the activation."""
        gradient = self.fc2.back(gradient)
        if self.activation == "gelu":
            gradient = torch.ops.aten.gelu_backward(gradient, before)
        else:  # d/dz of silu(1.702 z) / 1.702
            gradient = torch.ops.aten.silu_backward(gradient, before.mul_(1.702))
        return self.fc1.back(gradient)


_STEP = 10 / 255
"""From -5 to 5: beyond, the slope of either GELU is within 0.002 of 0 or 1."""


def _in_8_bits(before: Tensor, place: Tensor) -> None:
    """Write steps from -5 into a place of uint8.

    By way of 16 bits: PyTorch converts floats to uint8 one by one on a CPU, and takes both of these steps in vectors,
    which is four times as fast.
    """
    values = before.float()
    own = None if values is before else values  # a copy can be overwritten
    steps = torch.add(torch.tensor(128.5), values, alpha=1 / _STEP, out=own).clamp_(0, 255)
    place.copy_(steps.to(torch.int16))


def _from_8_bits(kept: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.add(torch.tensor(-128 * _STEP, dtype=dtype), kept.to(dtype), alpha=_STEP)


class _MLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mlp: FrozenMLP) -> Tensor:
        ctx.mlp, ctx.shape, ctx.dtype = mlp, x.shape, x.dtype
        rows = x.to(mlp.fc1.dtype).reshape(-1, x.shape[-1])
        out = torch.empty(len(rows), mlp.fc2.out_features, dtype=mlp.fc2.dtype)
        if ctx.needs_input_grad[0]:
            kept = torch.empty(len(rows), mlp.fc1.out_features, dtype=torch.uint8)
            for part, keep, place in zip(*(each.split(_ROWS) for each in (rows, kept, out)), strict=True):
                before = mlp.fc1.product(part)
                _in_8_bits(before, keep)
                place.copy_(mlp.fc2.product(mlp.activated_(before)))
            ctx.save_for_backward(kept)
        else:
            for part, place in zip(rows.split(_ROWS), out.split(_ROWS), strict=True):
                place.copy_(mlp.product(part))
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        dtype = ctx.mlp.fc1.dtype
        of_out = gradients[0].to(dtype).reshape(len(kept), -1)
        found = torch.empty(len(kept), ctx.shape[-1], dtype=dtype)
        for before, gradient, place in zip(
            *(each.split(_ROWS) for each in (kept, of_out, found)), strict=True
        ):
            place.copy_(ctx.mlp.back(_from_8_bits(before, dtype), gradient))
        return found.view(ctx.shape).to(ctx.dtype), None


def attention_bf16(qkv: Tensor, n_heads: int, n_queries: int | None = None) -> Tensor:
    """Softmax attention in bfloat16: on a CPU with tiles by PyTorch's kernel, elsewhere by batched products.

    Parameters
    ----------
    qkv : Tensor
        Queries, keys and values side by side, shape (n, n_tokens, 3 width).
    n_heads : int
    n_queries : int, optional
        Only the first tokens ask.

    Returns
    -------
    Tensor
        Shape (n, n_queries, width), bfloat16.
    """
    return _Attention.apply(qkv.to(_BF16), n_heads, n_queries or qkv.shape[1])


class _Attention(torch.autograd.Function):
    """Saves queries, keys and values; the backward recomputes the attention weights, which is cheaper.

    The backward of PyTorch's kernel takes twice as long, with tiles too.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, n_heads: int, n_queries: int) -> Tensor:
        ctx.save_for_backward(qkv)
        ctx.n_heads, ctx.n_queries = n_heads, n_queries
        n, _, width = qkv.shape
        if _TILES:
            return _attended(qkv, n_heads, n_queries)
        if n <= _IMAGES:
            q, k, v = _heads(qkv, n_heads, n_queries)
            return _joined(torch.bmm(_weights(q, k), v), n_heads)
        out = torch.empty(n, n_queries, width // 3, dtype=_BF16)
        for part, place in zip(qkv.split(_IMAGES), out.split(_IMAGES)):
            q, k, v = _heads(part, n_heads, n_queries)
            place.copy_(_joined(torch.bmm(_weights(q, k), v), n_heads))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (qkv,) = ctx.saved_tensors
        found = torch.zeros_like(qkv) if ctx.n_queries < qkv.shape[1] else torch.empty_like(qkv)
        width = qkv.shape[2] // 3
        parts = zip(qkv.split(_IMAGES), gradients[0].split(_IMAGES), found.split(_IMAGES))
        for part, gradient, place in parts:
            q, k, v = _heads(part, ctx.n_heads, ctx.n_queries)
            g = _split(gradient.to(_BF16), ctx.n_heads)
            weights = _weights(q, k)
            of_weights = torch.bmm(g, v.transpose(1, 2))
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, _BF16)
            scale = q.shape[-1] ** -0.5
            place[:, : ctx.n_queries, :width] = _joined(torch.bmm(of_scores, k).mul_(scale), ctx.n_heads)
            of_k = torch.bmm(of_scores.transpose(1, 2), q).mul_(scale)
            place[:, :, width : 2 * width] = _joined(of_k, ctx.n_heads)
            place[:, :, 2 * width :] = _joined(torch.bmm(weights.transpose(1, 2), g), ctx.n_heads)
        return found, None, None


def attention_fp32(qkv: Tensor, n_heads: int, n_queries: int | None = None) -> Tensor:
    """Softmax attention in fp32 that keeps queries, keys and values for its backward in bfloat16.

    Parameters and shapes as for :func:`attention_bf16`; fp32. A training keeps a third less of each block.
    """
    n_queries = n_queries or qkv.shape[1]
    if not (torch.is_grad_enabled() and qkv.requires_grad):
        return _attended(qkv, n_heads, n_queries)
    return _LeanAttention.apply(qkv, n_heads, n_queries)


class _LeanAttention(torch.autograd.Function):
    """The backward computes the attention again, a few images at a time."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, n_heads: int, n_queries: int) -> Tensor:
        ctx.n_heads, ctx.n_queries = n_heads, n_queries
        ctx.save_for_backward(qkv.to(_BF16))
        return _attended(qkv, n_heads, n_queries)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        found = torch.empty(kept.shape)
        for part, gradient, place in zip(
            kept.split(_IMAGES), gradients[0].split(_IMAGES), found.split(_IMAGES), strict=True
        ):
            with torch.enable_grad():
                qkv = part.float().requires_grad_()
                out = _attended(qkv, ctx.n_heads, ctx.n_queries)
            place.copy_(*torch.autograd.grad(out, qkv, gradient))
        return found, None, None


def _attended(qkv: Tensor, n_heads: int, n_queries: int) -> Tensor:
    q, k, v = (part.unflatten(2, (n_heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=2))
    return F.scaled_dot_product_attention(q[:, :, :n_queries], k, v).transpose(1, 2).flatten(2)


def _heads(qkv: Tensor, n_heads: int, n_queries: int) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = qkv.chunk(3, dim=2)
    return _split(q[:, :n_queries], n_heads), _split(k, n_heads), _split(v, n_heads)


def _split(x: Tensor, n_heads: int) -> Tensor:
    """(n, tokens, width) to (n heads, tokens, d)."""
    n, length, width = x.shape
    return x.reshape(n, length, n_heads, width // n_heads).transpose(1, 2).reshape(n * n_heads, length, -1)


def _joined(x: Tensor, n_heads: int) -> Tensor:
    """(n heads, tokens, d) to (n, tokens, width)."""
    return x.view(-1, n_heads, *x.shape[1:]).transpose(1, 2).flatten(2)


def _weights(q: Tensor, k: Tensor) -> Tensor:
    return torch.bmm(q * q.shape[-1] ** -0.5, k.transpose(1, 2)).softmax(-1)


def _laid_out(weight: Tensor) -> Tensor:
    """The weight in oneDNN's layout, if this build of PyTorch has the operation."""
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
