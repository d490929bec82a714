"""Sensitivity to P(c) on a grid of the simplex, for class weights P(c | y): there a lead is not linear in P(c).

The adjusted fusion predicts the class with the largest sum_c P(c) r_c(y) s_c(y) / sum_c P(c) r_c(y), where r_c(y) says
how much more stratum c is trusted with class y. Where P(c) has limits, points between them are added: the limits may be
closer than two points of the grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import permutations
from math import comb

import numpy as np
from numpy.typing import NDArray

from causalft.errors import CausalFTError

__all__ = ["GridBlock", "corners_of_box", "grid_of_simplex", "points_of", "steps_of_grid", "trust_of"]

Floats = NDArray[np.float64]
Box = tuple[Floats, Floats]

_MOST_POINTS = 500
_MOST_STEPS = 100
_MOST_PERMUTED = 6
_SLACK = 1e-9


def steps_of_grid(n_strata: int) -> int:
    """Steps from 0 to 1 of each P(c): as many as give 500 points at most, and no more than 100.

    Examples
    --------
    >>> [steps_of_grid(m) for m in (2, 3, 4)]
    [100, 30, 12]
    """
    steps = _MOST_STEPS
    while comb(steps + n_strata - 1, n_strata - 1) > _MOST_POINTS and steps > 1:
        steps -= 1
    return steps


@lru_cache(maxsize=8)
def grid_of_simplex(n_strata: int) -> Floats:
    """Every P(c) in multiples of one step, (G, M).

    Examples
    --------
    >>> grid_of_simplex(3).shape, grid_of_simplex(1).tolist()
    ((496, 3), [[1.0]])
    """
    steps = steps_of_grid(n_strata)
    points = np.zeros((1, 0), dtype=np.int64)
    for _ in range(n_strata - 1):
        left = steps - points.sum(axis=1)
        points = np.concatenate(
            [np.c_[np.repeat(row[None], n + 1, axis=0), np.arange(n + 1)] for row, n in zip(points, left)]
        )
    return np.c_[points, steps - points.sum(axis=1)] / steps


def corners_of_box(low: Floats, high: Floats) -> Floats:
    """Corners of the part of the simplex between limits, (q, M): all for up to six strata, some of them for more.

    Every stratum gets its lower limit; one after the other, they are filled to their upper limits.

    Examples
    --------
    >>> corners_of_box(np.array([0.2, 0.3]), np.array([0.6, 0.7])).round(4).tolist()
    [[0.3, 0.7], [0.6, 0.4]]
    """
    m = len(low)
    if m <= _MOST_PERMUTED:
        orders = np.array(list(permutations(range(m))))
    else:
        turned = (np.arange(m)[:, None] + np.arange(m)) % m
        orders = np.concatenate([turned, turned[:, ::-1]])
    room = (high - low)[orders]
    filled = np.clip(1 - low.sum() - (np.cumsum(room, axis=1) - room), 0.0, room)
    points = np.empty_like(filled)
    np.put_along_axis(points, orders, low[orders] + filled, axis=1)
    return np.unique(points.round(12), axis=0)


def points_of(n_strata: int, box: Box | None = None) -> Floats:
    """Where predictions are compared, (G, M): the grid, and in a box its corners, their mean and a finer grid.

    Examples
    --------
    >>> points_of(2, (np.array([0.333, 0.661]), np.array([0.339, 0.667])))[33:39, 0].round(4).tolist()
    [0.33, 0.333, 0.3331, 0.3331, 0.3332, 0.3332]
    """
    grid = grid_of_simplex(n_strata)
    if box is None:
        return grid
    low, high = box
    corners = corners_of_box(low, high)
    finer = (low + max(0.0, 1 - low.sum()) * grid).round(12)
    return np.unique(
        np.concatenate([grid, corners, corners.mean(axis=0)[None], finer[_inside(finer, low, high)]]), axis=0
    )


def _inside(points: Floats, low: Floats, high: Floats) -> NDArray[np.bool_]:
    return np.asarray(((points >= low - _SLACK) & (points <= high + _SLACK)).all(axis=1))


def trust_of(class_weights: Floats, prior: Floats) -> Floats | None:
    """r_c(y) of class weights P(c | y), (M, K); None if they do not depend on the class.

    Raises
    ------
    CausalFTError
        If P(c) is 0 for a stratum: its weights are 0 in every class, and do not tell what it would weigh.

    Examples
    --------
    >>> trust_of(np.array([[.5, .5], [.5, .5]]), np.array([.5, .5])) is None
    True
    """
    if not (prior > 0).all():
        raise CausalFTError(
            f"P(c) of stratum {int(prior.argmin()) + 1} of {len(prior)} is 0, so the adjusted fusion does not tell how "
            "it would weigh the classes at another P(c); fit with a small share such as 0.001, or with --fusion product"
        )
    found = class_weights / prior[:, None]
    found = found / found.max(axis=0)
    return None if np.allclose(found, 1.0, rtol=0, atol=1e-12) else found


class GridBlock:
    """As `causalft.analysis.uncertainty.simplex._Block`, for scores (M, b, K), r_c(y) (M, K) and points (G, M)."""

    def __init__(self, scores: Floats, prior: Floats, trust: Floats, points: Floats | None = None) -> None:
        weights = prior[:, None] * trust
        mean = np.einsum("mk,mbk->bk", weights / weights.sum(axis=0), scores)
        self.best = mean.argmax(axis=1)
        self._points = points_of(len(prior)) if points is None else points
        self._distance = np.abs(self._points - prior).sum(axis=1) / 2
        rows = np.arange(len(self.best))
        highest = scores.max(axis=0)
        least = scores[:, rows, self.best].min(axis=0)
        highest[rows, self.best] = -np.inf
        # A mean lies between the lowest and the highest score of its class, whatever the weights.
        self.margin = least - highest.max(axis=1, initial=-np.inf)
        self._changed = np.zeros((len(rows), len(self._points)), dtype=bool)
        self._radius = np.full(len(rows), np.inf)
        self._to = np.full(len(rows), -1, dtype=np.int64)
        self._possible: list[NDArray[np.int64]] = [np.array([k]) for k in self.best]
        for i in np.flatnonzero(self.margin <= 0):
            among = np.r_[self.best[i], np.flatnonzero(highest[i] >= least[i])]
            own = trust[:, among]
            at = (self._points @ (own * scores[:, i, among])) / (self._points @ own)
            others = at[:, 1:]
            lead = at[:, 0] - others.max(axis=1)
            self.margin[i] = lead.min()
            self._changed[i] = lead <= 0
            self._possible[i] = np.unique(among[at.argmax(axis=1)])
            if self._changed[i].any():
                nearest = np.flatnonzero(self._changed[i])
                point = nearest[self._distance[nearest].argmin()]
                self._radius[i] = self._distance[point]
                self._to[i] = among[1 + others[point].argmax()]

    def nearest(self) -> tuple[Floats, NDArray[np.int64]]:
        """Distance of the nearest point at which another class draws level or leads, and that class."""
        return self._radius, self._to

    def holds_within(self, low: Floats, high: Floats) -> NDArray[np.bool_]:
        """Whether the prediction leads at every point between the limits, those that the points were made for."""
        return np.asarray(~self._changed[:, _inside(self._points, low, high)].any(axis=1))

    def possible(self) -> Iterator[NDArray[np.int64]]:
        """The classes that win at some point, row by row."""
        yield from self._possible
