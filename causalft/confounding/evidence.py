"""One finding: an estimate with its interval, its p-value and what it means in words."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from causalft.runs.folder import plain
from causalft.runs.notebook import ShownAsTable
from causalft.scm.intervals import p_relation

__all__ = ["Evidence"]


@dataclass(frozen=True)
class Evidence(ShownAsTable):
    """What one test found.

    Attributes
    ----------
    estimate : float; its unit is named in ``words``.
    ci95 : (low, high)
    p : p-value of the hypothesis that ``words`` name.
    words : one sentence or two, with numbers.
    """

    estimate: float
    ci95: tuple[float, float]
    p: float
    words: str

    def __repr__(self) -> str:
        low, high = self.ci95
        return f"{self.estimate:.3f} [{low:.3f}, {high:.3f}], p {p_relation(self.p)}: {self.words}"

    def to_metrics(self) -> dict[str, Any]:
        """A JSON document; what is not finite is null, and ``reason`` then says why."""
        found = {"estimate": self.estimate, "ci95": self.ci95, "p": self.p, "words": self.words}
        return plain(found if all(map(isfinite, self.ci95)) else {**found, "reason": self.words})
