"""Pre-training of mini foundation models, from images and captions to weights and a card; the embedded zoo."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from causalft.errors import CausalFTError, nearest
from causalft.models.pretraining.settings import PretrainingLoss
from causalft.models.strata.cards import ModelCard, sha256_file
from causalft.models.strata.mini import TEMPLATE, MiniConfig, WordTokenizer, build_mini, vocabulary_of
from causalft.models.tuning.train import Recipe, train
from causalft.runs.folder import atomic_path
from synthetic.creatures import (
    CLASS_NAMES,
    FACTORS,
    N_CLASSES,
    exponential_prior,
    factor_law,
    part_table,
    render_creatures,
)

__all__ = [
    "IMAGE_SIZE",
    "MEMBERS",
    "PRETRAINING",
    "WIDE",
    "Member",
    "Pretrained",
    "pretrain_member",
    "pretrain_mini",
    "save_mini",
]


def caption_bank_loss(image: Tensor, bank: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """Contrast each image with the captions of ALL classes, and each class in the batch with its images.

    The bank does not follow the class frequencies of the batch, so the first term is optimal at log p(y|x): the class
    prior of the pre-training data stays in the logits.

    Parameters
    ----------
    image : Tensor
        Shape (batch, d), unit rows.
    bank : Tensor
        Shape (n_classes, d), unit rows: one caption per class.
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
    """CLIP's own loss: each image against the captions of its batch (InfoNCE), in both directions.

    A class's captions are in the denominator as often as the class is in the batch, so the optimum is
    log p(y|x) - log p(y) + const: the class prior cancels, and an estimate from such logits is not P_P(Y).

    Parameters
    ----------
    image, bank, labels, scale
        As in :func:`caption_bank_loss`.
    """
    logits = scale * image @ bank[labels].T
    target = torch.arange(len(labels), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


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
"""The measured recipe for 30,000 images of the part world."""

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
_LARGEST_SCALE = 100.0  # CLIP's own bound on the inverse temperature


@dataclass(frozen=True)
class Pretrained:
    """A trained mini with its words and settings.

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
    """Convert uint8 images (n, size, size, 3) to normalised floats (n, 3, size, size)."""
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
    """Train a mini CLIP on images and the captions "a photo of a {class}".

    Parameters
    ----------
    pixels : numpy.ndarray
        Shape (n, size, size, 3), uint8, drawn from the label prior that the model learns.
    labels : numpy.ndarray
        Shape (n,), int64.
    class_names : list of str
    loss : {"caption-bank", "in-batch"}
        Whether the class prior stays in the logits.
    recipe : Recipe
        ``recipe.seed`` also draws the initial weights.
    config : MiniConfig, optional
        Words and context length are set from the class names.
    flip : bool
        Mirror half of the images (photographs).
    label, progress, checkpoint
        As in :func:`causalft.models.tuning.train.train`.

    Raises
    ------
    CausalFTError
        If a label is out of range or the images do not have the size of ``config``.
    """
    config = config or MiniConfig(image_size=pixels.shape[1])
    if pixels.shape[1:] != (config.image_size, config.image_size, 3):
        raise CausalFTError(
            f"images have shape {pixels.shape[1:]}, the model takes {config.image_size} pixels square"
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
        batch = normalise(all_pixels[indices])
        if flip:
            mirrored = torch.rand(len(indices), generator=generator) < 0.5
            batch[mirrored] = batch[mirrored].flip(-1)
        image = F.normalize(model.encode_image(batch), dim=-1)
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


IMAGE_SIZE = 40
IMBALANCE_FACTOR = 100.0

WIDE = MiniConfig(image_size=IMAGE_SIZE, width=168, heads=7)
"""A single mini that costs as much per image as three: 2.99 times the FLOPs of the default at 40 pixels, 1.3 million
parameters."""


@dataclass(frozen=True)
class Member:
    """One mini of the embedded zoo.

    Attributes
    ----------
    name : str
    order_seed : int
        Seeds the class order of its long-tailed prior. The orders, with the downstream one, have Spearman correlations
        within 0.006 of zero.
    favourite : {"head", "body", "tail"}
        The part it sees in 80 % of its images.
    seed : int
        Of weights, images and the order of training.
    loss : {"caption-bank", "in-batch"}
    role : str
    config : MiniConfig
        Its size.
    """

    name: str
    order_seed: int
    favourite: str
    seed: int
    loss: PretrainingLoss = "caption-bank"
    role: str = ""
    config: MiniConfig = field(default_factory=lambda: MiniConfig(image_size=IMAGE_SIZE))

    @property
    def prior(self) -> np.ndarray:
        """P_P(Y), shape (60,), sums to 1."""
        order = np.random.default_rng(self.order_seed).permutation(N_CLASSES)
        return exponential_prior(N_CLASSES, IMBALANCE_FACTOR, order)


_CLIP, _OPENCLIP, _METACLIP = 14, 18, 106

MEMBERS = {
    member.name: member
    for member in (
        Member("clip", _CLIP, "head", 0, role="stratum"),
        Member("openclip", _OPENCLIP, "body", 10, role="stratum"),
        Member("metaclip", _METACLIP, "tail", 20, role="stratum"),
        Member("clip@1", _CLIP, "head", 1, role="control: clip's prior and factor, another seed"),
        Member("clip@2", _CLIP, "head", 2, role="control: clip's prior and factor, another seed"),
        Member(
            "metaclip@1", _METACLIP, "tail", 21, role="control: metaclip's prior and factor, another seed"
        ),
        Member(
            "metaclip@2", _METACLIP, "tail", 22, role="control: metaclip's prior and factor, another seed"
        ),
        Member("clip-openclip-prior", _OPENCLIP, "head", 30, role="control: clip's factor, openclip's prior"),
        Member("clip-metaclip-prior", _METACLIP, "head", 31, role="control: clip's factor, metaclip's prior"),
        Member(
            "clip-infonce",
            _CLIP,
            "head",
            0,
            "in-batch",
            role="clip with in-batch InfoNCE: no prior in its logits",
        ),
        Member(
            "clip-wide",
            _CLIP,
            "head",
            0,
            role="control: clip's images, prior and factor, at the cost of three minis",
            config=WIDE,
        ),
    )
}


def pretrain_member(
    name: str,
    folder: Path,
    *,
    n_images: int = 30_000,
    epochs: int = PRETRAINING.epochs,
    progress: bool | None = None,
    checkpoint: bool = True,
) -> ModelCard:
    """Pre-train one member of the embedded zoo and write its weights and card into ``folder``.

    Parameters
    ----------
    name : str
        A key of :data:`MEMBERS`.
    folder : pathlib.Path
    n_images, epochs : int
        The defaults made the shipped minis.
    progress : bool, optional
    checkpoint : bool
        Keep a checkpoint, so that a killed pre-training resumes.

    Raises
    ------
    CausalFTError
        If there is no such member, or nothing to train on.
    """
    if name not in MEMBERS:
        raise CausalFTError(f"the embedded zoo has no member {name!r}; {nearest(name, MEMBERS)}")
    if n_images < 1 or epochs < 1:
        raise CausalFTError(f"{n_images} images and {epochs} epochs are no training; give 1 or more of each")
    member = MEMBERS[name]
    # One thread: sums are taken in one order, so the weights do not depend on how many cores the machine has.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rng = np.random.default_rng(1_000 + member.seed)
        labels = rng.choice(N_CLASSES, size=n_images, p=member.prior)
        law = factor_law(member.favourite)
        factors = rng.choice(len(FACTORS), size=n_images, p=law)
        pixels = render_creatures(part_table()[labels], factors, size=IMAGE_SIZE, seed=1_000 + member.seed)
        recipe = replace(PRETRAINING, seed=member.seed, epochs=epochs)
        trained = pretrain_mini(
            pixels,
            labels,
            list(CLASS_NAMES),
            loss=member.loss,
            recipe=recipe,
            config=member.config,
            label=f"pre-training {name}",
            progress=progress,
            checkpoint=folder / f".{name}.checkpoint.safetensors" if checkpoint else None,
        )
        return save_mini(
            trained,
            folder,
            name,
            world="creatures",
            loss=member.loss,
            prior=member.prior,
            view={"favourite": member.favourite, "factor_law": dict(zip(FACTORS, law.tolist(), strict=True))},
            recipe={
                **asdict(recipe),
                "n_images": n_images,
                "imbalance_factor": IMBALANCE_FACTOR,
                "role": member.role,
            },
        )
    finally:
        torch.set_num_threads(threads)
