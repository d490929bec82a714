"""Shifts of images that a model was not trained for: noise, blur and lost contrast, each in three strengths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from causalft.errors import CausalFTError, nearest

__all__ = ["SHIFTS", "STRENGTHS", "shifted_images"]

STRENGTHS = (1, 2, 3)
"""From mild to strong."""

_NOISE = (0.04, 0.08, 0.16)  # standard deviation, of the range of pixels
_BLUR = (0.0125, 0.025, 0.05)  # standard deviation, of the side
_CONTRAST = (0.7, 0.5, 0.3)  # what is left of it


def _noise(pixels: NDArray[np.float32], strength: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return pixels + 255 * _NOISE[strength - 1] * rng.standard_normal(pixels.shape, np.float32)


def _blur(pixels: NDArray[np.float32], strength: int, seed: int) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter

    sigma = _BLUR[strength - 1] * pixels.shape[1]
    return gaussian_filter(pixels, (0, sigma, sigma, 0), mode="nearest")


def _contrast(pixels: NDArray[np.float32], strength: int, seed: int) -> NDArray[np.float32]:
    mean = pixels.mean(axis=(1, 2, 3), keepdims=True)
    return mean + _CONTRAST[strength - 1] * (pixels - mean)


_MAKE = {"noise": _noise, "blur": _blur, "contrast": _contrast}
SHIFTS = tuple(_MAKE)
"""Gaussian noise, Gaussian blur, and contrast about the mean of each image."""


def shifted_images(
    pixels: NDArray[np.uint8], shift: str, strength: int, *, seed: int = 0
) -> NDArray[np.uint8]:
    """Shift square images.

    Parameters
    ----------
    pixels : (n, s, s, 3) array of uint8
    shift : {"noise", "blur", "contrast"}
        Noise with a standard deviation of 4, 8 or 16 % of the range; blur with one of 1.25, 2.5 or 5 % of the side;
        70, 50 or 30 % of the contrast.
    strength : {1, 2, 3}
    seed : int
        Of the noise.

    Returns
    -------
    (n, s, s, 3) array of uint8

    Raises
    ------
    CausalFTError
        For an unknown shift or strength.

    Examples
    --------
    >>> stripes = np.zeros((1, 8, 8, 3), np.uint8)
    >>> stripes[:, ::2] = 200
    >>> np.unique(shifted_images(stripes, "contrast", 2)).tolist()
    [50, 150]
    """
    if shift not in _MAKE:
        raise CausalFTError(f"no shift is named {shift!r}; {nearest(shift, _MAKE)}")
    if strength not in STRENGTHS:
        raise CausalFTError(f"the strength of a shift is {strength}; give 1, 2 or 3")
    found = _MAKE[shift](pixels.astype(np.float32), strength, seed)
    return found.round().clip(0, 255).astype(np.uint8)
