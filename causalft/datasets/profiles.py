"""The class counts of long tails: exponential, Zipf and Pareto profiles, and those of the CIFAR-LT benchmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from causalft.errors import CausalFTError, nearest

__all__ = ["PARETO_POWER", "PROFILES", "benchmark_counts", "profile_counts"]

#: Names that `profile_counts` knows.
PROFILES = ("exponential", "zipf", "pareto")

#: The power of the Pareto distribution that ImageNet-LT names (Liu et al., CVPR 2019).
PARETO_POWER = 6.0


def profile_counts(
    n_classes: int, n_max: int, imbalance_factor: float, profile: str = "exponential"
) -> NDArray[np.int64]:
    """Class counts of a long tail, head first.

    "exponential" is ``n_max * IF ** (-k / (K - 1))``, "zipf" is ``n_max * (k + 1) ** (-ln IF / ln K)``. "pareto" is the
    density of a Pareto distribution of the second kind (Lomax) with power 6, which ImageNet-LT names, read at evenly
    spaced classes and stretched until the last count is ``n_max / imbalance_factor``:
    ``n_max * (1 + (IF ** (1 / 7) - 1) * k / (K - 1)) ** -7``. Beside the exponential profile it falls
    faster at the head and slower in the tail.

    Parameters
    ----------
    n_classes : int
        K, at least 2.
    n_max : int
        Count of the first class.
    imbalance_factor : float
        First count over last count, at least 1. Counts are rounded and never fall below 1, so the factor reached is
        smaller where ``n_max < imbalance_factor``.
    profile : {"exponential", "zipf", "pareto"}

    Returns
    -------
    (K,) array of int64, never increasing

    Raises
    ------
    CausalFTError
        For an unknown profile or numbers out of range.

    Examples
    --------
    >>> profile_counts(3, 100, 100, "pareto").tolist()
    [100, 7, 1]
    >>> profile_counts(3, 100, 100).tolist()
    [100, 10, 1]
    >>> profile_counts(4, 120, 4, "zipf").tolist()
    [120, 60, 40, 30]
    """
    if profile not in PROFILES:
        raise CausalFTError(f"no long-tail profile named '{profile}': {nearest(profile, PROFILES)}")
    if n_classes < 2:
        raise CausalFTError(f"a long tail needs at least 2 classes, not {n_classes}")
    if n_max < 1:
        raise CausalFTError(f"the largest class needs at least 1 sample, not {n_max}")
    if not imbalance_factor >= 1:
        raise CausalFTError(f"imbalance factor {imbalance_factor} is below 1; give largest / smallest count")
    k, factor = np.arange(n_classes), float(imbalance_factor)
    if profile == "exponential":
        shares = factor ** (-k / (n_classes - 1))
    elif profile == "zipf":
        shares = (k + 1.0) ** (-np.log(factor) / np.log(n_classes))
    else:
        stretch = factor ** (1 / (PARETO_POWER + 1)) - 1
        shares = (1 + stretch * k / (n_classes - 1)) ** -(PARETO_POWER + 1)
    return np.maximum(1, np.rint(n_max * shares)).astype(np.int64)


def benchmark_counts(n_classes: int, n_max: float, imbalance_factor: float) -> NDArray[np.int64]:
    """Class counts of CIFAR-LT, head first: exponential, rounded down (Cao et al., NeurIPS 2019).

    Parameters
    ----------
    n_classes : int
    n_max : float
        Images of each class in the balanced set.
    imbalance_factor : float
        At least 1.

    Examples
    --------
    >>> int(benchmark_counts(10, 5000, 100).sum()), int(benchmark_counts(100, 500, 100).sum())
    (12406, 10847)
    """
    if not imbalance_factor >= 1:
        raise CausalFTError(f"imbalance factor {imbalance_factor} is below 1; give largest / smallest count")
    share = 1 / imbalance_factor
    return np.array([int(n_max * share ** (k / (n_classes - 1.0))) for k in range(n_classes)], dtype=np.int64)
