"""Every statistic of a diagnosis as a function of class accuracies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.diagnosis.no_conclusion import PARTS, statistic
from causalft.analysis.diagnosis.parameter_imbalance import PriorSlope, members_mean_gap, off_gap, own_gap
from causalft.data.groups import gap_vectors

__all__ = ["DiagnosisStatistics"]

Floats = NDArray[np.float64]


class DiagnosisStatistics:
    """Every statistic of a diagnosis as a function of products of class accuracies (b, R, K) and vectors.

    Attributes
    ----------
    vectors : (P, K) array
        The accuracies enter by ``class accuracies @ vectors.T`` only; zero for classes without a test image.
    """

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
        self.slope, self.n_strata = PriorSlope(priors, tested), len(priors)
        self.row, self.own, self.control_rows = row, own, control_rows
        self._groups = groups.shape[:2]
        parts = [
            shares,
            gap_vectors(priors, tested),
            groups.reshape(-1, groups.shape[-1]),
            self.slope.vectors,
        ]
        self.vectors = np.concatenate(parts)
        self._ends = np.cumsum([len(part) for part in parts])[:-1].tolist()

    def __call__(self, products: Floats) -> dict[str, Floats]:
        """Map products (b, R, P) to named arrays (b, ...)."""
        shares, gap, groups, slopes_of = np.split(products, self._ends, axis=-1)
        of_images, accuracy = np.moveaxis(shares, -1, 0)
        fused = self.row["fused"]
        strata, strata_gap, fused_gap = slopes_of[:, : self.n_strata], gap[:, : self.n_strata], gap[:, fused]
        baseline = off_gap(strata_gap)
        gain = accuracy[:, fused] - accuracy[:, : self.n_strata].mean(axis=1)
        found = {
            "accuracy": of_images,
            "class_mean": accuracy,
            "gap": np.concatenate([strata_gap, fused_gap[:, None]], axis=1),
            "groups": groups.reshape(*groups.shape[:2], *self._groups),
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
        slope_after = self.slope.of_model_from(slopes_of[:, fused], strata).mean(axis=1)
        found |= _pair("prior_slope", self.slope.before_from(strata), slope_after)
        for name, j in self.own.items():
            rows, whole = self.control_rows[name], self.row[f"control {name}"]
            control_gain = accuracy[:, whole] - accuracy[:, rows].mean(axis=1)
            before, after = gap[:, rows, j].mean(axis=1), gap[:, whole, j]
            found |= _pair("P_gap", before, after, name)
            found |= _pair("own_minus_off_gap", before - baseline[:, j], after - baseline[:, j], name)
            models = (slopes_of[:, rows].mean(axis=1), slopes_of[:, whole])
            slopes = [self.slope.of_model_from(model, strata)[:, j] for model in models]
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
