"""Tune one stratum to the downstream task: its loss, its sampler and its images, put through the one training loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.data.groups import balancing_weights
from causalft.models.features.crops import Crops, augment
from causalft.models.features.encoder import batches
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.interpolation import interpolate
from causalft.models.tuning.losses import make_loss
from causalft.models.tuning.recipe import History
from causalft.models.tuning.samplers import expected_counts, make_sampler
from causalft.models.tuning.train import train
from causalft.strata.head_weights import start_of_head
from causalft.strata.tuned import TunedStratum
from causalft.strata.tuning_settings import Tuning

__all__ = ["tune"]

_TOKEN_CACHE_BYTES = 2**30


def tune(
    stratum: Stratum,
    crops: Crops,
    class_names: Sequence[str],
    tuning: Tuning,
    *,
    validation: Crops | None = None,
    model_prior: ArrayLike | None = None,
    weight: Tensor | None = None,
    release: bool = False,
    progress: bool | None = None,
    checkpoint: Path | None = None,
    log_dir: Path | None = None,
) -> tuple[TunedStratum, History]:
    """Tune a stratum on a (long-tailed) training set.

    Parameters
    ----------
    stratum : Stratum
    crops : Crops
        The training images.
    class_names : sequence of str
    tuning : Tuning
    validation : Crops, optional
        Its risk (NLL, every class counting alike) decides an early stop, if ``tuning.patience`` asks for one.
    model_prior : (n_classes,) array, optional
        Label prior of the foundation model, for GLA-Train.
    weight : (n_classes, d) Tensor, optional
        Where the head starts; by default :func:`causalft.strata.head_weights.start_of_head`. Not changed.
    release : bool
        The stratum is not needed for anything else: let go of its fp32 weights where the tower has its own.
    progress, checkpoint, log_dir
        As in :func:`causalft.models.tuning.train.train`.

    Raises
    ------
    CausalFTError
        For an unknown name in ``tuning``, a tuner that the image tower does not support, or a class without an image
        where the loss is then undefined.
    """
    tuning.check()
    if weight is None:
        weight = start_of_head(stratum, crops, class_names, tuning)
    tuned = TunedStratum(stratum, weight, tuning)
    if release and tuned.lowered:
        stratum.release()
    if not tuned.tuned.trains_head:  # zero-shot: nothing is trained
        return tuned.requires_grad_(False), History([], 0.0)
    labels = torch.from_numpy(crops.images.labels).to(stratum.device)
    loss = make_loss(
        tuning.loss,
        expected_counts(tuning.sampler, crops.images.class_counts),
        model_log_prior=None if model_prior is None else np.log(np.asarray(model_prior)),
        class_names=class_names,
        **({"scale": tuning.head_scale} if tuning.loss == "LDAM" else {}),
    )
    start = tuned.trained_state() if tuning.wise_ft < 1 else {}
    # Without augmentation the frozen prefix of a picture never changes: compute it once.
    cached = _all_tokens(tuned, crops) if tuning.augmentation == "none" else None

    def batch_loss(model: nn.Module, indices: Tensor, generator: torch.Generator) -> Tensor:
        if cached is not None:
            tokens = cached[indices]
        else:
            pictures = augment(stratum.normalise(crops[indices]), tuning.augmentation, generator)
            tokens = tuned.tokens(pictures)
        return loss(model(tokens), labels[indices])

    def risk(model: nn.Module) -> float:
        assert validation is not None
        labels = validation.images.labels
        losses = F.cross_entropy(
            torch.from_numpy(tuned.logits(validation)), torch.from_numpy(labels), reduction="none"
        )
        return float(np.average(losses.numpy(), weights=balancing_weights(labels, len(class_names))))

    history = train(
        tuned,
        len(crops),
        batch_loss,
        replace(tuning.recipe, precision=tuned.precision),  # type: ignore[arg-type]
        label=f"tuning {stratum.name}",
        progress=progress,
        checkpoint=checkpoint,
        sampler=make_sampler(tuning.sampler, crops.images.labels),
        validate=None if tuning.patience is None or validation is None else risk,
        log_dir=log_dir,
    )
    if tuning.wise_ft < 1:
        tuned.load_trained_state(interpolate(start, tuned.trained_state(), tuning.wise_ft))
    return tuned.requires_grad_(False), history


def _all_tokens(tuned: TunedStratum, crops: Crops, batch_size: int = 256) -> Tensor | None:
    """Tokens of all pictures, or None where they would not fit."""
    found: list[Tensor] = []
    for rows, pixels in batches(crops, batch_size):
        found.append(tuned.tokens(tuned.stratum.normalise(pixels)))
        if len(found) == 1 and found[0].nbytes / len(rows) * len(crops) > _TOKEN_CACHE_BYTES:
            return None
    return torch.cat(found)
