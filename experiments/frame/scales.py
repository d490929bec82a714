"""Scales: the embedded world in minutes, photographs within the hour, the real sets with real weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError, nearest
from causalft.runs.limits import CREATURES

if TYPE_CHECKING:
    from causalft.data.splits import Splits
    from causalft.methods.estimators.settings import FitSettings
    from causalft.models.strata.zoo import Zoo
    from experiments.frame.members import Draw

__all__ = ["SCALES", "Roles", "Scale", "World", "get_scale"]

_KEPT = 12
"""Splits in memory: a seed of a few draws."""


@dataclass(frozen=True)
class Roles:
    """Which models of a zoo play which part.

    Attributes
    ----------
    strata : tuple of str
    seeds : tuple of str
        As many seeds of one stratum, with one pre-training prior.
    seeds_differ_in : {"pre-training", "tuning"}
    larger : str, optional
        A single model about as costly as all strata.
    why_no_larger : str
    knows_priors : bool
        Whether the true label priors are known.
    """

    strata: tuple[str, ...]
    seeds: tuple[str, ...]
    seeds_differ_in: str
    larger: str | None
    why_no_larger: str
    knows_priors: bool

    def members(self, of: str) -> tuple[str, ...]:
        """Names of the ``strata``, the ``seeds`` of one model, or the ``first`` stratum."""
        return {"strata": self.strata, "seeds": self.seeds, "first": self.strata[:1]}[of]


@dataclass(frozen=True)
class World:
    """Data, models and recipe of a scale.

    Attributes
    ----------
    scale : str
    settings : FitSettings
        With absolute paths.
    roles : Roles
    of : str
        The real set, at the scale ``full``.
    """

    scale: str
    settings: FitSettings
    roles: Roles
    of: str = ""

    @cached_property
    def zoo(self) -> Zoo:
        """The zoo, opened."""
        return self.settings.open_zoo()

    @cached_property
    def _drawn(self) -> dict[tuple[int, Draw], Splits]:
        return {}

    def splits(self, seed: int, draw: Draw | None = None) -> Splits:
        """Train, validation and test of one seed; validation and test are the same for all seeds of a draw.

        Parameters
        ----------
        seed : int
        draw : Draw, optional
            Default: the long tail of the data.
        """
        from experiments.frame.members import Draw

        key = (seed, draw or Draw())
        if key not in self._drawn:
            while len(self._drawn) >= _KEPT:
                del self._drawn[next(iter(self._drawn))]
            self._drawn[key] = self._load(*key)
        return self._drawn[key]

    def _load(self, seed: int, draw: Draw) -> Splits:
        from causalft.pipelines.workflows.fit_data import draw_against_prior, load_splits

        if draw.law:
            from experiments.frame.protocol import protocol_splits

            built_in = self.settings.data == CREATURES
            usual = self.splits(0)
            return protocol_splits(
                usual,
                usual if built_in else self.balanced,
                seed,
                draw.law,
                first_seed=draw.first_seed,
                built_in=built_in,
            )
        if not draw.order:
            return load_splits(self.settings, seed)
        against = replace(
            self.settings,
            order=draw.order,
            order_by=draw.order_by,
            split_seed=seed,
            imbalance_factor=self.settings.imbalance_factor or 100.0,
        )
        return draw_against_prior(against, self.balanced, 1000 + seed)

    @cached_property
    def balanced(self) -> Splits:
        """All images, from which long tails of other orders are drawn."""
        from causalft.data.creatures import creatures_longtail
        from causalft.pipelines.workflows.fit_data import load_splits

        if self.settings.data == CREATURES:
            return creatures_longtail(imbalance_factor=1.0)
        pool = load_splits(replace(self.settings, imbalance_factor=None), 0)
        counts = pool.train.class_counts
        if counts.max() >= 2 * max(1, counts.min()):
            raise CausalFTError(
                f"{self.settings.data} is long-tailed itself, so no long tail of another order can be drawn from it; "
                "give a balanced set"
            )
        return pool

    @property
    def described(self) -> dict[str, Any]:
        """What members depend on besides their tuning, as JSON."""
        s = self.settings
        found = {"data": s.data, "zoo": s.zoo_name, "weights": dict(s.weights), "split_seed": s.split_seed}
        found |= {"imbalance_factor": s.imbalance_factor, "data_options": dict(s.data_options)}
        found |= {"n_validation": s.n_validation, "n_test": s.n_test}
        if self.of:
            found["set"] = self.of
        names = [*self.roles.strata, *self.roles.seeds] if self.roles.knows_priors else []
        return {**found, "sha256": {name: self.zoo.card(name).sha256 for name in names}}  # type: ignore[attr-defined]


def _mini(quick: bool, **brought: str) -> World:
    """The embedded world and the minis pre-trained on it."""
    from causalft.methods.adaptation.settings import default_tuning
    from causalft.methods.estimators.settings import FitSettings

    recipe = default_tuning("mini")
    settings = FitSettings(zoo="mini", tuning=replace(recipe, epochs=3) if quick else recipe, control="seeds")
    return World("mini", settings, _roles(settings, "clip-wide"))


def _photo(quick: bool, data: str, zoo: str) -> World:
    """The user's photographs, and minis pre-trained on half of them (:meth:`Scale.prepare`)."""
    from causalft.methods.adaptation.settings import default_tuning
    from causalft.methods.estimators.settings import FitSettings
    from causalft.models.strata.zoo import open_zoo
    from causalft.pipelines.workflows.settings import strata_and_control

    recipe = default_tuning(zoo)
    strata, _ = strata_and_control(open_zoo(zoo), zoo)
    settings = FitSettings(
        strata=strata,
        data=data,
        zoo=zoo,
        imbalance_factor=100.0,
        control="seeds",
        tuning=replace(recipe, epochs=2) if quick else recipe,
    ).absolute()
    return World("photo", settings, _roles(settings, f"{strata[0]}-wide"))


def _full(
    quick: bool, data: str, set: str, weights: Mapping[str, str] | None = None, offline: bool = False
) -> World:
    """A real set and real weights."""
    from causalft.methods.estimators.settings import FitSettings
    from experiments.frame.sets import get_set

    chosen, files = get_set(set), dict(weights or {})
    strata = FitSettings.defaults()["strata"]
    if not files.keys() <= {*strata}:
        strata = tuple(files)
    settings = chosen.settings(data, quick, strata=strata, weights=files, offline=offline)
    return World("full", settings, _roles(settings, ""), of=set)


def _roles(settings: FitSettings, larger: str) -> Roles:
    from causalft.methods.estimators.settings import control_members
    from causalft.models.strata.zoo import MiniZoo

    zoo = settings.open_zoo()
    seeds, kind = control_members(settings, zoo)
    there = larger in zoo.names()
    return Roles(
        strata=settings.strata,
        seeds=tuple(str(member) for member in seeds),
        seeds_differ_in=str(kind),
        larger=larger if there else None,
        why_no_larger=""
        if there
        else f"{zoo.label} has no {larger}"
        if larger
        else "none is known among the real weights",
        knows_priors=isinstance(zoo, MiniZoo),
    )


def _say(line: str) -> None:
    """Print a line on standard error, as progress is."""
    sys.stderr.write(f"{line}\n")


@dataclass(frozen=True)
class Scale:
    """A scale of the experiments.

    Attributes
    ----------
    name : str
    help : str
    needs, takes : tuple of str
        Options that bring what it needs, and further ones.
    opens : callable
        ``opens(quick, **brought) -> World``.
    """

    name: str
    help: str
    needs: tuple[str, ...]
    opens: Callable[..., World]
    takes: tuple[str, ...] = ()

    def prepare(
        self, members: Path, brought: Mapping[str, Any], say: Callable[[str], None] | None = None
    ) -> dict[str, Any] | None:
        """What is brought, completed: the zoo of photographs, pre-trained where it is missing.

        Parameters
        ----------
        members : pathlib.Path
            Folder of the members that experiments share.
        brought : mapping
        say : callable, optional
            Prints a line. Without it, nothing is trained, and None is returned if something would have to be.
        """
        if self.name != "photo" or "zoo" in brought:
            return dict(brought)
        from experiments.frame.photo_zoo import photo_zoo

        zoo = photo_zoo(members, brought["data"], say)
        return None if zoo is None else {**brought, "zoo": zoo}

    def open(self, quick: bool, members: Path, brought: Mapping[str, Any]) -> World:
        """The world, with what :meth:`prepare` makes."""
        prepared = self.prepare(members, brought, _say)
        assert prepared is not None
        key = json.dumps([self.name, quick, prepared], sort_keys=True)
        if (
            key not in _LAST
        ):  # `run all` opens one world again and again; drawing its images is most of the time
            _LAST.clear()
            _LAST[key] = self.opens(quick, **prepared)
        return _LAST[key]


_LAST: dict[str, World] = {}
"""The world that was opened last, with the images it has drawn."""


SCALES = {
    scale.name: scale
    for scale in (
        Scale("mini", "the embedded world and its minis, in minutes", (), _mini),
        Scale(
            "photo", "your photographs, and minis pre-trained on half of them", ("data",), _photo, ("zoo",)
        ),
        Scale(
            "full",
            "a real set and the real weights",
            ("set", "data"),
            _full,
            ("weights", "offline"),
        ),
    )
}


def get_scale(name: str) -> Scale:
    """Return a scale; an unknown name raises a :class:`CausalFTError` with the nearest names."""
    if name not in SCALES:
        raise CausalFTError(f"no scale is named {name!r}; {nearest(name, SCALES)}")
    return SCALES[name]
