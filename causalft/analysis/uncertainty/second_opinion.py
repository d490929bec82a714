"""The front door through B as a second opinion on P(Y | do(X)): for strata, and for counts of a discrete world.

With strata the front-door formula becomes another P(c). In the graph, B is read from the image, and Y depends on B and
C, so P(y | b, x') = sum_c P(y | b, c) P(c | x'), and

    sum_b P(b | x) sum_x' P(y | b, x') P(x') = sum_c P(y | b(x), c) w_c,    w_c = sum_x' P(c | x') P(x').

Backdoor adjustment takes P(c) as given; the front door learns w from how well each stratum explains the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp, softmax

from causalft.analysis.confounding.estimates import backdoor, frontdoor, resample
from causalft.errors import CausalFTError
from causalft.methods.estimators.fusion import Kind, check_pair
from causalft.methods.estimators.mixing import Mixing
from causalft.methods.estimators.probabilities import member_blocks, members_rows, normalised

__all__ = ["Disagreement", "FrontDoorPrior", "doors_disagree", "frontdoor_prior", "labels_and_confidence"]

Floats = NDArray[np.float64]

_PENALTY = 1.0  # half the squared slopes, in nats: a slope of 1 per standard deviation is nothing unusual


@dataclass(frozen=True)
class FrontDoorPrior:
    """What the front door puts in the place of P(c).

    Attributes
    ----------
    weights : (M,) array
        Mean of P(c | x') over the images; sums to 1.
    of_image : (n, M) array
        P(c | x').
    gain : float
        Log-likelihood of the labels over that of uniform P(c), nats per image, on the images it was fitted to.
    """

    weights: Floats
    of_image: Floats
    gain: float


def labels_and_confidence(
    probs: ArrayLike | Sequence[ArrayLike],
    labels: ArrayLike,
    mixing: Mixing | None = None,
    *,
    kind: Kind = None,
) -> tuple[Floats, Floats]:
    """log P(y_i | b_i, c) of the labels, and the logarithm of each stratum's largest probability: two (n, M) arrays.

    Parameters
    ----------
    probs : (M, n, K) array
    labels : (n,) array of int
    mixing : Mixing, optional
        Its temperatures and offsets of the strata are applied.
    kind : str or sequence of str, optional
        As in :func:`causalft.methods.estimators.fusion.fuse`.

    Examples
    --------
    >>> both = labels_and_confidence([[[.9, .1]], [[.5, .5]]], [1])
    >>> [np.exp(each).round(3).tolist() for each in both]
    [[[0.1, 0.5]], [[0.9, 0.5]]]
    """
    members, y = members_rows(probs, kind), np.asarray(labels)
    check_pair(members[0].shape, y)
    of_label, confidence = np.empty((len(y), len(members))), np.empty((len(y), len(members)))
    for rows, log_p in member_blocks(members):
        scaled = log_p if mixing is None else normalised(mixing.scaled(log_p))
        of_label[rows] = scaled[:, np.arange(scaled.shape[1]), y[rows]].T
        confidence[rows] = scaled.max(axis=2).T
    return of_label, confidence


def frontdoor_prior(
    of_label: ArrayLike, confidence: ArrayLike, *, weights: ArrayLike | None = None
) -> FrontDoorPrior:
    """Learn P(c | x') on labelled images and average it.

    P(c | x') is a softmax, linear in the confidence of every stratum, and maximises the likelihood of
    sum_c P(y | b, c) P(c | x').

    Parameters
    ----------
    of_label, confidence : (n, M) arrays
        As :func:`labels_and_confidence` gives them, of images that no stratum was tuned on.
    weights : (n,) array of positive numbers, optional
        :func:`causalft.data.groups.balancing_weights` for images of unequal classes.

    Examples
    --------
    >>> knows, guesses = [[.9, .1]] * 90 + [[.1, .9]] * 10, [[.5, .5]] * 100
    >>> found = frontdoor_prior(*labels_and_confidence([knows, guesses], [0] * 100))
    >>> bool(found.weights[0] > .9)
    True
    """
    from scipy.optimize import minimize

    explained, sure = np.asarray(of_label, dtype=float), np.asarray(confidence, dtype=float)
    n, n_strata = explained.shape
    counted = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    if counted.shape != (n,) or not (np.isfinite(counted).all() and (counted > 0).all()):
        raise CausalFTError(f"weights must be {n} positive numbers")
    counted = counted * (n / counted.sum())
    spread = sure.std(axis=0)
    features = (sure - sure.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    design = np.c_[np.ones(n), features]

    def risk(flat: Floats) -> tuple[float, Floats]:
        slopes = flat.reshape(n_strata, -1)
        log_gate = log_softmax(design @ slopes.T, axis=1)
        joint = log_gate + explained
        total = logsumexp(joint, axis=1)
        # d/d(gate logits) of the log-likelihood: responsibility less gate
        push = (np.exp(joint - total[:, None]) - np.exp(log_gate)) * counted[:, None]
        pulled = slopes.copy()
        pulled[:, 0] = 0.0
        return (
            float(-(counted @ total) + _PENALTY / 2 * (pulled**2).sum()),
            (-(push.T @ design) + _PENALTY * pulled).ravel(),
        )

    start = np.zeros(n_strata * design.shape[1])
    found = minimize(risk, start, jac=True, method="L-BFGS-B", bounds=[(-15.0, 15.0)] * len(start))
    gate = softmax(design @ found.x.reshape(n_strata, -1).T, axis=1)
    uniform = logsumexp(explained, axis=1) - np.log(n_strata)
    learnt = logsumexp(explained + np.log(gate), axis=1)
    return FrontDoorPrior(counted @ gate / n, gate, float(counted @ (learnt - uniform) / n))


@dataclass(frozen=True)
class Disagreement:
    """Backdoor less front-door estimate of P(y | do(x)).

    Attributes
    ----------
    difference : (X, Y) array
        NaN where an estimate does not exist.
    distance : float
        Total variation between the two, averaged over P(x).
    p : float
        Share of draws in which both doors hold and the distance is at least as large; small: they cannot both hold.
    reason : str
        Why there is no distance; empty if there is one.
    """

    difference: Floats
    distance: float
    p: float
    reason: str = ""


def doors_disagree(counts: ArrayLike, *, draws: int = 200, seed: int = 0) -> Disagreement:
    """Compare backdoor adjustment for C with the front door through B on one table of counts.

    Both estimate P(Y | do(X)) if C blocks every backdoor path *and* B carries the whole effect. If they differ beyond
    chance, one of the two fails: an unobserved U of X and Y opens the back door and leaves the front door shut, and an
    effect past B does the reverse. The p-value is of a bootstrap, centred on the seen difference.

    Parameters
    ----------
    counts : (C, X, B, Y) array
        As :func:`causalft.analysis.confounding.estimates.count_table` makes it.
    draws, seed : int
        Of the bootstrap.

    Examples
    --------
    >>> found = doors_disagree(np.full((2, 2, 2, 2), 50.0), draws=50)
    >>> found.distance, found.p
    (0.0, 1.0)
    """
    table = np.asarray(counts, dtype=float)
    if table.ndim != 4 or not table.sum():
        raise CausalFTError(f"counts have shape {table.shape}; give a table (C, X, B, Y) with rows")
    difference = backdoor(table) - frontdoor(table)
    p_x = table.sum((0, 2, 3)) / table.sum()
    there = p_x > 0
    if np.isnan(difference[there]).any():
        why = "some x never goes with some c or b, so one of the two estimates does not exist"
        return Disagreement(difference, float("nan"), float("nan"), why)
    distance = float(p_x[there] @ np.abs(difference[there]).sum(axis=1) / 2)
    tables = resample(table, draws, np.random.default_rng(seed))
    drawn = backdoor(tables) - frontdoor(tables)
    centred = np.abs(drawn[:, there] - difference[there]).sum(axis=2) @ p_x[there] / 2
    centred = centred[~np.isnan(centred)]  # draws that lost a cell
    p = float((1 + (centred >= distance).sum()) / (1 + len(centred)))
    return Disagreement(difference, distance, p)
