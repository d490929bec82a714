"""Class orders (which class is head, which is tail): free of each other, or set against a label prior."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.errors import CausalFTError, nearest
from causalft.runs.limits import PRIOR_ORDERS
from causalft.runs.notebook import ShownAsTable

__all__ = ["PRIOR_ORDERS", "Orders", "choose_orders", "order_against", "spearman"]

_SWEEPS = 4
_RESTARTS = 8
_MAX_SWAPS = 20_000
_LOW_ENOUGH = 0.01


@dataclass(frozen=True, repr=False)
class Orders(ShownAsTable):
    """Chosen class orders.

    Attributes
    ----------
    orders : (n_orders, K) array of int64
        Each row a permutation of the classes, head first.
    fixed : (n_fixed, K) array of int64
        The orders they had to differ from.
    correlation : (n_orders + n_fixed, n_orders + n_fixed) array
        Spearman correlation of all of them, chosen ones first.
    """

    orders: NDArray[np.int64]
    fixed: NDArray[np.int64]
    correlation: NDArray[np.float64]

    @property
    def max_abs_correlation(self) -> float:
        """Largest |Spearman correlation| that a chosen order has with any other order."""
        off = np.abs(self.correlation - np.eye(len(self.correlation)))[: len(self.orders)]
        return float(off.max(initial=0.0))

    def __len__(self) -> int:
        return len(self.orders)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return iter(self.orders)

    def __getitem__(self, i: int) -> NDArray[np.int64]:
        return self.orders[i]

    def __repr__(self) -> str:
        n_classes = self.orders.shape[1]
        beside = f" beside {len(self.fixed)} fixed" if len(self.fixed) else ""
        largest = f"largest |Spearman| {self.max_abs_correlation:.2f}"
        return f"Orders({len(self)} of {n_classes} classes{beside}, {largest})"


def spearman(orders: ArrayLike) -> NDArray[np.float64]:
    """Spearman correlation of class orders.

    Parameters
    ----------
    orders : (m, K) array of int
        Permutations of the classes, head first.

    Returns
    -------
    (m, m) array

    Examples
    --------
    >>> spearman([[0, 1, 2], [2, 1, 0]]).round(6).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    return _correlation(_ranks(np.asarray(orders)))


def choose_orders(n_classes: int, n_orders: int, seed: int, fixed: Sequence[ArrayLike] = ()) -> Orders:
    """Choose class orders with low absolute Spearman correlation to each other and to the fixed ones.

    Random permutations of few classes often correlate strongly by chance (ten classes: standard deviation 1/3), and
    two label priors made from them would then be nearly one prior. From several random starts, swaps of two classes
    that lower the sum of squared correlations are taken, until all are below 0.01 if they can be; the start with the
    smallest largest |correlation| wins.

    Parameters
    ----------
    n_classes : int
        K, at least 2.
    n_orders : int
        At least 1.
    seed : int
        Same seed, same orders.
    fixed : sequence of (K,) permutations
        Orders given beforehand, such as that of the downstream set.

    Returns
    -------
    Orders
        How low it gets is in ``correlation``: with very few classes it cannot be low (K = 2: always 1).

    Raises
    ------
    CausalFTError
        For numbers out of range or a fixed order that is no permutation.

    Examples
    --------
    >>> chosen = choose_orders(10, 3, seed=0, fixed=[range(10)])
    >>> chosen.max_abs_correlation < 0.1
    True
    """
    if n_classes < 2:
        raise CausalFTError(f"an order needs at least 2 classes, not {n_classes}")
    if n_orders < 1:
        raise CausalFTError(f"choose at least 1 order, not {n_orders}")
    given = np.array([_permutation(order, n_classes) for order in fixed], dtype=np.int64).reshape(
        -1, n_classes
    )
    rng = np.random.default_rng(seed)
    best: NDArray[np.int64] | None = None
    best_score = (np.inf, np.inf)
    for _ in range(_RESTARTS):
        ranks = np.stack([rng.permutation(n_classes) for _ in range(n_orders)])
        ranks = _descend(np.concatenate([ranks, _ranks(given)]), n_orders, rng)
        off = np.abs(_correlation(ranks) - np.eye(len(ranks)))[:n_orders]
        score = (round(float(off.max(initial=0.0)), 9), float((off**2).sum()))
        if score < best_score:
            best, best_score = ranks, score
        if best_score[0] < _LOW_ENOUGH:
            break
    assert best is not None
    return Orders(np.argsort(best[:n_orders], axis=1).astype(np.int64), given, _correlation(best))


def order_against(prior: ArrayLike, kind: str, seed: int) -> NDArray[np.int64]:
    """Order the classes of a downstream set against a label prior (Chen et al., ICML 2025, Fig. 7 and Tab. 13).

    Parameters
    ----------
    prior : (K,) array of finite numbers
        Such as the estimated P_P of a pre-training; only its order counts.
    kind : {"consistency", "reverse", "balance"}
        The head is what the prior holds most of; what it holds least of; or the order has next to nothing to do with
        the prior's (smallest |Spearman correlation| that `choose_orders` finds, below 0.01 from about ten classes).
    seed : int
        Decides "balance", and the order of classes with equal prior.

    Returns
    -------
    (K,) array of int64
        Class numbers, head first.

    Raises
    ------
    CausalFTError
        For an unknown kind, or a prior that is no vector of at least two finite numbers.

    Examples
    --------
    >>> order_against([0.2, 0.5, 0.3], "consistency", seed=0).tolist()
    [1, 2, 0]
    >>> order_against([0.2, 0.5, 0.3], "reverse", seed=0).tolist()
    [0, 2, 1]
    """
    if kind not in PRIOR_ORDERS:
        raise CausalFTError(f"no order against a prior named '{kind}': {nearest(kind, PRIOR_ORDERS)}")
    values = np.asarray(prior, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise CausalFTError(
            f"a prior must be a vector of finite numbers, one a class, not of shape {values.shape}"
        )
    ties = np.random.default_rng(seed).permutation(len(values))
    falling = ties[np.argsort(-values[ties], kind="stable")].astype(np.int64)
    if kind == "balance":
        return choose_orders(len(values), 1, seed, fixed=[falling])[0]
    return falling if kind == "consistency" else falling[::-1].copy()


def _descend(ranks: NDArray[np.int64], n_free: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Take swaps of two classes in a free row that lower the sum of squared correlations with the other rows."""
    n_classes = ranks.shape[1]
    centred = ranks - (n_classes - 1) / 2
    products = centred @ centred.T
    low_enough = _LOW_ENOUGH * products[0, 0]
    for _ in range(_SWEEPS):
        improved = False
        for row in range(n_free):
            others = np.arange(len(ranks)) != row
            for a, b in _pairs(n_classes, rng).tolist():
                if np.abs(products[row][others]).max(initial=0.0) < low_enough:
                    break
                # Swapping ranks a and b of this row moves its product with every other row by this much.
                move = (centred[row, b] - centred[row, a]) * (centred[:, a] - centred[:, b])
                new = products[row] + move
                if (new[others] ** 2).sum() < (products[row][others] ** 2).sum() - 1e-9:
                    centred[row, [a, b]] = centred[row, [b, a]]
                    products[row, others] = products[others, row] = new[others]
                    improved = True
        if not improved:
            break
    return np.rint(centred + (n_classes - 1) / 2).astype(np.int64)


def _pairs(n_classes: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(p, 2) Pairs of classes in random order: all of them, or a sample where they are very many."""
    if n_classes * (n_classes - 1) // 2 > _MAX_SWAPS:
        return rng.integers(0, n_classes, (_MAX_SWAPS, 2))
    return rng.permutation(np.stack(np.triu_indices(n_classes, 1), axis=1))


def _ranks(orders: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each class in each order."""
    return np.argsort(orders, axis=1).astype(np.int64)


def _correlation(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return np.clip(unit @ unit.T, -1.0, 1.0)


def _permutation(order: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    array = np.asarray(order)
    if array.shape != (n_classes,) or sorted(array.tolist()) != list(range(n_classes)):
        raise CausalFTError(
            f"a fixed order must list each of the {n_classes} classes once (0 to {n_classes - 1})"
        )
    return array.astype(np.int64)
