"""The mini foundation model: a small ``open_clip`` CLIP with a convolutional stem and a word-level tokenizer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from causalft.errors import CausalFTError
from causalft.strata.mini_clip import TEXT_HEADS, TEXT_LAYERS, TEXT_WIDTH, MiniCLIP
from causalft.strata.mini_config import MiniConfig

if TYPE_CHECKING:
    from open_clip.model import CLIP

__all__ = ["TEMPLATE", "WordTokenizer", "build_mini", "empty_mini", "vocabulary_of"]

TEMPLATE = "a photo of a {}"


class WordTokenizer:
    """A tokenizer with one token a word: 0 pads, 1 starts, words follow, and the end token is the highest.

    ``open_clip`` pools the text at the highest token id, which is why the end token must have it.

    Parameters
    ----------
    words : sequence of str
        The vocabulary in order; :func:`vocabulary_of` makes it from class names.
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
        """Tokens in all: padding, start, the words, end."""
        return len(self.words) + 3

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """Return token ids, shape (n_texts, context_length), int64.

        Raises
        ------
        CausalFTError
            For a word this model was never trained on, or a caption that is too long.
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
    """Return the words that captions of these classes need, and the context length that fits the longest caption.

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
    """Return an untrained mini CLIP with weights drawn from ``seed``: the model that is pre-trained.

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
    """Return the model that the weights of a mini are loaded into; nothing in it is of use before that.

    It has the tensors of :func:`build_mini` by the same names, computes the same, and does not need ``open_clip``.

    Examples
    --------
    >>> model = empty_mini(MiniConfig())
    >>> model.load_state_dict(build_mini(MiniConfig(), seed=3).state_dict())
    <All keys matched successfully>
    """
    with torch.random.fork_rng(devices=[]):
        return MiniCLIP(config, _stem(config))


def _stem(config: MiniConfig) -> nn.Sequential:
    """Convolutions of stride 2 in place of the one patch convolution: small models learn much faster with them."""
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
