"""A stratum before tuning: zero-shot class prototypes and logits, with and without its label prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning, check_gla
from causalft.models.features.cache import FeatureCache, cached_features
from causalft.models.features.crops import Crops
from causalft.models.features.encoder import autocast, encode_all, frozen_encoder, open_frozen
from causalft.models.strata.prompts import text_weights
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.heads import class_means
from causalft.models.tuning.losses import optimum_of
from causalft.models.tuning.samplers import expected_counts
from causalft.runs.folder import atomic_path

__all__ = ["Untouched", "ZeroShot", "check_gla", "encode_zero_shot", "prior_left_in_logits"]


_FILE = "gla.safetensors"


class Untouched(nn.Module):
    """Zero-shot logits of a stratum plus a constant a class.

    Parameters
    ----------
    stratum : Stratum
        Not changed; the frozen weights are shared where the precision allows it.
    anchors : (n_classes, d) Tensor
        What a unit feature is compared with, times the inverse temperature.
    shift : (n_classes,) Tensor
        What is added: ``- log q``, and ``- log P_S`` where that stands in the tuned logits (GLA-FT).
    precision : {"auto", "fp32", "bf16", "fp16"}
    """

    anchors: Tensor
    shift: Tensor

    def __init__(self, stratum: Stratum, anchors: Tensor, shift: Tensor, precision: str = "auto") -> None:
        super().__init__()
        self._device = stratum.device
        self.tower, self._precision = open_frozen(stratum, precision)
        self.register_buffer("anchors", anchors.float())
        self.register_buffer("shift", shift.float())
        self.eval().requires_grad_(False).to(stratum.device)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (n, n_classes) of normalised pictures."""
        with autocast(self._device, self._precision):
            features = self.tower(pictures)
        return F.normalize(features.float(), dim=-1) @ self.anchors.T + self.shift

    def save(self, folder: Path) -> None:
        """Write ``gla.safetensors``; the backbone is not saved."""
        with atomic_path(folder / _FILE) as temporary:
            save_file({"anchors": self.anchors.cpu(), "shift": self.shift.cpu()}, temporary)

    @classmethod
    def load(cls, stratum: Stratum, folder: Path, n_classes: int, precision: str = "auto") -> Untouched:
        """Read what :meth:`save` wrote.

        Raises
        ------
        CausalFTError
            If the file is missing, damaged, or of other classes.
        """
        try:
            found = load_file(folder / _FILE)
            anchors, shift = found["anchors"], found["shift"]
        except (OSError, SafetensorError, KeyError) as error:
            raise CausalFTError(
                f"{folder / _FILE} cannot be read ({error}); fit the stratum again"
            ) from error
        if anchors.ndim != 2 or len(anchors) != n_classes or shift.shape != (n_classes,):
            raise CausalFTError(f"{folder / _FILE} is not of {n_classes} classes; fit the stratum again")
        return cls(stratum, anchors, shift, precision)


def prior_left_in_logits(tuning: Tuning, class_counts: ArrayLike) -> NDArray[np.float64] | None:
    """Return the class prior that stands in tuned logits, (K,): what the sampler showed. None where the loss undid it.

    Raises
    ------
    CausalFTError
        As :func:`check_gla`.

    Examples
    --------
    >>> prior_left_in_logits(Tuning(loss="CE"), [90, 10]).tolist(), prior_left_in_logits(Tuning(loss="LA"), [90, 10])
    ([0.9, 0.1], None)
    """
    check_gla(tuning)
    if optimum_of(tuning.loss) == "balanced posterior":
        return None
    shown = expected_counts(tuning.sampler, class_counts)
    return shown / shown.sum()


@dataclass(frozen=True, repr=False)
class ZeroShot:
    """What an untouched stratum makes of some sets of images.

    Attributes
    ----------
    anchors : (n_classes, d) array
        Unit rows, float32: captions, or for an image-only backbone the class means of the training images.
    scale : float
        The inverse temperature: the stratum's own, or for an image-only backbone that of the head.
    features : tuple of (n, d) arrays
        Unit rows, float32, one array a set of images.
    train : (n, d) array, optional
        The same of the training images, where they were given.
    precision : str
        In which the tower ran.
    """

    anchors: NDArray[np.float32]
    scale: float
    features: tuple[NDArray[np.float32], ...]
    train: NDArray[np.float32] | None
    precision: str

    def __repr__(self) -> str:
        return f"ZeroShot({len(self.anchors)} classes, {[len(found) for found in self.features]} images)"

    @property
    def logits(self) -> tuple[NDArray[np.float64], ...]:
        """Logits of the untouched model, one (n, n_classes) array a set of images."""
        return tuple((self.scale * found @ self.anchors.T).astype(np.float64) for found in self.features)


def encode_zero_shot(
    stratum: Stratum,
    class_names: Sequence[str],
    tuning: Tuning,
    parts: Sequence[ImageSet | Crops],
    *,
    train: ImageSet | Crops | None = None,
    cache: FeatureCache | None = None,
    keep_train: bool = True,
    progress: bool | None = None,
) -> ZeroShot:
    """Encode sets of images, and the captions of the classes, with the stratum as it is.

    The frozen encoder may hold a second copy of the weights; it ends with this call, before a tuning starts.

    Parameters
    ----------
    stratum : Stratum
    class_names : sequence of str
    tuning : Tuning
        Its template, precision and (for an image-only backbone) temperature of the head.
    parts : sequence of ImageSet or Crops
        Crops that are kept in memory are not read from the files once more.
    train : ImageSet or Crops, optional
        Training images; an image-only backbone needs them, because it has no captions.
    cache : causalft.models.features.cache.FeatureCache, optional
    keep_train : bool
        Whether the features of the training images go to the cache too.
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
                cache, stratum, part, encode=encode, precision=precision, progress=progress
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
        scale = tuning.head_scale
    return ZeroShot(
        anchors=anchors.float().cpu().numpy(),
        scale=scale,
        features=tuple(features_of(part, cache) for part in parts),
        train=of_train,
        precision=precision,
    )
