"""A map as a distribution over pixels: its share on parts of the image, its spread, its overlap with another map."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.errors import CausalFTError

__all__ = ["entropy", "mask_areas", "mask_shares", "overlap", "spread"]

Floats = NDArray[np.float64]


def mask_areas(masks: ArrayLike) -> Floats:
    """Share of the image that each part covers, and the background last: (n, P + 1), rows sum to 1.

    Parameters
    ----------
    masks : (n, P, h, w) array in [0, 1]
        How much of each pixel belongs to each part; at most 1 in sum.
    """
    found = np.asarray(masks, dtype=float).mean(axis=(-2, -1))
    return np.concatenate([found, 1 - found.sum(axis=-1, keepdims=True)], axis=-1)


def mask_shares(maps: ArrayLike, masks: ArrayLike) -> Floats:
    """Share of each map on each part, and on the background last.

    Parameters
    ----------
    maps : (..., n, h, w) array
        Distributions, as :func:`causalft.models.maps.density.density` gives them.
    masks : (n, P, h, w) array in [0, 1]
        How much of each pixel belongs to each part; at most 1 in sum.

    Returns
    -------
    (..., n, P + 1) array
        Sums to 1 over the last axis.

    Raises
    ------
    CausalFTError
        If the shapes do not agree.

    Examples
    --------
    >>> masks = np.zeros((1, 2, 2, 2))
    >>> masks[0, 0, 0], masks[0, 1, 1, 0] = 1, 1
    >>> mask_shares(np.full((1, 2, 2), 0.25), masks).tolist()
    [[0.5, 0.25, 0.25]]
    """
    found, parts = np.asarray(maps, dtype=float), np.asarray(masks, dtype=float)
    if found.ndim < 3 or parts.ndim != 4 or found.shape[-3:] != (len(parts), *parts.shape[-2:]):
        raise CausalFTError(
            f"maps of shape {found.shape} do not go with masks of shape {parts.shape}; they must be (..., n, h, w) and "
            "(n, P, h, w)"
        )
    on_parts = np.einsum("...nhw,nphw->...np", found, parts, optimize=True)
    return np.concatenate([on_parts, 1 - on_parts.sum(axis=-1, keepdims=True)], axis=-1)


def entropy(maps: ArrayLike) -> Floats:
    """Shannon entropy in nats of maps (..., h, w) that sum to 1: (...).

    Examples
    --------
    >>> bool(np.isclose(entropy(np.full((2, 2), 0.25)), np.log(4)))
    True
    """
    found = np.asarray(maps, dtype=float)
    logs = np.log(found, out=np.zeros_like(found), where=found > 0)
    return np.maximum(-(found * logs).sum(axis=(-2, -1)), 0.0)


def spread(maps: ArrayLike) -> Floats:
    """Share of the image that a map covers in effect: exp(entropy) / pixels, 1 for the uniform map; (...).

    A map that is uniform on a share s of the pixels has the spread s.

    Examples
    --------
    >>> spread([[0.5, 0.5], [0.0, 0.0]]).round(6).tolist()
    0.5
    """
    found = np.asarray(maps, dtype=float)
    return np.exp(entropy(found)) / (found.shape[-2] * found.shape[-1])


def overlap(first: ArrayLike, second: ArrayLike) -> Floats:
    """Overlap sum_x min(a(x), b(x)) of maps (..., h, w) that sum to 1: (...); 0 if disjoint, 1 if equal.

    Examples
    --------
    >>> overlap([[0.5, 0.5]], [[0.0, 1.0]]).tolist()
    0.5
    """
    return np.minimum(np.asarray(first, dtype=float), np.asarray(second, dtype=float)).sum(axis=(-2, -1))
