"""Images of an experiment's world that are in no split, without labels, and what its members answer for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalft.runs.limits import CREATURES

if TYPE_CHECKING:
    from causalft.data.image_set import ImageSet
    from experiments.frame.lab import Lab
    from experiments.frame.members import Member

__all__ = ["UNLABELLED", "images_without_labels", "logits_of", "unlabelled", "unlabelled_logits"]

UNLABELLED = 10_000
_QUICK = 400


def unlabelled(lab: Lab, seed: int, times: float = 1.0) -> ImageSet:
    """``times`` :data:`UNLABELLED` new images of the built-in world, or photographs that the long tail left out.

    Raises
    ------
    CausalFTError
        If the data are long-tailed themselves, so that nothing was left out.
    """
    n = round(times * (_QUICK if lab.quick else UNLABELLED))
    if lab.world.settings.data == CREATURES:
        return _drawn(n)
    pool, used = lab.world.balanced.train, set(lab.world.splits(seed).train.files)
    rows = [row for row, file in enumerate(pool.files) if file not in used]
    return pool.subset(np.sort(np.random.default_rng(seed).permutation(rows)[:n]))


def images_without_labels(lab: Lab, seed: int) -> tuple[ImageSet, str]:
    """Images of every class alike, of which no label is read, and which these are.

    What a long tail leaves out of other data are images of its few classes: it follows another law than the test
    images, for which a strength must be chosen.
    """
    if lab.world.settings.data == CREATURES:
        return unlabelled(lab, seed), "in no split"
    return lab.world.splits(seed).validation, "of validation"


@lru_cache(maxsize=4)
def _drawn(n: int) -> ImageSet:
    from causalft.data.creatures import creatures_unlabelled

    return creatures_unlabelled(n)


def unlabelled_logits(lab: Lab, members: Sequence[Member], seed: int) -> NDArray[Any]:
    """Logits (M, n, K) of tuned members for :func:`images_without_labels`."""
    return logits_of(lab, members, seed, images_without_labels(lab, seed)[0])


_LOGITS: dict[Any, NDArray[Any]] = {}
"""By member, seed and fingerprint of the images, of one seed: several rules ask for the same two sets."""


def logits_of(lab: Lab, members: Sequence[Member], seed: int, images: ImageSet) -> NDArray[Any]:
    """Logits of tuned members, (M, n, K)."""
    from causalft.models.features.encoder import Crops

    found = []
    for member in members:
        key = lab.folder(member, seed), seed, images.fingerprint
        if key not in _LOGITS:
            for old in [each for each in _LOGITS if each[1] != seed]:
                del _LOGITS[old]
            _, tuned = lab.tuned(member, seed)
            _LOGITS[key] = tuned.logits(Crops(images, tuned.stratum))
        found.append(_LOGITS[key])
    return np.stack(found)
