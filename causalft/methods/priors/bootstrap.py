"""How sure an estimated prior is: intervals, probabilities of P groups, and the imbalance behind a noisy estimate.

The largest of K noisy numbers over the smallest overstates the imbalance: with 20 labelled images in each of 100
classes and a true imbalance of 100, the estimate's own ratio is about 360. `imbalance_of` estimates the *profile*, the
sorted log prior as a function of the rank: a sum of monotone curves (straight, as an exponential long tail; steep at
either end, as Zipf's law; a step) with non-negative weights whose order statistics, pulled and blurred as the
estimate's were, match the estimate's. K noisy classes pin down the few weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from scipy.special import log_softmax, ndtr, softmax
from scipy.stats import norm
from scipy.stats import t as student

from causalft.data.groups import GROUPS, prior_groups
from causalft.errors import CausalFTError
from causalft.methods.priors.estimate import (
    PriorEstimate,
    check_classes,
    check_logits,
    check_simplex,
    check_strength,
    check_weights,
    fit_table,
)
from causalft.methods.priors.offsets import Table, effective_size, solve
from causalft.runs.notebook import ShownAsTable
from causalft.runs.progress import named

__all__ = ["Imbalance", "PriorIntervals", "bootstrap_prior", "imbalance_of"]

_COLUMNS = 64  # draws solved together
_WEAK = 2.0  # standard deviation of log q that a weak pull believes; an exponential imbalance of 100 has 1.33


@dataclass(frozen=True, repr=False)
class PriorIntervals(ShownAsTable):
    """An estimated prior with intervals.

    Attributes
    ----------
    estimate : PriorEstimate
    log_prior : (K, 2) array
        Interval of log q of each class: the estimate plus and minus normal quantiles times the root mean square of the
        draws about it (without a penalty: Student's t with 2 n + 1 degrees of freedom, n images of the class); at most
        0.
    group_probability : (K, 3) array
        Share of the draws in which the class is in P-Many, P-Medium, P-Few (:data:`causalft.data.groups.GROUPS`); rows
        sum to 1.
    imbalance : (2,) array
        Interval of largest over smallest prior of the classes with a labelled sample; NaN if the samples say too
        little.
    imbalance_estimate : float
        Largest over smallest prior, corrected for noise (`imbalance_of`); NaN with the interval.
    n_labelled : (K,) array of int
        Labelled samples of each class. With none, the interval is what the penalty believes.
    n_boot, seed : int
    level : float
        Nominal coverage of the intervals.
    n_converged : int
        Draws that reached their minimum.
    spread : (K,) array
        Standard deviation of log q over the draws. `log_prior` also has their bias in it.
    """

    estimate: PriorEstimate = field(compare=False)
    log_prior: NDArray[np.float64] = field(compare=False)
    group_probability: NDArray[np.float64] = field(compare=False)
    imbalance: NDArray[np.float64] = field(compare=False)
    imbalance_estimate: float = field(compare=False)
    n_labelled: NDArray[np.int64] = field(compare=False)
    n_boot: int
    seed: int
    level: float
    n_converged: int
    spread: NDArray[np.float64] = field(compare=False)

    @property
    def groups(self) -> NDArray[np.str_]:
        """The P group of each class by the estimate: (K,)."""
        return prior_groups(self.estimate.prior)

    @property
    def group_confidence(self) -> NDArray[np.float64]:
        """Probability that a class is in the group that the estimate puts it in: (K,)."""
        own = [GROUPS.index(group) for group in self.groups]
        return self.group_probability[np.arange(len(own)), own]

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        prior, (low, high) = self.estimate.prior, np.exp(self.log_prior).T
        rows = [
            [int(k), float(prior[k]), float(low[k]), float(high[k]), str(self.groups[k])]
            for k in np.argsort(-prior, kind="stable")
        ]
        return ["class", "prior", "low", "high", "P group"], rows

    def __repr__(self) -> str:
        sure = int((self.group_confidence >= 0.9).sum())
        low, high = self.imbalance
        known = f"{self.imbalance_estimate:.3g} [{low:.3g}, {high:.3g}]" if np.isfinite(low) else "not known"
        return (
            f"PriorIntervals({len(self.log_prior)} classes from {self.estimate.n} samples, imbalance "
            f"{known}, {sure} classes sure (90 %) of their P group, "
            f"{self.n_boot} draws)"
        )


@named("estimating the label prior and its intervals")
def bootstrap_prior(
    logits: ArrayLike,
    labels: ArrayLike,
    n_boot: int = 500,
    seed: int = 0,
    *,
    target_prior: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    l2: float | str = "cv",
    level: float = 0.95,
    folds: int = 5,
    imbalance: bool = True,
) -> PriorIntervals:
    """Estimate the label prior with an interval and the probability of the P group for each class.

    The bootstrap draws samples within classes. Of a class of n samples n - 1 are drawn and counted n / (n - 1) times,
    which makes the variance unbiased (Rao, Wu and Yue 1992); a single sample gets an exponential weight. With a
    penalty, each draw also moves what the penalty pulls to, by as much as the penalty believes (``1 / (n l2)`` is the
    variance of log q), so that a strong pull does not make intervals narrow.

    Parameters
    ----------
    logits, labels, target_prior, weights, l2, folds
        See :func:`causalft.methods.priors.estimate_prior`. A cross-validated strength is chosen once.
    n_boot : int
        Draws, at least 20.
    seed : int
    level : float
        Between 0 and 1.
    imbalance : bool
        Also estimate the imbalance, which is about as much work again.

    Raises
    ------
    CausalFTError
        As :func:`causalft.methods.priors.estimate_prior`; or for too few draws, or a level outside (0, 1).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat([0, 1], 50)
    >>> logits = rng.normal(np.eye(2)[labels] + np.log([.9, .1]))
    >>> found = bootstrap_prior(logits, labels, n_boot=50)
    >>> found.groups.tolist(), bool((found.log_prior[:, 0] < found.log_prior[:, 1]).all())
    (['many', 'few'], True)
    """
    f, y = check_logits(logits, labels)
    n_classes = f.shape[1]
    w = check_weights(weights, len(f))
    log_target = (
        None if target_prior is None else np.log(check_simplex(target_prior, n_classes, "target_prior"))
    )
    check_strength(l2)
    if l2 == 0:
        check_classes(y, w, n_classes)
    if n_boot < 20:
        raise CausalFTError(f"n_boot is {n_boot}; an interval needs 20 draws or more")
    if not 0 < level < 1:
        raise CausalFTError(f"level {level} must lie between 0 and 1, such as 0.95")
    table = Table(f, y, log_target)
    estimate = fit_table(table, w, l2, folds=folds, seed=seed)
    draws, n_converged = _draw(table, w, estimate, n_boot, np.random.default_rng(seed))
    # The root mean square about the estimate, so that what the estimate is biased by widens the interval.
    log_q = np.log(estimate.prior)
    deviation = np.sqrt(((draws - log_q[:, None]) ** 2).mean(axis=1))
    # Without a penalty nothing but the images of a class says how much its estimate varies: Student's t.
    n_labelled = np.bincount(y, minlength=n_classes)
    tail = norm.ppf((1 + level) / 2) if estimate.l2 > 0 else student.ppf((1 + level) / 2, 2 * n_labelled + 1)
    reach = tail * deviation
    ratio = _imbalance(table, w, level, seed) if imbalance else None
    belongs = np.stack([prior_groups(column) for column in draws.T])
    return PriorIntervals(
        estimate=estimate,
        log_prior=np.stack([log_q - reach, np.minimum(log_q + reach, 0)], axis=1),
        group_probability=np.stack([(belongs == group).mean(axis=0) for group in GROUPS], axis=1),
        imbalance=np.array([ratio.low, ratio.high] if ratio else [np.nan, np.nan]),
        imbalance_estimate=ratio.value if ratio else float("nan"),
        n_labelled=n_labelled,
        n_boot=n_boot,
        seed=seed,
        level=level,
        n_converged=n_converged,
        spread=draws.std(axis=1, ddof=1) * tail / norm.ppf((1 + level) / 2),
    )


def _draw(
    table: Table, weights: NDArray[np.float64], estimate: PriorEstimate, n_boot: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], int]:
    """Log priors of the draws (K, n_boot), and how many converged."""
    start = -np.log(estimate.prior)[:, None]
    n_effective = effective_size(weights)
    strengths, plausible = np.array([estimate.l2]), np.ones(1)
    if estimate.l2_path:
        strengths = np.array([l2 for l2, _ in estimate.l2_path])
        plausible = softmax(-n_effective * np.array([risk for _, risk in estimate.l2_path]))
    found, n_converged = [], 0
    for first in range(0, n_boot, _COLUMNS):
        n_columns = min(_COLUMNS, n_boot - first)
        drawn = weights[:, None] * _counts(table.labels, table.n_classes, n_columns, rng)
        l2 = rng.choice(strengths, n_columns, p=plausible)
        deviation = np.where(l2 > 0, 1 / np.sqrt(n_effective * np.where(l2 > 0, l2, 1)), 0)
        solution = solve(
            table,
            drawn / drawn.sum(axis=0),
            l2,
            start=np.repeat(start, n_columns, axis=1),
            centre=deviation * rng.normal(size=(table.n_classes, n_columns)),
            absent=np.repeat(table.class_sums(weights[:, None]) == 0, n_columns, axis=1),
        )
        found.append(log_softmax(-solution.values, axis=0))
        n_converged += int(solution.converged.sum())
    return np.concatenate(found, axis=1), n_converged


def _imbalance(table: Table, weights: NDArray[np.float64], level: float, seed: int) -> Imbalance | None:
    """Of the classes with a sample, under a weak pull, so that its strength does not decide the result."""
    rng = np.random.default_rng(seed)
    n_effective = effective_size(weights)
    l2 = np.full(_COLUMNS, 1 / (n_effective * _WEAK**2))
    drawn = weights[:, None] * _counts(table.labels, table.n_classes, _COLUMNS, rng)
    absent = table.class_sums(weights[:, None]) == 0
    weak = solve(table, weights[:, None], l2[:1], absent=absent).values
    draws = solve(
        table,
        drawn / drawn.sum(axis=0),
        l2,
        start=np.repeat(weak, _COLUMNS, axis=1),
        absent=np.repeat(absent, _COLUMNS, axis=1),
    ).values
    present = ~absent[:, 0]
    if present.sum() < 2:
        return None
    return imbalance_of(
        -weak[present, 0],
        -draws[present],
        _WEAK,
        n_per_class=table.n / present.sum(),
        level=level,
        seed=seed,
    )


def _counts(
    labels: NDArray[np.int64], n_classes: int, n_columns: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """How often each sample counts in each draw: (n, n_columns), with mean 1 in each class."""
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels, minlength=n_classes)
    first = np.cumsum(sizes) - sizes
    drawn_class = np.repeat(np.arange(n_classes), np.maximum(sizes - 1, 0))
    counts = np.empty((len(labels), n_columns))
    single = sizes[labels] == 1
    factor = (sizes / np.maximum(sizes - 1, 1))[labels]
    for column in range(n_columns):
        picks = first[drawn_class] + (rng.random(len(drawn_class)) * sizes[drawn_class]).astype(np.int64)
        counts[:, column] = np.bincount(order[picks], minlength=len(labels)) * factor
        counts[single, column] = rng.exponential(size=int(single.sum()))
    return counts


_NODES = 50  # ranks at which a profile is matched
_GRID = 120  # points of a distribution function
_ROUNDS = 5
_DEGREES = (
    10  # of freedom of the interval: the noise is itself estimated, from few images (chosen by coverage)
)
_LEAST_KEPT = 0.2  # of log q that a pull leaves; below it, the labelled images say next to nothing

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Imbalance:
    """Largest over smallest prior, corrected for the noise of the estimate.

    Attributes
    ----------
    value : float
        1 or larger.
    low, high : float
        Interval.
    """

    value: float
    low: float
    high: float


def imbalance_of(
    log_q: Vector,
    draws: Vector,
    deviation: float,
    *,
    n_per_class: float = np.inf,
    level: float = 0.95,
    seed: int = 0,
    n_boot: int = 60,
) -> Imbalance | None:
    """Estimate the imbalance behind a pulled, noisy estimate of a log prior.

    Parameters
    ----------
    log_q : (K,) array
        The estimate, under a pull towards uniform.
    draws : (K, B) array
        The same estimate on resampled images.
    deviation : float
        Standard deviation of log q that the pull believes; ``inf`` for no pull.
    n_per_class : float
        Images behind each class's noise estimate: fewer make the interval wider.
    level : float
    seed, n_boot : int
        Of the simulations that give the interval.

    Returns
    -------
    Imbalance or None
        None if the pull alone decides.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = np.linspace(0, np.log(100), 100)
    >>> estimate = truth + rng.normal(0, .5, 100)
    >>> found = imbalance_of(estimate, estimate[:, None] + rng.normal(0, .5, (100, 200)), np.inf)
    >>> bool(np.exp(np.ptp(estimate)) > 200), bool(60 < found.value < 200), bool(found.low < 100 < found.high)
    (True, True, True)
    """
    order = np.argsort(log_q)
    ranks = np.arange(len(log_q))
    noise = draws[order].var(axis=1, ddof=1)
    noise = np.maximum(
        np.polyval(np.polyfit(ranks, noise, 1), ranks), noise.mean() / 4
    )  # smooth along the ranks
    # A pull keeps the share w of log q, and the noise of what it keeps is w (1 - w) deviation^2.
    inside = 1 - 4 * noise / deviation**2
    kept = (1 + np.sqrt(np.maximum(inside, 0))) / 2
    if (inside < 0).mean() > 0.5 or kept.mean() < _LEAST_KEPT:
        return None
    match = _Match(kept, np.sqrt(noise))
    rng = np.random.default_rng(seed)
    profile = match.profiles(np.sort(log_q)[None])[0]
    own = float(np.ptp(profile))
    doubt = np.sqrt((n_per_class + 1) / max(n_per_class - 1, 0.5)) if np.isfinite(n_per_class) else 1.0

    def spreads(centres: Vector) -> Vector:
        again = centres + doubt * np.sqrt(noise) * rng.normal(size=(n_boot, len(ranks)))
        return np.ptp(match.profiles(np.sort(again, axis=1)), axis=1)

    wider = student.ppf((1 + level) / 2, _DEGREES)
    reach = wider * float(np.sqrt(((spreads(profile * kept) - own) ** 2).mean()))
    of_equals = spreads(np.zeros(len(ranks)))  # what equal priors would show
    low = own - reach if own > wider * np.sqrt((of_equals**2).mean()) else 0.0
    return Imbalance(*(float(np.exp(max(value, 0))) for value in (own, low, own + reach)))


class _Match:
    """Profiles whose pulled and blurred order statistics match observed ones."""

    def __init__(self, kept: Vector, noise: Vector) -> None:
        self.n = n = len(kept)
        self.at = np.unique(np.rint(np.linspace(0, n - 1, min(n, _NODES))).astype(int))
        ends = np.concatenate([[-0.5], (self.at[1:] + self.at[:-1]) / 2, [n - 0.5]])
        self.mass = np.diff(ends) / n
        self.kept, self.noise = kept[self.at], noise[self.at]
        self.level = (self.at + 0.56) / (n + 0.12)
        u = np.arange(n) / max(n - 1, 1)
        steep = -np.log1p(-u * n / (n + 1)) / np.log(n + 1)
        curves = np.stack([u, 3 * u**2 - 2 * u**3, (u >= 0.5) * 1.0, steep, 1 - steep[::-1]], axis=1)
        self.curves = curves - curves.mean(axis=0)

    def profiles(self, observed: Vector) -> Vector:
        """Match sorted estimates (B, K): (B, K)."""
        centred = observed - observed.mean(axis=1, keepdims=True)
        nodes = centred[:, self.at]
        true = nodes / self.kept
        columns = self.curves[self.at]
        root = np.sqrt(self.mass)
        weights = np.zeros((len(observed), columns.shape[1]))
        for _ in range(_ROUNDS):
            missed = (nodes - self._order_statistics(true)) / self.kept
            weights = np.stack([nnls(columns * root[:, None], row * root)[0] for row in true + missed])
            true = weights @ columns.T
        return weights @ self.curves.T

    def _order_statistics(self, profiles: Vector) -> Vector:
        """Quantiles of the mixture of all blurred classes: (B, nodes)."""
        centres = profiles * self.kept
        low, high = centres.min(axis=1) - 4 * self.noise.max(), centres.max(axis=1) + 4 * self.noise.max()
        grid = np.linspace(low, high, _GRID, axis=1)
        found = np.empty_like(centres)
        for row, (points, centre) in enumerate(zip(grid, centres, strict=True)):
            mixture = ndtr((points[:, None] - centre) / self.noise) @ self.mass
            found[row] = np.interp(self.level, mixture, points)
        return found
