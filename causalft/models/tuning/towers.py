"""An image tower in three parts, whatever its architecture: images to tokens, blocks, tokens to features."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import _has_any_global_hook

from causalft.errors import CausalFTError
from causalft.models.tuning.attention import OpenedAttention, open_attention
from causalft.models.tuning.families import Family, is_a, is_exactly, is_plain, trunk_of
from causalft.models.tuning.merging import Halves, run_merging
from causalft.models.tuning.pieces import in_pieces

__all__ = ["BlockParts", "Tower", "open_tower", "stage_channels"]


# Tokens that go through all blocks together on a CPU, so that activations stay in the caches: 8 images of a ViT-B/16.
_TOGETHER = 1576


@dataclass(frozen=True)
class BlockParts:
    """The modules of one transformer block; ``qkv`` or ``fc1`` is None where a model has several in its place."""

    norm1: nn.Module
    qkv: nn.Module | None
    proj: nn.Module
    norm2: nn.Module
    fc1: nn.Module | None
    fc2: nn.Module
    mlp: nn.Module
    attention: nn.Module


class Tower(nn.Module):
    """An image tower that can be run block by block; ``tower(images)`` gives what the original tower gives.

    A tower is a new tree of modules over the tensors of the original, which nothing done to the tower changes. All
    parameters start frozen, all modules in eval mode.

    Attributes
    ----------
    kind : {"open_clip ViT", "timm ViT", "ResNet", "other"}
    width : int
        Length of a token; of a ResNet, channels of its last stage.
    n_prefix : int
        Tokens before those of the patches: class token and registers.
    patch_size : int
        Pixels; 0 without patches.
    dtype : torch.dtype, optional
        Of the activations between blocks, where it is not that of the embedding.
    in_pieces : bool
        On a CPU a few images at a time go through the blocks and back, in threads
        (:mod:`causalft.models.tuning.pieces`). Not where a module or a trained tensor has a hook, or where more is
        trained than the tokens of a batch have values.
    blocks : torch.nn.ModuleList
        Transformer blocks, or the stages of a ResNet. A tower of kind ``other`` is one block.
    prompts : torch.nn.Module, optional
        Trained tokens that enter before a block and leave after one.
    merged : int
        Tokens that each block merges (:meth:`merge_tokens`).
    """

    kind = "other"

    def __init__(self, visual: nn.Module, *, width: int, n_prefix: int = 0, patch_size: int = 0) -> None:
        super().__init__()
        self.visual: Any = visual
        self.width = width
        self.n_prefix = n_prefix
        self.patch_size = patch_size
        self.prompts: Any = None
        self.dtype: torch.dtype | None = None
        self.in_pieces = False
        self.merged = 0
        self.blocks = nn.ModuleList(self._take_blocks())

    @property
    def trunk(self) -> Any:
        """The model of timm, or the tower itself (:func:`trunk_of`)."""
        return trunk_of(self.visual)

    def _take_blocks(self) -> list[nn.Module]:
        """Move the blocks out of ``self.visual``, so that every module has one place and one name."""
        whole, self.visual = self.visual, nn.Identity()
        return [whole]

    def train(self, mode: bool = True) -> Tower:
        """Stay in eval mode: no dropout, and batch norms keep their statistics."""
        return super().train(False)

    def embed(self, images: Tensor) -> Tensor:
        """Images (n, 3, s, s) to what the first block takes: tokens (n, n_tokens, width), or a map of a ResNet."""
        return images

    def run(self, tokens: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Run the blocks ``start .. stop - 1`` (by default all)."""
        places = range(*slice(start, stop).indices(len(self.blocks)))
        if self.dtype is not None:
            tokens = tokens.to(self.dtype)
        run = partial(self._run_blocks, places=places)
        if self.in_pieces and len(places) > 0 and tokens.device.type == "cpu":
            tokens = self._run_in_pieces(run, tokens)
        else:
            tokens = run(tokens)
        return tokens if self.dtype is None or places.stop < len(self.blocks) else tokens.float()

    def _run_in_pieces(self, run: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
        """Whole where a hook listens, and where a piece's gradients would be larger than the batch."""
        trained = [p for p in self.parameters() if p.requires_grad] if torch.is_grad_enabled() else []
        if (
            sum(p.numel() for p in trained) > tokens.numel()
            or any(p._backward_hooks for p in trained)
            or any(map(_is_hooked, self.modules()))
            or _has_any_global_hook()
        ):
            return run(tokens)
        return in_pieces(run, tokens, _TOGETHER, trained)

    def _run_blocks(self, tokens: Tensor, places: range) -> Tensor:
        if self.merged:
            if len(places) < len(self.blocks):
                raise CausalFTError("a tower that merges tokens runs as a whole")
            return run_merging(self._halves(), tokens, self.merged, self.n_prefix)
        for number in places:
            if self.prompts is not None:
                tokens = self.prompts.enter(number, tokens)
            tokens = self._run_block(number, tokens)
            if self.prompts is not None:
                tokens = self.prompts.leave(number, tokens)
        return tokens

    def _run_block(self, number: int, tokens: Tensor) -> Tensor:
        return self.blocks[number](tokens)

    def merge_tokens(self, r: int) -> None:
        """Merge ``r`` similar patch tokens in each block (:mod:`causalft.models.tuning.merging`); 0: none.

        Raises
        ------
        CausalFTError
            If the tower is no plain vision transformer whose class token is the feature, or has visual prompts.
        """
        if r and not self._halves():
            why = "has visual prompts" if self.prompts is not None else f"is a {self.kind}"
            raise CausalFTError(
                f"tokens are merged in a plain ViT that is read at its class token; this one {why}"
            )
        self.merged = r

    def _halves(self) -> list[Halves]:
        """The modules of all blocks; none where tokens cannot be merged."""
        return []

    def pool(self, tokens: Tensor) -> Tensor:
        """What the last block gives to features (n, d), not normalised."""
        return tokens[0] if isinstance(tokens, tuple) else tokens

    def forward(self, images: Tensor) -> Tensor:
        """Features, shape (n, d)."""
        return self.pool(self.run(self.embed(images)))

    def parts(self, block: nn.Module) -> BlockParts:
        """Return the modules of a transformer block.

        Raises
        ------
        CausalFTError
            If the block is no transformer block of attention, MLP and two norms.
        """
        raise CausalFTError(f"a block of this image tower ({self.kind}) has no attention and no MLP")

    def reaches(self, name: str) -> int:
        """Return the first block whose input or weights depend on the tensor ``name``; their number if none does."""
        head, _, rest = name.partition(".")
        if head == "blocks":
            return int(rest.partition(".")[0])
        if head == "prompts":
            return self.prompts.first
        return len(self.blocks) if self._is_pool(rest) else 0

    def _is_pool(self, name: str) -> bool:
        """Whether a tensor of ``self.visual`` is used after the blocks."""
        return False


class OpenClipViT(Tower):
    """A vision transformer of open_clip; where the class token is the feature, the last block gives it alone."""

    kind = "open_clip ViT"

    def _take_blocks(self) -> list[nn.Module]:
        blocks = list(self.visual.transformer.resblocks)
        self.visual.transformer.resblocks = nn.ModuleList()
        for block in blocks:
            block.attn = open_attention(block.attn)
        return blocks

    def embed(self, images: Tensor) -> Tensor:
        return self.visual._embeds(images)

    def _run_block(self, number: int, tokens: Tensor) -> Tensor:
        block: Any = self.blocks[number]
        if number < len(self.blocks) - 1 or not self._only_class_token(block):
            return block(tokens)
        # Only the class token is read after the last block.
        attended = block.attn(block.ln_1(tokens), n_queries=1)[0]
        asked = tokens[:, :1] + block.ls_1(attended)
        return asked + block.ls_2(block.mlp(block.ln_2(asked)))

    def _only_class_token(self, block: nn.Module) -> bool:
        return (
            is_exactly(block, Family.OPEN_CLIP_BLOCK, Family.MINI_BLOCK)
            and isinstance(block.attn, OpenedAttention)
            and self.visual.pool_type == "tok"
            and self.visual.attn_pool is None
            and self.prompts is None
        )

    def _halves(self) -> list[Halves]:
        blocks: list[Any] = list(self.blocks)
        if not all(map(self._only_class_token, blocks)):
            return []
        return [Halves(b.ln_1, b.attn, b.ls_1, b.ln_2, b.mlp, b.ls_2) for b in blocks]

    def pool(self, tokens: Tensor) -> Tensor:
        pooled, _ = self.visual._pool(tokens)
        return pooled if self.visual.proj is None else pooled @ self.visual.proj

    def parts(self, block: nn.Module) -> BlockParts:
        return _open_clip_parts(block)

    def _is_pool(self, name: str) -> bool:
        return name.partition(".")[0] in ("attn_pool", "attn_pool_contrastive", "ln_post", "proj")


class TimmViT(Tower):
    """A ``VisionTransformer`` or ``Eva`` of timm, alone or as the trunk of a CLIP of open_clip (SigLIP, EVA).

    Where the class token of a ``VisionTransformer`` is the feature, the last block gives it alone.
    """

    kind = "timm ViT"

    def _take_blocks(self) -> list[nn.Module]:
        blocks = list(self.trunk.blocks)
        self.trunk.blocks = nn.Sequential()
        for block in blocks:
            if hasattr(block, "attn"):
                block.attn = open_attention(block.attn)
        return blocks

    def embed(self, images: Tensor) -> Tensor:
        trunk = self.trunk
        tokens = trunk._pos_embed(trunk.patch_embed(images))
        if is_a(trunk, Family.EVA):
            return trunk.norm_pre(tokens[0])  # _run_block makes the rotary part again
        return trunk.norm_pre(trunk.patch_drop(tokens))

    def _run_block(self, number: int, tokens: Tensor) -> Tensor:
        rope = getattr(self.trunk, "rope", None)
        if rope is None:
            block: Any = self.blocks[number]
            if number < len(self.blocks) - 1 or not self._only_class_token(block):
                return block(tokens)
            asked = tokens[:, :1] + block.ls1(_first_attends(block.attn, block.norm1(tokens)))
            return asked + block.ls2(block.mlp(block.norm2(asked)))
        fixed = not self.trunk.dynamic_img_size and hasattr(rope, "feat_shape")
        angles = rope.get_embed() if fixed else rope.get_embed(shape=self.trunk.patch_embed.grid_size)
        return self.blocks[number](tokens, rope=angles[number] if self.trunk.rope_mixed else angles)

    def _only_class_token(self, block: Any) -> bool:
        return (
            is_exactly(block, Family.TIMM_BLOCK)
            and is_exactly(block.attn, Family.TIMM_ATTENTION)
            and getattr(block.attn, "gate", None) is None
            and self.trunk.global_pool == "token"
            and self.trunk.attn_pool is None
            and self.prompts is None
        )

    def _halves(self) -> list[Halves]:
        blocks: list[Any] = list(self.blocks)
        if getattr(self.trunk, "rope", None) is not None or not all(map(self._only_class_token, blocks)):
            return []
        return [Halves(b.norm1, b.attn, b.ls1, b.norm2, b.mlp, b.ls2) for b in blocks]

    def pool(self, tokens: Tensor) -> Tensor:
        pooled = self.trunk.forward_head(self.trunk.norm(tokens))
        return self.visual.head(pooled) if is_a(self.visual, Family.OPEN_CLIP_TIMM) else pooled

    def parts(self, block: nn.Module) -> BlockParts:
        return _timm_parts(block)

    def _is_pool(self, name: str) -> bool:
        pool = ("norm", "fc_norm", "attn_pool", "head", "head_dist")
        return name.removeprefix("trunk.").partition(".")[0] in pool


def _is_hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _first_attends(attention: Any, x: Tensor) -> Tensor:
    """The output of an attention of timm for the first token, (n, 1, width): it alone asks."""
    n, length, _ = x.shape
    heads = attention.qkv(x).reshape(n, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = heads.unbind(0)
    mixed = F.scaled_dot_product_attention(attention.q_norm(q[:, :, :1]), attention.k_norm(k), v)
    return attention.proj(attention.norm(mixed.transpose(1, 2).flatten(2)))


class ResNetTower(Tower):
    """A ResNet of open_clip (its attention pool is ``pool``) or timm; the blocks are the four stages."""

    kind = "ResNet"

    def _take_blocks(self) -> list[nn.Module]:
        names = [f"layer{number}" for number in (1, 2, 3, 4)]
        stages = [getattr(self.trunk, name) for name in names]
        for name in names:
            setattr(self.trunk, name, nn.Identity())
        return stages

    def embed(self, images: Tensor) -> Tensor:
        trunk = self.trunk
        if is_a(trunk, Family.OPEN_CLIP_RESNET):
            return trunk.stem(images)
        return trunk.maxpool(trunk.act1(trunk.bn1(trunk.conv1(images))))

    def pool(self, tokens: Tensor) -> Tensor:
        if is_a(self.trunk, Family.OPEN_CLIP_RESNET):
            return tokens if self.trunk.attnpool is None else self.trunk.attnpool(tokens)
        pooled = self.trunk.forward_head(tokens)
        return self.visual.head(pooled) if is_a(self.visual, Family.OPEN_CLIP_TIMM) else pooled

    def _is_pool(self, name: str) -> bool:
        return name.removeprefix("trunk.").partition(".")[0] in ("attnpool", "global_pool", "fc", "head")


def stage_channels(stage: nn.Module) -> int:
    """Channels that a ResNet stage gives."""
    last: Any = list(stage.children())[-1]
    return (last.conv3 if hasattr(last, "conv3") else last.conv2).out_channels


def open_tower(visual: nn.Module) -> Tower:
    """Open an image tower, so that it can be run in parts and tuned.

    Parameters
    ----------
    visual : torch.nn.Module
        An image tower of open_clip or a model of timm without its classifier. Not changed.

    Returns
    -------
    Tower
        Of kind ``other``, in one piece, where the architecture is none of ViT, EVA and ResNet.

    Examples
    --------
    >>> import torch
    >>> from causalft.models.strata.mini import MiniConfig, build_mini
    >>> visual = build_mini(MiniConfig()).visual.eval()
    >>> tower = open_tower(visual)
    >>> tower.kind, tower.width, len(tower.blocks)
    ('open_clip ViT', 96, 3)
    >>> images = torch.rand(2, 3, 40, 40)
    >>> tokens = tower.run(tower.embed(images), stop=2)
    >>> torch.allclose(tower.pool(tower.run(tokens, start=2)), visual(images), atol=1e-5)
    True
    """
    own: Any = _share(visual).eval()
    trunk = trunk_of(own)
    if is_a(own, Family.OPEN_CLIP_VIT, Family.MINI_VIT):
        vit: Any = own
        return OpenClipViT(own, width=vit.transformer.width, n_prefix=1, patch_size=vit.patch_size[0]).eval()
    if is_plain(trunk, Family.TIMM_VIT) or is_plain(trunk, Family.EVA):
        patch = getattr(trunk.patch_embed, "patch_size", (0, 0))[0]
        return TimmViT(own, width=trunk.embed_dim, n_prefix=trunk.num_prefix_tokens, patch_size=patch).eval()
    if is_a(own, Family.OPEN_CLIP_RESNET) or is_plain(trunk, Family.TIMM_RESNET):
        return ResNetTower(own, width=stage_channels(trunk.layer4)).eval()
    return Tower(own, width=int(getattr(trunk, "num_features", 0))).eval()


def _share(module: nn.Module) -> nn.Module:
    """A new tree of modules over the same storage, every parameter frozen."""
    memo: dict[int, Any] = {id(b): b.detach() for b in module.buffers()}
    memo.update({id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()})
    return copy.deepcopy(module, memo)


def _inner(mlp: Any) -> Any:
    """The MLP inside the adapters around it."""
    while hasattr(mlp, "mlp"):
        mlp = mlp.mlp
    return mlp


def _open_clip_parts(block: Any) -> BlockParts:
    mlp = _inner(block.mlp)
    return BlockParts(
        block.ln_1, block.attn.qkv, block.attn.proj, block.ln_2, mlp.c_fc, mlp.c_proj, block.mlp, block.attn
    )


def _timm_parts(block: Any) -> BlockParts:
    try:
        mlp = _inner(block.mlp)
        fc1, fc2 = getattr(mlp, "fc1", None), mlp.fc2
        qkv, proj = getattr(block.attn, "qkv", None), block.attn.proj
        return BlockParts(block.norm1, qkv, proj, block.norm2, fc1, fc2, block.mlp, block.attn)
    except AttributeError as error:
        raise CausalFTError(
            f"a block of this image tower is a {type(block).__name__}, not one attention and one MLP with a norm each"
        ) from error
