"""A teacher that answers to what the student is shown: every model of it sees an image under the same augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalft.data.image_set import ImageSet
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.models.features.encoder import Crops

__all__ = ["Answers", "SameView", "same_view"]

Augment = Callable[[Tensor], Tensor]
"""Normalised pictures (n, 3, s, s) of any size s, to the same shape; each call draws the same."""

Answers = Callable[[Tensor, Augment], NDArray[np.float64]]
"""Probabilities (n, K) for rows (n,) of an image set, augmented."""

SameView = Callable[[ImageSet], Answers]
"""A teacher, to be asked about the rows of an image set."""


def same_view(
    members: Sequence[TunedStratum], fuse: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> SameView:
    """Return a teacher that fuses tuned strata, each asked about the same augmented images.

    An answer to the whole image would be wrong for a view of which half is cut away; an answer to the view teaches
    something new each time that an image is shown (Beyer et al., "Knowledge distillation: a good teacher is patient
    and consistent", CVPR 2022).

    Parameters
    ----------
    members : sequence of M TunedStratum
    fuse : callable
        Logits (M, n, K) to probabilities (n, K).
    """

    def teacher(images: ImageSet) -> Answers:
        crops = [Crops(images, each.stratum, progress=False) for each in members]

        def answers(rows: Tensor, augment: Augment) -> NDArray[np.float64]:
            with torch.inference_mode():
                logits = [
                    each.predict(augment(each.stratum.normalise(of[rows]))).cpu().double().numpy()
                    for each, of in zip(members, crops, strict=True)
                ]
            return fuse(np.stack(logits))

        return answers

    return teacher
