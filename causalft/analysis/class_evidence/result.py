"""What tables of class accuracy and known pre-training counts say: the result, as a document and in sentences."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.class_evidence.alike import Likeness
from causalft.analysis.class_evidence.checks import Check
from causalft.analysis.class_evidence.logit import LogitSlope
from causalft.analysis.class_evidence.placebo import Placebo
from causalft.analysis.class_evidence.regression import Estimate
from causalft.analysis.diagnosis.intervals import Interval
from causalft.data.groups import GROUPS
from causalft.runs.documents import Document
from causalft.runs.notebook import ShownAsTable

__all__ = ["ClassEvidence", "Comparison"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """What only several models with priors of their own can show.

    Attributes
    ----------
    own_minus_off : Estimate
        Own P gap less the mean gap of the other models on the same groups; mean over models.
    own_minus_off_of : tuple of Estimate
        Of each model.
    slope : Estimate
        Accuracy per factor 100 of the count, class and model effects taken out.
    logit : LogitSlope
        The same on the log-odds scale.
    partial_own, partial_others : Estimate
        Slopes on a model's own counts and on the mean log count of the other models, together, without class effects.
    shuffled_classes, swapped_models : Placebo
    exchanged : dict of tuple of int to float
        Slopes with whole priors exchanged between the models, the true order first.
    likeness : Likeness
    checks : tuple of Check
    """

    own_minus_off: Estimate
    own_minus_off_of: tuple[Estimate, ...]
    slope: Estimate
    logit: LogitSlope
    partial_own: Estimate
    partial_others: Estimate
    shuffled_classes: Placebo | None
    swapped_models: Placebo | None
    exchanged: dict[tuple[int, ...], float]
    likeness: Likeness
    checks: tuple[Check, ...]

    @property
    def claimed(self) -> bool:
        """Whether the slope may be read at all."""
        return not self.likeness.reason and self.slope.classes.bounded

    def to_json(self, models: list[str]) -> Document:
        """The entries ``own_minus_off``, ``slope``, ``variants``, ``placebo``, ``likeness``, ``checks``."""
        slope = {
            **self.slope.to_json(),
            "unit": "points of accuracy per factor 100 of the count",
            "claimed": self.claimed,
        }
        if self.likeness.reason:
            slope["reason"] = self.likeness.reason
        placebo = {
            "shuffled_classes": self.shuffled_classes and self.shuffled_classes.to_json(),
            "swapped_models": self.swapped_models and self.swapped_models.to_json(),
        }
        return {
            "own_minus_off": {
                **self.own_minus_off.to_json(),
                "models": {m: each.to_json() for m, each in zip(models, self.own_minus_off_of, strict=True)},
            },
            "slope": slope,
            "variants": {
                "logit": self.logit.to_json(),
                "partial": {"own": self.partial_own.to_json(), "others": self.partial_others.to_json()},
            },
            "placebo": placebo,
            "exchanged_priors": [
                {"prior_of": {models[m]: models[j] for m, j in enumerate(order)}, "slope": 100 * value}
                for order, value in self.exchanged.items()
            ],
            "likeness": self.likeness.to_json(models),
            "checks": {check.name: check.to_json() for check in self.checks},
        }


@dataclass(frozen=True, repr=False)
class ClassEvidence(ShownAsTable):
    """Parameter imbalance read from class accuracies and known counts.

    Attributes
    ----------
    models : tuple of M str
        Those with a prior.
    outside : tuple of R str
        Further models, shown in the cross-table only.
    classes : tuple of K str
    used : (K,) array of bool
        Classes with an accuracy of every model and a count in every prior.
    accuracy : (M + R, K) array
        Fractions; NaN where not given.
    log_counts : (M, K) array
        log10; NaN where unknown.
    n_test : (K,) array, optional
        Test images.
    groups : (M, K) array of str
        P group of each class by each prior; empty where the class is not used.
    mean_accuracy : (M + R,) array
        Over the classes used.
    P : list of dict
        Accuracy of each of the M models in its own P groups.
    rank_correlation : tuple of Interval
        Spearman's correlation of each model's accuracy with its own counts.
    gap : list of list of Estimate
        (M + R) models by M priors: P-many minus P-few.
    comparison : Comparison, optional
        None with one model.
    """

    models: tuple[str, ...]
    outside: tuple[str, ...]
    classes: tuple[str, ...]
    used: NDArray[np.bool_]
    accuracy: Floats
    log_counts: Floats
    n_test: Floats | None
    groups: NDArray[np.str_]
    mean_accuracy: Floats
    P: tuple[dict[str, float | None], ...]
    rank_correlation: tuple[Interval, ...]
    gap: tuple[tuple[Estimate, ...], ...]
    comparison: Comparison | None = field(default=None)

    @property
    def left_out(self) -> list[str]:
        """Classes without an accuracy or a count of some model."""
        return [name for name, used in zip(self.classes, self.used, strict=True) if not used]

    def to_json(self) -> Document:
        """The entries ``strata``, ``cross_table``, ``slope``, ``classes`` and those of the comparison."""
        models = list(self.models)
        strata = {
            name: {
                "mean_accuracy": float(self.mean_accuracy[m]),
                "P": self.P[m],
                "rank_correlation": self.rank_correlation[m].to_json(),
                "P_gap": self.gap[m][m].to_json(),
            }
            for m, name in enumerate(models)
        }
        table = {
            name: {prior: cell.to_json() for prior, cell in zip(models, row, strict=True)}
            for name, row in zip((*models, *self.outside), self.gap, strict=True)
        }
        found: Document = {
            "n_classes": int(self.used.sum()),
            "left_out": self.left_out,
            "strata": strata,
            "outside_models": {
                name: {"mean_accuracy": float(self.mean_accuracy[len(models) + r])}
                for r, name in enumerate(self.outside)
            },
            "cross_table": table,
        }
        if self.comparison is not None:
            found |= self.comparison.to_json(models)
        else:
            reason = "one model cannot tell its prior from class difficulty; give the counts of a second one"
            found |= {"own_minus_off": None, "slope": {"estimate": None, "ci95": None, "reason": reason}}
        return {**found, "classes": self.class_rows()}

    def class_rows(self) -> list[Document]:
        """One entry per class: counts and P group by each prior, accuracy of each model, test images."""
        rows = []
        for k, name in enumerate(self.classes):
            counted = {m: self.log_counts[i, k] for i, m in enumerate(self.models)}
            rows.append(
                {
                    "class": name,
                    "P": {m: str(self.groups[i, k]) or None for i, m in enumerate(self.models)},
                    "count": {m: None if np.isnan(x) else float(10**x) for m, x in counted.items()},
                    "accuracy": {
                        m: None if np.isnan(self.accuracy[i, k]) else float(self.accuracy[i, k])
                        for i, m in enumerate((*self.models, *self.outside))
                    },
                    "n_test": None if self.n_test is None else _whole(self.n_test[k]),
                    "used": bool(self.used[k]),
                }
            )
        return rows

    def _table(self) -> tuple[list[str], list[list[object]]]:
        rows = [
            [name, self.mean_accuracy[m], *(self.P[m][group] for group in GROUPS), self.gap[m][m].classes]
            for m, name in enumerate(self.models)
        ]
        return ["model", "accuracy", *(f"P-{group}" for group in GROUPS), "P gap"], rows

    def __repr__(self) -> str:
        lines = [f"ClassEvidence of {', '.join(self.models)} on {int(self.used.sum())} classes"]
        if self.comparison is not None:
            lines.append(f"  slope per factor 100: {self.comparison.slope.classes!r}")
            lines.append(f"  own-minus-off gap: {self.comparison.own_minus_off.classes!r}")
        return "\n".join(lines)


def _whole(value: float) -> int | None:
    return None if np.isnan(value) else int(value)
