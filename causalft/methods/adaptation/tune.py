"""From a stratum to a tuned one: zero-shot prototypes and logits, start of the head, loss, training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.data.groups import balancing_weights
from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.models.features.augmentation import augment
from causalft.models.features.cache import FeatureCache, cached_features
from causalft.models.features.encoder import Crops, batches, encode_all, frozen_encoder
from causalft.models.features.engines import Engine
from causalft.models.strata.prompts import text_weights
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.choices import LOSSES
from causalft.models.tuning.devices import to_device
from causalft.models.tuning.heads import class_means, k_shot, probe_weights
from causalft.models.tuning.heads.tde import ALPHAS, TDEHead
from causalft.models.tuning.interpolation import interpolate
from causalft.models.tuning.losses import make_loss
from causalft.models.tuning.recipe import History
from causalft.models.tuning.samplers import expected_counts, make_sampler
from causalft.models.tuning.team import current_team
from causalft.models.tuning.train import train

__all__ = [
    "EpochProgress",
    "ZeroShot",
    "balanced_risk",
    "choose_alpha",
    "encode_zero_shot",
    "finish_tuning",
    "fits_in_token_cache",
    "start_of_head",
    "tokens_of_batches",
    "tune",
]


@dataclass(frozen=True, repr=False)
class ZeroShot:
    """What a stratum makes of sets of images before tuning.

    Attributes
    ----------
    anchors : (n_classes, d) array
        Class prototypes, unit rows, float32: captions, or the class means of the training images for an image-only
        backbone.
    scale : float
        The inverse temperature: the stratum's, or that of the head for an image-only backbone.
    features : tuple of (n, d) arrays
        Unit rows, float32, one array per set.
    train : (n, d) array, optional
        Those of the training images, if given.
    precision : str
    """

    anchors: NDArray[np.float32]
    scale: float
    features: tuple[NDArray[np.float32], ...]
    train: NDArray[np.float32] | None
    precision: str

    def __repr__(self) -> str:
        return f"ZeroShot({len(self.anchors)} classes, {[len(found) for found in self.features]} images)"

    @property
    def logits(self) -> tuple[NDArray[np.float32], ...]:
        """Zero-shot logits, one (n, n_classes) array per set of images."""
        return tuple(
            np.multiply(found, self.scale, dtype=np.float32) @ self.anchors.T for found in self.features
        )


def encode_zero_shot(
    stratum: Stratum,
    class_names: Sequence[str],
    tuning: Tuning,
    parts: Sequence[ImageSet | Crops],
    *,
    train: ImageSet | Crops | None = None,
    cache: FeatureCache | None = None,
    keep_train: bool = True,
    batch_size: int = 64,
    engine: Engine | None = None,
    progress: bool | None = None,
) -> ZeroShot:
    """Encode sets of images, and the captions of the classes, with the stratum as it is.

    The frozen encoder may hold a second copy of the weights; it is released with this call.

    Parameters
    ----------
    stratum : Stratum
    class_names : sequence of str
    tuning : Tuning
        Its template, precision and (for an image-only backbone) temperature of the head.
    parts : sequence of ImageSet or Crops
        Crops in memory are not read again.
    train : ImageSet or Crops, optional
        Training images, required for an image-only backbone.
    cache : causalft.models.features.cache.FeatureCache, optional
    keep_train : bool
        Whether to cache the features of the training images too.
    batch_size : int
        Images encoded at once; those of crops in memory have their own.
    engine : Engine, optional
        Workers that encode the sets that are no crops, as in :func:`causalft.models.features.cache.cached_features`.
    progress : bool, optional

    Raises
    ------
    CausalFTError
        See :func:`causalft.models.features.cache.cached_features`, :func:`causalft.models.strata.prompts.text_weights`
        and :func:`causalft.models.tuning.heads.class_means`.
    """
    encode, precision = frozen_encoder(stratum, tuning.precision)

    def features_of(part: ImageSet | Crops, cache: FeatureCache | None) -> NDArray[np.float32]:
        if isinstance(part, ImageSet):
            return cached_features(
                cache,
                stratum,
                part,
                batch_size=batch_size,
                encode=encode,
                precision=precision,
                engine=engine,
                progress=progress,
            )
        if cache is None:
            return encode_all(encode, part)
        return cached_features(
            cache, stratum, part.images, encode=encode, precision=precision, crops=part, progress=progress
        )

    of_train = None if train is None else features_of(train, cache if keep_train else None)
    if stratum.has_text:
        anchors, scale = text_weights(stratum, class_names, tuning.template), stratum.logit_scale
    else:
        assert train is not None and of_train is not None
        images = train if isinstance(train, ImageSet) else train.images
        anchors = class_means(of_train, images.labels, len(class_names), class_names=class_names)
        scale = tuning.scale_of_head
    return ZeroShot(
        anchors=anchors.float().cpu().numpy(),
        scale=scale,
        features=tuple(features_of(part, cache) for part in parts),
        train=of_train,
        precision=precision,
    )


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
    features : (n, d) array, optional
        Of the training images, if known.

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


def fits_in_token_cache(token_bytes: float, n_images: int) -> bool:
    """Whether the frozen prefixes of all images are kept, if none is augmented: up to 1 GiB."""
    return token_bytes * n_images <= _TOKEN_CACHE_BYTES


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
        Its risk (NLL, classes weighted alike) decides an early stop, if ``tuning.patience`` is set.
    model_prior : (n_classes,) array, optional
        Label prior of the foundation model, for GLA-Train.
    weight : (n_classes, d) Tensor, optional
        Start of the head; by default :func:`start_of_head`. Not changed.
    release : bool
        Release the stratum's fp32 weights if the tower has its own.
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
    labels, device = torch.from_numpy(crops.images.labels), stratum.device
    loss = make_loss(
        tuning.loss,
        expected_counts(tuning.sampler, crops.images.class_counts),
        model_log_prior=None if model_prior is None else np.log(np.asarray(model_prior)),
        class_names=class_names,
        **tuning.loss_settings,
    )
    if isinstance(loss, nn.Module):  # what it learns belongs to the checkpoint
        tuned.add_module("criterion", loss)
    start = tuned.trained_state() if tuning.wise_ft < 1 else {}
    progress_of_epochs = EpochProgress(tuning.epochs)
    tokens = tokens_of_batches(tuned, crops, tuning.augmentation, progress_of_epochs)

    def batch_loss(model: nn.Module, indices: Tensor, generator: torch.Generator) -> Tensor:
        return loss(model(tokens(indices, generator)), to_device(labels[indices], device))

    def risk(model: nn.Module) -> float:
        assert validation is not None
        tuned.head.eval()  # the loop restores the mode
        return balanced_risk(torch.from_numpy(tuned.logits(validation)), validation.images.labels)

    tuned.head.train()  # the tower stays as it predicts
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
        at_epoch=progress_of_epochs,
        cut_batches="other" if LOSSES[tuning.loss].of_batch else "same",
    )
    if isinstance(loss, nn.Module):
        del tuned.criterion
    return finish_tuning(tuned, tuning, start, validation), history


def finish_tuning(
    tuned: TunedStratum, tuning: Tuning, start: Mapping[str, Tensor], validation: Crops | None
) -> TunedStratum:
    """Freeze a stratum after its training: head in eval mode, weights of WiSE-FT, alpha of the head ``tde``.

    Parameters
    ----------
    tuned : TunedStratum
    tuning : Tuning
    start : mapping
        :meth:`TunedStratum.trained_state` before the training; used with ``wise_ft`` below 1.
    validation : Crops, optional

    Raises
    ------
    CausalFTError
        As :func:`choose_alpha`.
    """
    tuned.head.eval()
    if tuning.wise_ft < 1:
        tuned.load_trained_state(interpolate(start, tuned.trained_state(), tuning.wise_ft))
    if isinstance(tuned.head, TDEHead) and tuning.tde_alpha == "validation":
        choose_alpha(tuned, tuned.head, validation)
    return tuned.requires_grad_(False)


def choose_alpha(tuned: TunedStratum, head: TDEHead, validation: Crops | None) -> float:
    """Set alpha of a tuned stratum's ``tde`` head to the one of the highest mean class accuracy, and return it.

    Logits are linear in alpha, so two passes over the images serve every alpha of
    :data:`causalft.models.tuning.heads.tde.ALPHAS`. Of equally accurate ones the smallest is taken.

    Raises
    ------
    CausalFTError
        Without validation images.
    """
    if validation is None:
        raise CausalFTError("alpha of the head tde is chosen on validation images; give some, or a number")
    labels = validation.images.labels
    ends = []
    for alpha in (0.0, 1.0):
        head.alpha.fill_(alpha)
        ends.append(tuned.logits(validation))
    weights = balancing_weights(labels, len(head.weight))
    found = [
        np.average((ends[0] + alpha * (ends[1] - ends[0])).argmax(1) == labels, weights=weights)
        for alpha in ALPHAS
    ]
    best = ALPHAS[int(np.argmax(found))]
    head.alpha.fill_(best)
    return best


class EpochProgress:
    """How far a training is: 0 in its first epoch, 1 in its last; told by calling it with the number of the epoch.

    Examples
    --------
    >>> progress = EpochProgress(5)
    >>> progress(3)
    >>> progress.value
    0.75
    """

    def __init__(self, epochs: int) -> None:
        self.epochs, self.value = epochs, 0.0

    def __call__(self, number: int) -> None:
        self.value = number / max(self.epochs - 1, 1)


def balanced_risk(logits: Tensor, labels: NDArray[np.int64]) -> float:
    """NLL of logits (n, K), in nats, with classes weighted alike.

    Examples
    --------
    >>> round(balanced_risk(torch.zeros(3, 2), np.array([0, 0, 1])), 3)  # log 2
    0.693
    """
    losses = F.cross_entropy(logits, torch.from_numpy(labels), reduction="none")
    return float(np.average(losses.numpy(), weights=balancing_weights(labels, logits.shape[1])))


def tokens_of_batches(
    tuned: TunedStratum,
    crops: Crops,
    augmentation: str,
    progress: EpochProgress,
    *,
    n_together: int = 1,
) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Return ``tokens(indices, generator)``, what the frozen prefix of a stratum gives for a batch of its crops.

    Without augmentation the frozen prefix of an image never changes: if there is room, it is computed once.

    Parameters
    ----------
    tuned : TunedStratum
    crops : Crops
    augmentation : str
    progress : EpochProgress
        Decides how large random crops are, where they grow.
    n_together : int
        Strata that are tuned together and share the room for tokens.
    """
    cached = _all_tokens(tuned, crops, n_together) if augmentation == "none" else None
    stratum = tuned.stratum

    def tokens(indices: Tensor, generator: torch.Generator) -> Tensor:
        if cached is not None:
            return cached[to_device(indices, stratum.device)]
        pictures = stratum.normalise(crops[indices])
        return tuned.tokens(augment(pictures, augmentation, generator, progress.value))

    return tokens


def _all_tokens(
    tuned: TunedStratum, crops: Crops, n_together: int = 1, batch_size: int = 256
) -> Tensor | None:
    """Tokens of all images, or None if they would not fit; processes that work together share the images."""
    team = current_team()

    def work(rows: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        for found, pixels in batches(crops, batch_size, rows=rows):
            tokens = tuned.tokens(tuned.stratum.normalise(pixels))
            yield int(found[-1]), tokens if team.count == 1 else tokens.cpu()

    found: list[Tensor] = []
    for tokens in team.in_order(range(len(crops)), batch_size, work):
        found.append(tokens.to(tuned.stratum.device))
        bytes_of_image = n_together * tokens.nbytes / len(tokens)
        if len(found) == 1 and not fits_in_token_cache(bytes_of_image, len(crops)):
            return None
    return torch.cat(found)
