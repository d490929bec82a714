"""Labelled images: read from folders, zips and arrays, cut into splits, and drawn to a long tail."""

from __future__ import annotations

from causalft.datasets.decode import decode
from causalft.datasets.images import fit_square, read_image
from causalft.datasets.sources import ImageSet, open_images

__all__ = ["ImageSet", "decode", "fit_square", "open_images", "read_image"]
