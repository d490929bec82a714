"""The mini foundation model: a small ``open_clip`` CLIP with a convolutional stem and a word-level tokenizer."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from causalft.errors import CausalFTError

if TYPE_CHECKING:
    from open_clip.model import CLIP

__all__ = [
    "Block",
    "MiniCLIP",
    "MiniConfig",
    "MiniVision",
    "TEMPLATE",
    "WordTokenizer",
    "build_mini",
    "empty_mini",
    "vocabulary_of",
]


@dataclass(frozen=True)
class MiniConfig:
    """Size of a mini CLIP; the defaults give half a million parameters.

    Attributes
    ----------
    image_size, patch_size : int
        Pixels.
    width, layers, heads : int
        Of the image tower. The text tower has width 64, 2 layers, 2 heads.
    embed_dim : int
    context_length, vocab_size : int

    Raises
    ------
    CausalFTError
        If the patch size is no power of two, or the image size not a multiple of it.
    """

    image_size: int = 40
    patch_size: int = 8
    width: int = 96
    layers: int = 3
    heads: int = 3
    embed_dim: int = 64
    context_length: int = 8
    vocab_size: int = 66

    def __post_init__(self) -> None:
        if self.patch_size < 2 or self.patch_size & (self.patch_size - 1):
            raise CausalFTError(f"patch size {self.patch_size} is not a power of two above 1")
        if self.image_size < self.patch_size or self.image_size % self.patch_size:
            raise CausalFTError(
                f"image size {self.image_size} is not a multiple of the patch size {self.patch_size}"
            )


TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS = 64, 2, 2


class Block(nn.Module):
    """A transformer block, with the module names of open_clip."""

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
        Images (n, 3, size, size) to patches (n, width, rows, columns).
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
        """Images (n, 3, size, size) to features (n, embed_dim)."""
        return self._pool(self.transformer(self._embeds(x)))[0] @ self.proj


class MiniCLIP(nn.Module):
    """Both towers and the temperature, uninitialised.

    Parameters
    ----------
    config : MiniConfig
    stem : torch.nn.Module
        As in :class:`MiniVision`.
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

    def encode_image(self, images: Tensor) -> Tensor:
        """Features (n, embed_dim) of normalised images (n, 3, size, size)."""
        return self.visual(images)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Features (n, embed_dim) of token ids (n, context_length)."""
        x = self.token_embedding(tokens) + self.positional_embedding
        x = self.ln_final(self.transformer(x, attn_mask=self.attn_mask))
        return x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)] @ self.text_projection


TEMPLATE = "a photo of a {}"


class WordTokenizer:
    """A tokenizer with one token per word: 0 pads, 1 starts, words follow, and the end token is the highest.

    ``open_clip`` pools the text at the highest token id.

    Parameters
    ----------
    words : sequence of str
        The vocabulary, as :func:`vocabulary_of` makes it.
    context_length : int

    Examples
    --------
    >>> tokenizer = WordTokenizer(["a", "photo", "of", "aradax"], context_length=8)
    >>> tokenizer(["a photo of a aradax"]).tolist()
    [[1, 2, 3, 4, 2, 5, 6, 0]]
    """

    def __init__(self, words: Sequence[str], context_length: int) -> None:
        self.words = list(words)
        self.context_length = context_length
        self._index = {word: number + 2 for number, word in enumerate(self.words)}

    @property
    def vocab_size(self) -> int:
        """Number of tokens: padding, start, words, end."""
        return len(self.words) + 3

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """Return token ids, shape (n_texts, context_length), int64.

        Raises
        ------
        CausalFTError
            For an unknown word, or a caption that is too long.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        tokens = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in enumerate(texts):
            words = _words(text)
            unknown = [word for word in words if word not in self._index]
            if unknown:
                raise CausalFTError(
                    f"this mini model never saw the word {unknown[0]!r} (of the caption {text!r}); a mini knows only "
                    "the classes it was pre-trained on: use --zoo pretrained, or pre-train your own (`zoo pretrain`)"
                )
            if len(words) + 2 > self.context_length:
                raise CausalFTError(f"the caption {text!r} has more than {self.context_length - 2} words")
            ids = [1, *(self._index[word] for word in words), len(self.words) + 2]
            tokens[row, : len(ids)] = torch.tensor(ids)
        return tokens


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def vocabulary_of(class_names: Sequence[str]) -> tuple[list[str], int]:
    """Return the words of the captions of these classes, and the context length of the longest.

    Examples
    --------
    >>> vocabulary_of(["fire truck", "cat"])
    (['a', 'cat', 'fire', 'of', 'photo', 'truck'], 8)
    """
    captions = [_words(TEMPLATE.format(name)) for name in class_names]
    for name, caption in zip(class_names, captions, strict=True):
        if len(caption) == len(_words(TEMPLATE.format(""))):
            raise CausalFTError(f"class name {name!r} has no letter or digit; rename its folder")
    first: dict[tuple[str, ...], str] = {}
    for name, caption in zip(class_names, captions, strict=True):
        other = first.setdefault(tuple(caption), name)
        if other != name:
            raise CausalFTError(f"classes {other!r} and {name!r} have the same caption; rename one folder")
    words = sorted({word for caption in captions for word in caption})
    return words, max(len(caption) for caption in captions) + 2


def build_mini(config: MiniConfig, seed: int = 0) -> CLIP:
    """Return an untrained mini CLIP with weights drawn from ``seed``.

    Examples
    --------
    >>> model = build_mini(MiniConfig())
    >>> model.encode_image(torch.zeros(2, 3, 40, 40)).shape
    torch.Size([2, 64])
    """
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIP(
            embed_dim=config.embed_dim,
            vision_cfg=CLIPVisionCfg(
                layers=config.layers,
                width=config.width,
                head_width=config.width // config.heads,
                patch_size=config.patch_size,
                image_size=config.image_size,
            ),
            text_cfg=CLIPTextCfg(
                context_length=config.context_length,
                vocab_size=config.vocab_size,
                width=TEXT_WIDTH,
                heads=TEXT_HEADS,
                layers=TEXT_LAYERS,
            ),
        )
        model.visual.conv1 = _stem(config)
    return model


def empty_mini(config: MiniConfig) -> MiniCLIP:
    """Return an uninitialised mini to load weights into.

    Tensor names and results are those of :func:`build_mini`, without importing ``open_clip``.

    Examples
    --------
    >>> model = empty_mini(MiniConfig())
    >>> model.load_state_dict(build_mini(MiniConfig(), seed=3).state_dict())
    <All keys matched successfully>
    """
    with torch.random.fork_rng(devices=[]):
        return MiniCLIP(config, _stem(config))


def _stem(config: MiniConfig) -> nn.Sequential:
    """Convolutions of stride 2 instead of one patch convolution: small models learn much faster."""
    stages = config.patch_size.bit_length() - 1
    layers: list[nn.Module] = []
    channels = 3
    for stage in range(stages - 1):
        wider = max(16, config.width // 2 ** (stages - 1 - stage))
        layers += [
            nn.Conv2d(channels, wider, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(wider),
            nn.ReLU(),
        ]
        channels = wider
    layers.append(nn.Conv2d(channels, config.width, 3, stride=2, padding=1))
    return nn.Sequential(*layers)
