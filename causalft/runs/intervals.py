"""95 % intervals of a share and of a mean that hold at 0, at 1 and for few observations; p-values in words."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Z95",
    "interval_text",
    "mean_interval",
    "p_relation",
    "p_words",
    "paired_interval",
    "share_interval",
    "wilson",
]


Z95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""

_HALVINGS = 50  # of [0, 1]: a limit is exact to 1e-15

_TAIL = 0.022
"""Mid-p probability beyond a limit. With 0.025 the coverage falls to 92 % where three hits are expected, as of an
accuracy at chance with three images per class. With 0.022 it is 93 % or more for the shares .02, .5, .98 and 1 / K of 2
to 100 classes with 1 to 80 images, by enumeration. With many observations it is 95.6 %."""


def wilson(p: ArrayLike, n: ArrayLike, z: float = Z95) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wilson's score interval of a share ``p`` in ``n`` rows (may be fractional); (0, 1) if ``n`` is 0.

    Examples
    --------
    >>> low, high = wilson(np.array([0.8]), np.array([10]))
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.49], [0.943])
    """
    share, n = np.asarray(p, dtype=float), np.asarray(n, dtype=float)
    rows = np.maximum(n, 1e-9)
    half = z / (1 + z**2 / rows) * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    middle = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    low, high = np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
    return np.where(n > 0, low, 0.0), np.where(n > 0, high, 1.0)


def share_interval(share: ArrayLike, n: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mid-p interval of a share seen in ``n`` observations.

    Clopper and Pearson's interval with half of the probability of the observed value: a limit L solves
    P(X > x | L) + P(X = x | L) / 2 = 0.022. It covers 93 % or more, where Clopper-Pearson covers 97 to 99 % and
    Wilson's interval falls to 88 % near 0 and 1.

    Parameters
    ----------
    share : array of numbers in [0, 1]
    n : array of numbers above 0
        May be fractional: an effective number of observations.

    Returns
    -------
    low, high : arrays in [0, 1]

    References
    ----------
    Berry and Armitage, "Mid-P confidence intervals: a brief review", The Statistician 1995; effective numbers: Korn
    and Graubard, Survey Methodology 1998.

    Examples
    --------
    >>> low, high = share_interval([0.0, 0.5, 1.0], 10)
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.0, 0.206, 0.732], [0.268, 0.794, 1.0])
    """
    from scipy.special import betainc

    p, n = np.broadcast_arrays(np.asarray(share, dtype=float), np.asarray(n, dtype=float))
    hits, misses = n * p, n * (1 - p)
    some_hits, some_misses = np.where(hits > 0, hits, 1.0), np.where(misses > 0, misses, 1.0)

    def confidence(x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mid-p distribution of the share: the mean of the two that bound the exact interval."""
        above = np.where(hits > 0, betainc(some_hits, misses + 1, x), 1.0)
        below = np.where(misses > 0, betainc(hits + 1, some_misses, x), 0.0)
        return np.asarray((above + below) / 2)

    limits = []
    for level in (_TAIL, 1 - _TAIL):
        low, high = np.zeros(p.shape), np.ones(p.shape)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            under = confidence(middle) < level
            low, high = np.where(under, middle, low), np.where(under, high, middle)
        limits.append(np.round((low + high) / 2, 12))
    # Without a hit the lower limit is 0, without a miss the upper one is 1.
    return np.where(hits > 0, limits[0], 0.0), np.where(misses > 0, limits[1], 1.0)


def mean_interval(values: ArrayLike) -> tuple[float, float, float]:
    """Mean of independent repetitions (seeds) and its 95 % interval by Student's t.

    Parameters
    ----------
    values : (S,) array

    Returns
    -------
    mean, low, high : floats
        The limits are NaN where there is no interval: for one value, and for values that are all equal, which tell
        nothing of how much values vary.

    Examples
    --------
    >>> [round(value, 3) for value in mean_interval([0.5, 0.6, 0.7])]
    [0.6, 0.352, 0.848]
    >>> mean_interval([0.5, 0.5])
    (0.5, nan, nan)
    """
    from scipy.stats import t

    found = np.asarray(values, dtype=float)
    mean = float(found.mean())
    spread = float(found.std(ddof=1)) if len(found) > 1 else 0.0
    if not spread > 1e-12 * abs(mean):
        return mean, float("nan"), float("nan")
    half = float(t.ppf(0.975, len(found) - 1)) * spread / len(found) ** 0.5
    return mean, mean - half, mean + half


def interval_text(
    estimate: float | None,
    ci95: Sequence[float | None] | None,
    reason: str = "",
    *,
    sign: bool = False,
    unit: str = "",
    missing: str = "not measurable",
    digits: int = 1,
) -> str:
    """Write a fraction and its interval in percent or points, as everywhere in the project.

    Parameters
    ----------
    estimate : float, optional
        None or NaN: ``missing`` is written.
    ci95 : (low, high), optional
        Fractions; None or NaN if there is no interval.
    reason : str
        Why there is no interval.
    sign : bool
        Write a plus before a positive estimate.
    unit : str
        Written after the estimate.
    missing : str
    digits : int
        After the point; more are written where two limits would look alike.

    Examples
    --------
    >>> interval_text(0.123, (0.11, 0.136)), interval_text(0.123, (0.11, 0.136), sign=True, unit=" %")
    ('12.3 [11.0, 13.6]', '+12.3 % [11.0, 13.6]')
    >>> interval_text(0.125, None, "one seed"), interval_text(0.9999, (0.9998, 1.0))
    ('12.5, no interval (one seed)', '99.99 [99.98, 100.00]')
    >>> interval_text(0.0, (0.0, 1e-6)), interval_text(-0.0007, (-0.0016, 0.0002), sign=True, digits=2)
    ('0.0 [0.0, 0.0]', '-0.07 [-0.16, 0.02]')
    """
    if estimate is None or estimate != estimate:
        return f"{missing} ({reason})" if reason and missing == "not measurable" else missing
    low, high = (None, None) if ci95 is None else ci95
    plus = "+" if sign else ""
    if low is None or high is None or not low <= high:
        alone = f"{100 * estimate:{plus}.{digits}f}{unit}"
        return f"{alone}, no interval ({reason})" if reason else alone
    while digits < 6 and high - low > _ROUNDING and f"{100 * low:.{digits}f}" == f"{100 * high:.{digits}f}":
        digits += 1
    limits = f"[{100 * low:.{digits}f}, {100 * high:.{digits}f}]".replace("[-0.0,", "[0.0,")
    return f"{100 * estimate:{plus}.{digits}f}{unit} {limits}"


_ROUNDING = 1e-5
"""An interval that is no wider holds one number: differences that are 0 but for rounding."""

SMALLEST = 1e-4
"""Below this a p-value is printed as "< 1e-4": no test of ours knows its tail further than that."""


def p_words(p: float) -> str:
    """A p-value for a table cell.

    Examples
    --------
    >>> p_words(0.0312), p_words(3e-17), p_words(0.0001), p_words(1.0), p_words(float("nan"))
    ('0.031', '< 1e-4', '0.0001', '1', '')
    """
    if isnan(p):
        return ""
    return "< 1e-4" if p < SMALLEST else f"{p:.2g}"


def p_relation(p: float) -> str:
    """A p-value for the end of a sentence, after the letter p.

    Examples
    --------
    >>> f"p {p_relation(0.031)}", f"p {p_relation(1e-9)}"
    ('p = 0.031', 'p < 1e-4')
    """
    words = p_words(p)
    return words if words.startswith("<") else f"= {words or 'unknown'}"


def paired_interval(
    first: ArrayLike, second: ArrayLike, weights: ArrayLike | None = None
) -> tuple[float, float, float]:
    """Difference of two shares of the same images, with its 95 % interval.

    Agresti and Min's adjusted Wald interval: half an image is added to each of the four cells, so that its width is
    never zero. Weighted images count as their effective number (Kish).

    Parameters
    ----------
    first, second : (n,) arrays of bool
    weights : (n,) array of non-negative numbers, optional

    Returns
    -------
    difference, low, high : floats
        ``first`` less ``second``, as fractions.

    References
    ----------
    Agresti and Min, "Simple improved confidence intervals for comparing matched proportions", Statistics in Medicine
    2005.

    Examples
    --------
    >>> [round(value, 3) for value in paired_interval([1, 1, 1, 0] * 25, [1, 1, 0, 0] * 25)]
    [0.25, 0.159, 0.331]
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    w = np.ones(len(a)) if weights is None else np.asarray(weights, dtype=float)
    n = float(w.sum() ** 2 / (w**2).sum())
    better, worse = (float(w @ (x & ~y) / w.sum()) for x, y in ((a, b), (b, a)))
    better_seen, worse_seen = n * better + 0.5, n * worse + 0.5
    middle = (better_seen - worse_seen) / (n + 2)
    half = Z95 * np.sqrt(better_seen + worse_seen - (better_seen - worse_seen) ** 2 / (n + 2)) / (n + 2)
    return better - worse, float(max(-1.0, middle - half)), float(min(1.0, middle + half))
