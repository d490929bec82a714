"""The convex core of GLA: offsets o = -log q for many sample weights at once, by Newton's method on one table.

For fixed logits f the risk of ``softmax(f + o)`` is convex in o. The table E holds exp(f + reference - row maximum) of
every class but a sample's own, whose logit is kept apart: a = E @ exp(o - reference) is the odds against the label, and
the gradient is free of cancellation even if the model is nearly always right. B weightings of one sample (bootstrap
draws, folds, strengths) share the table: an iteration is two matrix products. A large table is float32; sums over
samples and all vectors are float64.

No line search: the risk is generalised self-concordant. Along a Newton direction d its third derivative is at most R =
max(d) - min(d) times its second, so a step of ln(1 + R) / R never raises the risk (Sun and Tran-Dinh, Mathematical
Programming 2019); near the minimum that is the full step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from causalft.errors import CausalFTError

__all__ = ["CrossValidation", "Offsets", "Table", "choose_strength", "effective_size", "solve"]


Vector = NDArray[np.float64]

# Up to this many entries the table is float64 (32 MB): small problems are solved to the last digits.
_DOUBLE_ENTRIES = 4_000_000

# How far an offset may go from the reference before entries lost to underflow would count.
_REACH = {np.dtype(np.float32): 25.0, np.dtype(np.float64): 250.0}

# Of the log-likelihood of all samples that a Newton step may still promise: 1e-8 is 1e-4 standard errors.
_TOLERANCE = {np.dtype(np.float32): 1e-8, np.dtype(np.float64): 1e-13}

_NEWTON_STEPS = 200
_CG_STEPS = 100
_ROWS = 1024


class Table:
    """Logits of labelled samples as the table that :func:`solve` multiplies with.

    Parameters
    ----------
    logits : (n, K) array of float32 or float64, finite
        Kept by reference.
    labels : (n,) array of int64 in [0, K)
    log_target : (K,) array, optional
        Added to every row: the log prior of the labelled samples.
    """

    def __init__(
        self, logits: NDArray[Any], labels: NDArray[np.int64], log_target: Vector | None = None
    ) -> None:
        self.n, self.n_classes = logits.shape
        self.dtype: np.dtype[Any] = np.dtype(np.float64 if logits.size <= _DOUBLE_ENTRIES else np.float32)
        self.labels = labels
        self._logits = logits
        self._log_target = np.zeros(self.n_classes) if log_target is None else log_target
        self._others = np.empty(logits.shape, dtype=self.dtype)
        self._own = np.empty(self.n)
        ones, columns = np.ones(self.n), np.arange(self.n)
        self._by_class = csr_array((ones, (labels, columns)), shape=(self.n_classes, self.n))
        self.recentre(np.zeros(self.n_classes))

    def recentre(self, reference: Vector) -> None:
        """Fill the table about these offsets."""
        self.reference = reference
        shift = self._log_target + reference
        for start in range(0, self.n, _ROWS):
            rows = slice(start, min(start + _ROWS, self.n))
            block = self._logits[rows].astype(np.float64)
            block += shift
            chosen = np.arange(len(block)), self.labels[rows]
            own = block[chosen]
            block[chosen] = -np.inf
            highest = block.max(axis=1)
            block -= highest[:, None]
            self._own[rows] = own - highest
            np.exp(block.astype(self.dtype), out=self._others[rows])

    def class_sums(self, columns: NDArray[Any]) -> Vector:
        """Sum (n, B) over the samples of each class: (K, B)."""
        return np.asarray(self._by_class @ columns, dtype=np.float64)

    def others(self, columns: Vector) -> Vector:
        """Multiply the table with (K, B): (n, B)."""
        narrow, scale = self._narrow(columns)
        return (self._others @ narrow).astype(np.float64) * scale

    def gather(self, columns: Vector) -> Vector:
        """Multiply the transposed table with (n, B): (K, B). Blocks of rows are added up in float64."""
        narrow, scale = self._narrow(columns)
        total = np.zeros((self.n_classes, columns.shape[1]))
        for start in range(0, self.n, _ROWS):
            rows = slice(start, start + _ROWS)
            total += self._others[rows].T @ narrow[rows]
        return total * scale

    def _narrow(self, columns: Vector) -> tuple[NDArray[Any], Vector]:
        """Columns in the type of the table, scaled to 1 so that float32 neither overflows nor loses small ones."""
        scale = np.maximum(np.abs(columns).max(axis=0), np.finfo(np.float64).tiny)
        return (columns / scale).astype(self.dtype), scale

    def own(self, offsets: Vector) -> Vector:
        """Log-score of each sample's own class under (K, B) offsets, on the scale of the table: (n, B)."""
        return self._own[:, None] + (offsets - self.reference[:, None])[self.labels]

    def losses(self, offsets: Vector) -> Vector:
        """Negative log-likelihood of every sample under (K, B) offsets: (n, B), in nats."""
        against = np.log(self.others(np.exp(offsets - self.reference[:, None])))
        return np.logaddexp(0, against - self.own(offsets))


@dataclass(frozen=True)
class Offsets:
    """B solutions.

    Attributes
    ----------
    values : (K, B) array
        Each column has mean 0.
    converged : (B,) array of bool
    """

    values: Vector
    converged: NDArray[np.bool_]


def solve(
    table: Table,
    weights: Vector,
    l2: Vector,
    *,
    start: Vector | None = None,
    centre: Vector | None = None,
    absent: NDArray[np.bool_] | None = None,
) -> Offsets:
    """Minimise ``sum_i w_i NLL_i(o) + l2 / 2 * |o - mean(o) - centre|^2`` for B columns of weights at once.

    Parameters
    ----------
    table : Table
        Left recentred if B is 1 and the solution is far from its reference.
    weights : (n, B) array
        Non-negative; each column sums to 1.
    l2 : (B,) array
        Where it is 0, every class needs a sample of positive weight: then a finite minimum exists.
    start : (K, B) array, optional
        0 by default. Where the data do not tell, the solution stays there.
    centre : (K, B) array, optional
        What the penalty pulls to; 0, that is a uniform prior, by default.
    absent : (K, B) array of bool, optional
        Classes that the samples of a column could not have had: they are no rivals there, and stay where the penalty
        puts them. Needs ``l2 > 0``.

    Returns
    -------
    Offsets
    """
    n_columns = weights.shape[1]
    shape = (table.n_classes, n_columns)
    values = np.zeros(shape) if start is None else start - start.mean(axis=0)
    pull = np.zeros(shape) if centre is None else centre - centre.mean(axis=0)
    rivals = np.ones(shape) if absent is None else 1.0 - absent.astype(np.float64)
    converged = np.zeros(n_columns, dtype=bool)
    far = np.zeros(n_columns, dtype=bool)
    for _ in range(_NEWTON_STEPS):
        distance = np.abs(values - table.reference[:, None]).max(axis=0)
        if n_columns == 1 and distance[0] > _REACH[table.dtype]:
            table.recentre(values[:, 0].copy())
        else:
            far |= ~converged & (distance > _REACH[table.dtype])
        active = np.flatnonzero(~converged & ~far)
        if not len(active):
            break
        system = _System(
            table, values[:, active], weights[:, active], l2[active], pull[:, active], rivals[:, active]
        )
        direction = system.newton_direction()
        promise = -table.n * (system.gradient * direction).sum(axis=0)
        converged[active] = promise < _TOLERANCE[table.dtype]
        spread = np.maximum(np.ptp(direction, axis=0), 1e-12)
        moved = values[:, active] + direction * (np.log1p(spread) / spread)
        values[:, active] = moved - moved.mean(axis=0)
    for column in np.flatnonzero(far):  # each about a reference of its own
        shared, only = table.reference, slice(column, column + 1)
        alone = solve(
            table,
            weights[:, only],
            l2[only],
            start=values[:, only],
            centre=pull[:, only],
            absent=rivals[:, only] == 0,
        )
        values[:, only], converged[only] = alone.values, alone.converged
        table.recentre(shared)
    return Offsets(values, converged)


class _System:
    """Gradient g and Hessian products of the risk at B offsets."""

    def __init__(
        self, table: Table, offsets: Vector, weights: Vector, l2: Vector, pull: Vector, rivals: Vector
    ) -> None:
        self.table, self.l2 = table, l2
        self.e = rivals * np.exp(offsets - table.reference[:, None]).astype(table.dtype).astype(np.float64)
        against = table.others(self.e)
        own = np.exp(np.minimum(table.own(offsets), 700))
        total = against + own
        self.lost = against / total  # 1 - p(label)
        self.kept = weights * (own / total)
        self.per_row = weights / total
        self.taken = self.e * table.gather(self.per_row)
        self.gradient = self.taken - table.class_sums(weights * self.lost) + l2 * (offsets - pull)
        self.total = total

    def product(self, v: Vector) -> Vector:
        """H v = sum_i w_i p_i * (v - p_i . v) + l2 (v - mean v), with p_i the row of probabilities."""
        elsewhere = self.table.others(self.e * v) / self.total
        own = v[self.table.labels]
        mean = elsewhere + own * (1 - self.lost)
        image = self.taken * v - self.e * self.table.gather(self.per_row * mean)
        image += self.table.class_sums(self.kept * (own * self.lost - elsewhere))
        return image + self.l2 * (v - v.mean(axis=0))

    def newton_direction(self) -> Vector:
        """Solve H d = -g for each column by preconditioned conjugate gradients (constants are the null space)."""
        diagonal = self.taken + self.table.class_sums(self.kept * self.lost) + self.l2
        diagonal = np.maximum(diagonal, np.finfo(np.float64).tiny)
        precondition, share = 1 / diagonal, diagonal / diagonal.sum(axis=0)

        def without_shift(image: Vector) -> Vector:
            """Of rounding: the component that no direction can answer."""
            return image - share * image.sum(axis=0)

        direction, residual = np.zeros_like(self.gradient), without_shift(-self.gradient)
        step = precondition * residual
        norm = (residual * step).sum(axis=0)
        # Few products far from the minimum, where n * norm is large; many near it.
        enough = norm * np.clip(self.table.n * norm, 1e-8, 1e-2)
        running = norm > 0
        for _ in range(_CG_STEPS):
            image = without_shift(self.product(step))
            bend = (step * image).sum(axis=0)
            running &= bend > 0
            alpha = np.where(running, norm / np.where(running, bend, 1), 0)
            direction += alpha * step
            residual = residual - alpha * image
            conditioned = precondition * residual
            new_norm = (residual * conditioned).sum(axis=0)
            running &= new_norm > enough
            if not running.any():
                break
            step = conditioned + np.where(running, new_norm / np.where(running, norm, 1), 0) * step
            norm = new_norm
        return direction


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
