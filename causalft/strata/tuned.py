"""One stratum tuned to the downstream task: P(Y | b, c) from a frozen backbone, adapters and a cosine head."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from causalft.errors import CausalFTError
from causalft.runs import atomic_path
from causalft.strata.crops import AUGMENTATIONS, Crops, augment
from causalft.strata.stratum import Stratum
from causalft.tuning.adapters import adapter_state, add_adapters, bottleneck_width
from causalft.tuning.heads import CosineHead
from causalft.tuning.losses import LossName, logit_adjusted_loss
from causalft.tuning.train import History, Recipe, train

__all__ = ["Tuning", "TunedStratum", "default_tuning", "tune"]

_TOKEN_CACHE_BYTES = 2**30


@dataclass(frozen=True)
class Tuning:
    """How a stratum is tuned.

    Attributes
    ----------
    loss : {"LA", "CE"}
    lr, epochs, batch_size, weight_decay, momentum
        Of SGD with a cosine schedule, as in Chen et al. (ICML 2025, arXiv 2501.15955).
    bottleneck : int, optional
        Width of the adapters; by default the rule of :func:`causalft.tuning.adapters.bottleneck_width`.
    head_scale : float
    template : str
        Prompt from which the head starts.
    augmentation : {"none", "flip", "crop-flip"}
    seed : int
    """

    loss: LossName = "LA"
    lr: float = 0.01
    epochs: int = 10
    batch_size: int = 128
    weight_decay: float = 5e-4
    momentum: float = 0.9
    bottleneck: int | None = None
    head_scale: float = 25.0
    template: str = "a photo of a {}."
    augmentation: str = "none"
    seed: int = 0

    @property
    def recipe(self) -> Recipe:
        """The settings of the training loop."""
        return Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            seed=self.seed,
        )


def default_tuning(zoo: str) -> Tuning:
    """Return the measured recipe of a zoo: minis on renders, minis on photographs, or ViT-B/16 as in the paper.

    Parameters
    ----------
    zoo : str
        ``mini``, ``pretrained`` or a folder.

    Examples
    --------
    >>> default_tuning("mini").lr, default_tuning("pretrained").augmentation
    (0.05, 'crop-flip')
    """
    if zoo == "mini":
        return Tuning(lr=0.05, augmentation="none")
    if zoo == "pretrained":
        return Tuning(lr=0.01, augmentation="crop-flip")
    return Tuning(lr=0.05, augmentation="flip")


class TunedStratum(nn.Module):
    """A stratum with adapters in its image tower and a cosine head on top.

    Parameters
    ----------
    stratum : Stratum
        Not changed: its parameters are shared, frozen, with the adapted tower.
    class_names : sequence of str
    bottleneck : int
    head_scale : float
    template : str
    seed : int
    """

    def __init__(
        self,
        stratum: Stratum,
        class_names: Sequence[str],
        *,
        bottleneck: int,
        head_scale: float = 25.0,
        template: str = "a photo of a {}.",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.stratum = stratum
        shared = stratum.model.visual
        # A new tree of modules over the same frozen tensors: no second copy of the weights in memory.
        self.visual = copy.deepcopy(shared, {id(p): p for p in [*shared.parameters(), *shared.buffers()]})
        self.adapters = add_adapters(self.visual, bottleneck, seed=seed)
        self.head = CosineHead(stratum.text_features(class_names, template), scale=head_scale)
        self.eval().to(stratum.device)

    def tokens(self, pictures: Tensor) -> Tensor:
        """The frozen prefix: patch embedding, positions and first norm, shape (n, n_tokens, width)."""
        with torch.no_grad():
            return self.visual._embeds(pictures)

    def features(self, tokens: Tensor) -> Tensor:
        """B, the balanced representation: shape (n, d)."""
        pooled, _ = self.visual._pool(self.visual.transformer(tokens))
        return pooled if self.visual.proj is None else pooled @ self.visual.proj

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits, shape (n, n_classes), from the tokens of the frozen prefix."""
        return self.head(self.features(tokens))

    def logits(self, crops: Crops, batch_size: int = 256) -> np.ndarray:
        """Logits of a set of images, shape (n, n_classes), float64."""
        found = []
        with torch.inference_mode():
            for start in range(0, len(crops), batch_size):
                rows = torch.arange(start, min(start + batch_size, len(crops)))
                found.append(self(self.tokens(self.stratum.normalise(crops[rows]))).double().cpu())
        return torch.cat(found).numpy()

    def save(self, folder: Path) -> None:
        """Write ``adapter.safetensors`` and, last, ``head.safetensors``; the backbone is not saved."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / "adapter.safetensors") as temporary:
            save_file(adapter_state(self.adapters), temporary, metadata={"backbone": self.stratum.sha256})
        with atomic_path(folder / "head.safetensors") as temporary:
            save_file({"weight": self.head.weight.detach().cpu().contiguous()}, temporary)

    def load(self, folder: Path) -> TunedStratum:
        """Read what :meth:`save` wrote; a missing, damaged or foreign file raises a :class:`CausalFTError`."""
        try:
            adapters = load_file(folder / "adapter.safetensors")
            with safe_open(folder / "adapter.safetensors", framework="pt") as file:
                backbone = (file.metadata() or {}).get("backbone")
            head = load_file(folder / "head.safetensors")
        except (OSError, SafetensorError) as error:
            raise CausalFTError(
                f"{folder}: the tuned stratum cannot be read ({error}); fit it again"
            ) from error
        expected = {name: value.shape for name, value in adapter_state(self.adapters).items()}
        # Shapes alone do not tell one mini from another; the hash of the backbone does.
        if backbone != self.stratum.sha256 or {k: v.shape for k, v in adapters.items()} != expected:
            raise CausalFTError(f"{folder}: these adapters belong to another model than {self.stratum!r}")
        if {k: v.shape for k, v in head.items()} != {"weight": self.head.weight.shape}:
            raise CausalFTError(
                f"{folder}: the head is not one of {len(self.head.weight)} classes; fit it again"
            )
        with torch.no_grad():
            for number, adapter in enumerate(self.adapters):
                for part in ("down", "up"):
                    for name, parameter in getattr(adapter, part).named_parameters():
                        parameter.copy_(adapters[f"blocks.{number}.{part}.{name}"])
            self.head.weight.copy_(head["weight"])
        return self


def build_tuned(stratum: Stratum, class_names: Sequence[str], tuning: Tuning) -> TunedStratum:
    """Return the stratum with untrained adapters and a head that starts as the zero-shot classifier."""
    return TunedStratum(
        stratum,
        class_names,
        bottleneck=tuning.bottleneck or bottleneck_width(len(class_names), _n_blocks(stratum)),
        head_scale=tuning.head_scale,
        template=tuning.template,
        seed=tuning.seed,
    )


def tune(
    stratum: Stratum,
    crops: Crops,
    class_names: Sequence[str],
    tuning: Tuning,
    *,
    progress: bool | None = None,
    checkpoint: Path | None = None,
) -> tuple[TunedStratum, History]:
    """Tune adapters and head of a stratum on a (long-tailed) training set.

    Parameters
    ----------
    stratum : Stratum
    crops : Crops
        The training images.
    class_names : sequence of str
    tuning : Tuning
    progress, checkpoint
        As in :func:`causalft.tuning.train.train`.

    Raises
    ------
    CausalFTError
        For an unknown augmentation or loss, or an image tower without transformer blocks.
    """
    if tuning.augmentation not in AUGMENTATIONS:
        raise CausalFTError(f"unknown augmentation {tuning.augmentation!r}; use {', '.join(AUGMENTATIONS)}")
    if tuning.loss not in ("LA", "CE"):
        raise CausalFTError(f"unknown loss {tuning.loss!r}; use LA or CE")
    tuned = build_tuned(stratum, class_names, tuning)
    labels = torch.from_numpy(crops.images.labels).to(stratum.device)
    counts = torch.from_numpy(crops.images.class_counts).double()
    log_prior = (counts / counts.sum()).log().float().to(stratum.device) if tuning.loss == "LA" else None
    if log_prior is not None and not torch.isfinite(log_prior).all():
        empty = class_names[int(counts.argmin())]
        raise CausalFTError(
            f"class {empty!r} has no training image, so logit adjustment is undefined; add images"
        )
    # Without augmentation the frozen prefix of a picture never changes: compute it once.
    cached = _all_tokens(tuned, crops) if tuning.augmentation == "none" else None

    def batch_loss(model: nn.Module, indices: Tensor, generator: torch.Generator) -> Tensor:
        if cached is not None:
            tokens = cached[indices]
        else:
            pictures = augment(stratum.normalise(crops[indices]), tuning.augmentation, generator)
            tokens = tuned.tokens(pictures)
        return logit_adjusted_loss(model(tokens), labels[indices], log_prior)

    history = train(
        tuned,
        len(crops),
        batch_loss,
        tuning.recipe,
        label=f"tuning {stratum.name}",
        progress=progress,
        checkpoint=checkpoint,
    )
    return tuned.requires_grad_(False), history


def _all_tokens(tuned: TunedStratum, crops: Crops, batch_size: int = 256) -> Tensor | None:
    """Tokens of all pictures, or None where they would not fit."""
    found: list[Tensor] = []
    for start in range(0, len(crops), batch_size):
        rows = torch.arange(start, min(start + batch_size, len(crops)))
        found.append(tuned.tokens(tuned.stratum.normalise(crops[rows])))
        if start == 0 and found[0].nbytes / len(rows) * len(crops) > _TOKEN_CACHE_BYTES:
            return None
    return torch.cat(found)


def _n_blocks(stratum: Stratum) -> int:
    blocks = getattr(getattr(stratum.model.visual, "transformer", None), "resblocks", ())
    return max(1, len(blocks))
