"""What arms answered to the test images, beside the class counts and the priors that figures sort the classes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from experiments.frame.arms import singles
from experiments.frame.measures import Answered
from experiments.frame.study import BASELINE, answers_of, owned_by

if TYPE_CHECKING:
    from experiments.frame.arms import Arm
    from experiments.frame.lab import Lab

__all__ = ["Tested", "tested"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tested:
    """Right answers of arms to the same test images.

    Attributes
    ----------
    labels : (n,) array of int in [0, K)
    counts : (K,) array of int
        Training images.
    estimated : (M, K) array
        GLA's estimate of the label prior of each stratum, from the validation images.
    known : (M, K) array, optional
        The label priors themselves.
    baseline : (M, S, n) array of bool
        Right answers of the single strata, which give the difficulty of the classes.
    arms : dict of str to Answered
    """

    __test__ = False  # no test class of pytest

    labels: NDArray[np.int64]
    counts: NDArray[np.int64]
    estimated: Floats
    known: Floats | None
    baseline: NDArray[np.bool_]
    arms: Mapping[str, Answered]

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.counts)

    @property
    def stacked(self) -> tuple[NDArray[np.bool_], dict[str, slice]]:
        """Right answers of all models, (R, S, n), and the rows of each arm."""
        ends = np.cumsum([0, *(len(arm.correct) for arm in self.arms.values())])
        rows = {name: slice(a, b) for name, a, b in zip(self.arms, ends, ends[1:])}
        return np.concatenate([arm.correct for arm in self.arms.values()]), rows

    def mean_of_own(self, found: Floats, name: str) -> Floats:
        """Mean over an arm's models, (b, R, M, ...) to (b, ...), of the mean over the priors that each owns.

        What does not exist for one prior (NaN) is left out.
        """
        pairs = [(row, j) for row, own in enumerate(self.arms[name].owned) for j in own]
        values = np.stack([found[:, row, j] for row, j in pairs])
        there = ~np.isnan(values)
        total = np.where(there, values, 0.0).sum(axis=0)
        with np.errstate(invalid="ignore"):
            return total / there.sum(axis=0)


def tested(lab: Lab, arms: Sequence[Arm]) -> Tested:
    """Read the members of the arms, and of the single strata tuned with LA, and gather their answers."""
    roles = lab.world.roles
    baseline = singles(BASELINE, roles)
    there = [arm for arm in arms if arm.models]
    correct = answers_of([baseline, *there], lab)
    found = [lab.prediction(model.members[0], 0) for model in baseline.models]
    truths = [p.true_prior for p in found if p.true_prior is not None]
    splits = lab.world.splits(0)
    return Tested(
        labels=splits.test.labels,
        counts=splits.train.class_counts,
        estimated=np.stack([p.prior.prior for p in found]),
        known=np.stack(truths) if len(truths) == len(found) else None,
        baseline=correct[BASELINE],
        arms={
            arm.name: Answered(correct[arm.name], [owned_by(model, roles) for model in arm.models])
            for arm in there
        },
    )
