"""A map as a distribution over pixels: the positive part of the evidence, at the size of the image, with sum 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.errors import CausalFTError

__all__ = ["density"]

Floats = NDArray[np.float64]


def density(raw: ArrayLike, size: int | tuple[int, int] | None = None) -> Floats:
    """Turn maps of evidence into distributions over pixels.

    Only evidence for the class counts (the positive part). A map that is nowhere positive says nothing about where, and
    becomes the uniform one. A map of patches is enlarged bilinearly, a map of pixels is shrunk by means.

    Parameters
    ----------
    raw : (..., h, w) array
        Finite, any sign.
    size : int or (int, int), optional
        Height and width of the result; those of ``raw`` by default.

    Returns
    -------
    (..., height, width) array
        At least 0, sums to 1 over the last two axes.

    Raises
    ------
    CausalFTError
        If a value is not finite.

    Examples
    --------
    >>> density([[3.0, -1.0], [1.0, 0.0]]).tolist()
    [[0.75, 0.0], [0.25, 0.0]]
    """
    values = np.asarray(raw, dtype=float)
    if not np.isfinite(values).all():
        raise CausalFTError("a map holds values that are not finite; the model's gradients are not usable")
    positive = np.maximum(values, 0.0)
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        rows, columns = _resampling(positive.shape[-2], height), _resampling(positive.shape[-1], width)
        positive = np.einsum("ih,...hw,jw->...ij", rows, positive, columns, optimize=True)
    total = positive.sum(axis=(-2, -1), keepdims=True)
    uniform = np.full_like(positive, 1 / (positive.shape[-2] * positive.shape[-1]))
    return np.divide(positive, total, out=uniform, where=total > 0)


def _resampling(n: int, m: int) -> Floats:
    """Matrix (m, n) that brings n values on a line to m: linear between their centres, or means if m is smaller."""
    centres = (np.arange(m) + 0.5) / m * n - 0.5
    reach = max(1.0, n / m)  # half width of the triangle that a new value sees
    weight = np.maximum(0.0, 1 - np.abs(np.arange(n)[None, :] - np.clip(centres, 0, n - 1)[:, None]) / reach)
    return weight / weight.sum(axis=1, keepdims=True)
