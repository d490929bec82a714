"""The square or squares that a stratum is shown of a picture at test time: the centre, five crops, or ten."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from causalft.data.images import end_pieces, middle_of_strip
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

    def five(image: Image.Image) -> list[NDArray[np.uint8]]:
        wide = F.resize(image.convert("RGB"), resized_side(size), interpolation=interpolation)
        return [np.asarray(square, dtype=np.uint8) for square in F.five_crop(wide, [size, size])]

    def crops(image: Image.Image) -> NDArray[np.uint8]:
        ends = end_pieces(image)
        if ends is not None:
            return np.stack(_of_strip(image, five(ends[0]), five(ends[1]), five, n_views(view)))
        wide = F.resize(image.convert("RGB"), resized_side(size), interpolation=interpolation)
        return np.stack([np.asarray(square, dtype=np.uint8) for square in cut(wide, [size, size])])

    return crops


Squares = list[NDArray[np.uint8]]


def _of_strip(
    image: Image.Image, first: Squares, last: Squares, five: Callable[[Image.Image], Squares], n_squares: int
) -> Squares:
    """The corners of a strip from its ends, the centre from its middle; the rest of it is never scaled."""
    upright = image.height > image.width
    corners = [first[0], first[1] if upright else last[1], last[2] if upright else first[2], last[3]]
    squares = [*corners, five(middle_of_strip(image))[4]]
    if n_squares == 10:  # a mirrored image has its right corners on the left
        squares += [squares[k][:, ::-1] for k in (1, 0, 3, 2, 4)]
    return squares
