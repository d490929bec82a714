"""Intervals of what is not a class accuracy: means over images and seeds, and statistics of classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["jackknife", "mean_over_images"]


def mean_over_images(values: ArrayLike) -> dict[str, Any]:
    """Mean with a 95 % interval over images and seeds.

    Student's t on the variance of the images' means (over seeds) plus that of the seeds' means, with Satterthwaite's
    degrees of freedom.

    Parameters
    ----------
    values : (S, n) array
        One value per seed and image, the same images for all seeds.

    Returns
    -------
    dict
        ``{estimate, ci95, p}``.

    Examples
    --------
    >>> found = mean_over_images([[0.0, 1.0, 2.0, 1.0]])
    >>> found["estimate"], [round(bound, 2) for bound in found["ci95"]]
    (1.0, [-0.3, 2.3])
    """
    table = np.asarray(values, dtype=float)
    seeds, n = table.shape
    of_images = table.mean(axis=0).var(ddof=1) / n
    of_seeds = table.mean(axis=1).var(ddof=1) / seeds if seeds > 1 else 0.0
    square = of_images**2 / (n - 1) + (of_seeds**2 / (seeds - 1) if seeds > 1 else 0.0)
    df = (of_images + of_seeds) ** 2 / square if square > 0 else float(n - 1)
    return _student(float(table.mean()), float(np.sqrt(of_images + of_seeds)), float(df))


def jackknife(statistic: Callable[[NDArray[np.int64]], float], n: int) -> dict[str, Any]:
    """A statistic of n classes with a 95 % interval over the classes, by leaving out each in turn (Tukey 1958).

    Parameters
    ----------
    statistic : callable
        Maps indices of classes to a number.
    n : int

    Examples
    --------
    >>> x = np.array([0.0, 1.0, 2.0, 1.0])
    >>> jackknife(lambda rows: x[rows].mean(), 4)["estimate"]
    1.0
    """
    everything = np.arange(n)
    left_out = np.array([statistic(np.delete(everything, k)) for k in range(n)])
    error = np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    return _student(float(statistic(everything)), float(error), n - 1.0)


def _student(estimate: float, error: float, df: float) -> dict[str, Any]:
    from scipy.stats import t as student

    if error == 0:
        reason = "the values do not vary"
        return {"estimate": estimate, "ci95": None, "p": None, "reason": reason}
    half = float(student.ppf(0.975, df)) * error
    p = float(2 * student.sf(abs(estimate) / error, df))
    return {"estimate": estimate, "ci95": [estimate - half, estimate + half], "p": p}
