"""Images without labels: whatever can be opened, its labels ignored, less the images that must not be learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from causalft.data.creatures import creatures_ltssl, creatures_unlabelled
from causalft.data.duplicates import shared_images
from causalft.data.given import unlabelled_images
from causalft.data.hidden import Unlabelled
from causalft.data.image_set import ImageSet
from causalft.data.opening import format_of, open_images, read_unlabelled
from causalft.errors import CausalFTError
from causalft.runs.limits import CREATURES, CREATURES_LTSSL
from causalft.runs.progress import named

__all__ = ["BUILT_IN_UNLABELLED", "leave_out", "open_unlabelled"]

BUILT_IN_UNLABELLED = 10_000
"""Images that are drawn of creatures-lt, unless a number is given."""

_OF_FILES = ("folder", "zip", "tar", "webdataset")
"""Formats whose labels are names of folders or beside the images, so that images alone are found without them."""


def open_unlabelled(path: str, at_most: int | None = None, seed: int = 0) -> Unlabelled:
    """Open images whose labels, if there are any, are ignored.

    Parameters
    ----------
    path : str
        Anything that :func:`causalft.open_images` opens, in all its splits; STL-10, whose own unlabelled images these
        are; a folder (searched to any depth), zip or tar of images without classes; ``creatures-lt``, of which new
        images are drawn, every class alike; or ``creatures-ltssl`` with its unlabelled images.
    at_most : int, optional
        Draw this many at random, if there are more. Default: all; of ``creatures-lt`` 10,000.
    seed : int
        Of the draw.

    Returns
    -------
    Unlabelled
        With hidden labels if the set is built in.

    Raises
    ------
    CausalFTError
        If nothing is there, or no image.

    Examples
    --------
    >>> open_unlabelled("creatures-lt", 100)
    Unlabelled(100 images, hidden labels known)
    """
    if path == CREATURES:
        drawn = creatures_unlabelled(BUILT_IN_UNLABELLED if at_most is None else at_most, seed=seed)
        found = Unlabelled.of(drawn, where=path)
    elif path == CREATURES_LTSSL:
        beside = creatures_ltssl(n_validation=0, n_test=0, seed=seed).unlabelled
        assert beside is not None
        found = beside
    else:
        found = Unlabelled.of(_opened(path), where=path, known=False)
    if not len(found):
        raise CausalFTError(f"{path} holds no image; give --unlabeled a folder, zip or table with some")
    return found if at_most is None else found.at_most(at_most, seed)


def _opened(path: str) -> ImageSet:
    if (own := read_unlabelled(path)) is not None:
        return own
    return (
        unlabelled_images([path])
        if format_of(path) in (None, *_OF_FILES)
        else open_images(path, min_classes=1)
    )


@named("comparing unlabelled images with the splits")
def leave_out(unlabelled: Unlabelled, parts: Mapping[str, ImageSet], *, strict: bool = False) -> Unlabelled:
    """Leave out images that are also in other sets: equal files, or equal pixels of sets in memory.

    Parameters
    ----------
    unlabelled : Unlabelled
    parts : mapping of str to ImageSet
        Such as labelled, validation and test images, by name.
    strict : bool
        Refuse them instead.

    Returns
    -------
    Unlabelled
        The others; ``left_out`` counts those of each part, one that is in several for the first.

    Raises
    ------
    CausalFTError
        If none is left, or with ``strict`` if any is in a part; the message names the first.

    Examples
    --------
    >>> pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    >>> images = ImageSet.from_arrays(pixels, [0, 0, 1], ["ant", "bee"])
    >>> left = leave_out(Unlabelled.of(images), {"test": images.subset([2])})
    >>> len(left), left.left_out
    (2, {'test': 1})
    """
    images = unlabelled.images
    kept = np.ones(len(images), dtype=bool)
    counts = {}
    for name, part in parts.items():
        shared = shared_images(images, part) & kept
        if strict and shared.any():
            raise CausalFTError(
                f"{int(shared.sum())} of {len(images)} unlabelled images of {unlabelled.where} are {name} images too "
                f"({images.files[int(shared.argmax())]}); remove them, or leave --strict out to drop them"
            )
        counts[name] = int(shared.sum())
        kept &= ~shared
    if not kept.any():
        already = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        raise CausalFTError(
            f"all {len(images)} unlabelled images of {unlabelled.where} are images of the run already ({already}); "
            "give others, or leave --unlabeled out"
        )
    return replace(unlabelled if kept.all() else unlabelled.subset(kept), left_out=counts)
