"""The control of a fusion: the same fusion over seeds of one model, of its pre-training or of its tuning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from causalft.errors import CausalFTError
from causalft.models.strata.stratum import Zoo

__all__ = ["CONTROLS", "control_members", "describe_control", "strata_and_control"]

CONTROLS = ("none", "seeds")


class ControlSettings(Protocol):
    """What is asked of :class:`causalft.fitting.settings.FitSettings`."""

    @property
    def control(self) -> str: ...
    @property
    def control_of(self) -> str | None: ...
    @property
    def strata(self) -> Sequence[str]: ...


def control_members(settings: ControlSettings, zoo: Zoo) -> tuple[list[tuple[str, int | None]], str | None]:
    """Members of the one-prior control, and what their seeds seed: "pre-training" or "tuning", never both.

    A member is (name, offset of the tuning seed, or None for a pre-training of its own). Where the zoo has enough
    further pre-trainings of the model (``clip@1``, ``clip@2``), these are used; otherwise the same weights are tuned
    again with other seeds (``clip#1``, ``clip#2``).
    """
    if settings.control == "none":
        return [], None
    if settings.control not in CONTROLS:
        raise CausalFTError(f"unknown control {settings.control!r}; use {' or '.join(CONTROLS)}")
    if len(settings.strata) < 2:
        raise CausalFTError("the control compares a fusion with one; name two or more strata")
    base = settings.control_of or settings.strata[0]
    if base not in settings.strata:
        raise CausalFTError(f"--control-of {base!r} is not one of the strata {', '.join(settings.strata)}")
    numbers = range(1, len(settings.strata))
    known = set(zoo.names())
    if all(f"{base}@{number}" in known for number in numbers):
        return [(base, None), *((f"{base}@{number}", None) for number in numbers)], "pre-training"
    return [(base, None), *((f"{base}#{number}", 1000 * number) for number in numbers)], "tuning"


def describe_control(control: list[tuple[str, int | None]], kind: str | None) -> str:
    """The members of the control and what their seeds mean."""
    (base, _), *others = control
    names = ", ".join(name for name, _ in others)
    if kind == "pre-training":
        return f"seeds of pre-training: {base} with {names}"
    return f"seeds of tuning: {base} with {names}, the same weights tuned again (a weaker control)"


def strata_and_control(zoo: Zoo, folder: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the strata of a zoo pre-trained on images, and its one-prior control: as many pre-trainings of one.

    Raises
    ------
    CausalFTError
        If the folder is no such zoo, has one stratum only, or no model was pre-trained often enough.
    """
    make = "`causalft zoo pretrain --data IMAGES --control-seeds {seeds} --out ZOO`"
    if not (Path(folder) / "manifest.parquet").exists():
        raise CausalFTError(
            f"--zoo {folder} is not the folder of a zoo pre-trained on images; make one: {make.format(seeds=2)}"
        )
    names = zoo.names()
    strata = tuple(name for name in names if "@" not in name)
    if len(strata) < 2:
        raise CausalFTError(
            f"{folder} has 1 stratum, and fusing needs 2 or more; make another: {make.format(seeds=2)}"
        )
    for base in strata:
        control = [name for name in names if name.split("@")[0] == base]
        if len(control) >= len(strata):
            return strata, tuple(control[: len(strata)])
    raise CausalFTError(
        f"{folder} has {len(strata)} strata and no model of as many pre-trainings for the control; make another with "
        f"the same --member options: {make.format(seeds=len(strata) - 1)}"
    )
