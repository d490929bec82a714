"""What networks that see only pictures make of P(Y | do(X)), scored against the truth of the design, code by code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalft.confounding.truth import Truth, total_variation
from causalft.runs.notebook import ShownAsTable
from causalft.scm.intervals import mean_interval

__all__ = ["PictureEstimate", "estimate_from_pictures"]


_NO_INTERVAL = "one seed, or seeds that are equal, say nothing of how much seeds differ"


@dataclass(frozen=True)
class PictureEstimate(ShownAsTable):
    """One estimator's distance to the truth; total variations are fractions, averaged over P(X) of B.

    Attributes
    ----------
    tv_to_do : distance to P(Y | do(X)), mean over seeds.
    ci95 : its 95 % interval over the seeds (Student's t); NaN with one seed, or where all seeds are equal.
    tv_to_seen : distance to P(Y | X).
    per_seed : ``tv_to_do`` of each seed.
    p_y : (2 K, K), the estimate, mean over seeds.
    """

    tv_to_do: float
    ci95: tuple[float, float]
    tv_to_seen: float
    per_seed: tuple[float, ...]
    p_y: np.ndarray

    def __repr__(self) -> str:
        low, high = (100 * value for value in self.ci95)
        return f"{100 * self.tv_to_do:.1f} points [{low:.1f}, {high:.1f}] from P(Y | do(X))"

    def to_metrics(self) -> dict[str, Any]:
        """A JSON document."""
        return {
            "tv_to_truth": self.tv_to_do,
            "ci95": self.ci95,
            **({} if self.ci95[0] == self.ci95[0] else {"reason": _NO_INTERVAL}),
            "tv_to_p_y_given_x": self.tv_to_seen,
            "per_seed": self.per_seed,
            "p_y": self.p_y.tolist(),
            "source": "networks on pictures",
        }


def estimate_from_pictures(by_code: Mapping[str, np.ndarray], exact: Truth) -> dict[str, PictureEstimate]:
    """Score each estimator's mean predicted distribution by code.

    Parameters
    ----------
    by_code : estimator -> (S, 2 K, K); codes that no picture shows are NaN and left out.
    exact : the truth of B.
    """
    found = {}
    for name, tables in by_code.items():
        seen = ~np.isnan(tables).any((0, 2))
        weight = exact.p_x[seen] / exact.p_x[seen].sum()
        per_seed = total_variation(tables[:, seen], exact.p_y_do_x[seen]) @ weight
        mean, low, high = mean_interval(per_seed)
        found[name] = PictureEstimate(
            tv_to_do=mean,
            ci95=(max(0.0, low) if low == low else low, min(1.0, high) if high == high else high),
            tv_to_seen=float((total_variation(tables[:, seen], exact.p_y_given_x[seen]) @ weight).mean()),
            per_seed=tuple(per_seed.tolist()),
            p_y=tables.mean(0),
        )
    return found
