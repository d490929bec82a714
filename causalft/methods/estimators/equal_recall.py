"""How strongly the pre-training priors must be taken out for equal recall of their P groups.

Estimand: the expected recall of the decision max_y P(y | do(x)) in the classes that a stratum's pre-training saw often
(P-many), less that in the classes it saw seldom (P-few), beyond what models with other priors show on the same classes
(their difficulty). The strength is the share of the log priors that brings it to zero.

Recall is expected under a posterior: of class k it is E[p(k | x) 1{decision = k}] / E[p(k | x)], with p the pool of
the strata that labelled images make likeliest (:mod:`causalft.methods.estimators.pool`). So images without labels can
choose the strength; those that calibrate p need them. Where the images that choose have labels, p is averaged with the
label: the posterior is precise and may lean, the label is unbiased and noisy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from causalft.data.groups import gap_vectors
from causalft.methods.estimators.mixing import stratified_counts
from causalft.methods.estimators.pool import Floats, Pool, Priors, StrataRows, pooled
from causalft.methods.estimators.probabilities import normalised

__all__ = [
    "STRENGTHS",
    "Chooser",
    "decisions",
    "gap_curves",
    "interval_of",
    "own_gap",
    "root_of",
    "strength_of",
]

STRENGTHS = np.linspace(0.0, 1.0, 51)
"""Shares of the log priors that are tried. 0 takes nothing out, 1 the whole prior."""

_BY_LABEL = 0.5
"""Weight of the label beside the posterior. Over 8 draws of validation images (creatures-lt, two seeds apart from all
reported ones) the strength had a standard deviation of 0.06 with either alone, and of 0.04 with both."""


@dataclass(frozen=True)
class Chooser:
    """What a strength is chosen for, and on which images.

    Attributes
    ----------
    strata : StrataRows
        Of labelled images that no stratum was tuned on.
    labels : (n,) array of int in [0, K)
    priors : Priors
    choosing : StrataRows
        Of the images that choose the strength.
    others : StrataRows, optional
        Models with other priors, on the images that choose; default: for each stratum, the others.
    log_target : (K,) array
        Log class law of the images to be classified.
    labelled : bool
        Whether the images that choose are the labelled ones.
    """

    strata: StrataRows
    labels: NDArray[np.int64]
    priors: Priors
    choosing: StrataRows
    others: StrataRows | None
    log_target: Floats
    labelled: bool

    @property
    def single(self) -> bool:
        """One model cannot tell its prior from the difficulty of the classes."""
        return self.strata.n_strata == 1 and self.others is None

    def gap_of(self, tested: NDArray[np.bool_]) -> Floats:
        """The P gap by each prior as a linear map of class accuracies, (M, K)."""
        return gap_vectors(np.exp(self.priors.log_q), tested)


def decisions(
    log_p: Floats, pool: Pool, weights: Floats, work: Chooser, strengths: Floats
) -> Iterator[NDArray[np.int64]]:
    """Predicted classes (b,) of some rows at each strength."""
    plain = pooled(log_p, weights, replace(pool, prior_share=0.0).offsets(work.priors))
    plain += work.log_target / pool.sharpness
    along = pool.direction(work.priors)
    for strength in strengths:
        yield (plain - strength * along).argmax(axis=1)


def gap_curves(work: Chooser, pool: Pool, weights: Floats) -> Floats:
    """Expected own gap at each strength under B weightings (B, n) of the images: (B, L)."""
    n_classes, n_draws = work.strata.n_classes, len(weights)
    class_weights, offsets = pool.class_weights(work.priors), pool.offsets(work.priors)
    hits, mass = np.zeros((n_draws, len(STRENGTHS), n_classes)), np.zeros((n_draws, n_classes))
    apart = work.others is not None
    rest = work.others if work.others is not None else work.choosing
    of_others = np.zeros((n_draws, rest.n_strata, n_classes))
    for (rows, log_p), (_, alone) in zip(work.choosing.blocks(), rest.blocks(), strict=True):
        score = pool.sharpness * pooled(log_p, class_weights, offsets)
        # labelled images weigh the classes alike, whatever law is decided for
        share = np.exp(normalised(score if work.labelled else score + work.log_target))
        at = np.arange(len(share))
        if work.labelled:
            share *= 1 - _BY_LABEL
            share[at, work.labels[rows]] += _BY_LABEL
        drawn = weights[:, rows]
        mass += drawn @ share
        decided = [
            *decisions(log_p, pool, class_weights, work, STRENGTHS),
            *((one + work.log_target).argmax(axis=1) for one in alone),
        ]
        for place, classes in enumerate(decided):
            table = csr_array((share[at, classes], (at, classes)), shape=share.shape)
            found = np.asarray(drawn @ table)
            if place < len(STRENGTHS):
                hits[:, place] += found
            else:
                of_others[:, place - len(STRENGTHS)] += found
    there = np.maximum(mass, 1e-300)[:, None]
    vectors = work.gap_of(mass[0] > 0)
    return np.stack(
        [own_gap(a, b, vectors, apart) for a, b in zip(hits / there, of_others / there, strict=True)]
    )


def strength_of(work: Chooser, pool: Pool, weights: Floats) -> tuple[float, list[str]]:
    """The strength without an expected gap, and what to say of it."""
    if work.single:
        share = min(1.0, max(0.0, pool.prior_share))
        return share, [
            "one stratum: its prior cannot be told from class difficulty, so likelihood chose the strength"
        ]
    return root_of(gap_curves(work, pool, weights[None])[0])


def interval_of(
    work: Chooser, pool: Pool, weights: Floats, strength: float, seed: int
) -> tuple[float, float]:
    """95 % interval of the strength: percentiles of a bootstrap over images, each class by itself, the pool fixed."""
    if work.single:
        return 0.0, 1.0
    rng = np.random.default_rng(seed)
    labels = work.labels if work.labelled else np.zeros(work.choosing.n, dtype=np.int64)
    counts = stratified_counts(labels, _draws(work.strata.n_classes), rng).T
    roots = [root_of(curve)[0] for curve in gap_curves(work, pool, counts * weights)]
    low, high = np.quantile(roots, [0.025, 0.975])
    return min(float(low), strength), max(float(high), strength)


def _draws(n_classes: int) -> int:
    """Bootstrap draws; fewer where each is a large table."""
    return int(np.clip(40_000_000 // (len(STRENGTHS) * n_classes), 40, 200))


def own_gap(accuracy: Floats, of_others: Floats, vectors: Floats, apart: bool) -> Floats:
    """Own P gap beyond class difficulty, (L,), of class accuracies (L, K) and those of the others (R, K)."""
    tested = np.nan_to_num(of_others)
    gaps = np.nan_to_num(accuracy) @ vectors.T
    off = tested @ vectors.T  # (R, M)
    if apart:
        return (gaps - off.mean(axis=0)).mean(axis=-1)
    m = len(vectors)
    return (gaps - (off.sum(axis=0) - np.diagonal(off)) / (m - 1)).mean(axis=-1)


def root_of(curve: Floats) -> tuple[float, list[str]]:
    """Where a curve over `STRENGTHS` that falls, apart from noise, crosses zero."""
    from scipy.optimize import isotonic_regression  # a prediction does without

    falling = isotonic_regression(curve, increasing=False).x
    if falling[0] <= 0:
        return 0.0, ["no gap to close: the P-few classes are recognised as well as difficulty allows"]
    if falling[-1] > 0:
        return 1.0, [
            f"the strength is at its bound: with the whole priors taken out {100 * falling[-1]:.1f} points of gap "
            "remain; check the priors (causalft prior estimate)"
        ]
    return float(np.interp(0.0, falling[::-1], STRENGTHS[::-1])), []
