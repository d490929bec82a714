"""Accuracies of an A/B trial: cells, contrasts, intervals and tests over seeds and images, power."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, isnan, sqrt

import numpy as np
from scipy import stats

from causalft.errors import CausalFTError
from causalft.runs.documents import Document
from causalft.runs.folder import plain
from causalft.runs.intervals import interval_text, p_relation, share_interval
from causalft.runs.notebook import ShownAsTable

__all__ = [
    "CELLS",
    "CONTRASTS",
    "Contrast",
    "Estimate",
    "Evidence",
    "Power",
    "closed_share",
    "estimate",
    "gap_closed",
    "image_variance",
    "mcnemar",
    "power",
]


@dataclass(frozen=True)
class Evidence(ShownAsTable):
    """What one test found.

    Attributes
    ----------
    estimate : float; its unit is named in ``words``.
    ci95 : (low, high)
    p : p-value of the hypothesis that ``words`` name.
    words : one or two sentences, with numbers.
    """

    estimate: float
    ci95: tuple[float, float]
    p: float
    words: str

    def __repr__(self) -> str:
        low, high = self.ci95
        return f"{self.estimate:.3f} [{low:.3f}, {high:.3f}], p {p_relation(self.p)}: {self.words}"

    def to_metrics(self) -> Document:
        """A JSON document; null for what is not finite, with a ``reason``."""
        found = {"estimate": self.estimate, "ci95": self.ci95, "p": self.p, "words": self.words}
        return plain(found if all(map(isfinite, self.ci95)) else {**found, "reason": self.words})


CELLS = ("A->A", "A->B", "B->A", "B->B")
"""Trained on -> tested on."""

CONTRASTS: dict[str, dict[str, float]] = {
    "gap_B": {"B->B": 1.0, "B->A": -1.0},
    "gap_A": {"A->B": 1.0, "A->A": -1.0},
    "A_minus_B_on_A": {"A->A": 1.0, "B->A": -1.0},
    "gap_B_minus_gap_A": {"B->B": 1.0, "B->A": -1.0, "A->B": -1.0, "A->A": 1.0},
}
"""Name of each test -> weights of the cells. The last takes out that one part may be easier to recognise."""


@dataclass(frozen=True)
class Estimate(ShownAsTable):
    """A mean over seeds with its 95 % interval; fractions.

    Attributes
    ----------
    mean : float
    ci95 : (low, high)
    p : two-sided p-value of a mean of zero
    per_seed : one value for each seed
    bootstrap95 : the same interval by the hierarchical bootstrap; None where its draws do not vary
    """

    mean: float
    ci95: tuple[float, float]
    p: float
    per_seed: tuple[float, ...]
    bootstrap95: tuple[float, float] | None

    def __repr__(self) -> str:
        return interval_text(self.mean, self.ci95, unit=" %")

    def points(self) -> str:
        """Mean and interval in points, ``"4.0 [1.0, 7.0]"``."""
        return interval_text(self.mean, self.ci95)


Contrast = Mapping[str, float]


def estimate(
    correct: Mapping[str, np.ndarray],
    weights: Contrast,
    strata: Mapping[str, np.ndarray],
    *,
    n_boot: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Estimate a weighted sum of cell accuracies with a 95 % interval over seeds and images.

    Parameters
    ----------
    correct : cell -> bool (S, n): whether each test image of each seed was classified right. Cells with the same test
    set (the letter after the arrow) are paired by image.
    weights : cell -> weight.
    strata : test set (``"A"``, ``"B"``) -> int (n,): the class-and-factor group of each image.
    n_boot : resamples of the hierarchical bootstrap.
    seed : of the bootstrap.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> correct = {"A->A": rng.random((5, 200)) < 0.9, "B->A": rng.random((5, 200)) < 0.7}
    >>> groups = {"A": np.repeat([0, 1], 100)}
    >>> e = estimate(correct, {"A->A": 1.0, "B->A": -1.0}, groups)
    >>> e.ci95[0] < 0.2 < e.ci95[1], e.p < 0.01
    (True, True)
    """
    scores = _scores(correct, weights)
    per_seed = np.sum([values.mean(1) for _, values in scores], axis=0)
    n_seeds = len(per_seed)
    mean = float(per_seed.mean())

    pictures = sum(_image_variance(values, strata[test]) for test, values in scores)
    between = float(np.var(per_seed, ddof=1)) if n_seeds > 1 else 0.0
    error = float(np.sqrt(max(between, float(np.mean(pictures))) / n_seeds))
    reach = stats.t.ppf(0.975, n_seeds - 1) if n_seeds > 1 else stats.norm.ppf(0.975)
    ratio = abs(mean) / error
    p = 2 * (stats.t.sf(ratio, n_seeds - 1) if n_seeds > 1 else stats.norm.sf(ratio))
    low, high = mean - reach * error, mean + reach * error
    if all(weight > 0 for weight in weights.values()):
        least, most = share_interval(mean, n_seeds * scores[0][1].shape[1])
        low, high = max(min(low, float(least)), 0.0), min(max(high, float(most)), 1.0)
    return Estimate(
        mean=mean,
        ci95=(float(low), float(high)),
        p=float(p),
        per_seed=tuple(per_seed.tolist()),
        bootstrap95=_bootstrap(scores, strata, n_boot, np.random.default_rng(seed)),
    )


def image_variance(
    correct: Mapping[str, np.ndarray], weights: Contrast, strata: Mapping[str, np.ndarray]
) -> float:
    """Mean over seeds of the variance of one seed's contrast that is due to its finite number of test images.

    Parameters as in `estimate`.
    """
    scores = _scores(correct, weights)
    return float(sum(_image_variance(values, strata[test]).mean() for test, values in scores))


def _scores(correct: Mapping[str, np.ndarray], weights: Contrast) -> list[tuple[str, np.ndarray]]:
    """Test set -> weighted sum (S, n) of the cells with that test set, by image."""
    by_test: dict[str, np.ndarray] = {}
    for cell, weight in weights.items():
        test = cell[-1]
        by_test[test] = by_test.get(test, 0.0) + weight * np.asarray(correct[cell], dtype=float)
    return list(by_test.items())


def _image_variance(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Variance of each seed's mean over its test images, (S,); at least that of one image."""
    n = values.shape[1]
    total = np.zeros(len(values))
    for group in np.unique(groups):
        members = values[:, groups == group]
        size = members.shape[1]
        spread = members.var(1, ddof=1) if size > 1 else np.full(len(values), 0.25)
        total += (size / n) ** 2 * spread / size
    return np.maximum(total, (1 / n) ** 2)


def _bootstrap(
    scores: Sequence[tuple[str, np.ndarray]],
    strata: Mapping[str, np.ndarray],
    n_boot: int,
    rng: np.random.Generator,
) -> tuple[float, float] | None:
    """Percentile interval: resample seeds, then images within each seed, test set and group."""
    n_seeds = len(scores[0][1])
    chosen = rng.integers(n_seeds, size=(n_boot, n_seeds))
    draws = np.zeros((n_boot, n_seeds))
    for test, values in scores:
        groups, n = strata[test], values.shape[1]
        for group in np.unique(groups):
            members = values[:, groups == group]
            # resampling images with few distinct scores is a multinomial draw of how often each score comes
            levels = np.unique(members)
            shares = np.stack([(members == level).mean(1) for level in levels], 1)
            counts = rng.multinomial(members.shape[1], shares[chosen])
            draws += counts @ levels / n
    means = draws.mean(1)
    if np.ptp(means) <= 1e-12:
        return None
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided McNemar test of two classifiers on the same images: the p-value of equal accuracy.

    The classifiers are taken as fixed: only the choice of test images varies.

    Examples
    --------
    >>> round(mcnemar(np.array([1, 1, 1, 1, 1, 0], bool), np.array([0, 0, 0, 0, 0, 0], bool)), 4)
    0.0625
    """
    only_first = int(np.sum(first & ~second))
    only_second = int(np.sum(second & ~first))
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def closed_share(correct: Mapping[str, np.ndarray]) -> tuple[float, tuple[float, float]]:
    """Share of the gap on A that adjustment closes: (adjusted->A - B->A) / (A->A - B->A), with its 95 % interval.

    The interval is Fieller's: all shares r for which a t-test over the seeds does not reject that ``(adjusted->A -
    B->A) - r (A->A - B->A)`` has mean zero. It is unbounded if the gap could be zero, with one seed, and if the seeds
    do not differ.

    Parameters
    ----------
    correct : cell -> bool (S, n), with ``"A->A"``, ``"B->A"`` and ``"adjusted->A"``.

    Examples
    --------
    >>> ones = np.ones((2, 10), bool)
    >>> half = np.arange(10) < np.array([[5], [5]])
    >>> closed_share({"A->A": ones, "B->A": half, "adjusted->A": ones})
    (1.0, (-inf, inf))
    """
    score = {cell: np.asarray(correct[cell], float).mean(1) for cell in ("A->A", "B->A", "adjusted->A")}
    gained, gap = score["adjusted->A"] - score["B->A"], score["A->A"] - score["B->A"]
    share = float(gained.mean() / gap.mean()) if gap.mean() else float("nan")
    unbounded = (float("-inf"), float("inf"))
    if len(gap) < 2:
        return share, unbounded
    # (mean gained - r mean gap)^2 <= t^2 var(gained - r gap) / S, a quadratic inequality in r
    ((of_gained, both), (_, of_gap)) = np.cov(gained, gap) * stats.t.ppf(0.975, len(gap) - 1) ** 2 / len(gap)
    a, b, c = (
        gap.mean() ** 2 - of_gap,
        gained.mean() * gap.mean() - both,
        gained.mean() ** 2 - of_gained,
    )
    if a <= 0:
        return share, unbounded
    root = float(np.sqrt(max(0.0, b**2 - a * c)))
    if root <= 1e-12:  # seeds that are equal say nothing of how much seeds differ
        return share, unbounded
    return share, (float(b - root) / float(a), float(b + root) / float(a))


def gap_closed(gained: Estimate, share: tuple[float, tuple[float, float]]) -> Evidence:
    """The test of ``adjusted->A`` minus ``B->A``, with the share of the gap in words."""
    part, limits = share
    of_gap = (
        f"{100 * part:.0f} % of the gap [{100 * limits[0]:.0f}, {100 * limits[1]:.0f}]"
        if np.isfinite([part, *limits]).all()
        else "what share of the gap that is cannot be told, for the gap itself is not clearly above zero"
    )
    return Evidence(
        gained.mean,
        gained.ci95,
        gained.p,
        f"trained on the same B, the adjusted model gains {gained.points()} points on A: {of_gap}",
    )


@dataclass(frozen=True)
class Power:
    """What a run needs to see an effect of the pilot's size.

    Attributes
    ----------
    images_needed : test images per seed, at the pilot's number of seeds; None if no number is enough.
    seeds_needed : seeds, at the pilot's number of images; None if more than `MOST` are needed.
    power : of the pilot itself, in [0, 1].
    standardised_effect : effect over the standard deviation between seeds.
    """

    images_needed: int | None
    seeds_needed: int | None
    power: float
    standardised_effect: float

    def to_metrics(self) -> dict[str, float | int | None]:
        """A JSON document; null for what is not finite."""
        return plain(vars(self))


MOST = 100_000
"""No run has more seeds than this, or more images for each seed than this times ten."""


def power(
    per_seed: np.ndarray | list[float],
    n_images: int,
    image_variance: float,
    *,
    target: float = 0.8,
    level: float = 0.05,
) -> Power:
    """Plan a run from a pilot, for the two-sided one-sample t-test of an effect over seeds.

    Seeds are taken as independent and alike. The variance of one seed's effect is a part due to training, which more
    test images do not lower (at least 0), plus ``image_variance``, which falls as 1 / images. The effect is taken to
    be the pilot's mean, itself uncertain: read the numbers as orders of magnitude.

    Parameters
    ----------
    per_seed : the effect in each seed of the pilot, two or more.
    n_images : test images behind each of them.
    image_variance : the part of one seed's variance that is due to its finite number of test images.
    target : power wanted.
    level : of the two-sided test.

    Raises
    ------
    CausalFTError
        For fewer than two seeds or bad numbers.

    Examples
    --------
    >>> power([0.05, 0.12, 0.08, 0.02, 0.10], n_images=600, image_variance=0.0004)
    Power(images_needed=318, seeds_needed=5, power=0.87, standardised_effect=1.86)
    """
    values = np.asarray(per_seed, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise CausalFTError(
            "power needs the effect of two seeds or more: one seed says nothing of how much seeds vary"
        )
    if n_images < 1 or image_variance < 0 or not 0 < target < 1 or not 0 < level < 1:
        raise CausalFTError(
            f"n_images {n_images}, image_variance {image_variance}, target {target}, level {level}: images are 1 "
            "or more, the variance 0 or larger, target and level between 0 and 1"
        )
    from statsmodels.stats.power import TTestPower

    test = TTestPower()
    effect, seeds = abs(float(values.mean())), len(values)
    of_training = max(0.0, float(values.var(ddof=1)) - image_variance)

    def reached(n_seeds: int, images: float) -> float:
        variance = of_training + image_variance * n_images / images
        if variance == 0 or effect == 0:
            return float(effect > 0)
        size = effect / sqrt(variance)
        if n_seeds > 10 and size * sqrt(n_seeds) > 8:  # certain, and hard on the noncentral t
            return 1.0
        found = float(test.power(size, n_seeds, level, alternative="two-sided"))
        if not isnan(found):
            return found
        # a large effect on few seeds makes the noncentral t fail; its numerator is then as good as constant
        crossing = size * sqrt(n_seeds) / stats.t.ppf(1 - level / 2, n_seeds - 1)
        return float(stats.chi2.cdf((n_seeds - 1) * crossing**2, n_seeds - 1))

    variance = of_training + image_variance
    return Power(
        images_needed=_smallest(lambda n: reached(seeds, n) >= target, 1, 10 * MOST),
        seeds_needed=_smallest(lambda n: reached(n, n_images) >= target, 2, MOST),
        power=reached(seeds, n_images),
        standardised_effect=effect / sqrt(variance) if variance > 0 else inf,
    )


def _smallest(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest number from low to high that is enough, by doubling and bisection; None if none is."""
    top = low
    while not enough(top):
        if top == high:
            return None
        low, top = top + 1, min(2 * top, high)
    while low < top:
        middle = (low + top) // 2
        low, top = (low, middle) if enough(middle) else (middle + 1, top)
    return top
