"""Tests of conditional independence: a stratified G test for categories, residual correlations otherwise.

*Categories only.* The G test within every combination of the conditioning values (Agresti 2013, sections 3.2 and 8.3).
The estimate is the conditional mutual information I(X; Y | Z) = G / 2n in nats, less its expectation under
independence; n counts the rows in strata where both vary. If an expected count is below 5, the null distribution is
that of tables with the margins of each stratum (Patefield 1981), exact up to Monte Carlo error.

*A continuous X or Y, categories in Z.* Correlation within strata, with its variance under all permutations within
each stratum; assumes exchangeable rows within a stratum.

*A continuous Z.* The generalised covariance measure (Shah & Peters 2020, Annals of Statistics 48): X and Y are
regressed on Z, and the products of residuals have mean 0. The regression is polynomial: a cubic in each continuous Z,
products of pairs up to degree 3, and degree 2 to 5 in its rank, as far as there are ten rows per term. It has power
only where residuals are correlated.

In the last two, a category is one 0/1 column per value, and a continuous variable is two columns: itself, and the
second Legendre polynomial of the rank of its residual, which detects U-shapes and spreads. The p-value is that of the
largest component, Bonferroni-corrected.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalft.scm.table import Variable

__all__ = ["MAX_DRAWS", "POWER", "IndependenceTest", "independence_test"]

#: The probability of finding an effect of size ``detectable``.
POWER = 0.8

#: Most tables that one Monte Carlo test draws.
MAX_DRAWS = 20_000

_RARE = 5  # rows: rarer values are no components, and smaller expected counts need Monte Carlo


@dataclass(frozen=True)
class IndependenceTest:
    """One test of X _||_ Y | Z.

    Attributes
    ----------
    method : str
        ``G test``, ``G test, Monte Carlo``, ``correlation within strata`` or ``residual correlation``.
    quantity : str
        Of ``estimate``: ``CMI`` (conditional mutual information, nats) or ``partial correlation``.
    component : str
        The correlated columns, such as ``spread of X with Y=cat``; empty for CMI.
    n : int
        Rows in strata where both vary.
    estimate : float
    ci95 : (float, float)
        For a correlation, simultaneous over all components.
    p : float
    detectable : float
        The smallest effect found with probability `POWER`, in the unit of ``estimate``; infinite if no stratum varies.
    """

    method: str
    quantity: str
    component: str
    n: int
    estimate: float
    ci95: tuple[float, float]
    p: float
    detectable: float

    @property
    def detectable_correlation(self) -> float:
        """``detectable`` as a correlation; for mutual information I that is sqrt(1 - exp(-2 I)) (Linfoot 1957)."""
        if self.quantity == "CMI":
            return math.sqrt(-math.expm1(-2 * self.detectable))
        return min(self.detectable, 1.0)


def independence_test(
    x: Variable, y: Variable, given: Sequence[Variable], *, level: float, draws: int, rng: np.random.Generator
) -> IndependenceTest:
    """Test whether ``x`` and ``y`` are independent given other variables.

    Parameters
    ----------
    x, y : Variable
    given : sequence of Variable
    level : float
        In (0, 1): the level for ``detectable``; with several tests, the smallest that Holm uses.
    draws : int
        Monte Carlo tables for a sparse G test.
    rng : numpy.random.Generator

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.integers(0, 2, 2000)
    >>> noisy = [Variable(name, name, z ^ (rng.random(2000) < 0.2), ("0", "1")) for name in "XY"]
    >>> cause = Variable("Z", "Z", z, ("0", "1"))
    >>> independence_test(*noisy, [], level=0.05, draws=999, rng=rng).p < 1e-9
    True
    >>> independence_test(*noisy, [cause], level=0.05, draws=999, rng=rng).p > 0.05
    True
    """
    if all(variable.discrete for variable in given):
        strata = _cells(given, len(x.values))
        if x.discrete and y.discrete:
            return _g_test(x, y, strata, level, min(draws, MAX_DRAWS), rng)
        return _within_strata(x, y, strata, level)
    return _residuals(x, y, given, level)


def _cells(variables: Sequence[Variable], n: int) -> np.ndarray:
    """Number the combinations of values that occur: (n,) int from 0."""
    cells = np.zeros(n, dtype=np.int64)
    for variable in variables:
        cells = np.unique(cells * max(len(variable.levels), 1) + variable.values, return_inverse=True)[1]
    return cells


# --- categories ---------------------------------------------------------------------------------------------------


def _g_test(
    x: Variable, y: Variable, strata: np.ndarray, level: float, draws: int, rng: np.random.Generator
) -> IndependenceTest:
    from scipy import stats
    from scipy.special import xlogy

    order = np.argsort(strata, kind="stable")
    bounds = np.flatnonzero(np.diff(strata[order])) + 1
    tables = []
    for rows in np.split(order, bounds):
        a, b = (np.unique(each[rows], return_inverse=True)[1] for each in (x.values, y.values))
        if a.max() and b.max():
            shape = int(a.max()) + 1, int(b.max()) + 1
            tables.append(np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape))
    n = int(sum(table.sum() for table in tables))
    if not tables:
        return IndependenceTest("G test", "CMI", "", 0, 0.0, (0.0, math.inf), 1.0, math.inf)
    g, square, smallest, df = 0.0, 0.0, math.inf, 0
    for table in tables:
        expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
        ratio = np.log(np.where(table > 0, table, 1) / np.where(table > 0, expected, 1))
        g += 2 * float((table * ratio).sum())
        square += float((table * ratio**2).sum())
        smallest = min(smallest, float(expected.min()))
        df += (table.shape[0] - 1) * (table.shape[1] - 1)
    if smallest >= _RARE:
        method, mean, variance = "G test", float(df), 2.0 * df
        p = float(stats.chi2.sf(g, df))
    else:
        method = "G test, Monte Carlo"
        null = np.zeros(draws)
        logs = xlogy(np.arange(n + 1), np.arange(n + 1))
        for table in tables:
            null += _null_g(table, draws, logs, rng)
        mean, variance = float(null.mean()), float(null.var())
        p = float((1 + (null >= g - 1e-9).sum()) / (1 + draws))
    if variance < 1e-12:  # the margins leave one table only
        return IndependenceTest(method, "CMI", "", n, 0.0, (0.0, math.inf), 1.0, math.inf)
    # G is about scale * chi-squared with the moments of the null, non-central by 2 n I / scale otherwise.
    scale, freedom = variance / (2 * mean), 2 * mean**2 / variance
    low, high = (scale * _noncentrality(g / scale, freedom, q) / (2 * n) for q in (0.975, 0.025))
    estimate = max(0.0, g - mean) / (2 * n)
    # Far from the null the spread of the log ratio dominates; report the wider interval.
    error = math.sqrt(max(square / n - (g / (2 * n)) ** 2, 0.0) / n)
    if p < 1e-4:
        low, high = min(low, max(estimate - 1.96 * error, 0.0)), max(high, estimate + 1.96 * error)
    power = _noncentrality(float(stats.chi2.isf(level, freedom)), freedom, 1 - POWER)
    return IndependenceTest(
        method,
        "CMI",
        "",
        n,
        estimate,
        (min(low, estimate), max(high, estimate)),
        p,
        scale * power / (2 * n),
    )


def _null_g(table: np.ndarray, draws: int, logs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw G of tables with the margins of one, (draws,)."""
    from scipy import stats

    rows, columns = table.sum(1), table.sum(0)
    law = stats.random_table(rows, columns)
    fixed = float(logs[table.sum()] - logs[rows].sum() - logs[columns].sum())
    step = max(1, 4_000_000 // table.size)
    parts = [
        logs[law.rvs(min(step, draws - start), random_state=rng).astype(np.int64)].sum((1, 2))
        for start in range(0, draws, step)
    ]
    return 2 * (np.concatenate(parts) + fixed)


def _noncentrality(value: float, freedom: float, probability: float) -> float:
    """Return the non-centrality at which a chi-squared variable is below ``value`` with this probability, or 0."""
    from scipy import optimize, stats

    if stats.chi2.cdf(value, freedom) <= probability:
        return 0.0
    top = value + 10 * math.sqrt(2 * freedom + 4 * value) + 50
    return float(optimize.brentq(lambda nc: stats.ncx2.cdf(value, freedom, nc) - probability, 1e-9, top))


# --- residuals ----------------------------------------------------------------------------------------------------


def _within_strata(x: Variable, y: Variable, strata: np.ndarray, level: float) -> IndependenceTest:
    """Correlate within strata, with the permutation variance of sum(a b)."""
    sizes = np.bincount(strata)
    kept = sizes[strata] >= 2
    for variable in (x, y):  # drop strata in which one does not vary
        lowest, highest = np.full(len(sizes), np.inf), np.full(len(sizes), -np.inf)
        np.minimum.at(lowest, strata, variable.values)
        np.maximum.at(highest, strata, variable.values)
        kept &= (highest > lowest)[strata]
    n = int(kept.sum())
    cells, sizes = np.unique(strata[kept], return_inverse=True, return_counts=True)[1:]
    freedom = n - len(sizes) - 1
    if freedom < 2:
        return _nothing("correlation within strata", n)

    def centre(values: np.ndarray) -> np.ndarray:
        return values - (np.bincount(cells, values) / sizes)[cells]

    parts = []
    a_parts, b_parts = (_components(each, kept, centre) for each in (x, y))
    for (a_name, a), (b_name, b) in itertools.product(a_parts, b_parts):
        spread = (np.bincount(cells, a * a) * np.bincount(cells, b * b) / (sizes - 1)).sum()
        z = float((a * b).sum() / math.sqrt(spread))
        r = min(max(z / math.sqrt(freedom + 1), -1 + 1e-12), 1 - 1e-12)
        parts.append((r * math.sqrt(freedom / (1 - r * r)), f"{a_name} with {b_name}", a, b))
    return _largest("correlation within strata", parts, n, freedom, level)


def _residuals(x: Variable, y: Variable, given: Sequence[Variable], level: float) -> IndependenceTest:
    """Regress on Z and studentise the products of the residuals (Shah & Peters 2020, section 3)."""
    n = len(x.values)
    design = _design(given, n)
    freedom = n - design.shape[1] - 1
    if freedom < 2:
        return _nothing("residual correlation", n)

    def centre(values: np.ndarray) -> np.ndarray:
        return values - design @ (design.T @ values)

    parts = []
    everything = np.ones(n, dtype=bool)
    a_parts, b_parts = (_components(each, everything, centre) for each in (x, y))
    for (a_name, a), (b_name, b) in itertools.product(a_parts, b_parts):
        products = a * b
        spread = float(products.std())
        t = math.sqrt(freedom) * float(products.mean()) / spread if spread > 0 else 0.0
        parts.append((t, f"{a_name} with {b_name}", a, b))
    return _largest("residual correlation", parts, n, freedom, level)


def _components(variable: Variable, kept: np.ndarray, centre) -> list[tuple[str, np.ndarray]]:  # type: ignore[no-untyped-def]
    """Return the named columns of a variable, residualised on Z."""
    from scipy.stats import rankdata

    values = variable.values[kept]
    if variable.discrete:
        counts = np.bincount(values, minlength=len(variable.levels))
        chosen = np.flatnonzero((counts >= _RARE) & (counts <= len(values) - _RARE))
        if len(variable.levels) == 2:
            chosen = chosen[-1:]
        columns = [
            (f"{variable.name}={variable.levels[k]}", centre((values == k).astype(float))) for k in chosen
        ]
    else:
        residual = centre((values - values.mean()) / values.std())
        u = (rankdata(residual) - 0.5) / len(residual)
        columns = [(variable.name, residual), (f"spread of {variable.name}", centre(6 * u * u - 6 * u + 1))]
    return [(name, column) for name, column in columns if column.std() > 1e-6]


def _design(given: Sequence[Variable], n: int) -> np.ndarray:
    """Return an orthonormal basis of the functions of Z, (n, q) with q at most n / 10."""
    from numpy.polynomial.legendre import legvander
    from scipy.stats import rankdata

    cells = _cells([variable for variable in given if variable.discrete], n)
    linear = [(cells == k).astype(float) for k in range(1, cells.max() + 1)]
    if len(linear) > n / 20:  # too many combinations: each variable by itself
        linear = [(v.values == k).astype(float) for v in given if v.discrete for k in range(1, len(v.levels))]
    powers, ranks, products = [], [], []
    dummies = list(linear)
    curves: list[np.ndarray] = []
    for variable in given:
        if not variable.discrete:
            z = (variable.values - variable.values.mean()) / variable.values.std()
            u = 2 * (rankdata(z) - 0.5) / n - 1
            products += [z * column for column in dummies]
            for w in curves:
                products += [z * w, z**2 * w, z * w**2]
            curves.append(z)
            powers += [z**2, z**3]
            ranks += list(legvander(u, 5)[:, 2:].T)
    columns = [np.ones(n), *linear, *curves]
    for more in (powers, products, ranks):
        if len(columns) + len(more) <= n / 10:
            columns += more
    left, singular, _ = np.linalg.svd(np.stack(columns, 1) / np.sqrt(n), full_matrices=False)
    return left[:, singular > 1e-8 * singular[0]]


Part = tuple[float, str, np.ndarray, np.ndarray]


def _largest(method: str, parts: list[Part], n: int, freedom: int, level: float) -> IndependenceTest:
    """Report the component with the largest t, corrected for their number."""
    from scipy import stats

    if not parts:
        return _nothing(method, n)
    t, name, a, b = max(parts, key=lambda part: abs(part[0]))
    p = min(1.0, 2 * len(parts) * float(stats.t.sf(abs(t), freedom)))
    a, b = a / math.sqrt(float((a * a).mean())), b / math.sqrt(float((b * b).mean()))
    r = float((a * b).mean())
    error = float((a * b - r * (a * a + b * b) / 2).std()) / math.sqrt(freedom)
    reach = float(stats.t.isf(0.025 / len(parts), freedom)) * error
    seen = float(stats.t.isf(level / (2 * len(parts)), freedom) + stats.t.isf(1 - POWER, freedom))
    return IndependenceTest(
        method,
        "partial correlation",
        name,
        n,
        r,
        (max(r - reach, -1.0), min(r + reach, 1.0)),
        p,
        seen / math.sqrt(freedom + seen**2),
    )


def _nothing(method: str, n: int) -> IndependenceTest:
    return IndependenceTest(method, "partial correlation", "", n, 0.0, (-1.0, 1.0), 1.0, math.inf)
