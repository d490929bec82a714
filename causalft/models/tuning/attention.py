"""Self-attention of open_clip and EVA with its linear layers as modules, which tuners and lower precision replace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.models.tuning.families import Family, is_a

__all__ = ["OpenedAttention", "open_attention"]


Core = Callable[[Tensor, int, int | None], Tensor]
"""(n, n_tokens, 3 width) of queries, keys, values; number of heads; number of queries -> (n, n_queries, width)."""


class OpenedAttention(nn.Module):
    """Self-attention as ``proj(attention(qkv(x)))``, with the weights of the original.

    ``torch.nn.MultiheadAttention`` reads its weights past the layers that hold them. Here both layers are called as
    modules, so that LoRA, scale-and-shift or a layer of lower precision can replace them by name.

    Parameters
    ----------
    qkv : torch.nn.Linear
        width to 3 width.
    proj : torch.nn.Linear
    n_heads : int
    q_norm, k_norm, norm : torch.nn.Module, optional
        Of queries, keys and the output before ``proj``.
    head_scale : torch.nn.Parameter, optional
        One factor per head, shape (n_heads, 1, 1).
    as_pair : bool
        Return ``(output, None)``, as ``torch.nn.MultiheadAttention`` does.

    Attributes
    ----------
    core : callable, optional
        Replaces `torch.nn.functional.scaled_dot_product_attention` in plain softmax attention
        (:mod:`causalft.models.tuning.precision` sets it).
    """

    def __init__(
        self,
        qkv: nn.Linear,
        proj: nn.Linear,
        n_heads: int,
        *,
        q_norm: nn.Module | None = None,
        k_norm: nn.Module | None = None,
        norm: nn.Module | None = None,
        head_scale: nn.Parameter | None = None,
        as_pair: bool = False,
    ) -> None:
        super().__init__()
        self.qkv = qkv
        self.proj = proj
        self.n_heads = n_heads
        self.q_norm = q_norm or nn.Identity()
        self.k_norm = k_norm or nn.Identity()
        self.norm = norm or nn.Identity()
        self.head_scale = head_scale
        self.as_pair = as_pair
        self.core: Core | None = None

    def forward(
        self, x: Tensor, *_: Any, attn_mask: Tensor | None = None, n_queries: int | None = None, **__: Any
    ) -> Any:
        """Self-attention of ``x`` (n, n_tokens, width); with ``n_queries`` only the first tokens are returned."""
        joined = self.qkv(x)
        if self.core is not None and attn_mask is None and self._is_plain():
            out = self.core(joined, self.n_heads, n_queries)
        else:
            n, length, width = x.shape
            heads = joined.reshape(n, length, 3, self.n_heads, width // self.n_heads).permute(2, 0, 3, 1, 4)
            q, k, v = heads.unbind(0)
            q, k = self.q_norm(q)[:, :, :n_queries], self.k_norm(k)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
            out = (mixed if self.head_scale is None else mixed * self.head_scale).transpose(1, 2).flatten(2)
        out = self.proj(self.norm(out))
        return (out, None) if self.as_pair else out

    def _is_plain(self) -> bool:
        norms = (self.q_norm, self.k_norm)
        return self.head_scale is None and all(isinstance(norm, nn.Identity) for norm in norms)


def open_attention(attention: nn.Module) -> nn.Module:
    """Return an attention whose linear layers are modules of its own; unchanged if they are already."""
    if isinstance(attention, nn.MultiheadAttention) and attention._qkv_same_embed_dim:
        qkv = _linear(attention.in_proj_weight, attention.in_proj_bias)
        proj = _linear(attention.out_proj.weight, attention.out_proj.bias)
        return OpenedAttention(qkv, proj, attention.num_heads, as_pair=True)
    other: Any = attention
    if is_a(attention, Family.OPEN_CLIP_ATTENTION) and other.logit_scale is None:
        return OpenedAttention(
            _linear(other.in_proj_weight, other.in_proj_bias),
            other.out_proj,
            other.num_heads,
            q_norm=other.ln_q,
            k_norm=other.ln_k,
            norm=other.ln_inner,
            head_scale=other.head_scale,
        )
    if is_a(attention, Family.EVA_ATTENTION) and other.q_bias is not None:
        # EVA keeps the biases of queries and values beside the layer (that of the keys is zero).
        bias = torch.cat([other.q_bias, other.k_bias, other.v_bias]).detach()
        other.qkv = _linear(other.qkv.weight, nn.Parameter(bias, requires_grad=False))
        other.q_bias = other.k_bias = other.v_bias = None
    return attention


def _linear(weight: Any, bias: nn.Parameter | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = weight
    layer.bias = bias  # type: ignore[assignment]
    return layer
