"""Parameter imbalance apart from class difficulty: cross-table of models and priors, and slope on log prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from causalft.data.groups import GROUPS

__all__ = ["PriorSlope", "UNIT", "flat_priors", "group_vectors", "members_mean_gap", "off_gap", "own_gap"]


Floats = NDArray[np.float64]


def group_vectors(groups: NDArray[np.str_], tested: NDArray[np.bool_]) -> Floats:
    """Vectors v_g such that ``class_accuracy @ v_g`` is the accuracy of group many, medium, few: (3, K).

    A row is NaN where the group has no tested class.

    Examples
    --------
    >>> group_vectors(np.array(["many", "few", "few"]), np.ones(3, bool)).tolist()
    [[1.0, 0.0, 0.0], [nan, nan, nan], [0.0, 0.5, 0.5]]
    """
    chosen = np.stack([(groups == name) & tested for name in GROUPS]).astype(float)
    with np.errstate(invalid="ignore"):
        return chosen / chosen.sum(axis=1, keepdims=True)


def own_gap(gap: Floats) -> Floats:
    """Diagonal of the gap table: model j on the groups of its own prior j, (..., M, M) to (..., M)."""
    return np.diagonal(gap, axis1=-2, axis2=-1)


def off_gap(gap: Floats) -> Floats:
    """Difficulty baseline of prior j: mean gap of the models i != j on its groups, (..., M, M) to (..., M).

    NaN for M = 1: one model cannot separate its prior from class difficulty.

    Examples
    --------
    >>> off_gap(np.array([[9., 1.], [3., 9.]])).tolist()
    [3.0, 1.0]
    """
    n_models = gap.shape[-1]
    if n_models == 1:
        return np.full(gap.shape[:-1], np.nan)
    return (gap.sum(axis=-2) - own_gap(gap)) / (n_models - 1)


def members_mean_gap(gap: Floats) -> Floats:
    """Mean over the members i of their gaps on the groups of prior j, (..., M, M) to (..., M)."""
    return gap.mean(axis=-2)


UNIT = float(np.log(100.0))

LEAST_RANGE = 2.0


def flat_priors(priors: Mapping[str, Sequence[float | None] | Floats]) -> list[str]:
    """Names of priors that span less than a factor of 2: a slope per factor of 100 along them is their noise, enlarged.

    Examples
    --------
    >>> flat_priors({"a": [0.5, 0.3, 0.2], "b": [0.34, 0.33, 0.33], "c": [0.6, None, 0.1]})
    ['b']
    """
    known = {
        name: np.array([np.nan if share is None else share for share in shares])
        for name, shares in priors.items()
    }
    return [name for name, q in known.items() if np.nanmax(q) < LEAST_RANGE * np.nanmin(q)]


class PriorSlope:
    """The least-squares slope for fixed priors, as a linear map of class accuracies.

    Parameters
    ----------
    priors : (M, K) array of positive numbers
        NaN where the prior of a class is not known.
    tested : (K,) array of bool
        Classes with a test image.

    Attributes
    ----------
    tested : (K,) array of bool
        Those of them whose prior is known in every row: the classes that count.
    identified : bool
        False with one stratum, equal priors, or fewer than two tested classes: then every slope is NaN.

    Examples
    --------
    >>> priors = np.array([[.7, .2, .1], [.1, .2, .7]])
    >>> accuracy = .3 + .02 * np.log(priors) + np.array([0., .1, .4])   # prior effect and class difficulty
    >>> slope = PriorSlope(priors, np.ones(3, bool))
    >>> round(float(slope.before(accuracy[None])[0]) / UNIT, 6)
    0.02
    """

    def __init__(self, priors: Floats, tested: NDArray[np.bool_]) -> None:
        self.tested = tested & ~np.isnan(priors).any(axis=0)
        self.x = np.log(priors[:, self.tested])
        if not self.x.size:
            self._centred, self._square, self.identified = self.x, 0.0, False
            return
        rows, columns = self.x.mean(axis=1, keepdims=True), self.x.mean(axis=0, keepdims=True)
        self._centred = self.x - rows - columns + self.x.mean()
        self._square = float((self._centred**2).sum())
        spread = ((self.x - rows) ** 2).sum(axis=1)
        # Equal priors leave rounding noise only; a slope on that would be noise too.
        total = float(spread.sum())
        self.identified = bool(self._square > 1e-9 * max(total, 1e-12) and spread.min() > 1e-9)

    def _beta(self, accuracy: Floats) -> Floats:
        if not self.identified:
            return np.full(accuracy.shape[:-2], np.nan)
        return np.einsum("...ik,ik->...", accuracy[..., self.tested], self._centred) / self._square

    def before(self, accuracy: Floats) -> Floats:
        """Slope of the single strata, (..., M, K) class accuracies to (...): accuracy per factor 100 of the prior."""
        return UNIT * self._beta(accuracy)

    def difficulty(self, accuracy: Floats) -> Floats:
        """alpha_k up to a constant: mean accuracy of class k, net of the priors, (..., M, K) to (..., K tested)."""
        beta = self._beta(accuracy)
        return accuracy[..., self.tested].mean(axis=-2) - beta[..., None] * self.x.mean(axis=0)

    def of_model(self, model: Floats, accuracy: Floats) -> Floats:
        """Slope of one model's class accuracy, difficulty taken out, on each log q_j.

        Parameters
        ----------
        model : (..., K) array
            Class accuracies of the fused model, or of a control.
        accuracy : (..., M, K) array
            Class accuracies of the strata, which give the difficulty.

        Returns
        -------
        (..., M) array
            Accuracy per factor 100 of prior j.
        """
        if not self.identified:
            return np.full((*model.shape[:-1], len(self.x)), np.nan)
        rest = model[..., self.tested] - self.difficulty(accuracy)
        x = self.x - self.x.mean(axis=1, keepdims=True)
        return UNIT * np.einsum("...k,jk->...j", rest, x) / (x**2).sum(axis=1)

    @property
    def vectors(self) -> Floats:
        """Vectors (2 M, K) whose products with class accuracies are all that the slopes depend on."""
        n_strata = len(self.x)
        found = np.zeros((2 * n_strata, len(self.tested)))
        if self.identified:
            found[:n_strata, self.tested] = self._centred
            found[n_strata:, self.tested] = self.x - self.x.mean(axis=1, keepdims=True)
        return found

    def before_from(self, products: Floats) -> Floats:
        """:meth:`before` from ``accuracy @ vectors.T``, (..., M, 2 M) to (...)."""
        if not self.identified:
            return np.full(products.shape[:-2], np.nan)
        return UNIT * np.einsum("...ii->...", products[..., : len(self.x)]) / self._square

    def of_model_from(self, model: Floats, products: Floats) -> Floats:
        """:meth:`of_model` from ``model @ vectors.T``, (..., 2 M), and ``accuracy @ vectors.T``: (..., M)."""
        n_strata = len(self.x)
        if not self.identified:
            return np.full((*model.shape[:-1], n_strata), np.nan)
        x = self.x - self.x.mean(axis=1, keepdims=True)
        beta = self.before_from(products)[..., None] / UNIT
        rest = (
            model[..., n_strata:] - products[..., n_strata:].mean(axis=-2) + beta * (x @ self.x.mean(axis=0))
        )
        return UNIT * rest / (x**2).sum(axis=1)
