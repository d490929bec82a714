"""The kind of map that is truest to a model on given images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.maps.faithfulness import Curves
from causalft.analysis.maps.measure import curves_of_maps
from causalft.errors import CausalFTError
from causalft.models.maps import LEAST_STEPS, MAPS, NoSuchMap

if TYPE_CHECKING:
    from causalft.methods.estimators.maps import FusedView, Look

__all__ = ["TruestMap", "truest_map"]


@dataclass(frozen=True)
class TruestMap:
    """The kind of map with the lowest deletion area.

    Attributes
    ----------
    method : str
        One of :data:`causalft.models.maps.MAPS`.
    look : causalft.methods.estimators.maps.Look
        The maps of that kind.
    curves : mapping
        Their curves, as :func:`causalft.analysis.maps.curves_of_maps` gives them.
    deletion : dict of str to float
        Deletion area by kind, in [0, 1]: mean over the strata, the fusion and the images. Kinds that a tower does not
        have are left out.
    """

    method: str
    look: Look
    curves: Mapping[str, Mapping[str, Curves]]
    deletion: dict[str, float]


def truest_map(
    view: FusedView,
    frames: NDArray[np.uint8],
    classes: ArrayLike | None = None,
    *,
    methods: Sequence[str] | None = None,
    steps: int = 10,
    fill: str = "mean",
    controls: bool = True,
) -> TruestMap:
    """Compute every kind of map and keep the one with the lowest deletion area on these images.

    A kind is kept for all images and models, so that maps can be compared. Where classes are given, only kinds that
    depend on the class are computed: the map of another class would be the same. The area of the kept one is the lowest
    of several measured on the same images, and so a little optimistic when they are few.

    Parameters
    ----------
    view : causalft.methods.estimators.maps.FusedView
    frames : (n, S, S, 3) array of uint8
    classes : (n,) array of int in [0, K), optional
        As in :meth:`causalft.methods.estimators.maps.FusedView.look`.
    methods : sequence of str, optional
        Of :data:`causalft.models.maps.MAPS`; all by default.
    steps : int
        Of the curves, 2 or more: with one, all kinds have the same two ends.
    fill, controls
        As in :func:`causalft.analysis.maps.curves_of_maps`.

    Raises
    ------
    NoSuchMap
        If the towers have none of these kinds in common.
    CausalFTError
        If there is no image, or fewer than two steps.

    Examples
    --------
    >>> found = truest_map(view, frames)  # doctest: +SKIP
    >>> found.method, round(found.deletion["rollout"] - found.deletion[found.method], 3)  # doctest: +SKIP
    ('integrated-gradients', 0.033)
    """
    if not len(frames):
        raise CausalFTError("no kind of map can be chosen without an image")
    if steps < LEAST_STEPS:
        raise CausalFTError(f"steps is {steps}; a choice between kinds of map needs {LEAST_STEPS} or more")
    asked = [name for name in methods or MAPS if classes is None or MAPS[name].of_class]
    best: tuple[str, Look, Mapping[str, dict[str, Curves]]] | None = None
    deletion: dict[str, float] = {}
    of_controls: dict[str, dict[str, Curves]] = {}
    for method in asked:
        try:
            look = view.look(frames, method, classes)
        except NoSuchMap:
            continue
        missing = controls and not of_controls
        curves = curves_of_maps(
            view, frames, look.maps, look.classes, steps=steps, fill=fill, controls=missing
        )
        if missing:  # they are the same for every kind
            of_controls = {
                name: {kind: curve for kind, curve in of.items() if kind != "map"}
                for name, of in curves.items()
            }
        deletion[method] = float(np.mean([of["map"].deletion_auc for of in curves.values()]))
        if best is None or deletion[method] < deletion[best[0]]:
            best = method, look, curves
    if best is None:
        raise NoSuchMap(f"the image towers have no kind of map in common of {', '.join(asked)}")
    method, look, curves = best
    merged = {name: {"map": of["map"], **of_controls.get(name, {})} for name, of in curves.items()}
    return TruestMap(method, look, merged, deletion)
