"""What a diagnosis needs of a model's probabilities: a few numbers for each image, filled in block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.methods.estimators.stored_logits import read_rows, row_blocks

__all__ = ["Answers", "predicted_classes"]


@dataclass(frozen=True, repr=False)
class Answers:
    """The answers of one model to n images, for S seeds.

    Attributes
    ----------
    predicted : (S, n) array of int
        The most probable class.
    of_label : (S, n) array
        Probability of the true class.
    confidence : (S, n) array
        Probability of the predicted class.
    """

    predicted: NDArray[np.int32]
    of_label: NDArray[np.float64]
    confidence: NDArray[np.float64]

    @classmethod
    def empty(cls, n_seeds: int, n: int) -> Answers:
        """Answers to be filled in by :meth:`put`."""
        return cls(
            np.zeros((n_seeds, n), dtype=np.int32),
            np.full((n_seeds, n), np.nan),
            np.full((n_seeds, n), np.nan),
        )

    @classmethod
    def of(cls, probs: Any, labels: NDArray[np.int64]) -> Answers:
        """Answers of probabilities (S, n, K) or (n, K).

        Examples
        --------
        >>> found = Answers.of(np.array([[.9, .1], [.2, .8]]), np.array([0, 0]))
        >>> found.predicted.tolist(), found.of_label.tolist(), found.confidence.tolist()
        ([[0, 1]], [[0.9, 0.2]], [[0.9, 0.8]])
        """
        seeds = probs[None] if probs.ndim == 2 else probs
        n_seeds, n, n_classes = seeds.shape
        found = cls.empty(n_seeds, n)
        for seed in range(n_seeds):
            for rows in row_blocks(n, n_classes):
                found.put(seed, rows, read_rows(seeds[seed], rows), labels)
        return found

    def put(
        self, seed: int, rows: slice | NDArray[np.int64], probs: NDArray[Any], labels: NDArray[np.int64]
    ) -> None:
        """Take the answers to some rows from their probabilities (b, K)."""
        at = np.arange(len(probs))
        predicted = probs.argmax(axis=1)
        self.predicted[seed, rows] = predicted
        self.of_label[seed, rows] = probs[at, labels[rows]]
        self.confidence[seed, rows] = probs[at, predicted]

    def right(self, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each prediction is right, (S, n)."""
        return self.predicted == labels

    def loss(self, weights: NDArray[np.float64] | None = None) -> float:
        """Mean negative log-likelihood over seeds and images, nats; 0 counts as the smallest float."""
        losses = -np.log(np.maximum(self.of_label, np.finfo(float).tiny))
        return float(np.mean([np.average(each, weights=weights) for each in losses]))

    def __repr__(self) -> str:
        return f"Answers({self.predicted.shape[1]} images, {len(self.predicted)} seeds)"


def predicted_classes(logits: Any, shift: NDArray[np.float64] | float = 0.0) -> NDArray[np.int64]:
    """Return the class of the largest logit plus ``shift``, (n, K) to (n,), in blocks.

    Examples
    --------
    >>> predicted_classes(np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([0.0, 4.0])).tolist()
    [1, 1]
    """
    found = np.empty(len(logits), dtype=np.int64)
    for rows in row_blocks(*logits.shape):
        found[rows] = (read_rows(logits, rows) + shift).argmax(axis=1)
    return found
