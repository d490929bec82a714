"""Is a map true to the model? Deletion and insertion: pixels go, or come, in the order of the map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.maps.hiding import Score, filled
from causalft.errors import CausalFTError
from causalft.models.maps.density import density

__all__ = ["Curves", "centre_maps", "deletion_insertion", "random_maps"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """Deletion and insertion curves of n maps.

    Attributes
    ----------
    share : (S + 1,) array
        Share of the pixels that are gone (or there), from 0 to 1.
    deletion, insertion : (n, S + 1) arrays
        Probability of the class.
    """

    share: Floats
    deletion: Floats
    insertion: Floats

    @property
    def deletion_auc(self) -> Floats:
        """Area under the deletion curve, (n,), in [0, 1]: the lower, the truer is the map to the model."""
        return np.asarray(np.trapezoid(self.deletion, self.share, axis=1))

    @property
    def insertion_auc(self) -> Floats:
        """Area under the insertion curve, (n,), in [0, 1]: the higher, the truer is the map to the model."""
        return np.asarray(np.trapezoid(self.insertion, self.share, axis=1))

    @property
    def faithfulness(self) -> Floats:
        """Insertion minus deletion area, (n,), in [-1, 1]: 0 is what a random order gives on average, about."""
        return self.insertion_auc - self.deletion_auc


def deletion_insertion(
    score: Score,
    pixels: NDArray[np.uint8],
    maps: ArrayLike,
    classes: ArrayLike,
    *,
    steps: int = 20,
    fill: str = "mean",
) -> Curves:
    """Remove the pixels of a map from the highest on, and add them to an empty image in the same order.

    Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, section
    4.2. There the image is emptied to black and inserted into its blurred copy; here both use one ``fill``, so that the
    two curves have common ends.

    Parameters
    ----------
    score : callable
        Images (n, h, w, 3) of uint8 to probabilities (n, K).
    pixels : (n, h, w, 3) array of uint8
    maps : (n, h, w) array
        Pixels of equal value go in the order of the rows.
    classes : (n,) array of int in [0, K)
        Whose probability is followed.
    steps : int
        Of equal numbers of pixels.
    fill : {"mean", "blur"}
        As in :func:`causalft.analysis.maps.filled`.

    Returns
    -------
    Curves

    Raises
    ------
    CausalFTError
        If the shapes do not agree.

    Examples
    --------
    >>> def red(images: NDArray[np.uint8]) -> NDArray[Any]:
    ...     share = images[..., 0].max(axis=(1, 2)) / 255
    ...     return np.stack([share, 1 - share], axis=1)
    >>> image = np.zeros((1, 2, 2, 3), np.uint8)
    >>> image[0, 0, 0, 0] = 255
    >>> found = deletion_insertion(red, image, [[[1, 0], [0, 0]]], [0], steps=4)
    >>> found.deletion.round(2).tolist(), found.insertion.round(2).tolist()
    ([[1.0, 0.25, 0.25, 0.25, 0.25]], [[0.25, 1.0, 1.0, 1.0, 1.0]])
    """
    images, found = np.asarray(pixels), np.asarray(maps, dtype=float)
    chosen = np.asarray(classes)
    if found.shape != images.shape[:3] or chosen.shape != images.shape[:1]:
        raise CausalFTError(
            f"maps of shape {found.shape} and classes of shape {chosen.shape} do not go with images of shape "
            f"{images.shape}; they must be (n, h, w), (n,) and (n, h, w, 3)"
        )
    if steps < 1:
        raise CausalFTError(f"steps is {steps}; give 1 or more")
    n, n_pixels = len(images), found[0].size if len(found) else 1
    order = np.argsort(-found.reshape(n, -1), axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(n_pixels)[None], axis=1)
    rank = rank.reshape(found.shape)[..., None]
    empty, rows = filled(images, fill), np.arange(n)
    ends = score(images)[rows, chosen], score(empty)[rows, chosen]
    deletion, insertion = np.empty((n, steps + 1)), np.empty((n, steps + 1))
    deletion[:, 0] = insertion[:, -1] = ends[0]
    deletion[:, -1] = insertion[:, 0] = ends[1]
    for step in range(1, steps):
        first = rank < round(n_pixels * step / steps)
        deletion[:, step] = score(np.where(first, empty, images))[rows, chosen]
        insertion[:, step] = score(np.where(first, images, empty))[rows, chosen]
    return Curves(np.linspace(0, 1, steps + 1), deletion, insertion)


def random_maps(n: int, size: int | tuple[int, int], cells: int = 5, seed: int = 0) -> Floats:
    """Maps that know nothing: a grid of independent uniform numbers, enlarged as maps of patches are; (n, h, w).

    Parameters
    ----------
    n : int
    size : int or (int, int)
        Height and width in pixels.
    cells : int
        Along each side, as many as the map under test has.
    seed : int

    Examples
    --------
    >>> random_maps(2, 8, cells=4).sum(axis=(1, 2)).round(6).tolist()
    [1.0, 1.0]
    """
    return density(np.random.default_rng(seed).uniform(size=(n, cells, cells)), size)


def centre_maps(n: int, size: int | tuple[int, int]) -> Floats:
    """Maps that know only that objects stand in the middle: a Gaussian, standard deviation a quarter of the side.

    Examples
    --------
    >>> bool(centre_maps(1, 9)[0].argmax() == 40)
    True
    """
    height, width = (size, size) if isinstance(size, int) else size
    y, x = ((np.arange(side) + 0.5) / side - 0.5 for side in (height, width))
    one = np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * 0.25**2))
    return np.broadcast_to(one / one.sum(), (n, height, width)).copy()
