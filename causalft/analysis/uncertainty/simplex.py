"""Which predictions hold for every P(c), and how far P(c) must move before the others change: exact, no sampling.

Every fusion rule predicts the class with the largest mean over P(c) of something of the strata
(:attr:`causalft.methods.estimators.FusionRule.decides_by`): P(y | b, c) for the mixture, its logarithm for the rules
that add logits. The lead of a class over another is therefore linear in P(c), and smallest at a single stratum. Weights
P(c | y) that depend on the class, as the adjusted fusion may have, are the exception
(:mod:`causalft.analysis.uncertainty.grid`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.uncertainty.grid import GridBlock, points_of, steps_of_grid, trust_of
from causalft.errors import CausalFTError
from causalft.methods.estimators import FUSIONS
from causalft.methods.estimators.fusion import Kind, stratum_weights
from causalft.methods.estimators.mixing import Mixing
from causalft.methods.estimators.probabilities import member_blocks, members_rows
from causalft.runs.notebook import ShownAsTable
from causalft.scm.unobserved import e_value

__all__ = [
    "NONE",
    "Sensitivity",
    "at_prior",
    "lowest_over_box",
    "mass_to_tie",
    "resolution_of",
    "sensitivity_to_prior",
    "winners",
]

Floats = NDArray[np.float64]

NONE = -1
"""In place of a class: the prediction changes to no other."""


@dataclass(frozen=True, eq=False, repr=False)
class Sensitivity(ShownAsTable):
    """How n predictions depend on P(c).

    Attributes
    ----------
    prediction : (n,) array of int
        The class at the P(c) of the fusion.
    margin : (n,) array
        The least lead of that class over every other, over all P(c): in probability for the mixture, in nats for the
        rules that add logarithms. Above 0: no P(c) changes the prediction.
    radius : (n,) array
        Total variation from the P(c) of the fusion to the nearest P(c) at which another class draws level: the share of
        P(c) that must be moved from some strata to others. Infinite if none does.
    flips_to : (n,) array of int
        That class; -1 if none does.
    e_value : (n,) array
        The least ratio by which an unobserved U must be associated with X and with Y, beyond C, to change the
        prediction, whose probabilities are those after the temperature.
    within : (n,) array of bool, optional
        Whether no P(c) inside the given intervals changes the prediction.
    possible : tuple of n arrays of int
        Every class that is predicted at some P(c); empty if it was not asked for.
    """

    prediction: NDArray[np.int64]
    margin: Floats
    radius: Floats
    flips_to: NDArray[np.int64]
    e_value: Floats
    within: NDArray[np.bool_] | None = None
    possible: tuple[NDArray[np.int64], ...] = field(default=())

    @property
    def certain(self) -> NDArray[np.bool_]:
        """Whether the prediction is the same for every P(c), (n,)."""
        return self.margin > 0

    def _table(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        head = ("prediction", "certain", "margin", "radius", "flips to", "E-value")
        columns = (self.prediction, self.certain, self.margin, self.radius, self.flips_to, self.e_value)
        return head, zip(*columns)

    def __repr__(self) -> str:
        return (
            f"Sensitivity({int(self.certain.sum())} of {len(self.certain)} predictions hold for every P(c))"
        )


def sensitivity_to_prior(
    probs: ArrayLike | Sequence[ArrayLike],
    mixing: Mixing | None = None,
    *,
    intervals: ArrayLike | None = None,
    possible: bool = False,
    kind: Kind = None,
) -> Sensitivity:
    """Find which predictions hold for every P(c), and what the others change to.

    A temperature of the fused probabilities changes no prediction. Only E-values depend on it: they are those of the
    probabilities that the fusion gives.

    Parameters
    ----------
    probs : (M, n, K) array
        P(Y | b, c) per stratum, as ``kind`` says.
    mixing : Mixing, optional
        Fusion rule, P(c) and temperatures of the strata. Default: mixture with uniform P(c).
    intervals : (M, 2) array, optional
        Lower and upper limit of each P(c), as :func:`causalft.methods.estimators.mixing.estimate_stratum_prior` gives
        them.
    possible : bool
        List every class that some P(c) makes the prediction (E-admissible, Levi 1980).
    kind : {"probabilities", "log-probabilities", "logits"}, or one of these for each member, optional
        As in :func:`causalft.methods.estimators.fusion.fuse`.

    Raises
    ------
    CausalFTError
        If the rule does not decide by a mean over P(c), or no P(c) lies in the intervals.

    Examples
    --------
    Two strata that agree on the first image and not on the second:

    >>> found = sensitivity_to_prior([[[.9, .1], [.9, .1]], [[.6, .4], [.3, .7]]])
    >>> found.certain.tolist(), found.flips_to.tolist()
    ([True, False], [-1, 1])

    The lead of class 0 on the second image is .8 and -.4: it is gone where P(c) is 1/3 and 2/3.

    >>> found.radius.round(4).tolist()
    [inf, 0.1667]
    """
    members = members_rows(probs, kind)
    rule = mixing or Mixing("mixture", tuple(stratum_weights(None, len(members))), 1.0)
    decides_by = FUSIONS.get_or_refuse(rule.fusion).decides_by
    if not decides_by:
        raise CausalFTError(
            f"fusion {rule.fusion!r} does not decide by a mean over P(c), so its sensitivity is not known; fit with "
            "mixture, logit or product"
        )
    prior = stratum_weights(rule.stratum_prior, len(members))
    trust = None if rule.class_weights is None else trust_of(rule.weights, prior)
    box = None if intervals is None else _check_box(intervals, len(members))
    points = None if trust is None else points_of(len(members), box)
    n = members[0].n
    best, flips_to = np.empty(n, dtype=np.int64), np.full(n, NONE, dtype=np.int64)
    margin, radius, strength = np.empty(n), np.full(n, np.inf), np.empty(n)
    within = np.ones(n, dtype=bool)
    listed: list[NDArray[np.int64]] = []
    for rows, log_p in member_blocks(members):
        scaled = rule.scaled(log_p)
        scores = np.exp(scaled) if decides_by == "probabilities" else scaled
        block = _Block(scores, prior) if trust is None else GridBlock(scores, prior, trust, points)
        best[rows], margin[rows] = block.best, block.margin
        radius[rows], flips_to[rows] = block.nearest()
        strength[rows] = e_value(_root_of_ratio(rule.log_fused(scaled) / rule.temperature))
        if box is not None:
            within[rows] = block.holds_within(*box)
        if possible:
            listed.extend(block.possible())
    return Sensitivity(
        best, margin, radius, flips_to, strength, None if box is None else within, tuple(listed)
    )


def at_prior(mixing: Mixing, weights: ArrayLike) -> Mixing:
    """The same fusion at another P(c), (M,).

    Examples
    --------
    >>> at_prior(Mixing("mixture", (0.5, 0.5), 2.0), [0.9, 0.1]).stratum_prior
    (0.9, 0.1)
    """
    prior = stratum_weights(weights, len(mixing.stratum_prior))
    found = replace(mixing, stratum_prior=tuple(map(float, prior)), stratum_prior_ci95=None)
    if mixing.class_weights is None:
        return found
    trust = trust_of(mixing.weights, np.array(mixing.stratum_prior))
    own = prior[:, None] * (np.ones_like(mixing.weights) if trust is None else trust)
    return replace(found, class_weights=tuple(map(tuple, (own / own.sum(axis=0)).tolist())))


def resolution_of(mixing: Mixing) -> float | None:
    """The step of the grid on which sensitivity to P(c) is found; None where it is exact.

    Examples
    --------
    >>> resolution_of(Mixing("product", (0.5, 0.5), 1.0)) is None
    True
    """
    if mixing.class_weights is None or trust_of(mixing.weights, np.array(mixing.stratum_prior)) is None:
        return None
    return 1 / steps_of_grid(len(mixing.stratum_prior))


def _root_of_ratio(log_p: Floats) -> Floats:
    """The square root of the highest probability over the second, of their logarithms (b, K): (b,)."""
    if log_p.shape[1] == 1:
        return np.full(len(log_p), np.inf)
    second, first = np.partition(log_p, -2, axis=1)[:, -2:].T
    with np.errstate(over="ignore"):
        return np.exp((first - second) / 2)


def _check_box(intervals: ArrayLike, n_strata: int) -> tuple[Floats, Floats]:
    limits = np.asarray(intervals, dtype=float)
    if limits.shape != (n_strata, 2):
        raise CausalFTError(
            f"intervals have shape {limits.shape}; give low and high for each of {n_strata} strata"
        )
    low, high = np.clip(limits[:, 0], 0, 1), np.clip(limits[:, 1], 0, 1)
    if (low > high).any() or low.sum() > 1 + 1e-9 or high.sum() < 1 - 1e-9:
        raise CausalFTError(f"no P(c) that sums to 1 lies in the intervals {limits.tolist()}; widen them")
    return low, high


class _Block:
    """Some rows: scores (M, b, K), whose mean over P(c) decides.

    Attributes
    ----------
    best : (b,) array of int
    margin : (b,) array
    row, rival : (p,) arrays of int
        The pairs that matter: row i, and a class that leads the prediction, or draws level, in some stratum.
    lead : (p, M) array
        Of the prediction over that class, in each stratum.
    """

    def __init__(self, scores: Floats, prior: Floats) -> None:
        self.scores, self.prior = scores, prior
        mean = np.tensordot(prior, scores, axes=1)
        self.best = mean.argmax(axis=1)
        self._rows = np.arange(len(self.best))
        lead = scores[:, self._rows, self.best][:, :, None] - scores
        lead[:, self._rows, self.best] = np.inf
        least = lead.min(axis=0)
        self.margin = least.min(axis=1)
        self.row, self.rival = np.nonzero(least <= 0)
        self.lead = lead[:, self.row, self.rival].T

    def nearest(self) -> tuple[Floats, NDArray[np.int64]]:
        """Least mass to move before another class draws level, and that class (the first of several)."""
        radius = np.full(len(self.best), np.inf)
        to = np.full(len(self.best), NONE, dtype=np.int64)
        if len(self.row):
            mass = mass_to_tie(self.lead, self.prior)
            order = np.lexsort((self.rival, mass, self.row))
            first = order[np.unique(self.row[order], return_index=True)[1]]
            radius[self.row[first]], to[self.row[first]] = mass[first], self.rival[first]
        return radius, to

    def holds_within(self, low: Floats, high: Floats) -> NDArray[np.bool_]:
        """Whether the prediction leads for every P(c) between the limits."""
        found = np.ones(len(self.best), dtype=bool)
        found[self.row[lowest_over_box(self.lead, low, high) <= 0]] = False
        return found

    def possible(self) -> Iterator[NDArray[np.int64]]:
        """The classes that win at some P(c), row by row."""
        edges = np.searchsorted(self.row, np.arange(len(self.best) + 1))
        alone = self.scores.argmax(axis=2).T  # (b, M): what each stratum predicts
        for i, best in enumerate(self.best):
            rivals = self.rival[edges[i] : edges[i + 1]]
            if not len(rivals):
                yield np.array([best])
                continue
            known = {int(best), *alone[i].tolist()}
            # A class that lies below a mixture of classes in every stratum wins nowhere.
            own = self.scores[:, i]
            floor = own[:, alone[i]].mean(axis=1, keepdims=True)
            rivals = rivals[(own[:, rivals] >= floor).any(axis=0)]
            among = np.array(sorted(known.union(rivals.tolist())))
            yield among if len(among) == len(known) else among[winners(own[:, among].T)]


def mass_to_tie(lead: ArrayLike, prior: ArrayLike) -> Floats:
    """The least total variation from P(c) at which a mean lead is gone.

    The mass goes to the stratum with the smallest lead, and is taken first from where the lead is largest.

    Parameters
    ----------
    lead : (p, M) array
        The smallest of each row 0 or less.
    prior : (M,) array
        P(c), at which each mean lead is 0 or more.

    Returns
    -------
    (p,) array in [0, 1]

    Examples
    --------
    >>> mass_to_tie([[.8, -.4]], [.5, .5]).round(4).tolist()
    [0.1667]
    """
    values, weights = np.atleast_2d(np.asarray(lead, dtype=float)), np.asarray(prior, dtype=float)
    least = values.min(axis=1, keepdims=True)
    order = np.argsort(-values, axis=1, kind="stable")
    gain = np.take_along_axis(values, order, axis=1) - least  # of a unit of mass that is moved
    mass = weights[order]
    needed = np.maximum(values @ weights, 0.0)[:, None]
    before = np.cumsum(gain * mass, axis=1) - gain * mass
    # Of each stratum as much is taken as is still needed, and no more than there is.
    part = np.divide(needed - before, gain, out=np.zeros_like(gain), where=gain > 0)
    return np.minimum(np.clip(part, 0.0, mass).sum(axis=1), 1.0)


def lowest_over_box(lead: ArrayLike, low: ArrayLike, high: ArrayLike) -> Floats:
    """The least mean lead over every P(c) between limits.

    Each stratum gets its lower limit; the rest goes to the smallest leads first.

    Parameters
    ----------
    lead : (p, M) array
    low, high : (M,) arrays
        Between which some P(c) sums to 1.

    Examples
    --------
    >>> lowest_over_box([[.8, -.4]], [.4, .3], [.7, .6]).round(4).tolist()
    [0.08]
    """
    values, least = np.atleast_2d(np.asarray(lead, dtype=float)), np.asarray(low, dtype=float)
    room = np.asarray(high, dtype=float) - least
    order = np.argsort(values, axis=1, kind="stable")
    room = room[order]
    before = np.cumsum(room, axis=1) - room
    more = np.clip(1 - least.sum() - before, 0.0, room)
    return values @ least + (more * np.take_along_axis(values, order, axis=1)).sum(axis=1)


def winners(scores: ArrayLike) -> NDArray[np.int64]:
    """The classes with the largest mean score at some P(c), by the corners of the upper envelope (Cheng 1988).

    Classes that only ever draw level are left out.

    Parameters
    ----------
    scores : (m, M) array
        Of each class in each stratum.

    Returns
    -------
    array of int
        Rows of ``scores``, ascending.

    Examples
    --------
    The last class is second in both strata, and first in between; the one before it never.

    >>> winners([[.9, .1], [.1, .9], [.4, .4], [.6, .6]]).tolist()
    [0, 1, 3]
    """
    table = np.asarray(scores, dtype=float)
    slack = 1e-12 * max(1.0, float(np.abs(table).max()))
    found = sorted({int(k) for k in table.argmax(axis=0)})
    while True:
        points, values = _corners(table[found], slack)
        at = table @ points.T
        above = at.max(axis=0) > values + slack
        more = set(at[:, above].argmax(axis=0).tolist()) - set(found)
        if not more:
            return np.array(found)
        found = sorted({*found, *more})


def _corners(table: Floats, slack: float) -> tuple[Floats, Floats]:
    """Corners (q, M) of the upper envelope of some classes over the simplex, and its values (q,) there.

    At a corner k classes draw level, and all P(c) but k are 0.
    """
    n, n_strata = table.shape
    points = [np.eye(n_strata)]
    for k in range(2, min(n, n_strata) + 1):
        level, kept = _subsets(n, k), _subsets(n_strata, k)
        system = np.empty((len(level), len(kept), k + 1, k + 1))
        system[:, :, :k, :k] = table[level][:, :, kept].swapaxes(1, 2)
        system[:, :, :k, k], system[:, :, k, :k], system[:, :, k, k] = -1.0, 1.0, 0.0
        flat = system.reshape(-1, k + 1, k + 1)
        faces = np.broadcast_to(kept, (len(level), *kept.shape)).reshape(-1, k)
        right = np.zeros((len(flat), k + 1, 1))
        right[:, k] = 1.0
        try:
            solved = np.linalg.solve(flat, right)[:, :k, 0]
        except np.linalg.LinAlgError:  # classes with equal scores: the corner is one of other classes too
            sound = np.linalg.matrix_rank(flat) == k + 1
            solved, faces = np.linalg.solve(flat[sound], right[sound])[:, :k, 0], faces[sound]
        inside = (solved >= 0).all(axis=1)
        point = np.zeros((np.count_nonzero(inside), n_strata))
        np.put_along_axis(point, faces[inside], solved[inside], axis=1)
        points.append(point)
    every = np.concatenate(points)
    return every, (every @ table.T).max(axis=1)


@lru_cache(maxsize=256)
def _subsets(n: int, k: int) -> NDArray[np.int64]:
    return np.array(list(combinations(range(n), k)))
