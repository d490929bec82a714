"""The log-linear pool of strata: who has seen a class more weighs more in it, and shares of two priors are taken out.

    log P(y | do(x)) = beta sum_c v_c(y) [log P(y | b, c) - a log q_c(y)] - beta M d log P_S(y) + const
    v_c(y) = M P(c) q_c(y)^w / sum_c' P(c') q_c'(y)^w

q_c is the label prior of stratum c, P_S that of the training images. With w = a = d = 0 it is the product of the strata
at temperature 1 / beta. The four numbers are those of a conditional logit (McFadden, 1974), fitted by likelihood on
images that no stratum was tuned on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.errors import CausalFTError
from causalft.methods.estimators.fusion import stratum_weights
from causalft.methods.estimators.probabilities import Kind, member_blocks, members_rows, normalised

__all__ = ["Pool", "Priors", "StrataRows", "fit_pool", "pooled"]

Floats = NDArray[np.float64]

_KEPT = 4_000_000
"""Log-probabilities that are kept in memory; more are computed again at every step."""

_BELIEF = 0.5
"""Standard deviation of a normal prior on w, a and d: it decides only where images are few."""

_FLOOR_COUNT = 0.5
"""A class without a training image enters P_S with half an image."""


class StrataRows:
    """Log-probabilities of M strata on the same images, read in blocks of rows.

    Parameters
    ----------
    probs : (M, n, K) array, or sequence of M (n, K) arrays
    kind : {"probabilities", "log-probabilities", "logits"}, or one of these for each member, optional
        As in :func:`causalft.methods.estimators.fusion.fuse`.
    temperatures : sequence of M floats, optional
        Of each stratum.
    """

    def __init__(
        self, probs: ArrayLike, kind: Kind = None, temperatures: Sequence[float] | None = None
    ) -> None:
        self._members = members_rows(probs, kind)
        if len(self._members[0].shape) != 2:
            shape = (len(self._members), *self._members[0].shape)
            raise CausalFTError(f"probs must be (n_strata, n, n_classes), not of shape {shape}")
        self._temperatures = temperatures
        self.n_strata, self.n, self.n_classes = len(self._members), *self._members[0].shape

    def blocks(self) -> Iterator[tuple[slice, Floats]]:
        """Yield slices of rows and the log-probabilities there, (M, b, K)."""
        if self.n_strata * self.n * self.n_classes <= _KEPT:
            yield from self._kept
        else:
            yield from self._read()

    @cached_property
    def _kept(self) -> list[tuple[slice, Floats]]:
        return list(self._read())

    def take(self, rows: NDArray[np.int64]) -> StrataRows:
        """The log-probabilities of some rows, in memory as float32."""
        found = np.empty((self.n_strata, len(rows), self.n_classes), dtype=np.float32)
        for block, log_p in self.blocks():
            into = np.flatnonzero((rows >= block.start) & (rows < block.stop))
            found[:, into] = log_p[:, rows[into] - block.start]
        return StrataRows(found, "log-probabilities")

    def _read(self) -> Iterator[tuple[slice, Floats]]:
        for rows, log_p in member_blocks(self._members):
            if self._temperatures is not None:
                pairs = zip(log_p, self._temperatures, strict=True)
                log_p = np.stack([normalised(each / t) for each, t in pairs])
            yield rows, log_p


@dataclass(frozen=True)
class Priors:
    """What is known of the label priors.

    Attributes
    ----------
    log_q : (M, K) array
        Log label prior of each stratum, less its mean over the classes.
    log_train : (K,) array
        The same of the training images.
    stratum_prior : (M,) array
        P(c).
    """

    log_q: Floats
    log_train: Floats
    stratum_prior: Floats

    @classmethod
    def of(
        cls, priors: ArrayLike, class_counts: ArrayLike | None = None, stratum_prior: ArrayLike | None = None
    ) -> Priors:
        """Check and take the logarithm.

        Parameters
        ----------
        priors : (M, K) array of positive numbers
        class_counts : (K,) array of non-negative numbers, optional
            Training images; without them no share of P_S is taken out.
        stratum_prior : (M,) array, optional
            Uniform by default.
        """
        q = np.asarray(priors, dtype=float)
        if q.ndim != 2 or not (np.isfinite(q).all() and (q > 0).all()):
            raise CausalFTError(
                f"priors must hold a positive number for each stratum and class, not shape {q.shape} with zeros or gaps"
            )
        counts = np.ones(q.shape[1]) if class_counts is None else np.asarray(class_counts, dtype=float)
        if counts.shape != q.shape[1:] or not (np.isfinite(counts).all() and (counts >= 0).all()):
            raise CausalFTError(f"class_counts must hold {q.shape[1]} numbers of 0 or more, one per class")
        return cls(
            _centred(np.log(q)),
            _centred(np.log(np.maximum(counts, _FLOOR_COUNT))),
            stratum_weights(stratum_prior, len(q)),
        )


def _centred(values: Floats) -> Floats:
    return values - values.mean(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Pool:
    """The numbers of a pool.

    Attributes
    ----------
    sharpness : float
        beta, above 0; the inverse temperature of the sum of the strata.
    expertise : float
        w, from 0 (all classes weigh the strata alike) to 1 (in proportion to their priors).
    prior_share : float
        a, the share of each stratum's log prior that is taken out.
    train_share : float
        d, the same for the prior of the training images, for each stratum.
    """

    sharpness: float = 1.0
    expertise: float = 0.0
    prior_share: float = 0.0
    train_share: float = 0.0

    def class_weights(self, priors: Priors) -> Floats:
        """P(c) q_c(y)^w, normalised over the strata: (M, K), columns sum to 1."""
        weights = priors.stratum_prior[:, None] * np.exp(
            self.expertise * (priors.log_q - priors.log_q.max(axis=0))
        )
        return weights / weights.sum(axis=0)

    def direction(self, priors: Priors) -> Floats:
        """sum_c v_c(y) log q_c(y), (K,): what the strength a multiplies."""
        return len(priors.log_q) * (self.class_weights(priors) * priors.log_q).sum(axis=0)

    def offsets(self, priors: Priors) -> Floats:
        """What is added to the log-probabilities of each stratum before they are pooled: (M, K)."""
        return -self.prior_share * priors.log_q - self.train_share * priors.log_train


def pooled(log_p: Floats, class_weights: Floats, offsets: Floats | None = None) -> Floats:
    """M sum_c P(c | y) [log P(y | b, c) + offset_c(y)], unnormalised: (M, b, K) to (b, K).

    Examples
    --------
    >>> strata = np.log([[[.9, .1]], [[.5, .5]]])
    >>> np.exp(normalised(pooled(strata, np.full((2, 2), .5)))).round(3).tolist()
    [[0.9, 0.1]]
    """
    found: Floats = len(log_p) * np.einsum("mk,mbk->bk", class_weights, log_p)
    if offsets is not None:
        found += len(log_p) * (class_weights * offsets).sum(axis=0)
    return found


def fit_pool(
    rows: StrataRows,
    labels: NDArray[np.int64],
    weights: Floats,
    priors: Priors,
    start: Pool = Pool(),
    *,
    with_shares: bool = True,
) -> Pool:
    """Find the pool under which the labels are likeliest.

    Parameters
    ----------
    rows : StrataRows
        Of n images that no stratum was tuned on.
    labels : (n,) array of int in [0, K)
    weights : (n,) array of non-negative numbers
        Those of weight 0 are left out.
    priors : Priors
    start : Pool
    with_shares : bool
        Whether shares of the priors may be taken out; without them only sharpness and expertise are fitted.

    Examples
    --------
    >>> logits = np.random.default_rng(0).normal(size=(2, 400, 3))
    >>> labels = logits.sum(axis=0).argmax(axis=1)
    >>> priors = Priors.of([[.6, .3, .1], [.1, .3, .6]])
    >>> bool(fit_pool(StrataRows(logits, "logits"), labels, np.ones(400), priors).sharpness > 1)
    True
    """
    from scipy.optimize import minimize  # a prediction does without

    share = weights / weights.sum()
    n = max(1, int(np.count_nonzero(weights)))

    def risk(values: Floats) -> tuple[float, Floats]:
        pool = Pool(float(np.exp(values[0])), *map(float, values[1:]))
        loss, gradient = _risk(pool, rows, labels, share, priors)
        belief = values[1:] / (_BELIEF**2 * n)
        gradient[1:] += belief
        return loss + float(belief @ values[1:]) / 2, gradient

    several = rows.n_strata > 1
    share_bounds = (-1.0, 1.0) if with_shares else (0.0, 0.0)
    bounds = [(-7.0, 7.0), (0.0, 1.0 if several else 0.0), share_bounds, share_bounds]
    first = np.array([np.log(start.sharpness), start.expertise, start.prior_share, start.train_share])
    found = minimize(risk, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-9}).x
    return Pool(float(np.exp(found[0])), *map(float, found[1:]))


def _risk(
    pool: Pool, rows: StrataRows, labels: NDArray[np.int64], share: Floats, priors: Priors
) -> tuple[float, Floats]:
    """Mean negative log-likelihood, nats, and its gradient by log beta, w, a and d."""
    m, weights, log_q = rows.n_strata, pool.class_weights(priors), priors.log_q
    slope = weights * (log_q - (weights * log_q).sum(axis=0))  # of the weights, by w
    offsets = pool.offsets(priors)
    along = pool.direction(priors)
    loss, gradient = 0.0, np.zeros(4)
    for block, log_p in rows.blocks():
        of_image, y = share[block], labels[block]
        score = pool.sharpness * pooled(log_p, weights, offsets)
        log_fused = normalised(score)
        at = np.arange(len(y))
        loss -= float(of_image @ log_fused[at, y])
        residual = np.exp(log_fused)
        residual[at, y] -= 1.0
        residual *= of_image[:, None]
        by_class = residual.sum(axis=0)
        by_weight = (residual * pooled(log_p, slope, offsets)).sum()
        gradient += [
            (residual * score).sum(),
            pool.sharpness * by_weight,
            -pool.sharpness * (by_class @ along),
            -pool.sharpness * m * (by_class @ priors.log_train),
        ]
    return loss, gradient
