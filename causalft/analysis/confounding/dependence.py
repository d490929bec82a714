"""Tests of the arrows C -> X and C -> Y and of the path X <- C -> Y, on rows (c, x, y).

The rows are counted into a table. A statistic (conditional mutual information, or a total variation) is never negative,
so chance alone makes it positive; permuting C within the strata of the null hypothesis says by how much. On a table
such a permutation is a draw of cell counts with both margins fixed (multivariate hypergeometric), so a thousand cost
milliseconds. The p-value ``(1 + #{permuted >= seen}) / (1 + R)`` is valid in finite samples (Phipson and Smyth 2010).

Estimates are corrected for that chance part; intervals come from a multinomial bootstrap of the table (quantiles about
the bootstrap's mean, moved to the corrected estimate); both are cut at zero. An information loses its mean over
permutations; a distance is corrected in squares, ``seen^2 - (mean permuted)^2``, in which noise adds.
"""

from __future__ import annotations

import numpy as np

from causalft.analysis.confounding.estimates import backdoor, count_table, naive, ratio, resample
from causalft.analysis.confounding.statistics import Evidence
from causalft.errors import CausalFTError

__all__ = [
    "c_to_x",
    "c_to_y",
    "conditional_mutual_information",
    "open_backdoor_path",
    "path_distance",
    "permute_within",
    "placebo_c",
    "seeing_minus_adjusting",
]

RESAMPLES = 1000
"""Permutations, and bootstrap draws, of each test."""


def permute_within(counts: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Permute C within strata, as tables: draw counts with the margins of every stratum fixed.

    Parameters
    ----------
    counts : (..., C, V), counts of C and another variable V in each stratum.
    size : number of permutations.

    Returns
    -------
    (size, ..., C, V)

    Examples
    --------
    >>> drawn = permute_within(np.array([[3.0, 0.0], [0.0, 2.0]]), 50, np.random.default_rng(0))
    >>> bool((drawn.sum(-1) == [3, 2]).all() and (drawn.sum(-2) == [3, 2]).all())
    True
    """
    whole = np.rint(counts).astype(np.int64)
    rows, left = (
        whole.sum(-1),
        np.broadcast_to(whole.sum(-2), (size, *whole.shape[:-2], whole.shape[-1])).copy(),
    )
    drawn = np.zeros((size, *whole.shape), dtype=np.int64)
    for c in range(whole.shape[-2] - 1):
        wanted = np.broadcast_to(rows[..., c], (size, *rows.shape[:-1])).copy()
        for v in range(whole.shape[-1]):
            rest = left[..., v + 1 :].sum(-1)  # rows with later values, not yet given to a value of C
            taken = rng.hypergeometric(left[..., v], rest, wanted)
            drawn[..., c, v] = taken
            left[..., v] -= taken
            wanted -= taken
    drawn[..., -1, :] = left
    return drawn.astype(float)


def conditional_mutual_information(counts: np.ndarray) -> np.ndarray:
    """I(C; V | Z) of tables of counts or probabilities (..., Z, C, V), in nats.

    Examples
    --------
    >>> together, apart = np.eye(2)[None] * 5, np.ones((1, 2, 2))
    >>> float(conditional_mutual_information(together)), float(conditional_mutual_information(apart))
    (0.693, 0.0)
    """
    from scipy.special import xlogy

    p = counts / counts.sum((-3, -2, -1), keepdims=True)
    z, cz, vz = p.sum((-2, -1)), p.sum(-1), p.sum(-2)
    entropies = xlogy(p, p).sum((-3, -2, -1)) + xlogy(z, z).sum(-1)
    return np.maximum(entropies - xlogy(cz, cz).sum((-2, -1)) - xlogy(vz, vz).sum((-2, -1)), 0.0)


def seeing_minus_adjusting(counts: np.ndarray) -> np.ndarray:
    """P^(y | x) - sum_c P^(y | x, c) P^(c) for tables (..., C, X, Y): what conditioning on C changes, (..., X, Y).

    NaN at a code x that lacks a value of C that occurs.
    """
    with_b = counts[..., None, :]  # the estimators take contents too: here there is one
    return naive(with_b) - backdoor(with_b)


def path_distance(counts: np.ndarray) -> np.ndarray:
    """Total variation between P^(y | x) and sum_c P^(y | x, c) P^(c), averaged over the P^(x) with overlap, (...)."""
    distance = 0.5 * np.abs(seeing_minus_adjusting(counts)).sum(-1)
    weight = np.where(np.isnan(distance), 0.0, counts.sum((-3, -1)))
    return ratio((weight * np.nan_to_num(distance)).sum(-1), weight.sum(-1))


def c_to_x(
    c: np.ndarray, x: np.ndarray, y: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES
) -> Evidence:
    """Is C visible in X, given the class? I(C; X | Y) in nats, with C permuted within each class.

    Parameters
    ----------
    c, x, y : int arrays of shape (n,), numbered from 0.
    seed : of permutations and bootstrap.
    resamples : of each.

    Raises
    ------
    CausalFTError
        If the columns do not fit together, or C or X has one value only.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> c, y = rng.integers(2, size=(2, 300))
    >>> c_to_x(c, 2 * y + c, y).p < 0.01
    True
    """
    table = _rows(c, x, y)  # (C, X, Y)
    found = _information(np.moveaxis(table, -1, 0), seed, resamples)
    return _worded(
        found,
        "nats of C are visible in X beyond what the class shows",
        "C leaves a trace in the image",
        "no trace of C in the image was found",
    )


def c_to_y(
    c: np.ndarray, x: np.ndarray, y: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES
) -> Evidence:
    """Does C carry label information beyond X? I(C; Y | X) in nats, with C permuted within each code.

    A selected sample shows this dependence too: it does not say which way it came about. Parameters as in `c_to_x`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> c, x = rng.integers(2, size=(2, 300))
    >>> c_to_y(c, x, c).p < 0.01, c_to_y(c, x, x).p > 0.05
    (True, True)
    """
    table = _rows(c, x, y)
    found = _information(table.swapaxes(0, 1), seed, resamples)
    return _worded(
        found,
        "nats of the label are known to C beyond what X shows",
        "C goes with the label, given the image",
        "no link of C with the label, given the image, was found",
    )


def open_backdoor_path(
    c: np.ndarray, x: np.ndarray, y: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES
) -> Evidence:
    """Does adjusting for C change P(Y | X)? Total variation between P(y | x) and sum_c P(y | x, c) P(c), over P(x).

    The two agree if C is independent of Y given X, or of X: the path X <- C -> Y needs both arrows. So two null
    hypotheses are tested by permuting C: within each code (statistic: this distance), and over all rows (statistic:
    I(C; X)). The p-value is the larger of the two (an intersection-union test, Berger 1982).

    Codes without overlap are left out and counted in the words. If no code has overlap (C is a function of X), the
    estimate is NaN and p is 1. Parameters as in `c_to_x`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> c, noise = rng.integers(2, size=400), rng.random((2, 400))
    >>> x, y = np.where(noise < 0.8, c, 1 - c)
    >>> open_backdoor_path(c, x, y).p < 0.01
    True
    """
    table = _rows(c, x, y)
    rng = np.random.default_rng([seed, 3])
    seen = float(path_distance(table))
    if np.isnan(seen):
        nan = float("nan")
        words = (
            "cannot be told: no value of X occurs with every value of C, so P(Y | X, C) P(C) has no overlap"
        )
        return Evidence(nan, (nan, nan), 1.0, words)
    permuted = path_distance(_permuted_in_codes(table, resamples, rng))
    p_label = _p_value(permuted, seen)
    cx = table.sum(-1)
    shuffled = permute_within(cx, resamples, rng)
    p_picture = _p_value(
        conditional_mutual_information(shuffled[:, None]), float(conditional_mutual_information(cx[None]))
    )
    square = seen**2 - float(np.nanmean(permuted)) ** 2
    low, high = _about(square, path_distance(resample(table, resamples, rng)) ** 2)
    lost = int(np.isnan(seeing_minus_adjusting(table)[:, 0]).sum())
    found = Evidence(max(0.0, square) ** 0.5, (low**0.5, high**0.5), max(p_label, p_picture), "")
    tail = f" ({lost} of {table.shape[1]} codes lack overlap and are left out)" if lost else ""
    return _worded(
        found,
        f"of total variation lie between P(Y | X) and its adjustment for C{tail}",
        "the backdoor path X <- C -> Y is open",
        "no open backdoor path was found",
    )


def placebo_c(
    c: np.ndarray, x: np.ndarray, y: np.ndarray, *, seed: int = 0, shuffles: int = 100, resamples: int = 50
) -> Evidence:
    """The statistic of `open_backdoor_path` with C shuffled over all rows, many times: it should be about 0.

    Each shuffle is corrected for chance by its own permutations. The interval holds 95 % of the shuffles; p, twice the
    smaller share of shuffles on either side of 0, is small if the test finds a path where there is none.

    Parameters
    ----------
    c, x, y, seed : as in `c_to_x`.
    shuffles, resamples : shuffles, and permutations for each.
    """
    table = _rows(c, x, y)
    rng = np.random.default_rng([seed, 4])
    n_x, n_y = table.shape[1:]
    tables = permute_within(table.reshape(len(table), -1), shuffles, rng).reshape(shuffles, -1, n_x, n_y)
    values = np.empty(shuffles)
    for i, shuffled in enumerate(tables):
        seen, permuted = path_distance(shuffled), path_distance(_permuted_in_codes(shuffled, resamples, rng))
        squares = seen**2 - np.nanmean(permuted) ** 2 if not np.isnan(seen) else np.nan
        values[i] = np.sign(squares) * np.sqrt(np.abs(squares))  # signed, so that chance averages out
    values = values[~np.isnan(values)]
    if not len(values):
        raise CausalFTError(
            "no value of X occurs with every value of a shuffled C: too few rows for a placebo"
        )
    low, high = np.percentile(values, [2.5, 97.5])
    p = min(1.0, 2 * min(float(np.mean(values >= 0)), float(np.mean(values <= 0))))
    mean = float(values.mean())
    verdict = (
        "about 0, as it must be" if p > 0.05 else "not 0: the statistic finds a path where there is none"
    )
    return Evidence(
        mean,
        (float(low), float(high)),
        p,
        f"with C shuffled the distance is {100 * mean:.1f} points [{100 * low:.1f}, {100 * high:.1f}]: {verdict}",
    )


def _rows(c: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Count rows into a table (C, X, Y)."""
    columns = [np.asarray(column) for column in (c, x, y)]
    for name, column in zip("cxy", columns):
        if not len(column) or not np.issubdtype(column.dtype, np.integer):
            raise CausalFTError(f"column {name} must hold one row or more of integers numbered from 0")
    shape = [int(column.max()) + 1 for column in columns]
    table = count_table(
        columns[0], columns[1], np.zeros_like(columns[0]), columns[2], (*shape[:2], 1, shape[2])
    )
    for name, axes in (("C", (1, 2, 3)), ("X", (0, 2, 3))):
        if np.sum(table.sum(axes) > 0) < 2:
            raise CausalFTError(
                f"{name} takes one value only in these rows: nothing to test; it needs two or more"
            )
    return table[:, :, 0]


def _permuted_in_codes(table: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Permute C within each code: (C, X, Y) -> (size, C, X, Y)."""
    return permute_within(table.swapaxes(0, 1), size, rng).swapaxes(1, 2)


def _information(strata: np.ndarray, seed: int, resamples: int) -> Evidence:
    """Conditional mutual information of a table (Z, C, V), tested by permutations of C within Z."""
    rng = np.random.default_rng([seed, 2])
    seen = float(conditional_mutual_information(strata))
    permuted = conditional_mutual_information(permute_within(strata, resamples, rng))
    draws = conditional_mutual_information(resample(strata, resamples, rng))
    corrected = seen - float(permuted.mean())
    return Evidence(max(0.0, corrected), _about(corrected, draws), _p_value(permuted, seen), "")


def _p_value(permuted: np.ndarray, seen: float) -> float:
    """Share of permutations that reach what was seen, up to rounding."""
    return float((1 + np.sum(permuted >= seen - 1e-12)) / (1 + len(permuted)))


def _about(estimate: float, draws: np.ndarray) -> tuple[float, float]:
    """The bootstrap's quantiles about its mean, moved to the estimate and cut at 0."""
    low, high = np.nanpercentile(draws, [2.5, 97.5]) - np.nanmean(draws) + estimate
    return max(0.0, float(low)), max(0.0, float(high))


def _worded(found: Evidence, unit: str, yes: str, no: str) -> Evidence:
    low, high = found.ci95
    scale, digits = (100, 1) if "total variation" in unit else (1, 3)
    name = "points " if scale == 100 else ""
    numbers = f"{scale * found.estimate:.{digits}f} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"
    words = f"{numbers} {name}{unit}: {yes if found.p < 0.05 else no}"
    return Evidence(found.estimate, found.ci95, found.p, words)
