"""Several strata from one backbone: the families, and whether their members differ as strata do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.frame.further import APART
from experiments.frame.inside import HEADS, READOUTS, TOKENS, views_of

if TYPE_CHECKING:
    from causalft.methods.estimators.maps import StratumView
    from experiments.frame.arms import Arm
    from experiments.frame.lab import Lab
    from experiments.frame.members import Member
    from experiments.frame.scales import Roles
    from experiments.frame.tested import Tested

__all__ = [
    "FAMILIES",
    "FOREIGN",
    "TUNINGS",
    "VIEWS",
    "error_correlations",
    "map_overlaps",
    "members_of_family",
    "one_and_fused",
]

TUNINGS = "tunings"
"""The yardstick: one model tuned as often with other seeds, an ordinary ensemble of equal cost."""

VIEWS = "views"
"""One tuned model on the whole image, on the half that its attention points at, and on the other half: no further
training, the cost of three in prediction."""

FAMILIES: dict[str, tuple[Mapping[str, Any], ...]] = {
    "depths": ({}, {"tuner": "adaptformer@last-2"}, {"tuner": "adaptformer@last-1"}),
    "tuners": ({}, {"tuner": "lora"}, {"tuner": "ssf"}),
    "re-weighted": ({}, {"sampler": "square-root"}, {"sampler": "class-balanced"}),
    "crops": ({}, {"augmentation": "crop-flip"}, {"augmentation": "wide-crop-flip"}),
}
"""What each member of a family changes of the recipe: where or how the tower is tuned, how often a class is seen, which
part of an image is seen."""


FOREIGN = (VIEWS, READOUTS, TOKENS, HEADS, APART)
"""Families whose members are no tunings by themselves."""


def members_of_family(roles: Roles, family: str) -> list[Member]:
    """Three members of the first stratum's weights; for :data:`TUNINGS`, tuned again."""
    from experiments.frame.members import Member

    first = roles.strata[0]
    if family == TUNINGS:
        return [Member(first), *(Member(f"{first}#{again}") for again in (1, 2))]
    return [Member(first, changes=tuple(changes.items())) for changes in FAMILIES[family]]


def one_and_fused(roles: Roles, family: str) -> list[Arm]:
    """The members of a family by themselves, and their mixture: ``FAMILY, one`` and ``FAMILY, fused``."""
    from experiments.frame.arms import Arm, Model
    from experiments.frame.attended import LOOKS
    from experiments.frame.members import Member

    if family == APART:
        members = tuple(members_of_family(roles, TUNINGS))
        alone = tuple(Model(members, rule=f"{APART}, {place + 1}") for place in range(len(members)))
        return [Arm(f"{family}, one", alone), Arm(f"{family}, fused", (Model(members, rule=APART),))]
    if family in FOREIGN:
        first = (Member(roles.strata[0]),)
        views, whole = (["tuned", *LOOKS[:2]], LOOKS[2]) if family == VIEWS else views_of(family)
        one = tuple(Model(first, view=view) for view in views)
        return [Arm(f"{family}, one", one), Arm(f"{family}, fused", (Model(first, view=whole),))]
    members = tuple(members_of_family(roles, family))
    return [
        Arm(f"{family}, one", tuple(Model((member,)) for member in members)),
        Arm(f"{family}, fused", (Model(members),)),
    ]


def error_correlations(tested: Tested, families: Iterable[str]) -> dict[str, Any]:
    """Family to the mean correlation of the errors of two of its members, interval over classes.

    Parameters
    ----------
    tested : Tested
        With an arm ``FAMILY, one`` each.
    families : iterable of str
    """
    return {
        family: _error_correlation(tested.arms[f"{family}, one"].correct, tested.labels)
        for family in families
    }


def map_overlaps(lab: Lab, members: Mapping[str, Sequence[Member]], n: int) -> dict[str, Any]:
    """Family to the mean overlap of the maps of two of its members for the true class, interval over images.

    Parameters
    ----------
    lab : Lab
    members : mapping of family to members
        Those of the first seed are compared.
    n : int
        Test images.
    """
    from experiments.frame.attended import squares
    from experiments.frame.means import mean_over_images

    test = lab.world.splits(0).test
    rows = np.arange(0, len(test), max(1, len(test) // n))
    side = lab.world.zoo.load(lab.world.roles.strata[0], device="cpu").image_size
    pixels, labels = squares(test, rows, side), test.labels[rows]
    return {
        family: mean_over_images(_overlap(lab, of_family, pixels, labels)[None])
        for family, of_family in members.items()
    }


def _error_correlation(correct: NDArray[np.bool_], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Mean over pairs of models (R, S, n) and seeds of the correlation of their errors; interval over classes."""
    from experiments.frame.means import jackknife

    wrong = (~correct).astype(float)
    classes = np.unique(labels)
    where = [labels == k for k in classes]
    n = np.array([rows.sum() for rows in where])
    pairs = list(combinations(range(len(wrong)), 2))
    sums = np.stack([wrong[..., rows].sum(axis=-1) for rows in where], axis=-1)  # (R, S, K)
    both = np.stack(
        [
            np.stack([(wrong[a] * wrong[b])[..., rows].sum(axis=-1) for rows in where], axis=-1)
            for a, b in pairs
        ]
    )

    def statistic(rows: NDArray[np.int64]) -> float:
        total = n[rows].sum()
        mean = sums[..., rows].sum(axis=-1) / total
        joint = both[..., rows].sum(axis=-1) / total
        spread = np.sqrt(mean * (1 - mean))
        found = [(joint[i] - mean[a] * mean[b]) / (spread[a] * spread[b]) for i, (a, b) in enumerate(pairs)]
        return float(np.mean(found))

    return jackknife(statistic, len(classes))


def _overlap(
    lab: Lab, members: Sequence[Member], pixels: NDArray[np.uint8], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean overlap of the maps of two members, (n,)."""
    from causalft.analysis.maps import overlap
    from causalft.methods.estimators.maps import tuned_view
    from experiments.frame.looking import MAP

    views: list[StratumView] = [tuned_view(lab.tuned(member, 0)[1]) for member in members]
    maps = [view.map(pixels, labels, MAP) for view in views]
    return np.mean([overlap(a, b) for a, b in combinations(maps, 2)], axis=0)
