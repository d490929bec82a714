"""The lab of one run: the world of its scale, and its members, each tuned once for all experiments."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.runs.folder import Run

if TYPE_CHECKING:
    from causalft.data.splits import Splits
    from causalft.methods.adaptation.tuned import TunedStratum
    from causalft.methods.estimators.member import MemberPrediction
    from causalft.methods.semi.settings import SemiSettings
    from causalft.methods.semi.tune import Supervision
    from experiments.frame.members import Member
    from experiments.frame.scales import World

__all__ = ["Lab", "supervised"]


@dataclass
class Lab:
    """What an experiment works with.

    Attributes
    ----------
    run : Run
        Its folder.
    world : World
    seeds : int
    quick : bool
    members : pathlib.Path
        Folder of the members of all experiments.
    jobs : int
        Processes that train side by side.
    weights : dict of str to str
        Hashes of the weights used so far, by name.
    """

    run: Run
    world: World
    seeds: int
    quick: bool
    members: Path
    jobs: int = 1
    weights: dict[str, str] = field(default_factory=dict)
    _read: dict[tuple[Member, int], MemberPrediction] = field(default_factory=dict, repr=False)

    def folder(self, member: Member, seed: int) -> Path:
        """Where a member lies, whether or not it is finished."""
        recipe = self.world.settings.tuning
        return self.members / self.world.scale / member.folder(recipe, seed, self.world.described)

    def finished(self, member: Member, seed: int) -> bool:
        """Whether a member is tuned already."""
        from causalft.methods.estimators.member import PREDICTIONS

        return (self.folder(member, seed) / PREDICTIONS).is_file()

    @contextmanager
    def together(self, members: Sequence[Member], seed: int, name: str, *also: str) -> Iterator[Path]:
        """Folder of members that learn together, made by one process at a time.

        Parameters
        ----------
        members : sequence of Member
        seed : int
        name : str
            How they learn, the start of the folder's name.
        *also : str
            What else they depend on.
        """
        from causalft.runs.locks import writing

        places = [self.folder(member, seed) for member in members]
        identity = "\n".join([name, *(place.name for place in places), *also])
        digest = hashlib.sha256(identity.encode()).hexdigest()[:10]
        folder = places[0].with_name(f"{name}-seed{seed}-{digest}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with writing(folder, wait=True):
            yield folder

    def tuned(self, member: Member, seed: int) -> tuple[MemberPrediction, TunedStratum]:
        """A member with its predictions for validation and test images; tuned now if it is not yet.

        Parameters
        ----------
        member : Member
        seed : int
            Of the training images and the tuning.

        Raises
        ------
        CausalFTError
            If the model cannot be loaded, or what lies in its folder was made with other weights or images.
        """
        from causalft.methods.estimators.member import fit_member
        from causalft.models.features.cache import cache_of
        from causalft.models.strata.cards import MemberName
        from causalft.runs.locks import writing

        settings, folder = self.world.settings, self.folder(member, seed)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # One that is finished is only read, by several experiments at a time; one that another tunes now is waited for.
        splits, semi = self.world.splits(seed, member.draw), member.semi
        with nullcontext() if self.finished(member, seed) else writing(folder, wait=True):
            prediction, tuned = fit_member(
                splits,
                MemberName.parse(member.name).weights,
                self.world.zoo,
                member.tuning(settings.tuning, seed),
                supervision=None if semi is None else supervised(semi, splits),
                device=settings.device,
                folder=folder,
                cache=cache_of(settings.cache, settings.data),
            )
        self.weights[MemberName.parse(member.name).weights] = prediction.sha256
        return prediction, tuned

    def prediction(self, member: Member, seed: int) -> MemberPrediction:
        """:meth:`tuned` without the model; its logits stay on disk, so each is kept once it is read."""
        key = member, seed
        if key not in self._read:
            self._read[key] = self.tuned(member, seed)[0]
        return self._read[key]

    @property
    def alone(self) -> Lab:
        """The same, without what was read and drawn: for another process."""
        return Lab(self.run, replace(self.world), self.seeds, self.quick, self.members, self.jobs)

    @property
    def facts(self) -> dict[str, Any]:
        """Facts for the page: data, zoo, weights, seeds."""
        world = self.world
        mini = "small models that this project pre-trained on the embedded world, not the real weights"
        photo = "minis that were pre-trained on the other half of the images"
        kinds = {"mini": mini, "photo": photo}
        return {
            "data": Path(world.settings.data).name,
            "zoo": f"{Path(world.settings.zoo_name).name}: {kinds.get(world.scale, 'the real weights')}",
            "control": f"seeds of {world.roles.seeds_differ_in}: {', '.join(world.roles.seeds)}",
            "seeds": str(self.seeds),
            "weights (sha256)": ", ".join(f"{name} {sha[:12]}" for name, sha in self.weights.items()),
        }


def supervised(semi: SemiSettings, splits: Splits) -> Supervision | None:
    """What a member learns from, if it is any unlabelled image; a collapse is a result: it answers as before."""
    from causalft.methods.semi.tune import supervised_by

    found = supervised_by(semi, splits.unlabelled)
    return None if found is None else replace(found, stops_at_collapse=False)
