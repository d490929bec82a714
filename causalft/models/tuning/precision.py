"""The precision of a tower: fp32, or bfloat16 in its frozen layers where this machine is faster with it.

Trained weights and their gradients stay in fp32. On a CPU, PyTorch's attention kernel is no faster in bf16 than in
fp32: two batched products with a softmax between them are twice as fast. And oneDNN is faster with weights that it has
laid out once.
"""

from __future__ import annotations

import ctypes
import sys
import time
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.errors import CausalFTError, nearest
from causalft.models.tuning.choices import PRECISIONS
from causalft.models.tuning.devices import has_bf16
from causalft.models.tuning.families import Family, is_a, trunk_of
from causalft.models.tuning.towers import OpenedAttention, Tower

__all__ = ["choose_precision", "lay_out_convolutions", "lower_frozen_layers", "settle_precision"]

WORTH = 1.5
"""``auto`` takes bf16 on a CPU if a layer of the tower's size is this many times faster in it."""

_A_KIND = {"cpu": "a CPU", "mps": "an Apple GPU"}

LEAST_WIDTH = 256
"""Narrower towers are not measured: their layers gain little, and a clock on them is too noisy to decide by."""


def choose_precision(wanted: str, width: int, device: torch.device | str = "cpu") -> str:
    """Return the precision to run a tower in.

    Parameters
    ----------
    wanted : {"auto", "fp32", "bf16", "fp16"}
        ``auto`` on a CPU: bf16 if the processor has matrix units for it and one linear layer of this width, timed once
        per process, is `WORTH` times faster. On CUDA: bf16 if supported, else fp16.
    width : int
        Of the tower's tokens.
    device : torch.device or str

    Returns
    -------
    {"fp32", "bf16", "fp16"}

    Raises
    ------
    CausalFTError
        For an unknown precision, fp16 without CUDA, or bf16 on a GPU without it.

    Examples
    --------
    >>> choose_precision("auto", width=96)
    'fp32'
    """
    if wanted not in PRECISIONS:
        raise CausalFTError(f"no precision {wanted!r}; {nearest(wanted, PRECISIONS)}")
    kind = torch.device(device).type
    if wanted == "fp16" and kind != "cuda":
        raise CausalFTError(
            f"fp16 is for CUDA; on {_A_KIND.get(kind, kind)} use --precision bf16, fp32 or auto"
        )
    if kind == "cuda" and wanted in ("auto", "bf16"):
        fast = has_bf16(torch.device(device))
        if wanted == "bf16" and not fast:
            raise CausalFTError(f"the GPU {device} has no bf16; use --precision fp16, fp32 or auto")
        return "bf16" if fast else "fp16"
    if wanted != "auto":
        return wanted
    if kind != "cpu" or width < LEAST_WIDTH or not has_bf16_matrices():
        return "fp32"
    return "bf16" if speedup(width) >= WORTH else "fp32"


@cache
def speedup(width: int, rows: int = 512) -> float:
    """Measured speed-up of one frozen layer (width to 4 width) in bf16 over fp32 on this CPU."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        linear = nn.Linear(width, 4 * width)
        x = torch.randn(rows, width)
        fast = FrozenLinear(linear)
        return _seconds(linear, x) / _seconds(fast, x)


def _seconds(layer: nn.Module, x: torch.Tensor, repeats: int = 3) -> float:
    layer(x)
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        layer(x)
        taken.append(time.perf_counter() - started)
    return min(taken)


def lay_out_convolutions(visual: nn.Module | None) -> None:
    """Store the weights of a ResNet channels-last, in place, which is faster.

    Results agree up to the order of sums. Call it before a tower is opened from it.
    """
    if visual is not None and is_a(trunk_of(visual), Family.OPEN_CLIP_RESNET, Family.TIMM_RESNET):
        visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def settle_precision(tower: Tower, wanted: str, device: torch.device) -> tuple[str, int]:
    """Choose the precision of a tuned tower, and lower its frozen layers if that is bf16 on a CPU.

    Returns
    -------
    (str, int)
        The precision in use (fp32 if nothing can be lowered: only a ViT can), and the number of lowered layers.
    """
    chosen = choose_precision(wanted, tower.width, device)
    if chosen != "bf16" or device.type != "cpu":
        return chosen, 0
    n_lowered = lower_frozen_layers(tower)
    return "fp32" if tower.dtype is None else "bf16", n_lowered


def lower_frozen_layers(tower: Tower) -> int:
    """Replace frozen linear layers, patch embedding and attention by bfloat16 ones; return how many.

    Call it after a tuner. Activations become bfloat16; trained weights stay in fp32 and compute in bfloat16, as under
    autocast. A tower that is no ViT is left alone.

    Parameters
    ----------
    tower : Tower
        Changed in place, without changing the original model.
    """
    if not tower.kind.endswith("ViT"):
        return 0
    return_large_buffers()
    tower.dtype = torch.bfloat16
    n_lowered = _lower_patches(tower.visual)
    for block in tower.blocks:
        for module in list(block.modules()):
            if isinstance(module, OpenedAttention):
                module.core = attention_bf16
            for name, child in list(module.named_children()):
                mlp = _frozen_mlp(child)
                if mlp is not None:
                    setattr(module, name, mlp)
                    n_lowered += 2
        for module in list(block.modules()):
            n_lowered += _lower_children(module)
    return n_lowered


def _lower_patches(visual: nn.Module) -> int:
    """Lower the patch embedding, if it is a frozen convolution with adjacent kernels."""
    for place, name in (("", "conv1"), ("patch_embed", "proj"), ("trunk.patch_embed", "proj")):
        try:
            parent = visual.get_submodule(place)
        except AttributeError:
            continue
        layer = getattr(parent, name, None)
        if not isinstance(layer, nn.Conv2d) or not _is_frozen(layer):
            continue
        plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding in ((0, 0), "valid")
        if plain and layer.kernel_size == layer.stride:
            setattr(parent, name, FrozenPatches(layer))
            return 1
    return 0


def _lower_children(module: nn.Module) -> int:
    lowered = 0
    for name, child in list(module.named_children()):
        if type(child) is not nn.Linear:
            continue
        if _is_frozen(child):
            setattr(module, name, FrozenLinear(child))
            lowered += 1
        else:
            child.__class__ = TrainedLinear  # same parameters and names, another forward
    return lowered


def _is_frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def _frozen_mlp(module: nn.Module) -> FrozenMLP | None:
    """A frozen MLP of two linear layers with GELU or quick-GELU in one piece, if the module is one."""
    layers = [child for child in module.children() if not isinstance(child, nn.Identity | nn.Dropout)]
    if len(layers) != 3 or not _is_frozen(module) or [type(layers[0]), type(layers[2])] != [nn.Linear] * 2:
        return None
    activation = layers[1]
    if isinstance(activation, nn.GELU) and activation.approximate == "none":
        kind = "gelu"
    elif type(activation).__name__ == "QuickGELU":
        kind = "quick_gelu"
    else:
        return None
    first, last = layers[0], layers[2]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    return FrozenMLP(FrozenLinear(first), FrozenLinear(last), kind)


_BF16 = torch.bfloat16

# At a time: small enough for the caches, large enough for the matrix units.
_ROWS = 788
_IMAGES = 4


def has_bf16_matrices() -> bool:
    """Whether oneDNN multiplies matrices in bfloat16 on this CPU."""
    try:
        return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


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
        return _Linear.apply(x, self)

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


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FrozenLinear) -> Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        return layer.product(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.layer.back(gradients[0]).to(ctx.dtype), None


class FrozenMLP(nn.Module):
    """Two frozen linear layers with an activation between them, in bfloat16.

    Rows go through both in small groups, and the backward recomputes the wide intermediate result: it is never in
    memory as a whole.

    Parameters
    ----------
    fc1, fc2 : FrozenLinear
    activation : {"gelu", "quick_gelu"}
    """

    def __init__(self, fc1: FrozenLinear, fc2: FrozenLinear, activation: str) -> None:
        super().__init__()
        self.fc1, self.fc2, self.activation = fc1, fc2, activation

    def forward(self, x: Tensor) -> Tensor:
        return _MLP.apply(x, self)

    def activated(self, rows: Tensor) -> Tensor:
        """The first layer and the activation, in one kernel if possible."""
        if self.activation == "gelu":
            return self.fc1.product(rows, "gelu")
        found = self.fc1.product(rows)
        return F.silu(found.mul_(1.702)).div_(1.702)

    def back(self, rows: Tensor, gradient: Tensor) -> Tensor:
        """The gradient for ``rows``."""
        before, gradient = self.fc1.product(rows), self.fc2.back(gradient)
        if self.activation == "gelu":
            gradient = torch.ops.aten.gelu_backward(gradient, before)
        else:  # d/dz of silu(1.702 z) / 1.702
            gradient = torch.ops.aten.silu_backward(gradient, before.mul_(1.702))
        return self.fc1.back(gradient)


class _MLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mlp: FrozenMLP) -> Tensor:
        ctx.mlp, ctx.dtype = mlp, x.dtype
        ctx.save_for_backward(x)
        rows = x.to(_BF16).reshape(-1, x.shape[-1])
        if len(rows) <= _ROWS:
            return mlp.fc2.product(mlp.activated(rows)).view(*x.shape[:-1], -1)
        out = torch.empty(len(rows), mlp.fc2.out_features, dtype=_BF16)
        for part, place in zip(rows.split(_ROWS), out.split(_ROWS)):
            place.copy_(mlp.fc2.product(mlp.activated(part)))
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        rows = x.to(_BF16).reshape(-1, x.shape[-1])
        of_out = gradients[0].to(_BF16).reshape(len(rows), -1)
        found = torch.empty_like(rows)
        for part, gradient, place in zip(rows.split(_ROWS), of_out.split(_ROWS), found.split(_ROWS)):
            place.copy_(ctx.mlp.back(part, gradient))
        return found.view(x.shape).to(ctx.dtype), None


def attention_bf16(qkv: Tensor, n_heads: int, n_queries: int | None = None) -> Tensor:
    """Softmax attention in bfloat16 by batched products, a few images at a time.

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
    """Saves queries, keys and values; the backward recomputes the attention weights, which is cheaper."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, n_heads: int, n_queries: int) -> Tensor:
        ctx.save_for_backward(qkv)
        ctx.n_heads, ctx.n_queries = n_heads, n_queries
        n, _, width = qkv.shape
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


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_MAPPED = 8 * 2**20
_KEPT = 64 * 2**20


@cache
def return_large_buffers() -> bool:
    """Have glibc map blocks of 8 MB and more by themselves, and keep up to 64 MB of free heap; return whether it does.

    With the first threshold alone glibc would return memory after every layer and take it again, which costs the wide
    layers of a ViT a sixth of their time. Mapping costs a little without huge pages; ``THP_MEM_ALLOC_ENABLE=1``, which
    the command line sets, wins it back.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        glibc = ctypes.CDLL("libc.so.6")
        return bool(glibc.mallopt(_M_MMAP_THRESHOLD, _MAPPED) and glibc.mallopt(_M_TRIM_THRESHOLD, _KEPT))
    except (OSError, AttributeError):  # another C library
        return False
