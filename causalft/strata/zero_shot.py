"""A stratum before tuning, zero-shot: its frozen features, and one unit vector a class to compare them with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalft.data.image_set import ImageSet
from causalft.models.features.cache import FeatureCache, cached_features
from causalft.models.features.crops import Crops
from causalft.models.features.encoder import encode_all, frozen_encoder
from causalft.models.strata.prompts import text_weights
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.heads import class_means
from causalft.strata.tuning_settings import Tuning

__all__ = ["ZeroShot", "encode_zero_shot"]


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
