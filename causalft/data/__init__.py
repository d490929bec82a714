"""Labelled images: read from any usual format, cut into splits, and drawn to a long tail."""

from __future__ import annotations

from causalft.data.decode import damaged_images, decode
from causalft.data.duplicates import DuplicateReport, duplicate_groups
from causalft.data.images import fit_square, read_image
from causalft.data.longtail import draw_longtail
from causalft.data.orders import Orders, choose_orders, order_against
from causalft.data.overview import Overview, overview
from causalft.data.sources import ImageSet, open_images
from causalft.data.splits import Splits, cut_splits, pool_splits

__all__ = [
    "DuplicateReport",
    "ImageSet",
    "Orders",
    "Overview",
    "Splits",
    "choose_orders",
    "cut_splits",
    "damaged_images",
    "decode",
    "draw_longtail",
    "duplicate_groups",
    "fit_square",
    "open_images",
    "order_against",
    "overview",
    "pool_splits",
    "read_image",
]
