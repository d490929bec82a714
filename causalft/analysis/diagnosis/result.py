"""The result of a diagnosis: scores of each model, imbalance before and after fusion, controls, comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.diagnosis.intervals import Interval
from causalft.runs.documents import Document
from causalft.runs.notebook import ShownAsTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "BeforeAfter",
    "CONTROL_KINDS",
    "Control",
    "Diagnosis",
    "DiagnosisPlots",
    "Groups",
    "ModelScore",
    "count",
]


class DiagnosisPlots:
    """Figures of a :class:`causalft.analysis.diagnosis.Diagnosis`; each method returns the Axes, or one per panel."""

    if TYPE_CHECKING:

        def to_metrics(self) -> Document: ...

    def plot_gap(self) -> Axes:
        """Parameter imbalance before and after fusion, with that of the controls."""
        return _figures().imbalance_before_after(self.to_metrics())

    def plot_cross_gap(self) -> Axes:
        """P gap of every model on the groups of every prior."""
        return _figures().cross_gap_heat(self.to_metrics())

    def plot_data_groups(self) -> Axes:
        """Accuracy by the number of training images: many, medium, few."""
        return _figures().data_group_bars(self.to_metrics())

    def plot_prior_groups(self) -> Axes:
        """Accuracy by the pre-training prior of each stratum: many, medium, few."""
        return _figures().prior_group_bars(self.to_metrics())

    def plot_group_table(self) -> list[Axes]:
        """Accuracy by both groups at once, one panel per model."""
        return _figures().group_heat_tables(self.to_metrics())

    def plot_classes(self) -> list[Axes]:
        """Accuracy of each class against its prior, one panel per stratum."""
        return _figures().class_profiles(self.to_metrics())

    def plot_slope(self) -> list[Axes]:
        """Accuracy against the prior with class difficulty taken out."""
        return _figures().slope_plot(self.to_metrics())


def _figures() -> Any:
    """Late: matplotlib is slow to import and most diagnoses are never drawn."""
    from causalft.analysis.diagnosis import figures

    return figures


Groups = dict[str, float | None]

CONTROL_KINDS: tuple[str, str] = ("pre-training", "tuning")


def count(n: int, noun: str) -> str:
    """A number and its noun.

    Examples
    --------
    >>> count(1, "seed"), count(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


@dataclass(frozen=True)
class BeforeAfter:
    """A measure on the single models (before) and on their fusion (after).

    Attributes
    ----------
    before, after : Interval
    fall : Interval
        Share of the measure that fusion removes: 1 - after / before.
    """

    before: Interval
    after: Interval
    fall: Interval

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> BeforeAfter:
        """Read what `to_json` wrote."""
        return cls(*(Interval.from_json(value[name]) for name in ("before", "after", "fall")))

    def to_json(self) -> Document:
        """``{before, after, fall}``; null for what does not exist, with a ``reason``."""
        found: Document = {
            name: getattr(self, name).to_json_or_null() for name in ("before", "after", "fall")
        }
        reasons = [value.reason for value in (self.before, self.after) if not value.exists]
        return {**found, "reason": reasons[0]} if reasons else found


@dataclass(frozen=True, repr=False)
class ModelScore(ShownAsTable):
    """Accuracy of one model, overall and by group.

    Attributes
    ----------
    accuracy : Interval
        Share of the test images that are right.
    class_mean : Interval
        Mean over the classes with a test image; equals ``accuracy`` on a balanced test set.
    per_seed : tuple of float
        ``accuracy`` of each seed.
    class_accuracy : (K,) array
        NaN for a class without a test image.
    D : Groups
        By training count.
    P : dict of str to Groups
        Prior to groups by that prior.
    DxP : dict of str to dict of str to Groups
        Prior to the 3 x 3 table, D group first.
    D_interval, P_interval : as D and P
        Intervals, which do not exist for empty groups.
    """

    accuracy: Interval
    class_mean: Interval
    per_seed: tuple[float, ...]
    class_accuracy: NDArray[np.float64]
    D: Groups
    P: dict[str, Groups]
    DxP: dict[str, dict[str, Groups]]
    D_interval: dict[str, Interval]
    P_interval: dict[str, dict[str, Interval]]

    def to_json(self, prior: str | None = None) -> Document:
        """Metrics of the model; with ``prior``, P and DxP are those of that prior only."""
        return {
            "accuracy": self.accuracy.estimate,
            "ci95": self.accuracy.ci95,
            **({} if self.accuracy.bounded else {"reason": self.accuracy.reason}),
            "mean_class_accuracy": self.class_mean.estimate,
            "mean_class_ci95": self.class_mean.ci95,
            "per_seed": list(self.per_seed),
            "D": self.D,
            "P": self.P if prior is None else self.P[prior],
            "DxP": self.DxP if prior is None else self.DxP[prior],
            "D_ci95": _bounds(self.D_interval),
            "P_ci95": (
                {name: _bounds(groups) for name, groups in self.P_interval.items()}
                if prior is None
                else _bounds(self.P_interval[prior])
            ),
            "reasons": {
                "D": _reasons(self.D_interval),
                "P": (
                    {name: _reasons(groups) for name, groups in self.P_interval.items()}
                    if prior is None
                    else _reasons(self.P_interval[prior])
                ),
            },
        }

    def __repr__(self) -> str:
        return f"ModelScore({self.accuracy!r}, {count(len(self.per_seed), 'seed')})"


@dataclass(frozen=True, repr=False)
class Control(ShownAsTable):
    """The same fusion over members that share one prior (for instance seeds of one model).

    Attributes
    ----------
    prior_of : str
        The stratum whose prior the members have.
    score : ModelScore
        Of the fused members.
    member_accuracy : dict of str to float
    gain : Interval
        Fused minus mean member accuracy (mean over classes).
    P_gap, own_minus_off_gap, prior_slope : BeforeAfter
        On the groups by that prior; the difficulty baseline comes from the strata.
    strata_minus_control : Interval
        Accuracy (mean over classes) of the fused strata minus that of the fused control.
    strata_gain_minus_control_gain : Interval
    ensemble_share : Interval
        Gain of the control over gain of the strata.
    kind : {"pre-training", "tuning"}, optional
        What differs between the members; None if not stated.
    """

    prior_of: str
    score: ModelScore
    member_accuracy: dict[str, float]
    gain: Interval
    P_gap: BeforeAfter
    own_minus_off_gap: BeforeAfter
    prior_slope: BeforeAfter
    strata_minus_control: Interval
    strata_gain_minus_control_gain: Interval
    ensemble_share: Interval
    kind: str | None = None

    def to_json(self) -> Document:
        """Metrics of the control; P and DxP are by the prior that its members share."""
        return {
            "prior_of": self.prior_of,
            "kind": self.kind,
            **self.score.to_json(self.prior_of),
            "members": self.member_accuracy,
            "gain": self.gain.to_json(),
            "P_gap": self.P_gap.to_json(),
            "own_minus_off_gap": self.own_minus_off_gap.to_json(),
            "prior_slope": self.prior_slope.to_json(),
            "strata_minus_control": self.strata_minus_control.to_json(),
            "strata_gain_minus_control_gain": self.strata_gain_minus_control_gain.to_json(),
            "ensemble_share": self.ensemble_share.to_json_or_null(),
        }

    def __repr__(self) -> str:
        members = f"{len(self.member_accuracy)} members with the prior of {self.prior_of}"
        return f"Control({members}: {self.score.accuracy!r})"


@dataclass(frozen=True, repr=False)
class Diagnosis(DiagnosisPlots, ShownAsTable):
    """Which classes the pre-training hurts, and what fusing the strata does about it.

    Attributes
    ----------
    n, n_classes, n_seeds : int
        Test images, K, S.
    class_counts : (K,) array
        Training images.
    priors : dict of str to (K,) array
        Label prior of each stratum; NaN where it is not known.
    prior_from : dict of str to str
        Whether it is "known" or "estimated".
    strata : dict of str to ModelScore
    fused, logit_mean : ModelScore
        The chosen fusion, and the mean of log-probabilities as a control.
    fusion : str
    stratum_prior : dict of str to float
        P(c).
    temperature : tuple of float
        One per seed.
    nll, ece : float
        Of the fused probabilities (nats; fraction), classes weighted alike, mean over seeds.
    gap : dict of str to dict of str to Interval
        Model to prior to P gap (many minus few); the fused model is ``"fused"``.
    P_gap, own_minus_off_gap, prior_slope : BeforeAfter
        Own P gap, mean over strata; the same minus the difficulty baseline; accuracy per factor 100 of the prior.
    class_difficulty : (K,) array
        Accuracy of a class net of the strata's priors, up to a constant; NaN where not identified.
    fused_minus_members_gap : Interval
        Mean over priors of the fused gap minus the mean of the members' gaps on the same groups.
    best_single : str
        The stratum chosen on validation data if given, else the best on the test set.
    best_on_test : str
    chosen_on : {"validation", "test"}
    controls : dict of str to Control
    paired : dict of str to Interval
        Differences of accuracy (mean over classes) on the same test images.
    sentences : tuple of str
        What `conclusion` returns.
    no_conclusion : tuple of str
        Why nothing may be concluded on parameter imbalance (:mod:`causalft.analysis.diagnosis.no_conclusion`), if so.
    test_counts : (K,) array, optional
        Test images.
    """

    n: int
    n_classes: int
    n_seeds: int
    class_counts: NDArray[np.int64]
    priors: dict[str, NDArray[np.float64]]
    strata: dict[str, ModelScore]
    fused: ModelScore
    logit_mean: ModelScore
    fusion: str
    stratum_prior: dict[str, float]
    temperature: tuple[float, ...]
    nll: float
    ece: float
    gap: dict[str, dict[str, Interval]]
    P_gap: BeforeAfter
    own_minus_off_gap: BeforeAfter
    prior_slope: BeforeAfter
    class_difficulty: NDArray[np.float64]
    fused_minus_members_gap: Interval
    best_single: str
    best_on_test: str
    chosen_on: str
    controls: dict[str, Control]
    paired: dict[str, Interval]
    sentences: tuple[str, ...] = ()
    no_conclusion: tuple[str, ...] = ()
    test_counts: NDArray[np.int64] | None = None
    prior_from: dict[str, str] = field(default_factory=dict)

    @property
    def balanced_test(self) -> bool:
        """Whether every class has the same number of test images, as far as is known."""
        return self.test_counts is None or bool((self.test_counts == self.test_counts[0]).all())

    def conclusion(self) -> list[str]:
        """Sentences for people: parameter imbalance, its control, the accuracy."""
        return list(self.sentences)

    def to_metrics(self) -> Document:
        """The diagnosis in ``fit``'s ``metrics.json`` (NaN is written as null)."""
        single = self.strata[self.best_single]
        best = self.strata[self.best_on_test]
        oracle = {
            "name": self.best_on_test,
            "accuracy": best.accuracy.estimate,
            "mean_class_accuracy": best.class_mean.estimate,
        }
        return {
            "n_test": self.n,
            **({} if self.test_counts is None else {"test_counts": self.test_counts.tolist()}),
            "n_seeds": self.n_seeds,
            "class_counts": self.class_counts.tolist(),
            "strata": {
                name: {
                    **score.to_json(name),
                    "label_prior": _nullable(self.priors[name]),
                    **({"prior_from": "known"} if self.prior_from.get(name) == "known" else {}),
                }
                for name, score in self.strata.items()
            },
            "cross_P": {name: score.P for name, score in self.strata.items()},
            "cross_gap": {
                model: {prior: value.to_json_or_null() for prior, value in row.items()}
                for model, row in self.gap.items()
            },
            "P_gap": self.P_gap.to_json(),
            "own_minus_off_gap": self.own_minus_off_gap.to_json(),
            "prior_slope": self.prior_slope.to_json(),
            "fused_minus_members_gap": self.fused_minus_members_gap.to_json_or_null(),
            "fused": {
                "fusion": self.fusion,
                "stratum_prior": self.stratum_prior,
                "temperature": float(np.mean(self.temperature)),
                "temperature_per_seed": list(self.temperature),
                "nll": self.nll,
                "ece": self.ece,
                **self.fused.to_json(),
            },
            "controls": {
                "best_single": {
                    "name": self.best_single,
                    "chosen_on": self.chosen_on,
                    **single.to_json(self.best_single),
                    "oracle": oracle,
                },
                "logit_mean": self.logit_mean.to_json(),
                **{name: control.to_json() for name, control in self.controls.items()},
            },
            "paired": {name: value.to_json() for name, value in self.paired.items()},
            "class_accuracy": {
                **{name: _nullable(score.class_accuracy) for name, score in self.strata.items()},
                "fused": _nullable(self.fused.class_accuracy),
            },
            "class_difficulty": _nullable(self.class_difficulty),
            "conclusion": self.conclusion(),
            "no_conclusion": list(self.no_conclusion),
        }

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        groups = ("many", "medium", "few")
        header = ["model", "accuracy", *(f"D-{group}" for group in groups)]
        rows = [
            [name, score.accuracy, *(score.D[group] for group in groups)]
            for name, score in (*self.strata.items(), ("fused", self.fused))
        ]
        return header, rows

    def __repr__(self) -> str:
        names = ", ".join(self.strata)
        lines = [
            f"Diagnosis of {names} on {self.n} test images, {self.n_classes} classes, {count(self.n_seeds, 'seed')}",
            *(f"  {name}: {score.accuracy!r}" for name, score in self.strata.items()),
            f"  fused ({self.fusion}): {self.fused.accuracy!r}",
        ]
        for title, measure in (("own-minus-off gap", self.own_minus_off_gap), ("P gap", self.P_gap)):
            lines.append(f"  {title}: before {measure.before!r}, after {measure.after!r}")
        return "\n".join(lines)


def _reasons(groups: dict[str, Interval]) -> dict[str, str]:
    return {name: value.reason for name, value in groups.items() if not value.bounded}


def _bounds(groups: dict[str, Interval]) -> dict[str, list[float] | None]:
    return {name: value.ci95 for name, value in groups.items()}


def _nullable(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in values]
