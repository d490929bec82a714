"""A pool of images of a slow generator, drawn once; the sets of all replications are sampled from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from causalft.errors import CausalFTError
from synthetic.design import Design
from synthetic.gallery import (
    PictureSource,
    Request,
    Wanted,
    draw_accepted,
    fill,
    picture_seed,
    read_picture,
)

__all__ = ["PicturePool", "draw_pool"]

Kind = tuple[str, int]


@dataclass(eq=False)  # not frozen: the attributes of a PictureSource can be set
class Pooled:
    """A `PictureSource` that answers each request with an image of the pool, chosen by the request's seed."""

    name: str
    size: int
    parts: Mapping[str, tuple[str, str]]
    batch_size: int
    facts: Mapping[str, str]
    images: Mapping[Kind, np.ndarray]

    def draw(self, requests: Sequence[Request]) -> np.ndarray:
        """Return uint8 images (n, size, size, 3) in the order of the requests."""
        found = np.empty((len(requests), self.size, self.size, 3), np.uint8)
        for place, request in enumerate(requests):
            pool = self.images[request.look, request.part]
            found[place] = pool[request.seed % len(pool)]
        return found

    def provenance(self) -> dict[str, str]:
        """That of the generator, and the size of the pool."""
        return dict(self.facts)

    def prompt(self, request: Request) -> str | None:
        """None: one image answers many requests."""
        return None


@dataclass(frozen=True)
class PicturePool:
    """Images of every class and part, apart for training and testing; made by `draw_pool`.

    Attributes
    ----------
    name, size : of the generator.
    per_kind : images of each class and part in each half.
    train, test : sources for the training and for the test sets; they share no image.
    """

    name: str
    size: int
    per_kind: int
    train: Pooled
    test: Pooled

    def source(self, which: str) -> Pooled:
        """The source of a set, such as ``"A_train"``."""
        return self.test if which.endswith("test") else self.train

    def provenance(self) -> dict[str, str]:
        """That of the generator, and the size of the pool."""
        return self.train.provenance()


def draw_pool(
    source: PictureSource,
    design: Design,
    per_kind: int,
    seed: int,
    *,
    folder: Path | None = None,
    progress: bool | None = None,
) -> PicturePool:
    """Draw ``per_kind`` images of every class and part for training, and as many for testing.

    Sets made from the pool are samples with replacement. So a result holds for these images: intervals over
    replications contain the sampling of a set, the initial weights and the batches.

    Parameters
    ----------
    source : an open generator.
    design : its classes are drawn.
    per_kind : images of each class and part in each half.
    seed : of the images.
    folder : keeps the images, so that an interrupted call resumes; without it they are drawn into memory.
    progress : show a bar.

    Examples
    --------
    >>> from synthetic.designs import make_design
    >>> from synthetic.generate import Renderer
    >>> pool = draw_pool(Renderer(16), make_design("confounded", ["cat", "dog"]), 3, seed=0)
    >>> pool.source("B_test").draw([Request("cat", 0, seed=5)]).shape
    (1, 16, 16, 3)
    """
    kinds = [(half, look, part) for half in ("train", "test") for look in design.classes for part in (0, 1)]
    wanted = [
        Wanted(
            path=f"{half}/{look}/part{part}-{index:05d}.png",
            look=look,
            part=part,
            seed=partial(picture_seed, seed, "pool", half, look, part, index),
            facts={"split": half, "seed": str(seed)},
        )
        for index in range(per_kind)
        for half, look, part in kinds
    ]
    if folder is None:
        pixels = draw_accepted(source, wanted)
    else:
        fill(source, wanted, folder, progress=progress, label=f"drawing {len(wanted)} images")
        pixels = np.stack([_read(folder / each.path) for each in wanted])
    # (index, kind): the slices of one kind are its images
    of_kind = dict(
        zip(kinds, pixels.reshape(per_kind, len(kinds), *pixels.shape[1:]).swapaxes(0, 1), strict=True)
    )
    facts = {
        **source.provenance(),
        "pool": f"{per_kind} for training and {per_kind} for testing per class and part",
    }
    common: dict[str, Any] = {
        "name": source.name,
        "size": source.size,
        "parts": source.parts,
        "batch_size": source.batch_size,
        "facts": facts,
    }
    halves = {
        half: Pooled(
            **common,
            images={(look, part): images for (h, look, part), images in of_kind.items() if h == half},
        )
        for half in ("train", "test")
    }
    return PicturePool(source.name, source.size, per_kind, halves["train"], halves["test"])


def _read(path: Path) -> np.ndarray:
    found = read_picture(path)
    if found is None:
        raise CausalFTError(f"{path} has vanished while the pool was drawn; repeat the command")
    return found[0]
