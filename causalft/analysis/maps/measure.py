"""What each stratum looks at, and the fusion: all numbers of maps, per image, with paired comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.maps.faithfulness import Curves, centre_maps, deletion_insertion, random_maps
from causalft.analysis.maps.shares import entropy, mask_areas, mask_shares, overlap, spread
from causalft.runs.intervals import mean_interval

if TYPE_CHECKING:
    from causalft.methods.estimators.maps import FusedView

__all__ = ["FUSED", "MapShares", "curves_of_maps", "map_shares"]

Floats = NDArray[np.float64]

FUSED = "fused"
"""Name of the fusion beside those of the strata."""


@dataclass(frozen=True)
class MapShares:
    """Maps of M strata and their fusion (last), in numbers, per image.

    Attributes
    ----------
    names : tuple of M + 1 str
        The strata, then ``fused``.
    maps : (M + 1, n, S, S) array
        Each sums to 1.
    shares : (M + 1, n, P + 1) array
        Share of the map on each part, and on the background last.
    areas : (n, P + 1) array
        Share of the image that each part covers: the shares of a map that knows nothing.
    """

    names: tuple[str, ...]
    maps: Floats = field(repr=False)
    shares: Floats = field(repr=False)
    areas: Floats = field(repr=False)

    @property
    def entropy(self) -> Floats:
        """In nats, (M + 1, n)."""
        return entropy(self.maps)

    @property
    def spread(self) -> Floats:
        """Share of the image that each map covers in effect, (M + 1, n)."""
        return spread(self.maps)

    def overlap(self, first: str, second: str) -> Floats:
        """Overlap of the maps of two of :attr:`names`, (n,): 0 if disjoint, 1 if equal."""
        return overlap(self.maps[self.names.index(first)], self.maps[self.names.index(second)])

    def contrast(self, name: str, part: int) -> tuple[float, float, float]:
        """Share of one stratum on a part minus the mean of the other strata, paired over images.

        Parts differ in size and place, which every stratum sees alike; the difference between strata does not depend on
        them.

        Returns
        -------
        mean, low, high : floats
            With a 95 % interval over images.
        """
        own = self.names.index(name)
        others = [number for number in range(len(self.names) - 1) if number != own]
        return mean_interval(self.shares[own, :, part] - self.shares[others, :, part].mean(axis=0))


def map_shares(
    view: FusedView, frames: NDArray[np.uint8], masks: ArrayLike, classes: ArrayLike, method: str
) -> MapShares:
    """Measure on which parts of images each stratum and the fusion look.

    Parameters
    ----------
    view : causalft.methods.estimators.maps.FusedView
        As :func:`causalft.methods.estimators.maps.fused_view` makes it of a fitted model.
    frames : (n, S, S, 3) array of uint8
    masks : (n, P, S, S) array in [0, 1]
        As :func:`causalft.data.creatures.creatures_masks` gives them.
    classes : (n,) array of int in [0, K)
        The class whose evidence is shown: the labels, for one.
    method : str
        One of :data:`causalft.models.maps.MAPS`.

    Raises
    ------
    CausalFTError
        As :meth:`causalft.methods.estimators.maps.FusedView.look`; or if masks and frames differ in shape.
    """
    maps = view.look(frames, method, classes).maps
    return MapShares((*view.strata, FUSED), maps, mask_shares(maps, masks), mask_areas(masks))


def curves_of_maps(
    view: FusedView,
    frames: NDArray[np.uint8],
    maps: Floats,
    classes: ArrayLike,
    *,
    steps: int = 20,
    fill: str = "mean",
    controls: bool = True,
    seed: int = 0,
) -> Mapping[str, dict[str, Curves]]:
    """Deletion and insertion curves of every stratum and of the fusion, beside those of two controls.

    Parameters
    ----------
    view : causalft.methods.estimators.maps.FusedView
    frames : (n, S, S, 3) array of uint8
    maps : (M + 1, n, S, S) array
        As :attr:`MapShares.maps`.
    classes : (n,) array of int in [0, K)
    steps, fill
        As in :func:`causalft.analysis.maps.deletion_insertion`.
    controls : bool
        Whether to measure those of a random map and of the centre too; they do not depend on ``maps``.
    seed : int
        Of the random maps.

    Returns
    -------
    mapping
        Name of the stratum, or ``fused``, to the curves of its ``map``, and of the controls ``random`` and ``centre``.
    """
    size = (frames.shape[1], frames.shape[2])
    orders: dict[str, NDArray[np.float64]] = {
        "random": random_maps(len(frames), size, seed=seed),
        "centre": centre_maps(len(frames), size),
    }
    found: dict[str, dict[str, Curves]] = {}
    for name, own in zip((*view.strata, FUSED), maps, strict=True):
        score = view.probabilities if name == FUSED else view.strata[name].probabilities
        found[name] = {
            kind: deletion_insertion(score, frames, order, classes, steps=steps, fill=fill)
            for kind, order in {"map": own, **(orders if controls else {})}.items()
        }
    return found
