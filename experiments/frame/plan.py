"""What a study will tune and cost, before it runs: its members, and which of them exist already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from experiments.frame.arms import members_of, singles
from experiments.frame.tested import BASELINE

if TYPE_CHECKING:
    from causalft.methods.adaptation.settings import Tuning
    from causalft.pipelines.workflows.plan import FitPlan, MemberPlan
    from experiments.frame.lab import Lab
    from experiments.frame.members import Member
    from experiments.frame.study import Study

__all__ = ["plan_study", "tuned_members"]


def tuned_members(study: Study, lab: Lab) -> list[Member]:
    """Members of the arms, and of the baseline that their gaps are measured against; each once."""
    arms = [arm for arm in study.arms if arm.models]
    return members_of([singles(BASELINE, lab.world.roles), *arms]) if arms else []


def plan_study(study: Study, lab: Lab) -> FitPlan | None:
    """Plan a study as :func:`causalft.pipelines.workflows.plan.plan_fit` plans a fit; nothing is written or trained.

    Members that differ in their loss alone cost the same, and are measured once.

    Parameters
    ----------
    study : Study
    lab : Lab

    Returns
    -------
    FitPlan or None
        None for a study without arms. A member is planned for the seeds that are left.
    """
    recipe = lab.world.settings.tuning
    groups: dict[Tuning, list[Member]] = {}
    for member in tuned_members(study, lab):
        groups.setdefault(replace(member.tuning(recipe, 0), loss=recipe.loss, seed=0), []).append(member)
    plans = [_plan_group(tuning, members, lab) for tuning, members in groups.items()]
    if not plans:
        return None
    members = tuple(member for plan in plans for member in plan.members)
    notes = [note for plan in plans for note in plan.notes]
    if study.measure is not None:
        notes.append("what the experiment does beside its arms is not counted")
    return replace(
        plans[0],
        members=members,
        flops=_sum([member.flops for member in members]),
        seconds=_sum([member.seconds for member in members]),
        memory_bytes=_most([plan.memory_bytes for plan in plans]),
        device_bytes=_most([plan.device_bytes for plan in plans]),
        disk_bytes=_sum([plan.disk_bytes for plan in plans]),
        cache_bytes=_most([plan.cache_bytes for plan in plans]),
        missing=tuple(dict.fromkeys(line for plan in plans for line in plan.missing)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _plan_group(tuning: Tuning, members: Sequence[Member], lab: Lab) -> FitPlan:
    """Plan members that cost the same per image, from one seed of each model."""
    from causalft.models.strata.cards import MemberName
    from causalft.pipelines.workflows.plan import plan_members

    names = dict.fromkeys(member.name for member in members)
    once = {MemberName.parse(name): [lab.members / "planned"] for name in names}
    settings = replace(lab.world.settings, tuning=tuning, n_seeds=lab.seeds)
    plan = plan_members(settings, once, lab.members, tables=False)
    of_name = {member.name: member for member in plan.members}
    planned = [_times(of_name[member.name], member, lab) for member in members]
    left = sum(member.runs - member.finished for member in planned)
    disk = None if plan.disk_bytes is None else plan.disk_bytes * left // len(names)
    return replace(plan, members=tuple(planned), disk_bytes=disk)


def _times(once: MemberPlan, member: Member, lab: Lab) -> MemberPlan:
    """The plan of one seed, for the seeds that are left."""
    finished = sum(lab.finished(member, seed) for seed in range(lab.seeds))
    left = lab.seeds - finished
    return replace(
        once,
        name=member.label,
        runs=lab.seeds,
        finished=finished,
        steps=once.steps * left,
        encoded=once.encoded * left,
        flops=None if once.flops is None else once.flops * left,
        seconds=None if once.seconds is None else once.seconds * left,
    )


def _sum(values: Sequence[Any]) -> Any:
    return None if any(value is None for value in values) else sum(values)


def _most(values: Sequence[Any]) -> Any:
    return max((value for value in values if value is not None), default=None)
