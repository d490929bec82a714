"""The two kinds of error: Holm's correction for many tests, and the images and seeds that a test's power takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from causalft.errors import CausalFTError
from causalft.runs.folder import plain
from causalft.scm.falsification import holm as adjusted_p_values

__all__ = ["Power", "holm", "power"]


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values: the chance of one false alarm or more among all tests stays below the level.

    Parameters
    ----------
    p_values : name of a test -> p in [0, 1]. NaN (a test that could not be made) stays NaN and is not counted.

    References
    ----------
    Holm, Scandinavian Journal of Statistics 1979.

    Examples
    --------
    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    made = {name: float(p) for name, p in p_values.items() if not np.isnan(p)}
    for name, p in made.items():
        if not 0 <= p <= 1:
            raise CausalFTError(f"the p-value of {name!r} is {p}; it must lie in [0, 1]")
    adjusted = dict(zip(made, adjusted_p_values(list(made.values()))))
    return {name: adjusted.get(name, float("nan")) for name in p_values}


@dataclass(frozen=True)
class Power:
    """What a run needs to see an effect of the size that its pilot saw.

    Attributes
    ----------
    images_needed : test images for each seed, at the pilot's number of seeds; None if no number is enough.
    seeds_needed : seeds, at the pilot's number of images; None if more than `MOST` are needed.
    power : of the pilot itself, in [0, 1].
    standardised_effect : effect over the standard deviation between seeds.
    """

    images_needed: int | None
    seeds_needed: int | None
    power: float
    standardised_effect: float

    def to_metrics(self) -> dict[str, float | int | None]:
        """A JSON document; what is not finite is null."""
        return plain(vars(self))


MOST = 100_000
"""No run has more seeds than this, or more images for each seed than this times ten."""


def power(
    per_seed: np.ndarray | list[float],
    n_images: int,
    picture_variance: float,
    *,
    target: float = 0.8,
    level: float = 0.05,
) -> Power:
    """Plan a run from a pilot, for the two-sided one-sample t-test of an effect over seeds.

    Assumptions. Seeds are independent and alike. The variance of one seed's effect is a part of training, which more
    test images do not lower, plus ``picture_variance``, which falls as 1 / images; the part of training is what the
    variance between seeds leaves, and at least 0. The effect is as large as the pilot's mean, which is itself
    uncertain: read the numbers as orders of magnitude.

    Parameters
    ----------
    per_seed : the effect in each seed of the pilot, two or more.
    n_images : test images behind each of them.
    picture_variance : the part of one seed's variance that is due to its finite number of test images.
    target : power wanted.
    level : of the two-sided test.

    Raises
    ------
    CausalFTError
        For fewer than two seeds or bad numbers.

    Examples
    --------
    >>> power([0.05, 0.12, 0.08, 0.02, 0.10], n_images=600, picture_variance=0.0004)
    Power(images_needed=318, seeds_needed=5, power=0.87, standardised_effect=1.86)
    """
    values = np.asarray(per_seed, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise CausalFTError(
            "power needs the effect of two seeds or more: one seed says nothing of how much seeds vary"
        )
    if n_images < 1 or picture_variance < 0 or not 0 < target < 1 or not 0 < level < 1:
        raise CausalFTError(
            f"n_images {n_images}, picture_variance {picture_variance}, target {target}, level {level}: images are 1 "
            "or more, the variance 0 or larger, target and level between 0 and 1"
        )
    from scipy import stats
    from statsmodels.stats.power import TTestPower

    test = TTestPower()
    effect, seeds = abs(float(values.mean())), len(values)
    of_training = max(0.0, float(values.var(ddof=1)) - picture_variance)

    def reached(n_seeds: int, images: float) -> float:
        variance = of_training + picture_variance * n_images / images
        if variance == 0 or effect == 0:
            return float(effect > 0)
        size = effect / math.sqrt(variance)
        if n_seeds > 10 and size * math.sqrt(n_seeds) > 8:  # certain, and hard on the noncentral t
            return 1.0
        found = float(test.power(size, n_seeds, level, alternative="two-sided"))
        if not math.isnan(found):
            return found
        # a large effect on few seeds makes the noncentral t fail; its numerator is then as good as constant
        crossing = size * math.sqrt(n_seeds) / stats.t.ppf(1 - level / 2, n_seeds - 1)
        return float(stats.chi2.cdf((n_seeds - 1) * crossing**2, n_seeds - 1))

    variance = of_training + picture_variance
    return Power(
        images_needed=_smallest(lambda n: reached(seeds, n) >= target, 1, 10 * MOST),
        seeds_needed=_smallest(lambda n: reached(n, n_images) >= target, 2, MOST),
        power=reached(seeds, n_images),
        standardised_effect=effect / math.sqrt(variance) if variance > 0 else math.inf,
    )


def _smallest(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest whole number from low to high that is enough: doubling, then bisection; None if none is."""
    top = low
    while not enough(top):
        if top == high:
            return None
        low, top = top + 1, min(2 * top, high)
    while low < top:
        middle = (low + top) // 2
        low, top = (low, middle) if enough(middle) else (middle + 1, top)
    return top
