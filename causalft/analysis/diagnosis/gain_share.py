"""How much of a teacher's gain over the best single stratum its student keeps, and whose gap it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.diagnosis.intervals import Interval, bootstrap
from causalft.analysis.diagnosis.parameter_imbalance import off_gap
from causalft.data.groups import gap_vectors

__all__ = ["GainShare", "share_of_gain"]

Floats = NDArray[np.float64]
Right = NDArray[np.bool_]


@dataclass(frozen=True)
class GainShare:
    """Teacher, student and best single stratum on the same test images.

    Attributes
    ----------
    accuracy : dict of str to Interval
        Of ``teacher``, ``student`` and ``best_single``: share of right images.
    gap : dict of str to Interval
        P-many minus P-few accuracy beyond class difficulty, which is the mean gap of the other strata on the same
        classes. Of teacher and student the mean over the priors of all strata; of the best single stratum by its own
        prior, as is ``student_own``, by the prior of the student's own pre-training.
    gain_share : Interval
        (student - best single) / (teacher - best single), of accuracies; none where the teacher does not gain.
    minus_teacher, minus_best_single : Interval
        Accuracy of the student minus theirs.
    """

    accuracy: dict[str, Interval]
    gap: dict[str, Interval]
    gain_share: Interval
    minus_teacher: Interval
    minus_best_single: Interval


def share_of_gain(
    labels: NDArray[np.int64],
    priors: Mapping[str, Floats],
    strata: Mapping[str, Right],
    teacher: Right,
    student: Right,
    *,
    best_single: str,
    own: str | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> GainShare:
    """Compare a student with its teacher and the best single stratum, paired over test images.

    Parameters
    ----------
    labels : (n,) array of int in [0, K)
    priors : mapping of M strata to (K,) arrays
        Label priors; NaN where not known.
    strata : mapping of M strata to (n,) arrays of bool
        Whether each stratum of the teacher is right by itself.
    teacher, student : (n,) array of bool
    best_single : str
        Chosen without test images.
    own : str, optional
        The stratum that the student started from, if it is one of the teacher's.
    n_boot, seed : int
        Of the interval of the ratio.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> def right(p):
    ...     return rng.random(4000) < p
    >>> labels = np.arange(4000) % 10
    >>> prior = np.linspace(0.15, 0.05, 10)
    >>> strata, priors = {"a": right(0.5), "b": right(0.4)}, {"a": prior, "b": prior[::-1]}
    >>> share_of_gain(labels, priors, strata, right(0.6), right(0.58), best_single="a", own="a").gain_share
    65.5 [45.7, 87.3] %
    """
    names = list(strata)
    n_classes = len(next(iter(priors.values())))
    best = names.index(best_single)
    tested = np.bincount(labels, minlength=n_classes) > 0
    shares = np.bincount(labels, minlength=n_classes) / len(labels)
    gaps = gap_vectors(np.stack([priors[name] for name in names]), tested)
    correct = np.stack([*strata.values(), teacher, student])[:, None]
    at_teacher, at_student = len(names), len(names) + 1

    def statistics(products: Floats) -> dict[str, Floats]:
        accuracy, gap = products[..., 0], products[..., 1:]
        beyond = gap - off_gap(gap[:, : len(names)])[:, None]
        top = accuracy[:, at_student] - accuracy[:, best]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = top / (accuracy[:, at_teacher] - accuracy[:, best])
        return {
            "accuracy": accuracy[:, [at_teacher, at_student, best]],
            "gap": np.stack(
                [
                    beyond[:, at_teacher].mean(axis=1),
                    beyond[:, at_student].mean(axis=1),
                    beyond[:, best, best],
                    beyond[:, at_student, names.index(own)] if own in names else np.full(len(beyond), np.nan),
                ],
                axis=1,
            ),
            "minus_teacher": accuracy[:, at_student] - accuracy[:, at_teacher],
            "minus_best_single": top,
            "gain": accuracy[:, at_teacher] - accuracy[:, best],
            "ratio": ratio,
        }

    found = bootstrap(
        statistics,
        correct,
        labels,
        n_classes,
        vectors=np.concatenate([shares[None], gaps]),
        n_boot=n_boot,
        seed=seed,
    )
    who = ("teacher", "student", "best_single")
    share = found["ratio"]
    gain: Interval = found["gain"]
    if not gain.bounded or gain.low <= 0:
        share = Interval.none("the teacher is not more accurate than the best single stratum, beyond chance")
    no_gap = "one stratum cannot tell its prior from class difficulty"
    named = [
        value if value.exists else Interval.none(no_gap if len(names) == 1 else value.reason)
        for value in found["gap"]
    ]
    if own not in names and len(names) > 1:
        named[-1] = Interval.none("the student started from none of the teacher's strata as they are")
    return GainShare(
        accuracy=dict(zip(who, found["accuracy"], strict=True)),
        gap=dict(zip((*who, "student_own"), named, strict=True)),
        gain_share=share,
        minus_teacher=found["minus_teacher"],
        minus_best_single=found["minus_best_single"],
    )
