"""The views of images that a semi-supervised training shows: made for each batch, or encoded once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from causalft.errors import several
from causalft.methods.adaptation.tune import EpochProgress, tokens_of_batches
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.models.features.encoder import Crops, batches
from causalft.models.features.strong import strong_view

__all__ = ["STRONG_VIEWS", "LabelledDraw", "Views", "views_of"]

STRONG_VIEWS = 2
"""Strong views of each image that are encoded where the tower is frozen."""


class Views(Protocol):
    """Views of one set of images for one stratum; :meth:`features` makes features of what the others give."""

    def weak(self, rows: Tensor, generator: torch.Generator) -> Tensor: ...
    def strong(self, rows: Tensor, generator: torch.Generator) -> Tensor: ...
    def features(self, shown: Tensor) -> Tensor: ...


class _Live:
    """Augmented anew each time."""

    def __init__(
        self,
        member: TunedStratum,
        crops: Crops,
        augmentation: str,
        magnitude: int,
        progress: EpochProgress,
        n_together: int,
    ) -> None:
        self.member, self.crops, self.magnitude = member, crops, magnitude
        self.weak = tokens_of_batches(member, crops, augmentation, progress, n_together=n_together)

    def strong(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        pixels = strong_view(self.crops[rows], generator, magnitude=self.magnitude)
        return self.member.tokens(self.member.stratum.normalise(pixels))

    def features(self, shown: Tensor) -> Tensor:
        return self.member.features(shown)


class _Encoded:
    """Features of the image as it is, and of a few strong views: no image is needed after them."""

    def __init__(
        self, member: TunedStratum, crops: Crops, magnitude: int, seed: int, n_strong: int, label: str
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        found: list[list[Tensor]] = [[] for _ in range(1 + n_strong)]
        with torch.inference_mode():
            for _, pixels in batches(crops, 256, label=label, progress=None):
                for number, kept in enumerate(found):
                    shown = strong_view(pixels, generator, magnitude=magnitude) if number else pixels
                    kept.append(member.features(member.tokens(member.stratum.normalise(shown))))
        # Cloned outside of inference mode, so that autograd may save them.
        self.views = [torch.cat(parts).clone() for parts in found]

    def weak(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        return self.views[0][rows.to(self.views[0].device)]

    def strong(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        number = 1 + int(torch.randint(len(self.views) - 1, (), generator=generator))
        return self.views[number][rows.to(self.views[0].device)]

    def features(self, shown: Tensor) -> Tensor:
        return shown


def views_of(
    member: TunedStratum,
    crops: Crops,
    augmentation: str,
    *,
    progress: EpochProgress,
    magnitude: int = 10,
    seed: int = 0,
    n_strong: int = STRONG_VIEWS,
    n_together: int = 1,
) -> Views:
    """Return the views of a set of images for a stratum in training.

    Where nothing of the tower is trained (``linear-probe``), features are encoded once: of the image as it is, and of
    ``n_strong`` strong views, 0 for labelled images. The augmentation is then not used.

    Parameters
    ----------
    member : TunedStratum
    crops : Crops
    augmentation : str
        Of the weak view.
    progress : EpochProgress
    magnitude : int
        Of the strong view (:func:`causalft.models.features.strong.strong_view`).
    seed : int
        Of the strong views that are encoded once.
    n_strong : int
    n_together : int
        Sets and strata that share the room for tokens.
    """
    if not member.tuned.parameters():
        label = (
            f"encoding {several(crops, 'image', 'images')} in {1 + n_strong} views for {member.stratum.name}"
        )
        return _Encoded(member, crops, magnitude, seed, n_strong, label)
    return _Live(member, crops, augmentation, magnitude, progress, n_together)


@dataclass(frozen=True, eq=False)
class LabelledDraw:
    """Labelled images of a step: of the labelled set, then unlabelled ones that have joined it.

    Attributes
    ----------
    labelled, joined : (a,), (b,) Tensors of int
        Rows of the labelled and of the unlabelled images.
    labels : (a + b,) Tensor of int
    """

    labelled: Tensor
    joined: Tensor
    labels: Tensor

    @classmethod
    def draw(cls, n: int, labels: Tensor, joined: Tensor | None, generator: torch.Generator) -> LabelledDraw:
        """Draw ``n`` images with replacement, each as likely as any other.

        Parameters
        ----------
        n : int
        labels : (n_labelled,) Tensor of int
        joined : (n_unlabelled,) Tensor of int, optional
            Labels of the unlabelled images that have joined, -1 for the others.
        generator : torch.Generator

        Examples
        --------
        >>> generator = torch.Generator().manual_seed(0)
        >>> found = LabelledDraw.draw(5, torch.tensor([7]), torch.tensor([-1, 8]), generator)
        >>> found.labelled.tolist(), found.joined.tolist(), found.labels.tolist()
        ([0, 0], [1, 1, 1], [7, 7, 8, 8, 8])
        """
        places = torch.empty(0, dtype=torch.int64) if joined is None else (joined >= 0).nonzero()[:, 0].cpu()
        drawn = torch.randint(len(labels) + len(places), (n,), generator=generator)
        own = drawn < len(labels)
        rows, others = drawn[own], places[drawn[~own] - len(labels)]
        found = labels[rows] if joined is None else torch.cat([labels[rows], joined.cpu()[others]])
        return cls(rows, others, found)

    def weak(self, of_labelled: Views, of_unlabelled: Views, generator: torch.Generator) -> Tensor:
        """Weak views of all, in this order."""
        parts = ((of_labelled, self.labelled), (of_unlabelled, self.joined))
        return torch.cat([views.weak(rows, generator) for views, rows in parts if len(rows)])
