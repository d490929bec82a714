"""Where in an image a tower looks: one record per kind of map. Imports no PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError
from causalft.runs.records import Records

if TYPE_CHECKING:
    from torch import Tensor

    from causalft.models.tuning.towers import Tower

__all__ = ["AUTO", "CAUTION", "LEAST_STEPS", "MAPS", "MapMethod", "MapTarget", "NoSuchMap", "check_map"]


@dataclass(frozen=True)
class MapTarget:
    """The model that a map explains, in parts.

    Attributes
    ----------
    name : str
        In messages.
    tower : causalft.models.tuning.towers.Tower
    head : callable
        Features (n, d) to logits (n, K).
    rest : callable, optional
        Images (n, 3, s, s) to logits (n, K) that are added: the zero-shot half of GLA-FT.
    """

    name: str
    tower: Tower
    head: Callable[[Tensor], Tensor]
    rest: Callable[[Tensor], Tensor] | None = None

    def logits(self, images: Tensor) -> Tensor:
        """Logits (n, K) of normalised images (n, 3, s, s), with a gradient to the images."""
        found = self.head(self.tower(images))
        return found if self.rest is None else found + self.rest(images)


@dataclass(frozen=True)
class MapMethod:
    """One kind of map.

    Attributes
    ----------
    name, help : str
        ``help`` completes "the map is ...".
    compute : callable
        ``compute(target, images (n, 3, s, s), classes (n,), baseline (n, 3, s, s)) -> (n, h, w)``: evidence for the
        class, at any resolution; only its positive part is shown.
    towers : str
        Kinds of image tower that have it.
    of_class : bool
        Whether the map depends on the class.
    order : int
    source : str
    library : str
        Package that computes it; "" for this project.
    """

    name: str
    help: str
    compute: Callable[..., Any]
    towers: str
    of_class: bool
    order: int
    source: str
    library: str = ""


class NoSuchMap(CausalFTError):
    """A tower does not have this kind of map."""


AUTO = "auto"
"""In place of a kind of map: the one with the lowest deletion curve on the images at hand."""

LEAST_STEPS = 2
"""Of the curves by which :data:`AUTO` chooses: the two ends alone are the same for every kind."""

CAUTION = (
    "Where the parts of images are known, no kind of map singles out the part that a stratum knows best; compare "
    "strata at one place, not places in one map."
)
"""What nobody should read into a map; shown wherever maps are."""

MAPS: Records[MapMethod] = Records("causalft.models.maps", MapMethod, "kind of map")
"""Kinds of map by name."""


def check_map(method: str, steps: int) -> None:
    """Refuse what names no kind of map, and :data:`AUTO` with too few steps for curves to compare.

    Raises
    ------
    CausalFTError

    Examples
    --------
    >>> check_map("rollout", steps=0)
    >>> check_map("auto", steps=10)
    """
    if method != AUTO:
        MAPS.get_or_refuse(method)
    elif 0 <= steps < LEAST_STEPS:
        raise CausalFTError(
            f"with {steps} step{'' if steps == 1 else 's'} no curve says which kind of map is truest; give "
            f"{LEAST_STEPS} or more, or a method: "
            f"{', '.join(MAPS)}"
        )
