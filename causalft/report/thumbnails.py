"""Small images for a page: a few kilobytes each, inside the page."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["SIDE", "thumbnail_uri"]

SIDE = 96
"""Longest side of a thumbnail in pixels."""


def thumbnail_uri(image: Image.Image, side: int = SIDE) -> str:
    """Shrink an upright RGB image until neither side is longer than ``side``; return a JPEG as a ``data:`` address.

    The image keeps its shape and is never enlarged. Nothing of its metadata (EXIF, colour profile) comes along.

    Parameters
    ----------
    image : PIL.Image.Image
        Mode RGB, as :meth:`causalft.datasets.ImageSet.image` gives it. It is left as it is.
    side : int
        In pixels.

    Examples
    --------
    >>> from PIL import Image
    >>> uri = thumbnail_uri(Image.new("RGB", (4000, 3000), "red"))
    >>> uri[:23], len(uri) < 2000
    ('data:image/jpeg;base64,', True)
    """
    small = image.copy()
    small.thumbnail((side, side))
    small.info.clear()
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=82, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
