"""What strata look at where the parts are known: confidence with a part hidden, shares of maps, favourite parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalft.runs.limits import CREATURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalft.methods.estimators.maps import FusedView
    from experiments.frame.lab import Lab

__all__ = [
    "FUSED",
    "MAP",
    "Parts",
    "draw_parts",
    "favourites_of",
    "hidden_losses",
    "loss_metrics",
    "parts_of",
    "view_of",
]

Floats = NDArray[np.float64]

PARTS = ("head", "body", "tail")
FUSED = "fused"
MAP = "integrated-gradients"
"""Kind of map by which claims are judged: the lowest deletion area on validation images (``fig4``)."""


@dataclass(frozen=True)
class Parts:
    """Numbers of each model by part.

    Attributes
    ----------
    names : tuple of str
        The strata, then ``fused``.
    favourites : dict of str to int
        Stratum to the part that it saw most in pre-training.
    values : (M + 1, S, n, P) array
        By model, seed, image and part.
    """

    names: tuple[str, ...]
    favourites: Mapping[str, int]
    values: Floats


def favourites_of(lab: Lab) -> dict[str, int] | None:
    """Index of each stratum's favourite part, in order head, body, tail; None where parts are not known."""
    if lab.world.settings.data != CREATURES:
        return None
    found = {}
    for name in lab.world.roles.strata:
        favourite = lab.world.zoo.card(name).view.get("favourite")  # type: ignore[attr-defined]
        if favourite not in PARTS:
            return None
        found[name] = PARTS.index(favourite)
    return found


def parts_of(lab: Lab, n: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32]]:
    """About n test images, as many of each class: pixels, labels and masks (n, 3, s, s)."""
    from causalft.data.creatures import creatures_masks

    test = lab.world.splits(0).test
    rows = np.arange(0, len(test), max(1, len(test) // n))
    assert test.pixels is not None
    return test.pixels[rows], test.labels[rows], creatures_masks("test", rows)


def view_of(lab: Lab, seed: int) -> FusedView:
    """The strata tuned with LA, and their mixture with P(c) = 1 / M."""
    from causalft.methods.estimators.maps import fused_view
    from causalft.methods.estimators.mixing import Mixing
    from experiments.frame.members import Member

    strata = lab.world.roles.strata
    tuned = {name: lab.tuned(Member(name), seed)[1] for name in strata}
    mixing = Mixing("mixture", (1 / len(strata),) * len(strata), 1.0)
    return fused_view(tuned, mixing, lab.world.splits(seed).test.class_names)


def hidden_losses(lab: Lab, n: int) -> Parts | None:
    """Confidence in the true class with nothing hidden less that with each part hidden; None without known parts."""
    from causalft.analysis.maps import confidence_when_hidden

    favourites = favourites_of(lab)
    if favourites is None:
        return None
    pixels, labels, masks = parts_of(lab, n)
    found = []
    for seed in range(lab.seeds):
        view = view_of(lab, seed)
        scores = [*(each.probabilities for each in view.strata.values()), view.probabilities]
        confidence = np.stack([confidence_when_hidden(s, pixels, masks, labels) for s in scores])
        found.append(confidence[..., :1] - confidence[..., 1:])
    return Parts((*favourites, FUSED), favourites, np.stack(found, axis=1))


def loss_metrics(found: Parts) -> dict[str, Any]:
    """Losses of confidence with intervals, and the favourite part against other parts, strata and the fusion."""
    losses = by_part(found)
    favourite = favourite_metrics(found)
    rows = [
        [name, PARTS[found.favourites[name]] if name in found.favourites else "none"]
        + [_points(losses[name][part]) for part in PARTS]
        for name in found.names
    ]
    caption = "Fall of the probability of the true class, in points, 95 % intervals over images and seeds."
    words = {
        "less the worst other part": "that of the other part that matters most",
        "less fused": "that of the fusion",
    }
    words["less other strata"] = "that of the other strata with the same part hidden"
    return {
        "losses": losses,
        "favourite": favourite,
        "table": {"columns": ["model", "favourite", *PARTS], "rows": rows, "caption": caption},
        "conclusion": [
            f"The loss of a stratum whose favourite part is hidden, less {words[key]}: {_points(value)} points."
            for key, value in favourite.items()
        ],
    }


def by_part(found: Parts) -> dict[str, dict[str, Any]]:
    """Model to part to ``{estimate, ci95, p}``."""
    from experiments.frame.means import mean_over_images

    return {
        name: {part: mean_over_images(found.values[i, :, :, k]) for k, part in enumerate(PARTS)}
        for i, name in enumerate(found.names)
    }


def favourite_metrics(found: Parts) -> dict[str, Any]:
    """The value of the favourite part, averaged over the strata, less what it is compared with.

    "The worst other part" is, for each stratum, the one with the larger mean: the comparison is hard on the claim.
    """
    from experiments.frame.means import mean_over_images

    own, other, strata, fused = [], [], [], []
    for i, name in enumerate(found.names[:-1]):
        k = found.favourites[name]
        rest = max((p for p in range(len(PARTS)) if p != k), key=lambda p: found.values[i, :, :, p].mean())
        own.append(found.values[i, :, :, k])
        other.append(found.values[i, :, :, rest])
        strata.append(np.delete(found.values[:-1, :, :, k], i, axis=0).mean(axis=0))
        fused.append(found.values[-1, :, :, k])
    less = {"less the worst other part": other, "less other strata": strata, "less fused": fused}
    return {words: mean_over_images(np.mean(own, axis=0) - np.mean(of, axis=0)) for words, of in less.items()}


def _points(value: Mapping[str, Any]) -> str:
    from causalft.runs.intervals import interval_text

    return interval_text(value["estimate"], value["ci95"])


def draw_parts(
    table: Mapping[str, Mapping[str, Any]], label: str, parts: Sequence[str] = PARTS
) -> list[Axes]:
    """Bars with intervals: one group per model, one bar per part."""
    from causalft.pipelines.pages.diagnosis import error_bars
    from causalft.report.style import SERIES, new_axes

    axes = new_axes(6.4, 3.2)
    width = 0.8 / len(parts)
    for k, (part, colour) in enumerate(zip(parts, SERIES, strict=False)):
        y, error = error_bars([table[name][part] for name in table])
        x = np.arange(len(table)) + (k - (len(parts) - 1) / 2) * width
        axes.bar(x, y, width, yerr=error, color=colour, label=part)
    axes.set_xticks(range(len(table)), list(table))
    axes.set_ylabel(label)
    axes.grid(axis="y")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=len(parts))
    return [axes]
