"""What GLA and fusion change before any training, measured on zero-shot predictions of the test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.diagnosis.intervals import Interval, bootstrap
from causalft.analysis.diagnosis.parameter_imbalance import PriorSlope, group_vectors, off_gap, own_gap
from causalft.data.groups import data_groups, gap_vectors
from causalft.runs.documents import Document

__all__ = ["Change", "GLAEffect", "data_gap", "gla_effect"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """A measure before and after, and after minus before, with paired intervals."""

    before: Interval
    after: Interval
    difference: Interval

    def to_json(self) -> Document:
        """``{before, after, difference}``; null for what does not exist."""
        return {name: getattr(self, name).to_json_or_null() for name in ("before", "after", "difference")}


@dataclass(frozen=True)
class GLAEffect:
    """GLA-ZS (zero-shot logits less log q) beside zero-shot, on the same test images.

    Attributes
    ----------
    strata : dict of str to Change
        Accuracy of each stratum, mean over classes.
    mean : Change
        Mean over the strata.
    fused : Change
        Of the mean of their probabilities.
    P_gap, own_minus_off_gap, prior_slope : Change
        Parameter imbalance of single strata, as in :class:`causalft.analysis.diagnosis.result.Diagnosis`; the
        difficulty baseline is that of the zero-shot models.
    """

    strata: dict[str, Change]
    mean: Change
    fused: Change
    P_gap: Change
    own_minus_off_gap: Change
    prior_slope: Change

    def to_json(self) -> Document:
        """A JSON document."""
        found: Document = {"strata": {name: change.to_json() for name, change in self.strata.items()}}
        rest = ("mean", "fused", "P_gap", "own_minus_off_gap", "prior_slope")
        return found | {name: getattr(self, name).to_json() for name in rest}


def gla_effect(
    labels: ArrayLike,
    predicted: Mapping[str, ArrayLike],
    adjusted: Mapping[str, ArrayLike],
    fused: ArrayLike,
    fused_adjusted: ArrayLike,
    priors: Mapping[str, ArrayLike],
) -> GLAEffect:
    """Compare GLA-ZS with zero-shot.

    Parameters
    ----------
    labels : (n,) array of int in [0, K)
        Of the test images.
    predicted, adjusted : mapping of M names to (n,) arrays of int in [0, K)
        Predicted classes without and with GLA-ZS.
    fused, fused_adjusted : (n,) arrays of int in [0, K)
        Of their fusions.
    priors : mapping of the M names to (K,) arrays
        That define the P groups; GLA may have taken out others.

    Examples
    --------
    >>> labels, leaning = np.repeat([0, 1, 2, 3], 50), np.repeat([0, 1, 0, 0], 50)    # never says 2 or 3
    >>> found = gla_effect(labels, {"clip": leaning}, {"clip": labels}, leaning, labels, {"clip": [.4, .4, .1, .1]})
    >>> found.mean.difference.estimate, found.P_gap.before.estimate, found.P_gap.after.estimate
    (0.5, 1.0, 0.0)
    """
    y, names = np.asarray(labels), list(predicted)
    q = np.stack([np.asarray(priors[name], dtype=float) for name in names])
    m, n_classes = q.shape
    counts = np.bincount(y, minlength=n_classes)
    tested = counts > 0
    correct = np.stack(
        [np.asarray(c) == y for c in (*predicted.values(), *adjusted.values(), fused, fused_adjusted)]
    )
    vectors, slope, share = gap_vectors(q, tested), PriorSlope(q, tested), tested / tested.sum()

    def statistics(class_acc: Floats) -> dict[str, Floats]:
        a = np.where(np.isnan(class_acc), 0.0, class_acc)  # of no weight: a class without a test image
        mean, gap = a @ share, a @ vectors.T
        baseline = off_gap(gap[:, :m])
        own = [own_gap(gap[:, :m]), own_gap(gap[:, m : 2 * m])]
        pairs = {
            "strata": (mean[:, :m], mean[:, m : 2 * m]),
            "mean": (mean[:, :m].mean(axis=1), mean[:, m : 2 * m].mean(axis=1)),
            "fused": (mean[:, -2], mean[:, -1]),
            "P_gap": (own[0].mean(axis=1), own[1].mean(axis=1)),
            "own_minus_off_gap": tuple((each - baseline).mean(axis=1) for each in own),
            "prior_slope": (slope.before(a[:, :m]), slope.before(a[:, m : 2 * m])),
        }
        found = {f"{name}/before": before for name, (before, _) in pairs.items()}
        found |= {f"{name}/after": after for name, (_, after) in pairs.items()}
        return found | {f"{name}/difference": after - before for name, (before, after) in pairs.items()}

    found = bootstrap(statistics, correct[:, None], y, n_classes)

    def change(name: str, place: int | None = None) -> Change:
        parts = [found[f"{name}/{part}"] for part in ("before", "after", "difference")]
        return Change(*(part if place is None else part[place] for part in parts))

    return GLAEffect(
        strata={name: change("strata", k) for k, name in enumerate(names)},
        **{name: change(name) for name in ("mean", "fused", "P_gap", "own_minus_off_gap", "prior_slope")},
    )


def data_gap(correct: ArrayLike, labels: ArrayLike, class_counts: ArrayLike) -> Interval:
    """Accuracy on D-many less that on D-few classes, mean over models: what lies along the counts before training.

    Parameters
    ----------
    correct : (M, n) array of bool
    labels : (n,) array of int in [0, K)
    class_counts : (K,) array of int
        Training images.

    Returns
    -------
    Interval
        Without an estimate where D-many or D-few has no tested class.
    """
    hits, y, counts = np.asarray(correct), np.asarray(labels), np.asarray(class_counts)
    tested = np.bincount(y, minlength=len(counts)) > 0
    many, _, few = group_vectors(data_groups(counts), tested)
    if np.isnan(many).any() or np.isnan(few).any():
        return Interval.none("D-many or D-few has no class with a test image")

    def statistics(class_acc: Floats) -> dict[str, Any]:
        return {"gap": (np.nan_to_num(class_acc) @ (many - few)).mean(axis=1)}

    return bootstrap(statistics, hits[:, None], y, len(counts))["gap"]
