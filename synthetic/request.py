"""What is asked of a generator: one picture with its class, its part and its own seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

__all__ = ["PictureSource", "Request", "picture_seed"]


@dataclass(frozen=True)
class Request:
    """One picture of the A/B world.

    Attributes
    ----------
    look : class that is drawn.
    part : 0 or 1, which of the class's two parts dominates.
    seed : 63-bit, of `picture_seed`: the same request gives the same picture, alone or among others.
    """

    look: str
    part: int
    seed: int


@runtime_checkable
class PictureSource(Protocol):
    """Who draws the pictures; opened by `synthetic.pictures.open_source`.

    Attributes
    ----------
    name : ``"renderer"`` or ``"stable-diffusion"``.
    size : side of the pictures in pixels.
    parts : class name -> names of its parts under C=0 and C=1.
    batch_size : pictures that are best asked for at once.
    """

    name: str
    size: int
    parts: Mapping[str, tuple[str, str]]
    batch_size: int

    def draw(self, requests: Sequence[Request]) -> np.ndarray:
        """Return uint8 pictures (n, size, size, 3) in the order of the requests."""
        ...

    def provenance(self) -> dict[str, str]:
        """Facts that hold for all pictures: model, settings, versions. ``batch_size`` is the one of the last draw."""
        ...

    def prompt(self, request: Request) -> str | None:
        """The text that the picture is made from; None where there is none."""
        ...


def picture_seed(
    seed: int, design: str, split: str, label: str, factor: int, index: int, attempt: int = 0
) -> int:
    """The seed of one picture: a stable hash, so that any picture can be made again without the others.

    Parameters
    ----------
    seed : of the whole set.
    design, split, label : names of the design, of the image set and of the class.
    factor : 0 or 1.
    index : number of the picture among those of its class and factor in the set, from 0.
    attempt : 0, or how many pictures were rejected in its place before.

    Returns
    -------
    integer from 0 to 2^63 - 1.

    Examples
    --------
    >>> picture_seed(0, "paper", "A_train", "cat", 1, 0) == picture_seed(0, "paper", "A_train", "cat", 1, 0)
    True
    >>> picture_seed(0, "paper", "A_train", "cat", 1, 0) == picture_seed(0, "paper", "A_train", "cat", 1, 1)
    False
    """
    words = [str(int(seed)), design, split, label, str(int(factor)), str(int(index))]
    if attempt:
        words.append(str(int(attempt)))
    digest = hashlib.blake2b("\0".join(words).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
