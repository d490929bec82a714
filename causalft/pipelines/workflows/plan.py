"""The plan of a fit before anything long: images, operations, memory, disk, time from two batches, what is missing."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causalft.data.image_set import ImageSet
from causalft.data.splits import Splits
from causalft.data.tails import PRIOR_ORDERS
from causalft.errors import CausalFTError
from causalft.methods.adaptation.cost import StratumCost, stratum_cost
from causalft.methods.adaptation.presets import advice
from causalft.methods.adaptation.settings import check_gla
from causalft.methods.estimators.member import PREDICTIONS, pick_device
from causalft.methods.estimators.settings import FitSettings, check_joint, control_members
from causalft.models.features.encoder import stream_crops
from causalft.models.features.store import default_cache_folder
from causalft.models.strata.cards import MemberName
from causalft.models.strata.stratum import Stratum
from causalft.models.strata.zoo import MiniZoo, PretrainedZoo, Zoo, check_choice
from causalft.pipelines.workflows.fit_data import check_words, draws_tail, load_splits
from causalft.pipelines.workflows.plan_training import MemberPlan, Sizes, member_plan
from causalft.pipelines.workflows.room import fit_members, member_bytes, member_folder, page_bytes
from causalft.pipelines.workflows.unlabelled_images import unlabelled_of
from causalft.runs.limits import BUILT_IN
from causalft.runs.resources import free_bytes, peak_memory, size_words

__all__ = ["FitPlan", "Measured", "MemberPlan", "Sizes", "member_plan", "plan_fit", "plan_members"]

_READ = 64  # images that are read to time the reading, spread over the training images


@dataclass(frozen=True)
class FitPlan:
    """What a fit will do and cost.

    Attributes
    ----------
    images : dict of str to Sizes
        By seed; empty if the data cannot be opened.
    members : tuple of MemberPlan
    flops : int, optional
        Of all members; None if one could not be measured, as the following.
    seconds : float, optional
        Evaluation and pages are not counted.
    memory_bytes, device_bytes : int, optional
        Largest of a member; of all members if they are tuned together.
    disk_bytes, cache_bytes : int, optional
        Of the run folder and of the feature cache.
    free_bytes, cache_free_bytes : int
    device : str
    missing : tuple of str
        What must be there before the fit can run, or will be fetched.
    notes : tuple of str
    """

    out: str
    data: str
    device: str
    images: dict[str, Sizes]
    members: tuple[MemberPlan, ...]
    flops: int | None
    seconds: float | None
    memory_bytes: int | None
    device_bytes: int | None
    disk_bytes: int | None
    cache_bytes: int | None
    free_bytes: int
    cache_free_bytes: int
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


def plan_fit(settings: FitSettings, out: str | os.PathLike[str]) -> FitPlan:
    """Plan a fit; nothing is written, fetched or trained.

    Parameters
    ----------
    settings : FitSettings
    out : path
        The run folder; members that it has finished are not planned again.

    Raises
    ------
    CausalFTError
        For wrong settings and unknown names. Missing weights and data are part of the plan.
    """
    settings.check()
    settings.tuning.check()
    if settings.gla:
        check_gla(settings.tuning)
    check_joint(settings)
    settings = settings.absolute()
    zoo = settings.open_zoo()
    check_choice(settings.strata, zoo)
    control, _ = control_members(settings, zoo)
    folders = {
        member: [member_folder(out, settings, member, number) for number in range(settings.n_seeds)]
        for member in fit_members(settings, control)
    }
    return plan_members(settings, folders, out)


def plan_members(
    settings: FitSettings,
    folders: Mapping[MemberName, Sequence[Path]],
    out: str | os.PathLike[str],
    *,
    tables: bool = True,
    splits: Splits | None = None,
    measured: Measured | None = None,
) -> FitPlan:
    """Plan members that are tuned with the same settings, as `plan_fit` does.

    Parameters
    ----------
    settings : FitSettings
        With absolute paths.
    folders : mapping of MemberName to sequence of pathlib.Path
        Where each member is written, one folder per seed.
    out : path
    tables : bool
        Whether the tables of a fit are written too.
    splits : Splits, optional
        The images, if they are there already; with them come the unlabelled ones.
    measured : dict, optional
        Costs by architecture that an earlier call with the same tuner and batches has measured; filled.
    """
    zoo, device = settings.open_zoo(), pick_device(settings.device)
    missing: list[str] = []
    splits, sizes, notes = _open(settings, missing) if splits is None else _given(settings, splits, missing)
    costs = _Costs(settings, zoo, device, splits, missing, measured)
    before, at_once = peak_memory(), settings.joint or settings.semi.share_labels
    members = [_member(settings, costs, name, places, sizes, before) for name, places in folders.items()]
    missing += costs.unreadable

    disk = cache = None
    if splits is not None and all(member.cost is not None for member in members):
        disk = page_bytes(splits, settings) if tables else 0
        for member in members:
            assert member.cost is not None
            disk += member.runs * member_bytes(
                splits,
                tuned_bytes=member.cost.tuned_bytes,
                feature_dim=member.cost.feature_dim,
                gla=settings.gla,
                true_prior=isinstance(zoo, MiniZoo),
            )
        cache = _cache_bytes(settings, sizes, members)
        for need, place in ((disk, Path(out)), (cache, default_cache_folder())):
            if need > free_bytes(place):
                missing.append(
                    f"room: {size_words(need)} in {place}, which has {size_words(free_bytes(place))} free"
                )
    return FitPlan(
        out=os.fspath(out),
        data=settings.data,
        device=str(device),
        images={} if splits is None else {str(settings.seed + n): sizes for n in range(settings.n_seeds)},
        members=tuple(members),
        flops=_total([member.flops for member in members]),
        seconds=_total([member.seconds for member in members]),
        memory_bytes=_at_a_time([member.memory_bytes for member in members], at_once, before),
        device_bytes=_at_a_time([member.device_bytes for member in members], at_once),
        disk_bytes=disk,
        cache_bytes=cache,
        free_bytes=free_bytes(out),
        cache_free_bytes=free_bytes(default_cache_folder()),
        missing=tuple(dict.fromkeys(missing)),
        notes=tuple(notes),
    )


def _open(settings: FitSettings, missing: list[str]) -> tuple[Splits | None, Sizes, list[str]]:
    """Open and cut the data, without the prior that an order may stand against."""
    notes: list[str] = []
    name = settings.order_by or settings.strata[0]
    against = settings.data not in BUILT_IN and draws_tail(settings) and settings.order in PRIOR_ORDERS
    if against and name not in settings.prior_files.prior_of:
        notes.append(
            f"the order {settings.order} needs the label prior of {name}, which fit estimates first; the training "
            "images are counted for a random order here"
        )
        settings = replace(settings, order="random", order_by=None)
    try:
        settings.prior_files.check(settings.prior_names)
    except CausalFTError as error:
        missing.append(str(error))
    try:
        splits = load_splits(settings, settings.seed)
        check_words(settings, splits.class_names)
    except CausalFTError as error:
        missing.append(str(error))
        return None, Sizes(0, 0, 0, 0), notes
    n_unlabelled = 0
    try:
        n_unlabelled = len(unlabelled_of(settings, splits, say=notes.append) or ())
    except CausalFTError as error:
        missing.append(str(error))
    sizes = _sizes(splits, n_unlabelled)
    wish = advice(settings.preset, settings.tuning, sizes.classes)
    return splits, sizes, [*notes, *splits.notes, *([] if wish is None else [wish])]


def _given(
    settings: FitSettings, splits: Splits, missing: list[str]
) -> tuple[Splits | None, Sizes, list[str]]:
    """The same for images that are there already."""
    try:
        check_words(settings, splits.class_names)
    except CausalFTError as error:
        missing.append(str(error))
        return None, Sizes(0, 0, 0, 0), []
    return splits, _sizes(splits, len(splits.unlabelled or ())), list(splits.notes)


def _sizes(splits: Splits, n_unlabelled: int) -> Sizes:
    train = splits.train
    return Sizes(len(train), len(splits.validation), len(splits.test), train.n_classes, n_unlabelled)


Measured = dict[str, tuple[StratumCost, bool, float] | None]
"""By architecture: the cost, whether the model has a text tower, and seconds to read an image."""


class _Costs:
    """Costs per image by architecture, each measured once; finds out what is missing on the way."""

    def __init__(
        self,
        settings: FitSettings,
        zoo: Zoo,
        device: torch.device,
        splits: Splits | None,
        missing: list[str],
        measured: Measured | None = None,
    ) -> None:
        self.settings, self.zoo, self.device = settings, zoo, device
        self.splits, self.missing = splits, missing
        self.unreadable: list[str] = []
        self._found: Measured = {} if measured is None else measured

    def weights(self, name: str) -> str:
        """Whether the weights of a stratum are ``here``, ``to fetch`` or ``missing``."""
        try:
            if not isinstance(self.zoo, PretrainedZoo):
                self.zoo.check(name)
                return "here"
            what, file = self.zoo.describe(name), self.zoo.find(name)
            if file is not None and file.is_file():
                return "here"
            if file is not None or self.zoo.source.forbidden():
                self.zoo.check(name)
                self.zoo.source.weights(what)  # raises the message with the way out
            self.missing.append(
                f"weights of {name}: not on this machine; fit fetches them from {what.repository}"
            )
            return "to fetch"
        except CausalFTError as error:
            self.missing.append(str(error))
            return "missing"

    def architecture(self, name: str) -> str:
        """What two strata share if they cost the same."""
        if isinstance(self.zoo, MiniZoo):
            card = self.zoo.card(name)
            return "mini " + " ".join(f"{key}={value}" for key, value in sorted(card.architecture.items()))
        return self.zoo.describe(name).architecture if isinstance(self.zoo, PretrainedZoo) else name

    def of(self, name: str, here: bool) -> tuple[StratumCost, bool, float] | None:
        """The cost, whether the model has a text tower, and seconds to read an image; None if it cannot be measured."""
        if self.splits is None:
            return None
        key = self.architecture(name)
        if key not in self._found:
            try:
                self._found[key] = self._measure(name, here, self.splits)
            except CausalFTError as error:
                self.missing.append(f"{name} cannot be measured: {error}")
                self._found[key] = None
        return self._found[key]

    def _measure(self, name: str, here: bool, splits: Splits) -> tuple[StratumCost, bool, float]:
        if here or not isinstance(self.zoo, PretrainedZoo):
            stratum = self.zoo.load(name, device=self.device)
        else:
            stratum = self.zoo.untrained(name, device=self.device)
        pixels, seconds = self._read(stratum, splits.train)
        cost = stratum_cost(stratum, self.settings.tuning, splits.train.n_classes, pixels)
        return cost, stratum.has_text, seconds

    def _read(self, stratum: Stratum, images: ImageSet) -> tuple[Tensor, float]:
        """Crops of two batches of images, and the seconds that one takes."""
        rows = np.unique(np.linspace(0, len(images) - 1, _READ).astype(int)).tolist()
        found: list[Tensor] = []
        marks = [time.perf_counter()]
        half = -(-len(rows) // 2)
        for _, (pixels,) in stream_crops(
            images, [stratum.crop], half, rows=rows, ahead=1, on_error="skip", bad=self._bad, progress=False
        ):
            found.append(pixels)
            marks.append(time.perf_counter())
        if not found:
            raise CausalFTError(f"none of {len(rows)} training images could be read")
        n_read = sum(map(len, found))
        return torch.cat(found), (marks[-1] - marks[0]) / n_read

    def _bad(self, row: int, message: str) -> None:
        self.unreadable.append(message)


def _member(
    settings: FitSettings,
    costs: _Costs,
    member: MemberName,
    folders: Sequence[Path],
    sizes: Sizes,
    before: int,
) -> MemberPlan:
    weights = costs.weights(member.weights)
    finished = sum((folder / PREDICTIONS).exists() for folder in folders)
    plan = MemberPlan(str(member), weights, costs.architecture(member.weights), len(folders), finished)
    measured = costs.of(member.weights, weights == "here")
    if measured is None:
        return plan
    cost, has_text, read_seconds = measured
    return member_plan(
        plan,
        cost,
        sizes,
        settings.tuning,
        rates=len(settings.learning_rates) or 1,
        gla=settings.gla,
        has_text=has_text,
        read_seconds=read_seconds,
        before=before,
        n_together=len(settings.strata) if settings.joint or settings.semi.share_labels else 1,
        semi=settings.semi,
    )


def _cache_bytes(settings: FitSettings, sizes: Sizes, members: Sequence[MemberPlan]) -> int:
    """Frozen features of validation and test images, once for each weights."""
    if not settings.cache or settings.data in BUILT_IN:
        return 0
    dims = {MemberName.parse(m.name).weights: m.cost.feature_dim for m in members if m.cost is not None}
    return sum(4 * dim * (sizes.validation + sizes.test) for dim in dims.values())


def _total(values: Sequence[Any]) -> Any:
    return None if any(value is None for value in values) else sum(values)


def _at_a_time(values: Sequence[Any], joint: bool, before: int = 0) -> Any:
    """Bytes of the largest member, or of all that are tuned together beside the ``before`` that each counts."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    return before + sum(value - before for value in found) if joint else max(found)
