"""Whether the priors of several models differ enough for a slope to be told from class difficulty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.class_evidence.regression import within
from causalft.analysis.diagnosis.intervals import Interval
from causalft.runs.documents import Document

__all__ = ["LEAST_CLASSES", "LEAST_LEFT", "MOST_DETECTABLE", "Likeness", "likeness"]

Floats = NDArray[np.float64]

LEAST_LEFT = 0.01
"""Share of the variance of log counts that class and model effects must leave. Counts of one corpus made in two ways
agree to a rank correlation of 0.8 to 0.9, which alone leaves 5 to 10 %: below 1 % the rest may be noise of counting."""

LEAST_CLASSES = 8
"""With fewer no slope is claimed: intervals over so few classes hold only for normal errors."""

MOST_DETECTABLE = 1.0
"""Of the slopes (accuracy per factor 100) that are found with 80 % power: if only larger ones are, none is claimed."""


@dataclass(frozen=True)
class Likeness:
    """How alike the priors are.

    Attributes
    ----------
    rank_correlation : dict of (int, int) to float
        Pair of models to Spearman's correlation of their counts.
    condition : float
        Condition number of the standardised log counts, models as columns: 1 for unrelated priors, infinite for
        proportional ones.
    left : float
        Share of the variance of log counts within models that class effects leave: what identifies the slope.
    left_rank_correlation : dict of (int, int) to float
        The same correlation after class and model effects are taken out; always -1 with two models.
    detectable : float
        Smallest slope that is found with 80 % power at the 5 % level (fraction per factor 100).
    n_classes : int
    """

    rank_correlation: dict[tuple[int, int], float]
    left_rank_correlation: dict[tuple[int, int], float]
    condition: float
    left: float
    detectable: float
    n_classes: int

    @property
    def too_alike(self) -> bool:
        """Whether no slope may be claimed because the priors hardly differ."""
        return not self.left >= LEAST_LEFT

    @property
    def reason(self) -> str:
        """Why no slope may be claimed; empty if one may."""
        if self.too_alike:
            return (
                f"the priors are too alike: class and model effects leave {100 * self.left:.2g} % of the variance of "
                f"the log counts, and {100 * LEAST_LEFT:g} % is asked"
            )
        if self.n_classes < LEAST_CLASSES:
            return f"{self.n_classes} classes are too few; {LEAST_CLASSES} are asked"
        if self.detectable > MOST_DETECTABLE:
            return (
                f"classes and priors are too few or too alike: only a slope of {100 * self.detectable:.0f} "
                "points per factor "
                f"100 would be found with 80 % power, and at most {100 * MOST_DETECTABLE:.0f} are possible"
            )
        return ""

    def to_json(self, models: list[str]) -> Document:
        """All of it; pairs of models are lists of ``{models, spearman}``."""

        def pairs(found: dict[tuple[int, int], float]) -> list[Document]:
            return [{"models": [models[i], models[j]], "spearman": rho} for (i, j), rho in found.items()]

        return {
            "too_alike": self.too_alike,
            "reason": self.reason or None,
            "rank_correlation": pairs(self.rank_correlation),
            "left_rank_correlation": pairs(self.left_rank_correlation),
            "condition_number": self.condition if np.isfinite(self.condition) else None,
            "variance_left": self.left,
            "detectable_slope": 100 * self.detectable if np.isfinite(self.detectable) else None,
            "n_classes": self.n_classes,
        }


def likeness(log_counts: Floats, slope: Interval, samples: Floats) -> Likeness:
    """Measure how alike the priors are.

    Parameters
    ----------
    log_counts : (M, K) array
    slope : Interval
    samples : (n_boot,) array
        Bootstrap draws of the slope.

    Examples
    --------
    >>> x = np.array([[0.0, 1.0, 2.0, 3.0], [3.0, 1.0, 2.0, 0.0]])
    >>> found = likeness(x, Interval(0.1, 0.0, 0.2, 0.05), np.array([0.1, 0.2]))
    >>> round(found.left, 3), found.too_alike, found.reason
    (0.9, False, '4 classes are too few; 8 are asked')
    """
    from scipy.stats import rankdata, t

    n_models, n_classes = log_counts.shape
    pairs = [(i, j) for i in range(n_models) for j in range(i + 1, n_models)]
    rest = within(log_counts)
    centred = log_counts - log_counts.mean(axis=1, keepdims=True)
    total = float((centred**2).sum())

    def spearman(values: Floats) -> dict[tuple[int, int], float]:
        ranks = rankdata(values.round(12), axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            table = np.corrcoef(ranks)
        return {pair: float(table[pair]) for pair in pairs}

    with np.errstate(invalid="ignore", divide="ignore"):
        table = np.atleast_2d(np.corrcoef(log_counts))
    condition = float("inf")
    if np.isfinite(table).all():
        values = np.linalg.eigvalsh(table)
        condition = float(np.sqrt(values[-1] / values[0])) if values[0] > 1e-12 else float("inf")
    df = max(1, n_classes - 1)
    error = float(np.std(samples, ddof=1)) if slope.exists and np.isfinite(samples).all() else float("nan")
    return Likeness(
        spearman(log_counts) if pairs else {},
        spearman(rest) if pairs else {},
        condition,
        float((rest**2).sum()) / total if total > 0 else 0.0,
        float(t.ppf(0.975, df) + t.ppf(0.8, df)) * error,
        n_classes,
    )
