"""Labelled images: read from folders, zips and arrays, cut into splits, and drawn to a long tail."""

from __future__ import annotations

from causalft.datasets.decode import decode
from causalft.datasets.duplicates import DuplicateReport, duplicate_groups
from causalft.datasets.images import fit_square, read_image
from causalft.datasets.longtail import Splits, cut_splits, draw_longtail, pool_splits
from causalft.datasets.orders import Orders, choose_orders
from causalft.datasets.sources import ImageSet, open_images

__all__ = [
    "DuplicateReport",
    "ImageSet",
    "Orders",
    "Splits",
    "choose_orders",
    "cut_splits",
    "decode",
    "draw_longtail",
    "duplicate_groups",
    "fit_square",
    "open_images",
    "pool_splits",
    "read_image",
]
