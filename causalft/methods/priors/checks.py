"""What every estimate of a prior checks of its input: shapes, finite numbers, labels in range, weights, a simplex."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.errors import CausalFTError

__all__ = ["check_classes", "check_logits", "check_simplex", "check_strength", "check_weights"]

_ROWS = 4096


def check_logits(logits: ArrayLike, labels: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return logits (n, K), float32 or float64 as they came, and labels (n,); a large array is not copied.

    Examples
    --------
    >>> f, y = check_logits(np.zeros((2, 3), dtype=np.float32), [0, 2])
    >>> f.dtype, y.tolist()
    (dtype('float32'), [0, 2])
    """
    f, y = np.asarray(logits), np.asarray(labels)
    if f.dtype not in (np.float32, np.float64):
        try:
            f = f.astype(np.float32 if f.dtype == np.float16 else np.float64)
        except (TypeError, ValueError):
            raise CausalFTError(f"logits must be numbers, not {f.dtype}") from None
    if f.ndim != 2 or f.shape[0] == 0 or f.shape[1] < 2:
        raise CausalFTError(f"logits must be (n_samples, n_classes) with at least 2 classes, not {f.shape}")
    if y.shape != f.shape[:1]:
        raise CausalFTError(f"{f.shape[0]} rows of logits but labels of shape {y.shape}; they must agree")
    for start in range(0, len(f), _ROWS):
        finite = np.isfinite(f[start : start + _ROWS]).all(axis=1)
        if not finite.all():
            raise CausalFTError(f"logits of sample {start + int(finite.argmin())} are not finite")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= f.shape[1]:
        n_classes = f.shape[1]
        raise CausalFTError(
            f"labels must be integers from 0 to {n_classes - 1} (logits have {n_classes} classes)"
        )
    return f, y.astype(np.int64)


def check_weights(weights: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Return sample weights that sum to 1; equal ones for None.

    Examples
    --------
    >>> check_weights([3, 1], 2).tolist()
    [0.75, 0.25]
    """
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    if w.shape != (n,) or not np.isfinite(w).all() or w.min() < 0 or w.sum() == 0:
        raise CausalFTError(f"weights must be {n} non-negative numbers, not all 0")
    return w / w.sum()


def check_simplex(values: ArrayLike, n_classes: int, name: str) -> NDArray[np.float64]:
    """Return positive numbers that sum to 1, one for each class.

    Examples
    --------
    >>> check_simplex([0.25, 0.75], 2, "prior").tolist()
    [0.25, 0.75]
    """
    p = np.asarray(values, dtype=float)
    if p.shape != (n_classes,) or not (np.isfinite(p).all() and (p > 0).all()):
        raise CausalFTError(f"{name} must hold {n_classes} positive numbers, one per class")
    if abs(p.sum() - 1) > 1e-4:
        raise CausalFTError(f"{name} sums to {p.sum():.4g}; it must sum to 1")
    return p / p.sum()


def check_strength(l2: float | str) -> None:
    """Refuse a strength of the penalty that is neither a number from 0 on nor "cv"."""
    if isinstance(l2, str):
        if l2 != "cv":
            raise CausalFTError(f"l2 is {l2!r}; give 'cv', 0 or a positive number")
    elif not (np.isfinite(l2) and l2 >= 0):
        raise CausalFTError(f"l2 is {l2}; give 0 or a positive number")


def check_classes(labels: NDArray[np.int64], weights: NDArray[np.float64], n_classes: int) -> None:
    """Refuse a class without a sample of positive weight, which only a penalty can give an estimate."""
    empty = np.flatnonzero(np.bincount(labels, weights=weights, minlength=n_classes) == 0)
    if len(empty):
        raise CausalFTError(
            f"class {int(empty[0])} has no labelled sample ({len(empty)} of {n_classes} classes lack one), "
            "so its prior cannot be estimated; add labelled samples or set l2 > 0 (l2='cv' chooses it)"
        )
