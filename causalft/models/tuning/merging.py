"""Token merging (ToMe): similar patch tokens become one, block by block, so that a vision transformer computes less.

Bolya, Fu, Dai, Zhang, Feichtenhofer and Hoffman, "Token Merging: Your ViT But Faster", ICLR 2023. Nothing is trained.
It is for prediction, and changes its results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Halves", "merge_similar", "proportional_attention", "run_merging"]


@dataclass(frozen=True)
class Halves:
    """The modules of a transformer block: ``x + scale1(attention(norm1(x)))``, then ``x + scale2(mlp(norm2(x)))``."""

    norm1: nn.Module
    attention: nn.Module
    scale1: nn.Module
    norm2: nn.Module
    mlp: nn.Module
    scale2: nn.Module


def run_merging(blocks: Sequence[Halves], tokens: Tensor, r: int, n_prefix: int = 1) -> Tensor:
    """Run all blocks of a tower, merging ``r`` tokens in each between attention and MLP (Sec. 3).

    The last block computes the class token alone, so there is nothing to merge in it.

    Parameters
    ----------
    blocks : sequence of Halves
    tokens : (n, n_tokens, width) Tensor
    r : int
    n_prefix : int
        First tokens, which are never merged: class token and registers.

    Returns
    -------
    (n, 1, width) Tensor
        The class token after the last block.
    """
    sizes: Tensor | None = None
    for place, block in enumerate(blocks):
        last = place == len(blocks) - 1
        attended, keys = proportional_attention(
            block.attention, block.norm1(tokens), sizes, 1 if last else None
        )
        tokens = tokens[:, : attended.shape[1]] + block.scale1(attended)
        if not last:
            tokens, sizes = merge_similar(tokens, sizes, keys, r, n_prefix)
        tokens = tokens + block.scale2(block.mlp(block.norm2(tokens)))
    return tokens


def proportional_attention(
    attention: Any, x: Tensor, sizes: Tensor | None, n_queries: int | None = None
) -> tuple[Tensor, Tensor]:
    """Self-attention in which a token weighs as many as it stands for: softmax(q k / sqrt(d) + log s) v (Eq. 1).

    Parameters
    ----------
    attention : torch.nn.Module
        A :class:`causalft.models.tuning.attention.OpenedAttention`, or an ``Attention`` of timm.
    x : (n, n_tokens, width) Tensor
    sizes : (n, n_tokens) Tensor, optional
        s: patches that a token stands for; by default one each.
    n_queries : int, optional
        Only the first tokens ask.

    Returns
    -------
    (Tensor, Tensor)
        Output (n, n_queries, width), and the keys, mean over the heads, (n, n_tokens, d).
    """
    n, length, _ = x.shape
    n_heads = attention.n_heads if hasattr(attention, "n_heads") else attention.num_heads
    heads = attention.qkv(x).reshape(n, length, 3, n_heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = heads.unbind(0)
    q, k = attention.q_norm(q[:, :, :n_queries]), attention.k_norm(k)
    bias = None if sizes is None else sizes.log().to(q.dtype)[:, None, None, :]
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":  # PyTorch's kernel is slow there
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        mixed = (scores if bias is None else scores + bias).softmax(-1) @ v
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    head_scale = getattr(attention, "head_scale", None)
    mixed = mixed if head_scale is None else mixed * head_scale
    return attention.proj(attention.norm(mixed.transpose(1, 2).flatten(2))), k.mean(1)


def merge_similar(
    tokens: Tensor, sizes: Tensor | None, keys: Tensor, r: int, n_prefix: int = 1
) -> tuple[Tensor, Tensor | None]:
    """Merge the ``r`` most similar pairs of patch tokens by bipartite soft matching (Sec. 3).

    Patches are dealt in turn into two sets. Each one of the first set draws an edge to the most similar one of the
    second, by the cosine of their keys; the ``r`` most similar edges are merged into means weighted by size. At most
    half of the patches are merged.

    Parameters
    ----------
    tokens : (n, n_tokens, width) Tensor
    sizes : (n, n_tokens) Tensor, optional
    keys : (n, n_tokens, d) Tensor
    r : int
    n_prefix : int

    Returns
    -------
    (Tensor, Tensor or None)
        Tokens (n, n_tokens - r, width): prefix, what is left of the first set, the second set; and their sizes. With
        nothing to merge, both as they were given.

    Examples
    --------
    >>> tokens = torch.tensor([[[9.0], [1.0], [3.0], [5.0], [7.0]]])  # the first is the class token
    >>> keys = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.5]]])
    >>> found, sizes = merge_similar(tokens, None, keys, r=1)
    >>> found.flatten().tolist(), sizes.tolist()  # 1 and 3 are alike
    ([9.0, 5.0, 2.0, 7.0], [[1.0, 1.0, 2.0, 1.0]])
    """
    n, length, width = tokens.shape
    r = min(r, (length - n_prefix) // 2)
    if r == 0:
        return tokens, sizes
    if sizes is None:
        sizes = torch.ones(n, length, device=tokens.device)
    unit = F.normalize(keys[:, n_prefix:].float(), dim=-1)
    similar, nearest = (unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)).max(-1)
    order = similar.argsort(dim=-1, descending=True, stable=True)
    merged, kept = order[:, :r], order[:, r:].sort(dim=-1).values

    patches, weights = tokens[:, n_prefix:], sizes[:, n_prefix:, None]
    first, second = patches[:, ::2], patches[:, 1::2]
    of_first, of_second = weights[:, ::2], weights[:, 1::2]
    places = torch.arange(second.shape[1], device=tokens.device)
    into = (nearest.gather(1, merged)[:, None, :] == places[:, None]).float()  # (n, second set, merged)
    moved = _rows(of_first, merged)
    size = of_second + into @ moved
    mean = (second * of_second + into @ (_rows(first, merged) * moved)) / size
    tokens = torch.cat([tokens[:, :n_prefix], _rows(first, kept), mean.to(tokens.dtype)], dim=1)
    return tokens, torch.cat([sizes[:, :n_prefix], _rows(of_first, kept)[..., 0], size[..., 0]], dim=1)


def _rows(tokens: Tensor, places: Tensor) -> Tensor:
    """Tokens (n, m, width) at places (n, m)."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
