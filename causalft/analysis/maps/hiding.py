"""Hide parts of images: what the model still knows of the class when they are gone (occlusion)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.errors import CausalFTError, nearest

__all__ = ["FILLS", "Score", "confidence_when_hidden", "filled", "grid_masks", "hide"]

Score = Callable[[NDArray[np.uint8]], NDArray[np.float64]]
"""Images (n, h, w, 3) of uint8 to probabilities (n, K); rows sum to 1."""

FILLS = ("mean", "blur")
"""What takes the place of hidden pixels: the mean colour of the image, or the image blurred."""


def filled(pixels: NDArray[np.uint8], fill: str = "mean") -> NDArray[np.uint8]:
    """Return what takes the place of hidden pixels, in the shape of ``pixels`` (n, h, w, 3).

    Parameters
    ----------
    pixels : (n, h, w, 3) array of uint8
    fill : {"mean", "blur"}
        The mean colour of the image; or the image blurred by a Gaussian whose standard deviation is a tenth of the
        shorter side.

    Raises
    ------
    CausalFTError
        For an unknown fill.

    Examples
    --------
    >>> filled(np.array([[[[0, 0, 0], [10, 20, 30]]]], np.uint8)).tolist()
    [[[[5, 10, 15], [5, 10, 15]]]]
    """
    if fill not in FILLS:
        raise CausalFTError(f"unknown fill {fill!r}; {nearest(fill, FILLS)}")
    images = np.asarray(pixels)
    if fill == "mean":
        colour = images.mean(axis=(1, 2), keepdims=True).round()
        return np.broadcast_to(colour, images.shape).astype(np.uint8)
    from scipy.ndimage import gaussian_filter

    sigma = min(images.shape[1:3]) / 10
    blurred = gaussian_filter(images.astype(np.float32), (0, sigma, sigma, 0), mode="nearest")
    return blurred.round().clip(0, 255).astype(np.uint8)


def hide(pixels: NDArray[np.uint8], masks: ArrayLike, fill: str = "mean") -> NDArray[np.uint8]:
    """Return the images with what a mask covers filled.

    Parameters
    ----------
    pixels : (n, h, w, 3) array of uint8
    masks : (n, h, w) array in [0, 1]
    fill : {"mean", "blur"}
        As in :func:`filled`.

    Examples
    --------
    >>> image = np.array([[[[0, 0, 0], [10, 20, 30]]]], np.uint8)
    >>> hide(image, [[[1, 0]]]).tolist()
    [[[[5, 10, 15], [10, 20, 30]]]]
    """
    cover = np.asarray(masks, dtype=np.float32)[..., None]
    return (pixels * (1 - cover) + filled(pixels, fill) * cover).round().clip(0, 255).astype(np.uint8)


def grid_masks(n: int, size: int | tuple[int, int], cells: int = 5) -> NDArray[np.float32]:
    """Masks of a grid of ``cells`` x ``cells`` rectangles, for images without known parts.

    Parameters
    ----------
    n : int
        Images.
    size : int or (int, int)
        Height and width in pixels.
    cells : int
        Along each side, at most the shorter side in pixels.

    Returns
    -------
    (n, cells * cells, height, width) array of 0 and 1
        Row by row; each pixel belongs to one cell.

    Examples
    --------
    >>> grid_masks(1, 4, 2)[0, 1].tolist()
    [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    height, width = (size, size) if isinstance(size, int) else size
    if not 1 <= cells <= min(height, width):
        raise CausalFTError(
            f"a grid of {cells} cells a side does not fit {height} x {width} pixels; give fewer"
        )
    rows = np.arange(height) * cells // height
    columns = np.arange(width) * cells // width
    place = rows[:, None] * cells + columns[None, :]
    one = (place[None] == np.arange(cells * cells)[:, None, None]).astype(np.float32)
    return np.broadcast_to(one, (n, *one.shape))


def confidence_when_hidden(
    score: Score, pixels: NDArray[np.uint8], masks: ArrayLike, classes: ArrayLike, fill: str = "mean"
) -> NDArray[np.float64]:
    """Probability of a class with nothing hidden, and with each part hidden.

    Parameters
    ----------
    score : callable
        Images (n, h, w, 3) of uint8 to probabilities (n, K).
    pixels : (n, h, w, 3) array of uint8
    masks : (n, P, h, w) array in [0, 1]
        One per part; a part that is not in the image has an empty mask, and hiding it changes nothing.
    classes : (n,) array of int in [0, K)
    fill : {"mean", "blur"}
        As in :func:`filled`.

    Returns
    -------
    (n, P + 1) array
        First with nothing hidden.

    Examples
    --------
    >>> def brightness(images: NDArray[np.uint8]) -> NDArray[Any]:
    ...     light = images.mean(axis=(1, 2, 3)) / 255
    ...     return np.stack([light, 1 - light], axis=1)
    >>> image = np.array([[[[0, 0, 0], [255, 255, 255]]]], np.uint8)
    >>> confidence_when_hidden(brightness, image, [[[[0, 1]], [[1, 0]]]], [0]).round(2).tolist()
    [[0.5, 0.25, 0.75]]
    """
    chosen, parts = np.asarray(classes), np.asarray(masks)
    rows = np.arange(len(pixels))
    found = [score(pixels)[rows, chosen]]
    for part in range(parts.shape[1]):
        found.append(score(hide(pixels, parts[:, part], fill))[rows, chosen])
    return np.stack(found, axis=1)
