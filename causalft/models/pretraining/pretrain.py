"""Pre-training of one mini foundation model: pictures and captions in, weights and a card out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.strata.cards import ModelCard, sha256_file
from causalft.models.strata.mini import TEMPLATE, MiniConfig, WordTokenizer, build_mini, vocabulary_of
from causalft.models.tuning.train import Recipe, train
from causalft.runs.folder import atomic_path

__all__ = [
    "PRETRAINING",
    "Pretrained",
    "PretrainingLoss",
    "caption_bank_loss",
    "in_batch_contrastive_loss",
    "pretrain_mini",
    "save_mini",
]


def caption_bank_loss(image: Tensor, bank: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """Contrast each picture with the captions of ALL classes, and each class in the batch with all pictures in it.

    The bank does not follow the class frequencies of the batch, so the optimum of the first term is log p(y|x): the
    class prior of the pre-training data stays in the logits. Compare :func:`in_batch_contrastive_loss`.

    Parameters
    ----------
    image : Tensor
        Shape (batch, d), unit rows.
    bank : Tensor
        Shape (n_classes, d), unit rows: one caption a class.
    labels : Tensor
        Shape (batch,), int64.
    scale : Tensor
        Scalar, the inverse temperature.
    """
    logits = scale * image @ bank.T
    to_text = F.cross_entropy(logits, labels)
    present = labels.unique()
    to_image = logits[:, present].T.log_softmax(1)
    positive = (labels == present[:, None]).float()
    return (to_text - (to_image * positive).sum(1).div(positive.sum(1)).mean()) / 2


def in_batch_contrastive_loss(image: Tensor, bank: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """CLIP's own loss: each picture against the captions of its batch (InfoNCE), in both directions.

    A class's captions enter the denominator as often as the class enters the batch, so the optimum is
    log p(y|x) - log p(y) + const: the class prior cancels, and a prior estimated from such logits is not P_P(Y).

    Parameters
    ----------
    image, bank, labels, scale
        As in :func:`caption_bank_loss`.
    """
    logits = scale * image @ bank[labels].T
    target = torch.arange(len(labels), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


PretrainingLoss = Literal["caption-bank", "in-batch"]
_LOSSES = {"caption-bank": caption_bank_loss, "in-batch": in_batch_contrastive_loss}

PRETRAINING = Recipe(
    epochs=6,
    batch_size=128,
    lr=1.5e-3,
    optimizer="adamw",
    weight_decay=0.05,
    schedule="onecycle",
    grad_clip=1.0,
)
"""The measured recipe for 30,000 pictures of the part world."""

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
_LARGEST_SCALE = 100.0  # CLIP's own bound on the inverse temperature


@dataclass(frozen=True)
class Pretrained:
    """A trained mini with the words and settings that belong to it.

    Attributes
    ----------
    model : open_clip.model.CLIP
    tokenizer : WordTokenizer
    config : MiniConfig
    class_names : list of str
    losses : list of float
        Mean loss of each epoch.
    seconds : float
    """

    model: CLIP
    tokenizer: WordTokenizer
    config: MiniConfig
    class_names: list[str]
    losses: list[float]
    seconds: float


def normalise(pixels: Tensor) -> Tensor:
    """uint8 pictures (n, size, size, 3) to normalised float pictures (n, 3, size, size)."""
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def pretrain_mini(
    pixels: np.ndarray,
    labels: np.ndarray,
    class_names: list[str],
    *,
    loss: PretrainingLoss = "caption-bank",
    recipe: Recipe = PRETRAINING,
    config: MiniConfig | None = None,
    flip: bool = False,
    label: str = "pre-training",
    progress: bool | None = None,
    checkpoint: Path | None = None,
) -> Pretrained:
    """Train a mini CLIP on pictures and the captions "a photo of a {class}".

    Parameters
    ----------
    pixels : numpy.ndarray
        Shape (n, size, size, 3), uint8, drawn from the label prior the model shall carry.
    labels : numpy.ndarray
        Shape (n,), int64.
    class_names : list of str
    loss : {"caption-bank", "in-batch"}
        Whether the class prior stays in the logits; see :mod:`causalft.models.tuning.losses`.
    recipe : Recipe
        ``recipe.seed`` also draws the first weights.
    config : MiniConfig, optional
        Words and context length are set from the class names.
    flip : bool
        Mirror half of the pictures (photographs).
    label, progress, checkpoint
        As in :func:`causalft.models.tuning.train.train`.

    Raises
    ------
    CausalFTError
        If a label is out of range or the pictures do not have the size of ``config``.
    """
    config = config or MiniConfig(image_size=pixels.shape[1])
    if pixels.shape[1:] != (config.image_size, config.image_size, 3):
        raise CausalFTError(
            f"pictures have shape {pixels.shape[1:]}, the model takes {config.image_size} pixels square"
        )
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise CausalFTError(f"labels must lie in 0..{len(class_names) - 1}")
    words, context_length = vocabulary_of(class_names)
    tokenizer = WordTokenizer(words, max(context_length, config.context_length))
    config = replace(config, vocab_size=tokenizer.vocab_size, context_length=tokenizer.context_length)
    model = build_mini(config, seed=recipe.seed).train()
    captions = tokenizer([TEMPLATE.format(name) for name in class_names])
    all_pixels, all_labels = torch.from_numpy(pixels), torch.from_numpy(np.asarray(labels)).long()
    criterion = _LOSSES[loss]

    def batch_loss(model: torch.nn.Module, indices: Tensor, generator: torch.Generator) -> Tensor:
        assert isinstance(model, CLIP)
        pictures = normalise(all_pixels[indices])
        if flip:
            mirrored = torch.rand(len(indices), generator=generator) < 0.5
            pictures[mirrored] = pictures[mirrored].flip(-1)
        image = F.normalize(model.encode_image(pictures), dim=-1)
        bank = F.normalize(model.encode_text(captions), dim=-1)
        return criterion(image, bank, all_labels[indices], model.logit_scale.exp().clamp(max=_LARGEST_SCALE))

    history = train(
        model, len(all_labels), batch_loss, recipe, label=label, progress=progress, checkpoint=checkpoint
    )
    return Pretrained(
        model.eval().requires_grad_(False),
        tokenizer,
        config,
        list(class_names),
        history.losses,
        history.seconds,
    )


def save_mini(
    trained: Pretrained,
    folder: Path,
    name: str,
    *,
    world: str,
    loss: str,
    prior: np.ndarray,
    view: dict[str, Any],
    recipe: dict[str, Any],
    measured: dict[str, Any] | None = None,
) -> ModelCard:
    """Write ``NAME.safetensors`` (fp16) and, last, its card ``NAME.json``; return the card."""
    weights = folder / f"{name}.safetensors"
    tensors = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in trained.model.state_dict().items()
    }
    with atomic_path(weights) as temporary:
        # One key only: safetensors writes several in random order, and equal weights must have equal files.
        save_file(tensors, temporary, metadata={"format": "pt"})
    card = ModelCard(
        name=name,
        world=world,
        loss=loss,
        class_names=trained.class_names,
        prior=[float(p) for p in prior],
        view=view,
        vocabulary=trained.tokenizer.words,
        architecture=asdict(trained.config),
        mean=list(MEAN),
        std=list(STD),
        recipe={**recipe, "losses": trained.losses, "threads": torch.get_num_threads()},
        sha256=sha256_file(weights),
        measured={"seconds": trained.seconds, **(measured or {})},
    )
    card.write(folder / f"{name}.json")
    return card
