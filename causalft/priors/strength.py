"""How strongly to pull an estimated prior towards uniform: cross-validation of the penalty on log q.

Chosen is the strongest pull whose held-out risk is within one standard error of the lowest (Breiman et al., 1984), the
error being that of the paired difference: eight images do not earn an imbalance of 100,000.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalft.errors import CausalFTError
from causalft.priors.offsets import Table, solve

__all__ = ["CrossValidation", "choose_strength", "effective_size"]

# A penalty says that log q is normal with this standard deviation (exponential, imbalance 100: 1.33). A sixteenth is
# nearly uniform; 4 lets priors differ by a factor of a million.
_DEVIATIONS = 2.0 ** np.arange(-4, 3)


@dataclass(frozen=True)
class CrossValidation:
    """The strengths tried.

    Attributes
    ----------
    l2 : float
        The strongest whose held-out risk is within one standard error of the lowest.
    path : tuple of (l2, risk)
        From strong to weak, 0 last if every class is in every training part; the risk is the mean negative
        log-likelihood of the held-out samples, in nats.
    """

    l2: float
    path: tuple[tuple[float, float], ...]


def effective_size(weights: NDArray[np.float64]) -> float:
    """Return how many equal samples weigh as much: ``1 / sum w^2`` for weights that sum to 1.

    Examples
    --------
    >>> effective_size(np.full(4, .25))
    4.0
    """
    return float(1 / (weights @ weights))


def choose_strength(
    table: Table, weights: NDArray[np.float64], *, folds: int = 5, seed: int = 0
) -> CrossValidation:
    """Choose ``l2`` by the held-out likelihood over stratified folds; all fits are one batched solve.

    Parameters
    ----------
    table : Table
    weights : (n,) array
        Sums to 1.
    folds : int
        2 or more; as many as samples at most.
    seed : int
        Decides which samples of a class go into which fold.

    Raises
    ------
    CausalFTError
        If there are fewer than two samples or folds.
    """
    if folds < 2 or table.n < 2:
        raise CausalFTError(
            f"cross-validation needs 2 folds and 2 samples or more, not {folds} and {table.n}"
        )
    fold = _folds(table.labels, min(folds, table.n), seed)
    n_folds = int(fold.max()) + 1
    train = weights[:, None] * (fold[:, None] != np.arange(n_folds))
    # The class sizes of a training part are an accident of the folds: each class keeps the weight it has in the whole,
    # and one that is left out altogether is no rival there.
    whole, part = table.class_sums(weights[:, None]), table.class_sums(train)
    train *= np.divide(whole, part, out=np.zeros_like(part), where=part > 0)[table.labels]
    absent = part == 0
    if not (train.sum(axis=0) > 0).all():
        raise CausalFTError("a fold holds all the weight; use fewer folds or other weights")
    train /= train.sum(axis=0)
    strengths = [1 / (effective_size(weights) * sd**2) for sd in _DEVIATIONS]
    if (part > 0).all():
        strengths.append(0.0)
    # The same belief about log q in a smaller training part is a stronger penalty on its mean risk.
    smaller = np.array([effective_size(weights) / effective_size(column) for column in train.T])
    l2 = np.concatenate([strength * smaller for strength in strengths])
    repeats = (1, len(strengths))
    fitted = solve(table, np.tile(train, repeats), l2, absent=np.tile(absent, repeats))
    losses = table.losses(fitted.values).reshape(table.n, len(strengths), n_folds)
    held_out = losses[np.arange(table.n), :, fold]
    risks = weights @ held_out
    worse = held_out - held_out[:, [int(risks.argmin())]]
    excess = weights @ worse
    error = np.sqrt((weights**2) @ (worse - excess) ** 2)
    return CrossValidation(
        l2=float(strengths[int(np.flatnonzero(excess <= error)[0])]),
        path=tuple((float(a), float(b)) for a, b in zip(strengths, risks, strict=True)),
    )


def _folds(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Deal the samples, class by class and shuffled, to the folds in turn: (n,)."""
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(labels)), labels))
    fold = np.empty(len(labels), dtype=np.int64)
    fold[order] = np.arange(len(labels)) % folds
    return fold
