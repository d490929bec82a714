"""Images whose labels are hidden: nothing that trains can read them; reports of known data may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.data.image_set import ImageSet

__all__ = ["Unlabelled"]


@dataclass(frozen=True, repr=False)
class Unlabelled:
    """Images without labels.

    Attributes
    ----------
    images : ImageSet
        n images with the single class ``unlabelled``.
    hidden : (n,) array of int64, optional
        True class numbers, -1 for a class that the labelled set lacks; None if not known. No training reads them: they
        serve reports on built-in data, on draws from labelled sets and in experiments.
    where : str
        What they were opened from, for messages.
    left_out : dict of str to int
        How many were left out because they are also in another part of the data, by part.
    notes : tuple of str
        Sentences about the set as it was opened.
    """

    images: ImageSet
    hidden: NDArray[np.int64] | None = None
    where: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, images: ImageSet, class_names: Sequence[str] | None = None, where: str = "", known: bool = True
    ) -> Unlabelled:
        """Hide the labels of a set.

        Parameters
        ----------
        images : ImageSet
        class_names : sequence of K str, optional
            Classes that the hidden labels count; by default those of the set. Classes are matched by name.
        where : str
        known : bool
            Keep the labels as hidden ones.

        Examples
        --------
        >>> images = ImageSet.from_arrays(np.zeros((3, 4, 4, 3), np.uint8), [0, 1, 1], ["bee", "cow"])
        >>> found = Unlabelled.of(images, ["ant", "bee"])
        >>> found, found.hidden.tolist(), found.images.class_names
        (Unlabelled(3 images, hidden labels known), [1, -1, -1], ('unlabelled',))
        """
        place = {name: k for k, name in enumerate(images.class_names if class_names is None else class_names)}
        number = np.array([place.get(name, -1) for name in images.class_names], dtype=np.int64)
        bare = images.subset(np.arange(len(images)))
        bare.labels, bare.class_names = np.zeros(len(images), dtype=np.int64), ("unlabelled",)
        return cls(bare, number[images.labels] if known else None, where or images.location, {}, images.notes)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"Unlabelled({len(self):,} images{'' if self.hidden is None else ', hidden labels known'})"

    @property
    def fingerprint(self) -> str:
        """Of the images; labels do not enter."""
        return self.images.fingerprint

    def hidden_counts(self, n_classes: int) -> NDArray[np.int64] | None:
        """(K,) images of each class of the labelled set; None if the labels are not known."""
        if self.hidden is None:
            return None
        return np.bincount(self.hidden[self.hidden >= 0], minlength=n_classes).astype(np.int64)

    def subset(self, rows: ArrayLike) -> Unlabelled:
        """Return the images at ``rows``, (m,) int in that order or (n,) bool."""
        chosen = np.asarray(rows)
        hidden = None if self.hidden is None else self.hidden[chosen]
        return replace(self, images=self.images.subset(chosen), hidden=hidden)

    def at_most(self, n: int, seed: int = 0) -> Unlabelled:
        """Return ``n`` of the images, drawn at random and in their order; all, if there are no more."""
        if len(self) <= n:
            return self
        return self.subset(np.sort(np.random.default_rng(seed).permutation(len(self))[:n]))
