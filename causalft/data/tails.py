"""What a long tail can look like: its profiles and its orders of classes, one record each.

NumPy is not imported, so that options list the names at no cost. The draws are in `causalft.data.longtail`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ORDERS",
    "PRIOR_ORDERS",
    "PROFILES",
    "UNLABELLED_ORDERS",
    "ClassOrder",
    "Profile",
    "UnlabelledOrder",
]

#: The power of the Pareto distribution that ImageNet-LT names (Liu et al., CVPR 2019).
_PARETO_POWER = 6.0


@dataclass(frozen=True)
class Profile:
    """A shape of class counts.

    ``help`` is the count of class k of K, head first, in LaTeX; ``shares`` maps k (K,), K and the imbalance factor to
    the counts over that of the first class.
    """

    name: str
    help: str
    shares: Callable[[Any, int, float], Any]
    source: str = ""


@dataclass(frozen=True)
class ClassOrder:
    """An order of the classes, head first.

    ``help`` describes the head. ``rank`` maps class counts (K,) and a generator to class numbers; an order against a
    label prior has instead its Spearman ``correlation`` with the order of the prior: 1, -1 or 0.
    """

    name: str
    help: str
    rank: Callable[[Any, Any], Any] | None = None
    correlation: int | None = None
    source: str = ""


def _pareto(k: Any, n_classes: int, factor: float) -> Any:
    """A Pareto density of the second kind (Lomax) at evenly spaced classes, stretched until it ends at 1 / factor."""
    stretch = factor ** (1 / (_PARETO_POWER + 1)) - 1
    return (1 + stretch * k / (n_classes - 1)) ** -(_PARETO_POWER + 1)


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "exponential",
            r"$n_{\max}\, IF^{-k/(K-1)}$",
            lambda k, n_classes, factor: factor ** (-k / (n_classes - 1)),
            "Cui et al., CVPR 2019",
        ),
        Profile(
            "zipf",
            r"$n_{\max}\, (k+1)^{-\ln IF / \ln K}$",
            lambda k, n_classes, factor: (k + 1.0) ** (-math.log(factor) / math.log(n_classes)),
        ),
        Profile(
            "pareto",
            r"$n_{\max}\, \bigl(1 + (IF^{1/7} - 1)\, k/(K-1)\bigr)^{-7}$",
            _pareto,
            "Lomax density of power 6, which ImageNet-LT names: Liu et al., CVPR 2019",
        ),
    )
}

_FIGURE = "Chen et al., ICML 2025, Fig. 7"

ORDERS = {
    order.name: order
    for order in (
        ClassOrder("random", "drawn at random", lambda counts, rng: rng.permutation(len(counts))),
        ClassOrder(
            "class", "the first class, in the order of `class_names`", lambda counts, rng: range(len(counts))
        ),
        ClassOrder("size", "the largest class", lambda counts, rng: (-counts).argsort(kind="stable")),
        ClassOrder("consistency", "what the prior holds most of", correlation=1, source=_FIGURE),
        ClassOrder("reverse", "what the prior holds least of", correlation=-1, source=_FIGURE),
        ClassOrder(
            "balance", "independent of the prior: Spearman correlation near 0", correlation=0, source=_FIGURE
        ),
    )
}

#: Orders that stand against a label prior.
PRIOR_ORDERS = tuple(name for name, order in ORDERS.items() if order.correlation is not None)


@dataclass(frozen=True)
class UnlabelledOrder:
    """How the class counts of unlabelled images stand to those of labelled ones.

    ``help`` says it as a phrase. ``places`` maps K to the place of each class in the unlabelled tail (0: the largest
    class), for classes in labelled order, head first. A ``flat`` one has equal counts.
    """

    name: str
    help: str
    places: Callable[[int], Sequence[int]]
    flat: bool = False
    source: str = ""


def _middle(n_classes: int) -> list[int]:
    """The largest classes in the middle, falling to both sides."""
    return [*range(0, n_classes, 2)][::-1] + [*range(1, n_classes, 2)]


def _head_tail(n_classes: int) -> list[int]:
    """The largest classes at both ends, falling to the middle."""
    return [*range(1, n_classes, 2)] + [*range(0, n_classes, 2)][::-1]


_SIMPRO = "Du, Han and Huang, SimPro, ICML 2024"

UNLABELLED_ORDERS = {
    order.name: order
    for order in (
        UnlabelledOrder("consistent", "the classes in the same order as the labelled ones", range),
        UnlabelledOrder("uniform", "every class alike", range, flat=True),
        UnlabelledOrder("reversed", "the smallest labelled class is the largest", lambda k: range(k)[::-1]),
        UnlabelledOrder("middle", "classes of the middle are the largest", _middle, source=_SIMPRO),
        UnlabelledOrder(
            "head-tail", "the first and the last classes are the largest", _head_tail, source=_SIMPRO
        ),
    )
}
