"""Where the head of a stratum starts: the texts of the classes, or features of the training images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from causalft.models.features.crops import Crops
from causalft.models.features.encoder import encode_all, frozen_encoder
from causalft.models.strata.prompts import text_weights
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.heads import class_means, k_shot, probe_weights
from causalft.strata.tuning_settings import Tuning

__all__ = ["start_of_head"]


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
