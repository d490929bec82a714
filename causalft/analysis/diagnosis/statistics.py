"""Every statistic of a diagnosis as a function of class accuracies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.diagnosis.no_conclusion import PARTS, statistic
from causalft.analysis.diagnosis.parameter_imbalance import (
    PriorSlope,
    gap_vectors,
    members_mean_gap,
    off_gap,
    own_gap,
)

__all__ = ["DiagnosisStatistics"]

Floats = NDArray[np.float64]


class DiagnosisStatistics:
    """Every statistic of a diagnosis as a function of class accuracies (b, R, K)."""

    def __init__(
        self,
        priors: Floats,
        tested: NDArray[np.bool_],
        shares: Floats,
        groups: Floats,
        row: Mapping[str, int],
        own: Mapping[str, int],
        control_rows: Mapping[str, list[int]],
    ) -> None:
        self.vectors, self.slope = gap_vectors(priors, tested), PriorSlope(priors, tested)
        self.shares, self.groups, self.row, self.n_strata = shares, groups, row, len(priors)
        self.own, self.control_rows = own, control_rows

    def __call__(self, class_acc: Floats) -> dict[str, Floats]:
        a = np.nan_to_num(class_acc)  # classes without a test image have weight 0 in everything below
        of_images, accuracy = np.moveaxis(a @ self.shares.T, -1, 0)
        gap = a @ self.vectors.T
        fused = self.row["fused"]
        strata, strata_gap, fused_gap = a[:, : self.n_strata], gap[:, : self.n_strata], gap[:, fused]
        baseline = off_gap(strata_gap)
        gain = accuracy[:, fused] - accuracy[:, : self.n_strata].mean(axis=1)
        found = {
            "accuracy": of_images,
            "class_mean": accuracy,
            "gap": np.concatenate([strata_gap, fused_gap[:, None]], axis=1),
            "groups": (a @ self.groups.reshape(-1, a.shape[-1]).T).reshape(
                *a.shape[:2], *self.groups.shape[:2]
            ),
            "gain": gain,
            "fused_minus_single": accuracy[:, fused, None] - accuracy[:, : self.n_strata],
            "fused_minus_logit_mean": accuracy[:, fused] - accuracy[:, self.row["logit_mean"]],
            "fused_minus_members_gap": (fused_gap - members_mean_gap(strata_gap)).mean(axis=1),
        }
        own_before = own_gap(strata_gap)
        found |= _pair("P_gap", own_before.mean(axis=1), fused_gap.mean(axis=1))
        found |= _pair(
            "own_minus_off_gap", (own_before - baseline).mean(axis=1), (fused_gap - baseline).mean(axis=1)
        )
        slope_after = self.slope.of_model(a[:, fused], strata).mean(axis=1)
        found |= _pair("prior_slope", self.slope.before(strata), slope_after)
        for name, j in self.own.items():
            rows, whole = self.control_rows[name], self.row[f"control {name}"]
            control_gain = accuracy[:, whole] - accuracy[:, rows].mean(axis=1)
            before, after = gap[:, rows, j].mean(axis=1), gap[:, whole, j]
            found |= _pair("P_gap", before, after, name)
            found |= _pair("own_minus_off_gap", before - baseline[:, j], after - baseline[:, j], name)
            slopes = [self.slope.of_model(m, strata)[:, j] for m in (a[:, rows].mean(axis=1), a[:, whole])]
            found |= _pair("prior_slope", slopes[0], slopes[1], name)
            of_control = {
                "gain": control_gain,
                "strata_minus_control": accuracy[:, fused] - accuracy[:, whole],
                "strata_gain_minus_control_gain": gain - control_gain,
                "ensemble_share": _ratio(control_gain, gain),
            }
            found |= {statistic(key, control=name): value for key, value in of_control.items()}
        return found


def _pair(measure: str, before: Floats, after: Floats, control: str = "") -> dict[str, Floats]:
    values = (before, after, 1 - _ratio(after, before))
    return {statistic(measure, part, control): value for part, value in zip(PARTS, values, strict=True)}


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """A ratio that does not exist (NaN) where its denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator != 0)
