"""What arms answered to the test images, beside the class counts and the priors that figures sort the classes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from experiments.frame.arms import members_of, singles
from experiments.frame.measures import Answered

if TYPE_CHECKING:
    from causalft.methods.estimators.member import MemberPrediction
    from experiments.frame.arms import Arm, Model
    from experiments.frame.lab import Lab
    from experiments.frame.members import Member
    from experiments.frame.scales import Roles

__all__ = ["BASELINE", "Tested", "answers_of", "owned_by", "tested"]

BASELINE = "single strata, LA"

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
    drawn = [m.draw for arm in there for model in arm.models for m in model.members if m.draw.law]
    splits = lab.world.splits(0, drawn[0] if drawn else None)  # D groups are those of the labelled images
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


def owned_by(model: Model, roles: Roles) -> list[int]:
    """Indices of the strata whose label prior a model has.

    None where one member is chosen, by seed: the mean over the priors of all would look like a small gap of its own.
    """
    from experiments.frame.adjusting import owned
    from experiments.frame.answers import CHOOSE

    return [] if model.rule in CHOOSE and len(model.members) > 1 else owned(model.members, roles)


def answers_of(arms: Sequence[Arm], lab: Lab) -> dict[str, NDArray[np.bool_]]:
    """Right answers of each arm, (R models, S seeds, n test images)."""
    from causalft.runs.progress import steps
    from experiments.frame.ltssl import SHARED
    from experiments.frame.side_by_side import train

    # What learns together is tuned with its model. Draws of one seed follow one another, so that each is drawn once.
    apart = [replace(arm, models=tuple(m for m in arm.models if m.rule != SHARED)) for arm in arms]
    members = sorted(members_of(apart), key=lambda member: str(member.draw))
    work = [(member, seed) for seed in range(lab.seeds) for member in members]
    if lab.jobs > 1:
        train(lab, [partial(_tune, *each) for each in work if not lab.finished(*each)], "members")
    for member, seed in steps(work, "members", len(work)):
        lab.prediction(member, seed)
    models = list(dict.fromkeys(model for arm in arms for model in arm.models))
    if lab.jobs > 1:
        learning = [(model, seed) for model in models if _learns(model) for seed in range(lab.seeds)]
        train(lab, [partial(_learn, *each) for each in learning], "models")

    def right(model: Model) -> NDArray[np.bool_]:
        draw = model.members[0].draw
        return np.stack(
            [
                _classes(lab, model, seed) == lab.world.splits(seed, draw).test.labels
                for seed in range(lab.seeds)
            ]
        )

    found = {model: right(model) for model in models}
    return {arm.name: np.stack([found[model] for model in arm.models]) for arm in arms}


def _tune(member: Member, seed: int, lab: Lab) -> None:
    lab.tuned(member, seed)


def _learn(model: Model, seed: int, lab: Lab) -> None:
    _classes(lab, model, seed)


def _learns(model: Model) -> bool:
    """Whether a model is more than its members: it is trained itself, and kept."""
    from experiments.frame.further import JOINT
    from experiments.frame.ltssl import SHARED
    from experiments.frame.students import STUDENTS

    whole = [rule for rule, how in JOINT.items() if how.alone is None]
    return model.rule in (*STUDENTS, *whole, SHARED)


def _classes(lab: Lab, model: Model, seed: int) -> NDArray[np.int64]:
    """Predicted classes of the test images, (n,)."""
    from experiments.frame.adjusting import ADJUSTING, Fused, beside
    from experiments.frame.answers import answer
    from experiments.frame.further import JOINT, joint
    from experiments.frame.ltssl import SHARED, shared
    from experiments.frame.students import SOUP, STUDENTS, soup, student
    from experiments.frame.unlabelled import unlabelled_logits

    if model.rule in STUDENTS:
        return np.asarray(student(lab, model.members, STUDENTS[model.rule], seed).argmax(axis=1))
    if model.rule == SOUP:
        return np.asarray(soup(lab, model.members, seed).argmax(axis=1))
    if model.rule in JOINT:
        return np.asarray(joint(lab, model.members, model.rule, seed).argmax(axis=1))
    if model.rule == SHARED:
        return np.asarray(shared(lab, model.members, seed).argmax(axis=1))
    splits = lab.world.splits(seed, model.members[0].draw)
    views = [_view(lab, model, member, seed) for member in model.members]
    if model.rule in ADJUSTING and len(views) > 1:
        ask = partial(unlabelled_logits, lab, model.members, seed)
        return ADJUSTING[model.rule](Fused(views, beside(lab, model.members, seed), splits, seed, ask))
    return answer(views, model.rule, model.stratum_prior, splits, seed)


def _view(lab: Lab, model: Model, member: Member, seed: int) -> MemberPrediction:
    from experiments.frame.answers import seen
    from experiments.frame.attended import LOOKS, looked
    from experiments.frame.further import NEIGHBOURS, neighbours
    from experiments.frame.inside import INSIDE, inside

    if model.view in INSIDE:
        return inside(lab, member, seed, model.view)
    if model.view == NEIGHBOURS:
        return neighbours(lab, member, seed)
    if model.view in LOOKS:
        return looked(lab, member, seed, model.view)
    counts = lab.world.splits(seed, member.draw).train.class_counts
    return seen(
        lab.prediction(member, seed), model.view, member.tuning(lab.world.settings.tuning, seed), counts
    )
