"""Opens whoever draws the pictures of the A/B world: the renderer, or a Stable Diffusion pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from causalft.errors import CausalFTError, nearest
from causalft.runs import limits
from synthetic.objects import N_NUISANCE, PARTS, render
from synthetic.request import PictureSource as PictureSource
from synthetic.request import Request as Request
from synthetic.request import picture_seed as picture_seed

__all__ = ["GENERATORS", "Renderer", "open_source"]

GENERATORS = {
    "renderer": "signed-distance drawings of the twelve close-ups, thousands a second",
    "stable-diffusion": "a text-to-image pipeline of diffusers, prompted with class and part",
}
"""Name of each generator and what it is."""


@cache
def _versions() -> dict[str, str]:
    try:
        own = version("causalft")
    except PackageNotFoundError:  # used from a source folder that is not installed
        own = "unknown"
    return {"causalft": own, "torch": torch.__version__, "numpy": version("numpy")}


class Renderer:
    """Draws with `synthetic.objects.render`; a picture's nuisance numbers come from its seed.

    Parameters
    ----------
    size : side of the pictures in pixels, at least 8.

    Examples
    --------
    >>> Renderer(size=16).draw([Request("cat", 0, seed=5)]).shape
    (1, 16, 16, 3)
    """

    name = "renderer"
    parts: Mapping[str, tuple[str, str]] = PARTS
    batch_size = 256

    def __init__(self, size: int = 48) -> None:
        limits.PICTURE_SIZE.check(size, "size")
        self.size = int(size)

    def draw(self, requests: Sequence[Request]) -> np.ndarray:
        """Return uint8 pictures (n, size, size, 3) in the order of the requests."""
        pictures = np.empty((len(requests), self.size, self.size, 3), np.uint8)
        nuisance = np.empty((len(requests), N_NUISANCE))
        for row, request in zip(nuisance, requests, strict=True):
            row[:] = np.random.default_rng(request.seed).random(N_NUISANCE)
        kinds = [(request.look, request.part) for request in requests]
        for look, part in sorted(set(kinds)):
            mine = [number for number, kind in enumerate(kinds) if kind == (look, part)]
            pictures[mine] = render(look, part, nuisance[mine], self.size)
        return pictures

    def provenance(self) -> dict[str, str]:
        """Size and versions."""
        return {"size": str(self.size), **_versions()}

    def prompt(self, request: Request) -> str | None:
        """None: the renderer reads no text."""
        return None


def open_source(name: str, **options: Any) -> PictureSource:
    """Open a generator.

    Parameters
    ----------
    name : ``"renderer"`` or ``"stable-diffusion"``.
    options : of `Renderer` or of `synthetic.open_diffusion.open_diffusion`.

    Raises
    ------
    CausalFTError
        For an unknown name, an option of the wrong kind, or a model that is not there.

    Examples
    --------
    >>> open_source("renderer", size=24).size
    24
    """
    if name not in GENERATORS:
        raise CausalFTError(f"no generator {name!r}; {nearest(name, GENERATORS)}")
    if name == "renderer":
        unknown = sorted(set(options) - {"size"})
        if unknown:
            raise CausalFTError(
                f"{unknown[0]!r} is an option of stable-diffusion; the renderer has size only"
            )
        return Renderer(**options)
    from synthetic.open_diffusion import open_diffusion

    return open_diffusion(**options)
