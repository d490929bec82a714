"""An image under a heat map: grey where nothing is seen, coloured where much is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["heat_image"]

_STOPS = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], dtype=float)
"""The colours of matplotlib's "inferno" at 0, 1/4, ..., 1: they differ in lightness too, for any colour vision."""

_LEAST = 160  # pixels of the shorter side: a map on 40 pixels is hard to see


def heat_image(frame: NDArray[np.uint8], heat: ArrayLike | None = None) -> Image.Image:
    """Return an image with a map laid over it, enlarged if it is small.

    Parameters
    ----------
    frame : (h, w, 3) array of uint8
    heat : (h, w) array, optional
        At least 0; its largest value has full colour. Without it the image is returned as it is.

    Examples
    --------
    >>> heat_image(np.zeros((40, 40, 3), np.uint8), np.eye(40)).size
    (160, 160)
    """
    from PIL import Image

    shown = np.asarray(frame, dtype=float)
    if heat is not None:
        level = np.asarray(heat, dtype=float)
        level = level / max(float(level.max()), 1e-12)
        grey = shown @ np.array([0.299, 0.587, 0.114])
        place = level * (len(_STOPS) - 1)
        colour = np.stack([np.interp(place, range(len(_STOPS)), stop) for stop in _STOPS.T], axis=-1)
        cover = np.sqrt(level)[..., None] * 0.8
        shown = grey[..., None] * (1 - cover) + colour * cover
    image = Image.fromarray(shown.round().clip(0, 255).astype(np.uint8))
    times = -(-_LEAST // min(image.size))
    if times <= 1:
        return image
    return image.resize((image.width * times, image.height * times), Image.Resampling.BICUBIC)
