"""Labelled images: read from any usual format, cut into splits, and drawn to a long tail.

The names below are imported when they are first used, so that an option can list the formats at no cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from causalft.runs.lazy import lazy_names

if TYPE_CHECKING:
    from causalft.data.duplicates import DuplicateReport, duplicate_groups
    from causalft.data.image_set import ImageSet, damaged_images, decode
    from causalft.data.images import fit_square, read_image
    from causalft.data.longtail import Orders, choose_orders, draw_longtail, order_against
    from causalft.data.opening import open_images
    from causalft.data.splits import Splits, cut_splits, pool_splits
    from causalft.data.summary import Overview, overview

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

_HOMES = {
    name: f"{__name__}.{module}"
    for module, names in {
        "duplicates": ("DuplicateReport", "duplicate_groups"),
        "image_set": ("ImageSet", "damaged_images", "decode"),
        "images": ("fit_square", "read_image"),
        "longtail": ("Orders", "choose_orders", "draw_longtail", "order_against"),
        "opening": ("open_images",),
        "splits": ("Splits", "cut_splits", "pool_splits"),
        "summary": ("Overview", "overview"),
    }.items()
    for name in names
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
