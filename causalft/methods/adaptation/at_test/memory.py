"""A class-balanced memory of the images of a stream that were predicted most confidently."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["ConfidentMemory", "images_per_class"]

_FEWEST, _MOST, _IMAGES = 4, 16, 4096


def images_per_class(n_classes: int) -> int:
    """Images kept per class: 16, of many classes fewer (4,096 in all), and never below 4.

    Examples
    --------
    >>> images_per_class(10), images_per_class(400), images_per_class(8000)
    (16, 10, 4)
    """
    return max(_FEWEST, min(_MOST, _IMAGES // n_classes))


class ConfidentMemory:
    """Of each predicted class the images with the highest confidence.

    Parameters
    ----------
    per_class : int
        Images kept per class.
    seed : int
        Of the samples.

    Examples
    --------
    >>> memory = ConfidentMemory(per_class=2)
    >>> pixels = torch.arange(4).reshape(4, 1)
    >>> memory.add(pixels, classes=torch.tensor([0, 0, 0, 7]), confidence=torch.tensor([0.5, 0.9, 0.7, 0.2]))
    >>> [(k, [image.item() for image in images]) for k, images in memory.images.items()]
    [(0, [1, 2]), (7, [3])]
    """

    def __init__(self, per_class: int, seed: int = 0) -> None:
        self.per_class = per_class
        self._kept: dict[int, list[tuple[float, Tensor]]] = {}
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def images(self) -> dict[int, list[Tensor]]:
        """Kept images by class, the most confident first."""
        return {k: [image for _, image in kept] for k, kept in sorted(self._kept.items())}

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def add(self, pixels: Tensor, classes: Tensor, confidence: Tensor) -> None:
        """Offer images (n, ...) with their predicted classes (n,) and probabilities (n,).

        Of two equally confident images the earlier one stays.
        """
        for image, k, p in zip(pixels, classes.tolist(), confidence.tolist(), strict=True):
            kept = self._kept.setdefault(k, [])
            if len(kept) == self.per_class and p <= kept[-1][0]:
                continue
            kept.append((p, image.clone()))
            kept.sort(key=lambda each: -each[0])
            del kept[self.per_class :]

    def sample(self, n: int) -> Tensor | None:
        """Draw at most n images, without replacement and every class alike as far as it has images; None if empty."""
        if not self._kept:
            return None
        rounds = []  # in each, the classes with images left give one, in random order
        shuffled = {k: self._order(len(kept)) for k, kept in sorted(self._kept.items())}
        for turn in range(self.per_class):
            there = [k for k, order in shuffled.items() if turn < len(order)]
            rounds += [self._kept[there[i]][shuffled[there[i]][turn]][1] for i in self._order(len(there))]
        return torch.stack(rounds[:n])

    def _order(self, n: int) -> list[int]:
        return torch.randperm(n, generator=self._generator).tolist()
