"""The members of the experiment on photographs: how they are tuned, and what that will cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from causalft.methods.adaptation.settings import default_tuning
from causalft.methods.estimators.member import folder_name
from causalft.methods.estimators.settings import FitSettings
from causalft.models.strata.cards import MemberName
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.pipelines.workflows.plan import FitPlan, plan_members
from causalft.pipelines.workflows.settings import strata_and_control

__all__ = ["losses_of", "plan_members_of", "settings_of"]


def settings_of(quick: bool, seeds: int, data: str, zoo: str) -> tuple[FitSettings, tuple[str, ...]]:
    """How every member is tuned, and the members of the control; images without a long tail are drawn to one."""
    tuning = replace(default_tuning(zoo), epochs=2) if quick else default_tuning(zoo)
    settings = FitSettings(
        data=data, zoo=zoo, imbalance_factor=100.0, tuning=tuning, n_seeds=seeds
    ).absolute()
    strata, control = strata_and_control(settings.open_zoo(), settings.zoo_name)
    settings = replace(settings, strata=strata)
    whole = load_splits(replace(settings, imbalance_factor=None), 0).train.class_counts
    if whole.max() >= 2 * whole.min():  # drawn to another tail, next to nothing of a long tail would be left
        settings = replace(settings, imbalance_factor=None)
    return settings, control


def losses_of(name: str, strata: Sequence[str]) -> tuple[str, ...]:
    """With which a member is tuned."""
    return ("LA", "CE") if name in strata else ("LA",)


def plan_members_of(out: Path, quick: bool, seeds: int, data: str, zoo: str) -> FitPlan:
    """Every member with each of its losses."""
    settings, control = settings_of(quick, seeds, data, zoo)
    names = dict.fromkeys((*settings.strata, *control))
    folders = {
        MemberName.parse(name): [
            out / "members" / str(seed) / loss / folder_name(name)
            for loss in losses_of(name, settings.strata)
            for seed in range(seeds)
        ]
        for name in names
    }
    planned = plan_members(settings, folders, out, tables=False)
    return replace(
        planned, notes=(*planned.notes, "strata are tuned twice for each seed, with LA and with CE")
    )
