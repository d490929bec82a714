"""The square or squares that a stratum is shown of a picture at test time: the centre, five crops, or ten."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from causalft.strata.stratum import Stratum
from causalft.strata.test_time_views import TEST_VIEWS, n_views

__all__ = ["TEST_VIEWS", "n_views", "resized_side", "view_cut"]

_MARGIN = 24 / 224


def resized_side(size: int) -> int:
    """Return the shorter side, in pixels, of the picture that several squares of side ``size`` are cut from.

    Examples
    --------
    >>> resized_side(224), resized_side(16)
    (248, 18)
    """
    return size + round(_MARGIN * size)


def view_cut(stratum: Stratum, view: str = "centre") -> Callable[[Image.Image], NDArray[np.uint8]]:
    """Return the function from a picture to what the stratum sees of it.

    ``five-crop`` is the test-time ensembling of LIFT (Shi et al., ICML 2024): the shorter side is resized to
    s + 24 s / 224, then the four corners and the centre of size s are cut; ``ten-crop`` adds their mirror images.

    Parameters
    ----------
    stratum : Stratum
    view : {"centre", "five-crop", "ten-crop"}

    Returns
    -------
    callable
        PIL image in; uint8 array of shape (s, s, 3) for ``centre``, else (n_views, s, s, 3), out.

    Raises
    ------
    CausalFTError
        For an unknown view.
    """
    if n_views(view) == 1:
        return stratum.crop
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    size = stratum.image_size
    interpolation = InterpolationMode(stratum.interpolation)
    cut = F.five_crop if view == "five-crop" else F.ten_crop

    def crops(image: Image.Image) -> NDArray[np.uint8]:
        wide = F.resize(image.convert("RGB"), resized_side(size), interpolation=interpolation)
        return np.stack([np.asarray(square, dtype=np.uint8) for square in cut(wide, [size, size])])

    return crops
