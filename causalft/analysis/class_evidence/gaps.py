"""The cross-table of models and priors: the P gap (many minus few) of each model by each prior, and own minus off."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.class_evidence.regression import Draws, Estimate, over_images
from causalft.data.groups import gap_vectors

__all__ = ["cross_gaps", "own_minus_off"]

Floats = NDArray[np.float64]


def _resampled(accuracy: Floats, vectors: Floats, weights: NDArray[np.float32]) -> Floats:
    """Gap of each model by each prior (B, R, J) on (B, K) weights of the classes; groups stay with their classes."""
    found = np.zeros((len(weights), len(accuracy), len(vectors)))
    for j, vector in enumerate(vectors):
        for sign in (1, -1):
            drawn = weights * (sign * vector > 0)
            with np.errstate(invalid="ignore", divide="ignore"):
                found[:, :, j] += sign * (drawn @ accuracy.T) / drawn.sum(axis=1, keepdims=True)
    return found


def cross_gaps(
    accuracy: Floats, priors: Floats, draws: Draws, variance: Floats | None = None
) -> list[list[Estimate]]:
    """P gap of model r by prior j.

    Parameters
    ----------
    accuracy : (R, K) array
        Fractions.
    priors : (J, K) array
        Anything in the order of the priors, such as log counts.
    draws : Draws
    variance : (R, K) array, optional
        Of the accuracies over test images.

    Examples
    --------
    >>> accuracy = np.array([[0.9, 0.6, 0.5, 0.2, 0.1]])
    >>> table = cross_gaps(accuracy, np.array([[5.0, 4.0, 3.0, 2.0, 1.0]]), Draws(5, 100, 0))
    >>> round(table[0][0].value, 6)
    0.6
    """
    vectors = gap_vectors(priors, np.ones(priors.shape[1], dtype=bool))
    gaps, sampled = accuracy @ vectors.T, draws.sample(partial(_resampled, accuracy, vectors))
    return [
        [
            Estimate(
                draws.interval(float(gaps[r, j]), sampled[:, r, j]),
                over_images(float(gaps[r, j]), vectors[j], None if variance is None else variance[r]),
            )
            for j in range(len(priors))
        ]
        for r in range(len(accuracy))
    ]


def own_minus_off(
    accuracy: Floats, priors: Floats, draws: Draws, variance: Floats | None = None
) -> tuple[Estimate, list[Estimate]]:
    """Gap of model m by its own prior less the mean gap of the other models by it: the mean over models, and each.

    Class difficulty that the models share drops out. Model m is the one whose prior is ``priors[m]``.

    Parameters
    ----------
    accuracy, priors : (M, K) arrays
        M of 2 or more.
    draws : Draws
    variance : (M, K) array, optional
    """
    n = len(accuracy)
    vectors = gap_vectors(priors, np.ones(priors.shape[1], dtype=bool))
    # weights[j, m] of model m in the own-minus-off gap of prior j
    shares = np.eye(n) - (1 - np.eye(n)) / (n - 1)
    sampled = np.einsum("bmj,jm->bj", draws.sample(partial(_resampled, accuracy, vectors)), shares)
    maps = shares[:, :, None] * vectors[:, None, :]
    each = np.einsum("jmk,mk->j", maps, accuracy)

    def estimate(value: float, samples: Floats, linear: Floats) -> Estimate:
        return Estimate(draws.interval(value, samples), over_images(value, linear, variance))

    return (
        estimate(float(each.mean()), sampled.mean(axis=1), maps.mean(axis=0)),
        [estimate(float(each[j]), sampled[:, j], maps[j]) for j in range(n)],
    )
