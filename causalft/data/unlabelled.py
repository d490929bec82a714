"""Images without labels: whatever can be opened, its labels ignored, less the images that must not be learnt from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from causalft.data.creatures import NAME as CREATURES
from causalft.data.creatures import creatures_unlabelled
from causalft.data.duplicates import shared_images
from causalft.data.given import unlabelled_images
from causalft.data.image_set import ImageSet
from causalft.data.opening import format_of, open_images
from causalft.errors import CausalFTError
from causalft.runs.progress import named

__all__ = ["BUILT_IN_UNLABELLED", "leave_out", "open_unlabelled"]

BUILT_IN_UNLABELLED = 10_000
"""Images that are drawn of the built-in set, unless a number is given."""

_OF_FILES = ("folder", "zip", "tar", "webdataset")
"""Formats whose labels are names of folders or beside the images, so that images alone are found without them."""


def open_unlabelled(path: str, at_most: int | None = None, seed: int = 0) -> ImageSet:
    """Open images whose labels, if there are any, are ignored.

    Parameters
    ----------
    path : str
        Anything that :func:`causalft.open_images` opens, in all its splits; a folder (searched to any depth), zip or
        tar of images without classes; or ``creatures-lt``, of which new images are drawn, every class alike.
    at_most : int, optional
        Draw this many at random, if there are more. Default: all; of ``creatures-lt`` 10,000.
    seed : int
        Of the draw.

    Returns
    -------
    ImageSet
        With the single class ``unlabelled``.

    Raises
    ------
    CausalFTError
        If nothing is there, or no image.

    Examples
    --------
    >>> open_unlabelled("creatures-lt", 100)
    ImageSet('creatures-lt/unlabelled': 100 images of 1 classes, 100 to 100 per class)
    """
    if path == CREATURES:
        found = creatures_unlabelled(BUILT_IN_UNLABELLED if at_most is None else at_most, seed=seed)
    elif format_of(path) in (None, *_OF_FILES):
        found = unlabelled_images([path])
    else:
        found = open_images(path, min_classes=1)
    if not len(found):
        raise CausalFTError(f"{path} holds no image; give --unlabeled a folder, zip or table with some")
    if at_most is not None and len(found) > at_most:
        found = found.subset(np.sort(np.random.default_rng(seed).permutation(len(found))[:at_most]))
    unlabelled = found.subset(np.arange(len(found)))
    unlabelled.labels, unlabelled.class_names = np.zeros(len(found), dtype=np.int64), ("unlabelled",)
    return unlabelled


@named("comparing unlabelled images with the splits")
def leave_out(
    images: ImageSet, parts: Mapping[str, ImageSet], where: str = ""
) -> tuple[ImageSet, dict[str, int]]:
    """Leave out images that are also in other sets: equal files, or equal pixels of sets in memory.

    Parameters
    ----------
    images : ImageSet
    parts : mapping of str to ImageSet
        Such as training, validation and test images.
    where : str
        Their place, for the message.

    Returns
    -------
    images : ImageSet
        The others.
    left_out : dict of str to int
        How many are in each part; one that is in several counts for the first.

    Raises
    ------
    CausalFTError
        If none is left.

    Examples
    --------
    >>> pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    >>> images = ImageSet.from_arrays(pixels, [0, 0, 1], ["ant", "bee"])
    >>> left, counts = leave_out(images, {"test": images.subset([2])})
    >>> len(left), counts
    (2, {'test': 1})
    """
    kept = np.ones(len(images), dtype=bool)
    counts = {}
    for name, part in parts.items():
        shared = shared_images(images, part) & kept
        counts[name] = int(shared.sum())
        kept &= ~shared
    if not kept.any():
        already = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        raise CausalFTError(
            f"all {len(images)} unlabelled images{where and f' of {where}'} are images of the run already ({already}); "
            "give others, or leave --unlabeled out"
        )
    return (images if kept.all() else images.subset(kept)), counts
