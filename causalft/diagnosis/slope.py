"""Slope of class accuracy on log prior with class fixed effects: parameter imbalance without groups.

Model: a_i[k] = alpha_k + mu_i + beta * log q_i[k], by least squares over M strata and K classes. alpha_k takes up how
hard class k is for everyone, mu_i how good model i is; beta is what is left for the model's own prior. Slopes are
given per factor 100 of the prior, that is, beta * ln 100.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNIT", "PriorSlope"]

Floats = NDArray[np.float64]

UNIT = float(np.log(100.0))


class PriorSlope:
    """The least-squares slope for fixed priors, as a linear map of class accuracies.

    Parameters
    ----------
    priors : (M, K) array of positive numbers
    tested : (K,) array of bool
        Classes that count.

    Attributes
    ----------
    identified : bool
        False with one stratum, with equal priors, or with fewer than two tested classes: then every slope is NaN.

    Examples
    --------
    >>> priors = np.array([[.7, .2, .1], [.1, .2, .7]])
    >>> accuracy = .3 + .02 * np.log(priors) + np.array([0., .1, .4])   # prior effect and class difficulty
    >>> slope = PriorSlope(priors, np.ones(3, bool))
    >>> round(float(slope.before(accuracy[None])[0]) / UNIT, 6)
    0.02
    """

    def __init__(self, priors: Floats, tested: NDArray[np.bool_]) -> None:
        self.tested = tested
        self.x = np.log(priors[:, tested])
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
            Class accuracies of the strata, from which the difficulty comes.

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
