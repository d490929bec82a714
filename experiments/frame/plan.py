"""What a study will tune and cost, before it runs: its members, and which of them exist already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError
from causalft.runs.limits import CREATURES, CREATURES_LTSSL
from experiments.frame.arms import members_of, singles
from experiments.frame.further import JOINT
from experiments.frame.members import Draw
from experiments.frame.tested import BASELINE

if TYPE_CHECKING:
    from causalft.methods.adaptation.settings import Tuning
    from causalft.pipelines.workflows.plan import FitPlan, Measured, MemberPlan
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

    Members that differ in their loss alone cost the same, and are measured once; each set of images is drawn once.

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
    groups: dict[tuple[Tuning, Draw, str], list[Member]] = {}
    for member in tuned_members(study, lab):
        tuning = replace(member.tuning(recipe, 0), loss=recipe.loss, seed=0)
        # An order of the classes does not change how many images there are.
        draw = Draw(law=member.draw.law, first_seed=member.draw.first_seed) if member.draw.law else Draw()
        groups.setdefault((tuning, draw, member.method), []).append(member)
    measured: dict[Tuning, Measured] = {}
    plans = [
        _plan_group(tuning, draw, members, lab, measured.setdefault(_costs_like(tuning, recipe), {}))
        for (tuning, draw, _), members in groups.items()
    ]
    if not plans:
        return None
    members = tuple(member for plan in plans for member in plan.members)
    first, *others = _by_images(plans)
    notes = [*first.notes, *map(_others, others)]
    together = {model.rule for arm in study.arms for model in arm.models if model.rule in JOINT}
    if together:
        notes.append(f"models that are tuned together are not counted: {', '.join(sorted(together))}")
    if study.measure is not None:
        notes.append("what the experiment does beside its arms is not counted")
    return replace(
        first,
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


def _costs_like(tuning: Tuning, recipe: Tuning) -> Tuning:
    """The part of a tuning that an image's cost depends on."""
    return replace(tuning, epochs=recipe.epochs, lr=recipe.lr)


def _by_images(plans: Sequence[FitPlan]) -> list[FitPlan]:
    """One plan for each set of images, with all members that are tuned on it; the set of the most members first."""
    found: dict[str, FitPlan] = {}
    for plan in plans:
        key = f"{plan.data} {plan.images}"
        before = found.get(key, replace(plan, members=()))
        found[key] = replace(before, members=(*before.members, *plan.members))
    return sorted(found.values(), key=lambda plan: -len(plan.members))


def _others(plan: FitPlan) -> str:
    """A note on the members that are tuned on other images than most."""
    who = f"{plan.members[0].name} is" if len(plan.members) == 1 else f"{len(plan.members)} models are"
    sizes = next(iter(plan.images.values()), None)
    if sizes is None:
        return f"{who} tuned on {plan.data}"
    beside = f" and {sizes.unlabelled:,} unlabelled ones" if sizes.unlabelled else ""
    return f"{who} tuned on {plan.data}: {sizes.train:,} training images{beside}"


def _plan_group(
    tuning: Tuning, draw: Draw, members: Sequence[Member], lab: Lab, measured: Measured
) -> FitPlan:
    """Plan members that cost the same per image, from one seed of each model."""
    from causalft.methods.semi.settings import SemiSettings
    from causalft.models.strata.cards import MemberName
    from causalft.pipelines.workflows.plan import plan_members

    try:
        splits = lab.world.splits(0, draw)
    except CausalFTError:
        splits = None  # the plan says what is missing
    names = dict.fromkeys(member.name for member in members)
    once = {MemberName.parse(name): [lab.members / "planned"] for name in names}
    semi = members[0].semi or SemiSettings()
    settings = replace(lab.world.settings, tuning=tuning, n_seeds=lab.seeds, semi=semi)
    plan = plan_members(settings, once, lab.members, tables=False, splits=splits, measured=measured)
    if draw.law and settings.data == CREATURES:
        plan = replace(plan, data=CREATURES_LTSSL)
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
