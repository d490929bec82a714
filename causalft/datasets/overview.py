"""What a set was understood as: its format, splits, classes and their sizes, in plain numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from causalft.datasets.image_set import ImageSet
from causalft.imbalance import GROUPS, data_groups, imbalance_factor
from causalft.runs.notebook import ShownAsTable

__all__ = ["Overview", "overview"]


@dataclass(frozen=True)
class Overview(ShownAsTable):
    """A set in numbers.

    Attributes
    ----------
    name, format, location : str
    n_images, n_classes : int
    splits : dict of str to int
        Images in each split; empty if the set came unsplit.
    imbalance : float
        Largest over smallest class, of the training split where there is one.
    groups : dict of str to int
        Classes that are many (more than 100 training images), medium, and few (fewer than 20).
    class_counts : dict of str to (dict of str to int)
        Images of each class in each split; under ``all`` in a set without splits.
    factors : dict of str to int
        Images with each value of the semantic factor; empty if it is not known.
    notes : tuple of str
        What was left out, and what else should be known.
    """

    name: str
    format: str
    location: str
    n_images: int
    n_classes: int
    splits: dict[str, int]
    imbalance: float
    groups: dict[str, int]
    class_counts: dict[str, dict[str, int]]
    factors: dict[str, int]
    notes: tuple[str, ...]

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        splits = list(self.splits) or ["all"]
        rows = [
            [name, *(counts.get(split, 0) for split in splits)] for name, counts in self.class_counts.items()
        ]
        return ["class", *splits], rows

    def __repr__(self) -> str:
        return f"Overview({self.format} '{self.name}': {self.n_images} images of {self.n_classes} classes)"

    def by_size(self) -> list[tuple[str, int]]:
        """Class names with their (training) images, largest first."""
        part = "train" if "train" in self.splits else "all" if not self.splits else next(iter(self.splits))
        sizes = [(name, counts[part]) for name, counts in self.class_counts.items()]
        return sorted(sizes, key=lambda item: -item[1])

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON, with the five largest and smallest classes."""
        sizes = self.by_size()
        return {**asdict(self), "largest": dict(sizes[:5]), "smallest": dict(sizes[-5:])}


def overview(images: ImageSet) -> Overview:
    """Count what is in a set; no image is read.

    Parameters
    ----------
    images : ImageSet

    Returns
    -------
    Overview

    Examples
    --------
    >>> pixels = np.zeros((23, 2, 2, 3), np.uint8)
    >>> found = overview(ImageSet.from_arrays(pixels, [0] * 20 + [1] * 3, ["ant", "bee"]))
    >>> found.groups, found.by_size()
    ({'many': 0, 'medium': 1, 'few': 1}, [('ant', 20), ('bee', 3)])
    """
    parts = images.splits or {"all": np.arange(len(images))}
    counts = {
        part: np.bincount(images.labels[rows], minlength=images.n_classes) for part, rows in parts.items()
    }
    source = counts.get("train", next(iter(counts.values())))
    groups = data_groups(source)
    factors: dict[str, int] = {}
    if images.factors is not None:
        values, totals = np.unique(images.factors, return_counts=True)
        factors = {str(value): int(total) for value, total in zip(values, totals)}
    table = np.stack(list(counts.values()), axis=1).tolist()
    return Overview(
        name=images.name,
        format=images.format,
        location=images.location,
        n_images=len(images),
        n_classes=images.n_classes,
        splits={part: len(rows) for part, rows in images.splits.items()},
        imbalance=imbalance_factor(source),
        groups={group: int((groups == group).sum()) for group in GROUPS},
        class_counts={name: dict(zip(counts, row)) for name, row in zip(images.class_names, table)},
        factors=factors,
        notes=images.notes,
    )
