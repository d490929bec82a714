"""The slope on the log-odds scale, which no ceiling bends: a binomial model with class and model effects.

    log(p_mk / (1 - p_mk)) = class_k + model_m + beta x_mk

Fitted by maximum likelihood; the class effects are eliminated from each Newton step, so thousands of classes cost
nothing. Standard errors are clustered by class (Liang and Zeger, Biometrika 1986).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.class_evidence.regression import PER_FACTOR
from causalft.analysis.diagnosis.intervals import Interval
from causalft.runs.documents import Document

__all__ = ["LogitSlope", "logit_slope"]

Floats = NDArray[np.float64]

_STEPS = 100
_FARTHEST = 2.0  # of a step, in log odds


@dataclass(frozen=True)
class LogitSlope:
    """The slope of the binomial model.

    Attributes
    ----------
    log_odds : Interval
        Change of the log odds per factor 100 of the count.
    accuracy : Interval
        The same as change of accuracy (a fraction), at the mean of p (1 - p) over models and classes.
    n_classes : int
        Classes that count; those that every model gets always right, or always wrong, do not.
    """

    log_odds: Interval
    accuracy: Interval
    n_classes: int

    def to_json(self) -> Document:
        """``{log_odds, points, n_classes}``, each of the first two with ``estimate``, ``ci95`` and ``p``."""
        points: Document = self.accuracy.to_json()
        if self.accuracy.exists:
            points["estimate"] *= 100
        if points["ci95"] is not None:
            points["ci95"] = [100 * bound for bound in points["ci95"]]
        return {
            "log_odds": self.log_odds.to_json_or_null(),
            "points": points if self.accuracy.exists else None,
            "n_classes": self.n_classes,
        }


def logit_slope(
    accuracy: Floats, log_counts: Floats, n_test: Floats | None = None, unit: float = PER_FACTOR
) -> LogitSlope:
    """Fit the binomial model.

    Parameters
    ----------
    accuracy, log_counts : (M, K) arrays
        Fractions; log10 of the counts.
    n_test : (M, K) array, optional
        Test images. Without it all cells weigh alike, which leaves the estimate and its error right (a
        quasi-likelihood: Papke and Wooldridge, Journal of Applied Econometrics 1996).
    unit : float
        In log10.

    Examples
    --------
    >>> x = np.array([[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 3.5, 3.0]])
    >>> odds = np.exp(0.5 * x + np.array([0.0, -1.0, 0.3, -0.4]) + np.array([[0.0], [0.2]]))
    >>> round(logit_slope(odds / (1 + odds), x, unit=1.0).log_odds.estimate, 6)
    0.5
    """
    kept = (accuracy.max(axis=0) > 0) & (accuracy.min(axis=0) < 1)
    y, x = accuracy[:, kept], log_counts[:, kept]
    n_models, n_classes = y.shape
    if n_models < 2 or n_classes < 3:
        none = Interval.none(
            "fewer than two models, or than three classes that some model gets right and some wrong"
        )
        return LogitSlope(none, none, n_classes)
    x = x - x.mean(axis=1, keepdims=True)
    weight = np.ones_like(y) if n_test is None else n_test[:, kept] / n_test[:, kept].mean()
    left = x - x.mean(axis=0)
    if (left**2).sum() <= 1e-9 * (x**2).sum():
        none = Interval.none("the counts of the models do not differ beyond a constant factor")
        return LogitSlope(none, none, n_classes)
    # Columns: an effect of each model but the first, and the log count.
    effects = np.repeat(np.eye(n_models)[1:, :, None], n_classes, axis=2)
    columns = np.concatenate([effects, x[None]])
    theta = np.zeros(n_models)
    mean = (weight * y).sum(axis=0) / weight.sum(axis=0)
    of_class = np.log(mean / (1 - mean))
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-(of_class + np.einsum("q,qmk->mk", theta, columns))))
        rest, curve = weight * (y - p), weight * p * (1 - p)
        per_class = curve.sum(axis=0)
        shared = np.einsum("mk,qmk->qk", curve, columns)
        inner = np.einsum("mk,qmk,rmk->qr", curve, columns, columns) - (shared / per_class) @ shared.T
        scores = np.einsum("qmk,mk->qk", columns, rest) - shared / per_class * rest.sum(axis=0)
        step = np.linalg.solve(inner, scores.sum(axis=1))
        class_step = (rest.sum(axis=0) - step @ shared) / per_class
        theta = theta + np.clip(step, -_FARTHEST, _FARTHEST)
        of_class = of_class + np.clip(class_step, -_FARTHEST, _FARTHEST)
        if max(np.abs(step).max(), np.abs(class_step).max()) < 1e-9:
            break
    else:
        none = Interval.none("the binomial model does not converge on these accuracies")
        return LogitSlope(none, none, n_classes)
    inverse = np.linalg.inv(inner)
    spread = inverse @ (scores @ scores.T) @ inverse * n_classes / (n_classes - 1)
    slope = _interval(unit * float(theta[-1]), unit * float(np.sqrt(max(spread[-1, -1], 0.0))), n_classes)
    scale = float((p * (1 - p)).mean())
    points = Interval(scale * slope.estimate, scale * slope.low, scale * slope.high, slope.p)
    return LogitSlope(slope, points, n_classes)


def _interval(value: float, error: float, n_classes: int) -> Interval:
    from scipy.stats import t

    half = float(t.ppf(0.975, n_classes - 1)) * error
    p = float(2 * t.sf(abs(value) / error, n_classes - 1)) if error > 0 else float("nan")
    return Interval(value, value - half, value + half, p)
