"""The statistics of the A/B experiment: findings, intervals, and tests over seeds and test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from scipy import stats

from causalft.runs.folder import plain
from causalft.runs.notebook import ShownAsTable
from causalft.scm.intervals import interval_text, p_relation, share_interval

__all__ = [
    "CELLS",
    "CONTRASTS",
    "Contrast",
    "Estimate",
    "Evidence",
    "LARGE_ENOUGH",
    "TOO_WIDE",
    "conclude",
    "estimate",
    "mcnemar",
    "picture_variance",
]


@dataclass(frozen=True)
class Evidence(ShownAsTable):
    """What one test found.

    Attributes
    ----------
    estimate : float; its unit is named in ``words``.
    ci95 : (low, high)
    p : p-value of the hypothesis that ``words`` name.
    words : one sentence or two, with numbers.
    """

    estimate: float
    ci95: tuple[float, float]
    p: float
    words: str

    def __repr__(self) -> str:
        low, high = self.ci95
        return f"{self.estimate:.3f} [{low:.3f}, {high:.3f}], p {p_relation(self.p)}: {self.words}"

    def to_metrics(self) -> dict[str, Any]:
        """A JSON document; what is not finite is null, and ``reason`` then says why."""
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

LARGE_ENOUGH = 0.05
"""The smallest effect that matters here, as a fraction of accuracy: `not detected` means that it is excluded."""


TOO_WIDE = "the intervals are too wide"
"""How the reason of an `inconclusive` begins that more seeds or pictures can settle."""


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
    """Estimate a weighted sum of cell accuracies, as the module's opening says.

    Parameters
    ----------
    correct : cell name -> bool (S, n): whether each test picture of each seed was classified right.
        Cells with the same test set (the letter after the arrow) are paired by picture.
    weights : cell name -> weight.
    strata : test set (``"A"``, ``"B"``) -> int (n,): number of the class-and-factor group of each picture.
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

    pictures = sum(_picture_variance(values, strata[test]) for test, values in scores)
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


def picture_variance(
    correct: Mapping[str, np.ndarray], weights: Contrast, strata: Mapping[str, np.ndarray]
) -> float:
    """Mean over seeds of the variance of one seed's contrast that is due to its finite number of test pictures.

    Parameters as in `estimate`.
    """
    scores = _scores(correct, weights)
    return float(sum(_picture_variance(values, strata[test]).mean() for test, values in scores))


def _scores(correct: Mapping[str, np.ndarray], weights: Contrast) -> list[tuple[str, np.ndarray]]:
    """Test set -> weighted sum (S, n) of the cells with that test set, picture by picture."""
    by_test: dict[str, np.ndarray] = {}
    for cell, weight in weights.items():
        test = cell[-1]
        by_test[test] = by_test.get(test, 0.0) + weight * np.asarray(correct[cell], dtype=float)
    return list(by_test.items())


def _picture_variance(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Variance of each seed's mean over its test pictures, (S,); never less than that of one picture."""
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
    """Percentile interval: resample seeds, then pictures within each seed, test set and group."""
    n_seeds = len(scores[0][1])
    chosen = rng.integers(n_seeds, size=(n_boot, n_seeds))
    draws = np.zeros((n_boot, n_seeds))
    for test, values in scores:
        groups, n = strata[test], values.shape[1]
        for group in np.unique(groups):
            members = values[:, groups == group]
            # resampling pictures with few distinct scores is a multinomial draw of how often each score comes
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
    """Exact two-sided McNemar test of two classifiers on the same pictures: the p-value of equal accuracy.

    Takes the classifiers as fixed: it says whether the difference is more than the choice of test pictures.

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


def conclude(
    cells: Mapping[str, Estimate],
    tests: Mapping[str, Estimate],
    *,
    n_classes: int,
    n_seeds: int,
    smallest_group: int,
    best: Mapping[str, float] | None = None,
) -> tuple[str, str]:
    """Turn the estimates into a verdict and its reason in words.

    ``inconclusive`` if the data cannot carry a verdict: one seed only, fewer than five pictures of a class's minority
    part, or models that did not learn. Else ``verified`` if the drop of the B-trained model from B to A, its deficit
    against the A-trained model on A, and the difference of the two models' gaps are all above zero (95 %). Else ``not
    detected`` if one of the first two excludes an effect of `LARGE_ENOUGH`. Else ``inconclusive``: intervals too wide.

    Parameters
    ----------
    cells, tests : what `estimate` gave for `CELLS` and `CONTRASTS`.
    n_classes, n_seeds : int
    smallest_group : pictures of the rarest class-and-factor group of the B training set.
    best : highest accuracy that is possible in each cell, 1 by default. Models have learned if they are clearly above
        1.5 times chance, or above the middle of chance and the best where that is lower (few classes, noisy labels).

    Returns
    -------
    (verdict, reason)
    """
    if n_seeds < 2:
        return (
            "inconclusive",
            "one seed only: how much training itself varies is unknown; use --seeds 3 or more",
        )
    if smallest_group < 5:
        return "inconclusive", (
            f"too few images: a class has only {smallest_group} of its minority part in the B training "
            "set (5 are needed); "
            "raise --n-per-class"
        )
    untaught = [
        cell
        for cell in ("A->A", "B->B")
        if cells[cell].ci95[0] <= min(1.5 / n_classes, (1 / n_classes + (best[cell] if best else 1.0)) / 2)
    ]
    if untaught:
        return "inconclusive", (
            f"the models did not learn the classes ({' and '.join(untaught)} not clearly above chance, "
            f"{100 / n_classes:.0f} %); raise --n-per-class or --seeds"
        )
    drop, deficit, difference = tests["gap_B"], tests["A_minus_B_on_A"], tests["gap_B_minus_gap_A"]
    if min(drop.ci95[0], deficit.ci95[0], difference.ci95[0]) > 0:
        return "verified", (
            f"trained on B, accuracy falls by {drop.points()} points from B to A; on A it stays "
            f"{deficit.points()} points below training on A; and the fall is {difference.points()} points "
            "beyond that of the model trained on A"
        )
    for what, test in (
        ("the drop of the B-trained model from B to A", drop),
        ("what the B-trained model lacks against the A-trained one on A", deficit),
    ):
        if test.ci95[1] < LARGE_ENOUGH:
            return (
                "not detected",
                f"{what} is {test.points()} points: {100 * LARGE_ENOUGH:.0f} points or more are excluded",
            )
    return "inconclusive", (
        f"{TOO_WIDE}: the drop from B to A is {drop.points()} points, the deficit on A "
        f"{deficit.points()}, which excludes neither 0 nor {100 * LARGE_ENOUGH:.0f}; raise --seeds or "
        "--n-per-class"
    )
