"""The CLIP that a mini is: ``open_clip``'s, written out with the parts that a mini has.

Importing ``open_clip`` brings torchvision, timm and transformers, and takes twice as long as importing PyTorch. The
tensors have the names of ``open_clip.model.CLIP``: a file of one is read by the other, and a test compares what both
compute.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

from causalft.strata.mini_config import MiniConfig

__all__ = ["Block", "MiniCLIP", "MiniVision"]

TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS = 64, 2, 2


class Block(nn.Module):
    """A transformer block: attention and MLP, each behind a norm and beside an identity."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ls_1 = nn.Identity()
        self.ln_2 = nn.LayerNorm(width)
        layers = (
            ("c_fc", nn.Linear(width, 4 * width)),
            ("gelu", nn.GELU()),
            ("c_proj", nn.Linear(4 * width, width)),
        )
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ls_2 = nn.Identity()

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Tokens (n, n_tokens, width) to the same shape."""
        normed = self.ln_1(x)
        x = x + self.ls_1(self.attn(normed, normed, normed, need_weights=False, attn_mask=attn_mask)[0])
        return x + self.ls_2(self.mlp(self.ln_2(x)))


class Transformer(nn.Module):
    """Blocks, one after the other."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.width = width
        self.resblocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Tokens (n, n_tokens, width) to the same shape."""
        for block in self.resblocks:
            x = block(x, attn_mask=attn_mask)
        return x


class MiniVision(nn.Module):
    """The image tower: a vision transformer whose class token is the feature.

    Parameters
    ----------
    config : MiniConfig
    stem : torch.nn.Module
        From pictures (n, 3, size, size) to patches (n, width, rows, columns).
    """

    pool_type = "tok"
    attn_pool = None

    def __init__(self, config: MiniConfig, stem: nn.Module) -> None:
        super().__init__()
        self.image_size = (config.image_size, config.image_size)
        self.patch_size = (config.patch_size, config.patch_size)
        n_patches = (config.image_size // config.patch_size) ** 2
        self.conv1 = stem
        self.class_embedding = nn.Parameter(torch.zeros(config.width))
        self.positional_embedding = nn.Parameter(torch.zeros(n_patches + 1, config.width))
        self.ln_pre = nn.LayerNorm(config.width)
        self.transformer = Transformer(config.width, config.layers, config.heads)
        self.ln_post = nn.LayerNorm(config.width)
        self.proj = nn.Parameter(torch.zeros(config.width, config.embed_dim))

    def _embeds(self, x: Tensor) -> Tensor:
        x = self.conv1(x).flatten(2).permute(0, 2, 1)
        first = self.class_embedding.view(1, 1, -1).expand(len(x), -1, -1)
        return self.ln_pre(torch.cat([first, x], dim=1) + self.positional_embedding)

    def _pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.ln_post(x)
        return x[:, 0], x[:, 1:]

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (n, 3, size, size) to features (n, embed_dim)."""
        return self._pool(self.transformer(self._embeds(x)))[0] @ self.proj


class MiniCLIP(nn.Module):
    """Both towers and the temperature; parameters are not initialised, they are loaded.

    Parameters
    ----------
    config : MiniConfig
    stem : torch.nn.Module
        As :class:`MiniVision` takes it.
    """

    attn_mask: Tensor

    def __init__(self, config: MiniConfig, stem: nn.Module) -> None:
        super().__init__()
        self.visual = MiniVision(config, stem)
        self.transformer = Transformer(TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS)
        self.token_embedding = nn.Embedding(config.vocab_size, TEXT_WIDTH)
        self.positional_embedding = nn.Parameter(torch.zeros(config.context_length, TEXT_WIDTH))
        self.ln_final = nn.LayerNorm(TEXT_WIDTH)
        self.text_projection = nn.Parameter(torch.zeros(TEXT_WIDTH, config.embed_dim))
        later = torch.full((config.context_length, config.context_length), -math.inf).triu_(1)
        self.register_buffer("attn_mask", later, persistent=False)
        self.logit_scale = nn.Parameter(torch.zeros([]))

    def encode_image(self, pictures: Tensor) -> Tensor:
        """Features (n, embed_dim) of normalised pictures (n, 3, size, size)."""
        return self.visual(pictures)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Features (n, embed_dim) of token ids (n, context_length); the end token has the highest id."""
        x = self.token_embedding(tokens) + self.positional_embedding
        x = self.ln_final(self.transformer(x, attn_mask=self.attn_mask))
        return x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)] @ self.text_projection
