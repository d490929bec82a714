"""Maps of the tuned strata where the parts are known: own parts, spread, and whether they are true to the models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.frame.looking import (
    FUSED,
    PARTS,
    Parts,
    by_part,
    favourites_of,
    parts_of,
    view_of,
)
from experiments.frame.means import mean_over_images

if TYPE_CHECKING:
    from causalft.analysis.maps import Curves
    from experiments.frame.lab import Lab

__all__ = ["LEAST_AREA", "deletion_on_validation", "map_metrics", "own_part_metrics"]

Floats = NDArray[np.float64]

LEAST_AREA = 0.02
"""Share of the image that each of the parts covers at least where a map is divided by areas."""


def map_metrics(lab: Lab, n: int, methods: Sequence[str], steps: int = 10) -> dict[str, Any] | None:
    """Measure several kinds of map of the same strata on the same test images.

    Parameters
    ----------
    lab : Lab
    n : int
        Test images; the curves take a quarter of them.
    methods : sequence of str
        Of :data:`causalft.models.maps.MAPS`.
    steps : int
        Of deletion and insertion.

    Returns
    -------
    dict or None
        By method: ``shares``, model to part to its share of the map; ``density``, the same over the part's share of the
        image, where every part covers :data:`LEAST_AREA`; ``own`` and ``own_density``, as :func:`own_part_metrics` of
        both; ``spread``, ``fused``, ``strata`` and their ``difference``, the share of the image that a map covers in
        effect; ``faithfulness``, model to insertion less deletion area, of the ``map`` less that of the ``centre`` and
        of a ``random`` map. None where parts are not known.
    """
    from causalft.analysis.maps import curves_of_maps, map_shares
    from causalft.runs.progress import steps as steps_of

    favourites = favourites_of(lab)
    if favourites is None:
        return None
    pixels, labels, masks = parts_of(lab, n)
    few = slice(None, None, 4)
    names = (*favourites, FUSED)
    shares: dict[str, list[Floats]] = {method: [] for method in methods}
    spread: dict[str, list[Floats]] = {method: [] for method in methods}
    curves: dict[str, list[Mapping[str, Mapping[str, Curves]]]] = {method: [] for method in methods}
    areas = np.empty(0)
    for seed in steps_of(range(lab.seeds), "maps of test images", lab.seeds):
        view = view_of(lab, seed)
        controls: Mapping[str, Mapping[str, Curves]] = {}
        for method in methods:
            found = map_shares(view, pixels, masks, labels, method)
            shares[method].append(found.shares[..., : len(PARTS)])
            spread[method].append(found.spread)
            areas = found.areas[:, : len(PARTS)]
            own = curves_of_maps(
                view, pixels[few], found.maps[:, few], labels[few], steps=steps, controls=not controls
            )
            controls = controls or own  # a random map and the centre are the same for every kind of map
            curves[method].append({name: {**controls[name], **own[name]} for name in names})
    visible = (areas >= LEAST_AREA).all(axis=1)
    found_of = {}
    for method in methods:
        parts = Parts(names, favourites, np.stack(shares[method], axis=1))
        dense = Parts(names, favourites, parts.values[:, :, visible] / areas[visible])
        wide = np.stack(spread[method], axis=1)  # (M + 1, S, n)
        found_of[method] = {
            "shares": by_part(parts),
            "density": by_part(dense),
            "own": own_part_metrics(parts),
            "own_density": own_part_metrics(dense),
            "spread": {
                "fused": mean_over_images(wide[-1]),
                "strata": mean_over_images(wide[:-1].mean(axis=0)),
                "difference": mean_over_images(wide[-1] - wide[:-1].mean(axis=0)),
            },
            "faithfulness": {
                name: {
                    control: mean_over_images(
                        np.stack(
                            [
                                of[name]["map"].faithfulness - of[name][control].faithfulness
                                for of in curves[method]
                            ]
                        )
                    )
                    for control in ("random", "centre")
                }
                for name in names
            },
        }
    return found_of


def own_part_metrics(found: Parts) -> dict[str, Any]:
    """Compare each stratum's own part with its other parts and with the other strata, paired over images.

    Parameters
    ----------
    found : Parts

    Returns
    -------
    dict
        ``less other parts``: the value on the own part less that of the other part where it is largest;
        ``less other strata``: less the mean of the other strata on the same part; ``contrast``: that difference on the
        own part less the same difference on the other part where it is largest, so that what all strata share (sizes
        and places of the parts) cancels. Each has ``strata``, name to ``{estimate, ci95, p}``, their ``mean``, and
        ``least``, that of the stratum with the lowest estimate: a claim about every stratum must hold there.

    The part where a value is largest is the one with the largest mean, which is hard on the claim.

    Examples
    --------
    >>> values = np.full((3, 1, 4, 3), 0.1) + 0.01 * np.arange(4)[:, None]
    >>> values[0, ..., 0] += 0.4
    >>> values[1, ..., 1] += 0.6
    >>> found = own_part_metrics(Parts(("a", "b", "fused"), {"a": 0, "b": 1}, values))
    >>> {name: round(of["estimate"], 2) for name, of in found["less other strata"]["strata"].items()}
    {'a': 0.4, 'b': 0.6}
    """
    of_strata = found.values[: len(found.favourites)]  # (M, S, n, P)
    others = (of_strata.sum(axis=0) - of_strata) / (len(of_strata) - 1)
    relative = of_strata - others
    differences: dict[str, list[Floats]] = {"less other parts": [], "less other strata": [], "contrast": []}
    for values, against, part in zip(of_strata, relative, found.favourites.values(), strict=True):
        differences["less other parts"].append(_less_the_largest(values, part))
        differences["less other strata"].append(against[..., part])
        differences["contrast"].append(_less_the_largest(against, part))
    metrics = {}
    for words, each in differences.items():
        strata = {name: mean_over_images(values) for name, values in zip(found.favourites, each, strict=True)}
        metrics[words] = {
            "strata": strata,
            "mean": mean_over_images(np.mean(each, axis=0)),
            "least": min(strata.values(), key=lambda value: value["estimate"]),
        }
    return metrics


def _less_the_largest(values: Floats, part: int) -> Floats:
    """(S, n, P) to (S, n): one part less the other one with the largest mean."""
    largest = max((p for p in range(len(PARTS)) if p != part), key=lambda p: values[..., p].mean())
    return values[..., part] - values[..., largest]


def deletion_on_validation(lab: Lab, n: int, methods: Sequence[str], steps: int = 10) -> dict[str, Any]:
    """Compare kinds of map by their deletion curves on validation images, for the class that the fusion predicts.

    Parameters
    ----------
    lab : Lab
    n : int
        Validation images, about as many of each class.
    methods : sequence of str
        Of :data:`causalft.models.maps.MAPS`.
    steps : int

    Returns
    -------
    dict
        ``deletion`` and ``insertion``, by method and for the controls ``centre`` and ``random``: the area, mean over
        the strata and the fusion; ``best``, the method with the lowest deletion area; ``more than the best``, by
        method: its deletion area less the best one's, paired over images.
    """
    from causalft.analysis.maps import curves_of_maps
    from causalft.runs.progress import steps as steps_of

    areas: dict[str, dict[str, list[Floats]]] = {"deletion": {}, "insertion": {}}
    for seed in steps_of(range(lab.seeds), "maps of validation images", lab.seeds):
        validation = lab.world.splits(seed).validation
        assert validation.pixels is not None
        frames = validation.pixels[np.arange(0, len(validation), max(1, len(validation) // n))]
        view = view_of(lab, seed)
        for number, method in enumerate(methods):
            look = view.look(frames, method)
            found = curves_of_maps(view, frames, look.maps, look.classes, steps=steps, controls=number == 0)
            for kind in next(iter(found.values())):
                name = method if kind == "map" else kind
                of_models = [curves[kind] for curves in found.values()]
                areas["deletion"].setdefault(name, []).append(
                    np.mean([c.deletion_auc for c in of_models], axis=0)
                )
                areas["insertion"].setdefault(name, []).append(
                    np.mean([c.insertion_auc for c in of_models], axis=0)
                )
    deletion = {name: np.stack(values) for name, values in areas["deletion"].items()}
    best = min(methods, key=lambda method: deletion[method].mean())
    return {
        "images": len(frames),
        "deletion": {name: mean_over_images(values) for name, values in deletion.items()},
        "insertion": {name: mean_over_images(np.stack(of)) for name, of in areas["insertion"].items()},
        "best": best,
        "more than the best": {
            name: mean_over_images(values - deletion[best])
            for name, values in deletion.items()
            if name != best
        },
    }
