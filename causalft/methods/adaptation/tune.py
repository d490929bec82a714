"""Tune one stratum: where its head starts, its loss, sampler and images, put through the one training loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.data.groups import balancing_weights
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.models.features.crops import Crops, augment
from causalft.models.features.encoder import batches, encode_all, frozen_encoder
from causalft.models.strata.prompts import text_weights
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.heads import class_means, k_shot, probe_weights
from causalft.models.tuning.interpolation import interpolate
from causalft.models.tuning.losses import make_loss
from causalft.models.tuning.recipe import History
from causalft.models.tuning.samplers import expected_counts, make_sampler
from causalft.models.tuning.train import train

__all__ = ["start_of_head", "tune"]


def start_of_head(
    stratum: Stratum,
    crops: Crops | None,
    class_names: Sequence[str],
    tuning: Tuning,
    features: NDArray[np.float32] | None = None,
) -> Tensor:
    """Return the weights that ``tuning.head_start`` names, shape (n_classes, d).

    Parameters
    ----------
    stratum : Stratum
    crops : Crops, optional
        Training images; not needed for a start from text.
    class_names : sequence of str
    tuning : Tuning
        Features of images are computed in its precision.
    features : (n, d) array, optional
        Those of the training images, where they are known already.

    Raises
    ------
    CausalFTError
        For a text start of an image-only backbone, or a class without a training image.
    """
    if tuning.head_start == "text":
        return text_weights(stratum, class_names, tuning.template)
    assert crops is not None
    if features is None:
        features = encode_all(frozen_encoder(stratum, tuning.precision)[0], crops)
    labels, n_classes = crops.images.labels, len(class_names)
    if tuning.head_start == "class-mean":
        weights = class_means(features, labels, n_classes, class_names=class_names)
    elif tuning.head_start == "linear-probe":
        weights = probe_weights(features, labels, n_classes, class_names=class_names)
    else:
        shots = tuning.shots()
        assert shots is not None
        weights = k_shot(features, labels, n_classes, shots, tuning.seed, class_names=class_names)
    return weights.float().to(stratum.device)


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
        Where the head starts; by default :func:`causalft.methods.adaptation.tune.start_of_head`. Not changed.
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
