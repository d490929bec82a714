"""Which images of one set are in another, by their content: the bytes of the file, or the pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from causalft.datasets.image_set import ImageSet

__all__ = ["in_memory", "pixels_digest", "pixels_hash", "shared_images", "with_hash"]


def in_memory(images: ImageSet) -> bool:
    """Whether a set has pixels and no files: then only its pixels can be compared."""
    return len(images) > 0 and images.format == "arrays"


def pixels_digest(image: Image.Image) -> NDArray[np.uint8]:
    """SHA-256 of size and pixels, (32,) uint8: the same for a file and its decoded, upright RGB picture."""
    return np.frombuffer(hashlib.sha256(str(image.size).encode() + image.tobytes()).digest(), dtype=np.uint8)


def pixels_hash(images: ImageSet, i: int) -> str:
    """SHA-256 (hex) of size and pixels of image ``i``.

    Examples
    --------
    >>> images = ImageSet.from_arrays(np.zeros((2, 4, 4, 3), np.uint8), [0, 1], ["ant", "bee"])
    >>> pixels_hash(images, 0) == pixels_hash(images, 1)
    True
    """
    return pixels_digest(images.image(i)).tobytes().hex()


def with_hash(images: ImageSet, files: Collection[str], pixels: Collection[str] = ()) -> NDArray[np.bool_]:
    """Whether each image is one of those with these hashes, (n,).

    Parameters
    ----------
    images : ImageSet
    files : collection of str
        SHA-256 of files (`ImageSet.bytes_hash`).
    pixels : collection of str
        SHA-256 of pixels (`pixels_hash`), for a set in memory.
    """
    if in_memory(images):
        return np.array(
            [bool(pixels) and pixels_hash(images, i) in pixels for i in range(len(images))], dtype=bool
        )
    return np.array([bool(files) and images.bytes_hash(i) in files for i in range(len(images))], dtype=bool)


def shared_images(images: ImageSet, others: ImageSet) -> NDArray[np.bool_]:
    """Whether each image is in another set too, (n,): the same file, or where a set is in memory the same pixels.

    Only files that share their size with one of the other set are read.

    Examples
    --------
    >>> pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    >>> images = ImageSet.from_arrays(pixels, [0, 0, 1], ["ant", "bee"])
    >>> shared_images(images, images.subset([2])).tolist()
    [False, False, True]
    """
    if in_memory(images) or in_memory(others):
        known = {pixels_hash(others, i) for i in range(len(others))}
        return np.array([pixels_hash(images, i) in known for i in range(len(images))], dtype=bool)
    size, other_size = (
        np.array([s.quick_key(i)[0] for i in range(len(s))], dtype=np.int64) for s in (images, others)
    )
    known = {others.bytes_hash(int(i)) for i in np.flatnonzero(np.isin(other_size, size))}
    alike = np.isin(size, other_size)
    return np.array([alike[i] and images.bytes_hash(i) in known for i in range(len(images))], dtype=bool)
