"""Attention rollout: how much of each patch reaches the feature through the attention of all blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from causalft.models.maps import MapMethod, MapTarget, NoSuchMap
from causalft.models.maps.grid import grid_side, is_vit
from causalft.models.tuning.attention import OpenedAttention
from causalft.models.tuning.towers import Tower

__all__ = ["attention_matrices", "attention_rollout"]


class _Attentions(TorchFunctionMode):
    """Keep the attention probabilities of every call of scaled dot-product attention, mean over heads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self.found.append(_probabilities(*args[:2], **given).mean(dim=1))
        return func(*args, **given)


def _probabilities(
    query: Tensor, key: Tensor, value: Tensor | None = None, attn_mask: Tensor | None = None, **options: Any
) -> Tensor:
    """Softmax of queries and keys (n, heads, length, d), as fused attention computes it: (n, heads, length, length)."""
    scale = options.get("scale") or query.shape[-1] ** -0.5
    scores = query.float() @ key.float().transpose(-2, -1) * scale
    if attn_mask is not None:
        scores = (
            scores.masked_fill(~attn_mask, -torch.inf)
            if attn_mask.dtype == torch.bool
            else scores + attn_mask
        )
    return scores.softmax(dim=-1)


@contextmanager
def _plain_attention(tower: Tower) -> Iterator[None]:
    """Have every attention of the tower call the function that is listened to, once for all images."""
    changed: list[tuple[Any, str, Any]] = [(tower, "in_pieces", tower.in_pieces)]
    tower.in_pieces = False
    for module in tower.modules():
        name = "core" if isinstance(module, OpenedAttention) else "fused_attn"
        if hasattr(module, name):
            changed.append((module, name, getattr(module, name)))
            setattr(module, name, None if name == "core" else True)
    try:
        yield
    finally:
        for module, name, value in changed:
            setattr(module, name, value)


def attention_matrices(tower: Tower, images: Tensor) -> list[Tensor]:
    """Attention of every block, mean over heads: matrices (n, queries, keys) whose rows sum to 1.

    A pooling by attention gives one more matrix, with one query. Where only the class token is read after the last
    block, that block has one query.

    Parameters
    ----------
    tower : causalft.models.tuning.towers.Tower
    images : (n, 3, s, s) Tensor
        Normalised.
    """
    with torch.no_grad(), _plain_attention(tower), _Attentions() as kept:
        tower(images)
    return kept.found


def attention_rollout(target: MapTarget, images: Tensor, *_: Any) -> Tensor:
    """Attention rollout of a vision transformer, shape (n, h, w); it does not depend on the class.

    With the attention A_l of block l (mean over heads) and the residual path as the identity, the flow is the product
    of (A_l + I) / 2 over all blocks (Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, section
    3). The row of what is pooled (the class token, the mean of the patches, or the query of an attention pool) is read
    at the patches. Visual prompts take part, and what they receive is left out.

    Raises
    ------
    NoSuchMap
        If the tower is no vision transformer whose attention can be read.
    """
    tower = target.tower
    if not is_vit(tower):
        raise NoSuchMap(
            f"attention rollout needs a vision transformer, and the image tower of {target.name!r} is of kind "
            f"{tower.kind!r}; use another --method"
        )
    with torch.no_grad():
        tokens = tower.embed(images)
    side = grid_side(tower, tokens)
    matrices = attention_matrices(tower, images)
    n_blocks = len(tower.blocks)
    pooled = matrices[n_blocks:]
    if len(matrices) < n_blocks or len(pooled) > 1 or any(pool.shape[1] != 1 for pool in pooled):
        raise NoSuchMap(
            f"the attention of the image tower of {target.name!r} cannot be read ({len(matrices)} matrices of "
            f"{n_blocks} blocks); use another --method"
        )
    flow = _start(tower, tokens, pooled)
    prompts = tower.prompts
    n_prompts = 0 if prompts is None else prompts.tokens.shape[1]
    first = tower.n_prefix
    for number in reversed(range(n_blocks)):
        if prompts is not None and number in prompts.exits:
            flow = torch.cat([flow[:, :first], flow.new_zeros(len(flow), n_prompts), flow[:, first:]], dim=1)
        attention = matrices[number]
        through = torch.einsum("nq,nqk->nk", flow[:, : attention.shape[1]], attention)
        flow = (flow + through) / 2
        if prompts is not None and number in prompts.entries:
            flow = torch.cat([flow[:, :first], flow[:, first + n_prompts :]], dim=1)
    return flow[:, first:].unflatten(1, (side, side))


def _start(tower: Tower, tokens: Tensor, pooled: list[Tensor]) -> Tensor:
    """Weights (n, n_tokens) with which the tokens after the last block enter the feature."""
    n, length, _ = tokens.shape
    start = tokens.new_zeros(n, length, dtype=torch.float32)
    if pooled:
        found = pooled[0][:, 0]
        start[:, length - found.shape[1] :] = found  # a pool may leave the class token out
    elif _reads_class_token(tower):
        start[:, 0] = 1
    else:
        start[:, tower.n_prefix :] = 1 / (length - tower.n_prefix)
    return start


def _reads_class_token(tower: Tower) -> bool:
    if tower.n_prefix == 0:
        return False
    if tower.kind == "open_clip ViT":
        return bool(tower.visual.pool_type == "tok")
    return bool(tower.trunk.global_pool == "token")


ROLLOUT = MapMethod(
    name="rollout",
    help="how much of each patch reaches the feature through the attention of all blocks",
    compute=attention_rollout,
    towers="ViT",
    of_class=False,
    order=40,
    source="Abnar and Zuidema, ACL 2020",
)
