"""The settings of ``fit`` and ``probe``, checked before anything long."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

from causalft.errors import CausalFTError, nearest
from causalft.methods.adaptation.settings import Tuning, check_gla, default_tuning
from causalft.models.strata.member_name import MemberName
from causalft.models.strata.zoo import Zoo, check_strata, open_zoo
from causalft.models.tuning.choices import HEADS, optimum_of
from causalft.runs import limits
from causalft.runs.limits import CREATURES

__all__ = [
    "CONTROLS",
    "FitSettings",
    "ProbeSettings",
    "config_of",
    "control_members",
    "data_name",
    "describe_control",
    "strata_and_control",
    "zoo_path",
]


CONTROLS = ("none", "seeds")


class ControlSettings(Protocol):
    """What is asked of :class:`causalft.pipelines.workflows.settings.FitSettings`."""

    @property
    def control(self) -> str: ...
    @property
    def control_of(self) -> str | None: ...
    @property
    def strata(self) -> Sequence[str]: ...


def control_members(settings: ControlSettings, zoo: Zoo) -> tuple[list[MemberName], str | None]:
    """Members of the one-prior control, and what differs between them: "pre-training" or "tuning", never both.

    Where the zoo has enough further pre-trainings of the model (``clip@1``, ``clip@2``), these are used; otherwise the
    same weights are tuned again with other seeds (``clip#1``, ``clip#2``).
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
    first, numbers = MemberName.parse(base), range(len(settings.strata))
    known = set(zoo.names())
    pretrained = [MemberName(base, number) for number in numbers]
    if all(str(member) in known for member in pretrained[1:]):
        return pretrained, "pre-training"
    return [replace(first, tuning=number) for number in numbers], "tuning"


def describe_control(control: Sequence[MemberName], kind: str | None) -> str:
    """The members of the control and what their seeds mean."""
    base, *others = control
    names = ", ".join(map(str, others))
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
    names = [MemberName.parse(name) for name in zoo.names()]
    strata = tuple(name.stratum for name in names if not name.pretraining)
    if len(strata) < 2:
        raise CausalFTError(
            f"{folder} has 1 stratum, and fusing needs 2 or more; make another: {make.format(seeds=2)}"
        )
    for base in strata:
        control = [str(name) for name in names if name.stratum == base]
        if len(control) >= len(strata):
            return strata, tuple(control[: len(strata)])
    raise CausalFTError(
        f"{folder} has {len(strata)} strata and no model of as many pre-trainings for the control; make another with "
        f"the same --member options: {make.format(seeds=len(strata) - 1)}"
    )


@dataclass(frozen=True)
class FitSettings:
    """Everything that decides what ``fit`` does.

    Attributes
    ----------
    strata : tuple of str
    data : str
        ``creatures-lt``, a folder with one folder a class, or a zip of one.
    zoo : str, optional
        ``mini``, ``pretrained`` or a folder; by default ``mini`` for the built-in data, ``pretrained`` for any other.
    weights : dict of str to str
        Local files for the pretrained zoo.
    offline : bool
        Never ask the network for weights.
    allow_pickle : bool
        Read weights that are a pickle, as tensors only.
    data_options : dict
        How the data is opened: the options of :func:`causalft.data.open_images` that were given.
    tuning : Tuning, optional
        The measured recipe of the zoo by default.
    learning_rates : tuple of float
        With two or more, chosen per stratum on validation.
    gla : bool
        GLA-FT: every stratum adds its debiased zero-shot logits to its tuned ones.
    fusion : {"mixture", "logit", "product"}
    stratum_prior : tuple of float, "uniform" or "em", optional
        P(c); uniform by default, estimated on validation with "em". The members of a control are always weighted alike.
    calibrate_strata : bool
        Fit a temperature for each stratum before the fusion.
    control : {"none", "seeds"}
        The same fusion over seeds of ONE model.
    control_of : str, optional
        That model; the first stratum by default.
    imbalance_factor : float, optional
        Resample the training part to a long tail (the built-in data has 100).
    profile, order : str
        Of the resampling. The orders ``consistency``, ``reverse`` and ``balance`` stand against a label prior.
    order_by : str, optional
        The stratum whose prior that is; the first by default.
    n_validation, n_test : int or "auto"
        Images of each class, cut first; a share of each class by default (:mod:`causalft.data.splits`).
    drop_empty_classes : bool
    split_seed, seed : int
        ``split_seed`` cuts validation and test; ``seed`` draws the long tail and trains.
    n_seeds : int
        Repetitions with seeds ``seed, seed + 1, ...``; the saved classifier is that of the first.
    device : str
    cache : bool
        Keep frozen features of validation and test images for later runs (never for the built-in data).
    tensorboard : bool
        Log the training to the run's ``tensorboard/``.
    """

    strata: tuple[str, ...] = ("clip", "openclip", "metaclip")
    data: str = CREATURES
    zoo: str | None = None
    weights: Mapping[str, str] = field(default_factory=dict)
    offline: bool = False
    allow_pickle: bool = False
    data_options: Mapping[str, Any] = field(default_factory=dict)
    tuning: Tuning = None  # type: ignore[assignment]  # never None after __post_init__
    learning_rates: tuple[float, ...] = ()
    gla: bool = False
    fusion: str = "mixture"
    stratum_prior: tuple[float, ...] | str | None = None
    calibrate_strata: bool = False
    control: str = "none"
    control_of: str | None = None
    imbalance_factor: float | None = None
    profile: str = "exponential"
    order: str = "random"
    order_by: str | None = None
    n_validation: int | str = limits.AUTO
    n_test: int | str = limits.AUTO
    drop_empty_classes: bool = False
    split_seed: int = 0
    seed: int = 0
    n_seeds: int = 1
    device: str = "auto"
    cache: bool = True
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.tuning is None:
            object.__setattr__(self, "tuning", default_tuning(self.zoo_name))

    @property
    def zoo_name(self) -> str:
        """The zoo in use: there is no silent fallback from one to another."""
        return self.zoo or ("mini" if self.data == CREATURES else "pretrained")

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return what each setting that has a fixed default is without a word: also in a run from before it was there.

        Examples
        --------
        >>> FitSettings.defaults()["gla"]
        False
        """
        return {item.name: item.default for item in fields(cls) if item.default is not MISSING}

    def check(self) -> None:
        """Refuse numbers and a device that have no meaning, before anything is opened.

        Raises
        ------
        CausalFTError

        Examples
        --------
        >>> FitSettings(seed=-1).check()
        Traceback (most recent call last):
        ...
        causalft.errors.CausalFTError: seed -1 is out of range; give a whole number from 0 to 9,223,372,036,854,775,807
        """
        for what, value, within in (
            ("seed", self.seed, limits.SEED),
            ("split_seed", self.split_seed, limits.SEED),
            ("n_seeds", self.n_seeds, limits.SEEDS),
            ("imbalance_factor", self.imbalance_factor, limits.IMBALANCE_FACTOR),
            *(
                (name, size, limits.IMAGES_PER_CLASS)
                for name, size in (("n_validation", self.n_validation), ("n_test", self.n_test))
                if size != limits.AUTO
            ),
            *(("learning rate", rate, limits.LEARNING_RATE) for rate in self.learning_rates),
        ):
            if value is not None:
                within.check(value, what)
        limits.check_device(self.device)

    def absolute(self) -> FitSettings:
        """The same with absolute paths: a run is repeatable from anywhere."""
        weights = {name: os.path.abspath(os.path.expanduser(file)) for name, file in self.weights.items()}
        return replace(self, data=data_name(self.data), zoo=zoo_path(self.zoo), weights=weights)

    def open_zoo(self) -> Zoo:
        """Open the zoo in use, as these settings allow."""
        return open_zoo(self.zoo_name, self.weights, offline=self.offline, allow_pickle=self.allow_pickle)

    def check_names(self) -> None:
        """Refuse names that stand for nothing: of the tuning, the zoo, its strata, the control and the data.

        Nothing is loaded and PyTorch is not imported, so that a mistake is said at once.

        Raises
        ------
        CausalFTError
        """
        self.tuning.check()
        if self.gla:
            check_gla(self.tuning)
        zoo = self.absolute().open_zoo()
        control_members(self, zoo)
        check_strata(self.strata, zoo)
        if self.data != CREATURES:
            from causalft.data.opening import find_paths

            find_paths(self.data)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FitSettings:
        """Return the settings of a run from its ``config.json``."""
        given = {key: value for key, value in config.items() if key != "data_fingerprint"}
        given["tuning"] = Tuning(**given["tuning"])
        for name in ("strata", "learning_rates", "stratum_prior"):
            given[name] = tuple(given[name]) if isinstance(given[name], list) else given[name]
        return cls(**given)


def data_name(data: str) -> str:
    """Return the built-in data's name as it is, any other (also a list or a pattern of paths) as absolute.

    Raises
    ------
    CausalFTError
        If there is no name, or nothing has it and it is nearly that of the built-in data.
    """
    if not data.strip():
        raise CausalFTError("--data is empty; name a folder, a file or creatures-lt")
    if os.path.basename(data) == data != CREATURES and not os.path.exists(data):
        hint = nearest(data, [CREATURES])
        if hint.startswith("did you mean"):
            raise CausalFTError(f"--data {data}: no such file or folder; {hint}")
    if data == CREATURES:
        return data
    from causalft.data.opening import absolute_path

    return absolute_path(data)


def zoo_path(zoo: str | None) -> str | None:
    """Return the name of a built-in zoo as it is, any other as an absolute path."""
    return zoo if zoo in (None, "mini", "pretrained") else os.path.abspath(os.path.expanduser(zoo))


@dataclass(frozen=True)
class ProbeSettings:
    """Everything that decides what ``probe`` does.

    Attributes
    ----------
    fit : FitSettings
        Strata, zoo and data, as in ``fit``; of its tuning: epochs, batch size, learning rate, head scale and template.
        ``seed`` draws the long tail, and the heads are trained with the seeds ``seed, seed + 1, ...``.
    k : tuple of int
        Numbers of neighbours, none above that of the training images; one is chosen on validation.
    losses, heads : tuple of str
        None of ``losses``: no head is trained.
    """

    fit: FitSettings = field(default_factory=FitSettings)
    k: tuple[int, ...] = (1, 5, 20)
    losses: tuple[str, ...] = ("CE", "LA")
    heads: tuple[str, ...] = ("cosine",)

    def absolute(self) -> ProbeSettings:
        """The same with absolute paths: it is repeatable from anywhere."""
        return replace(self, fit=self.fit.absolute())

    def check(self) -> None:
        """Refuse what has no meaning, before anything is loaded.

        Raises
        ------
        CausalFTError
        """
        for number in self.k:
            limits.NEIGHBOURS.check(number, "the number of neighbours")
        if not self.k or len(set(self.k)) < len(self.k):
            raise CausalFTError(
                f"neighbours {', '.join(map(str, self.k)) or '(none)'}: give numbers of 1 or more, each once"
            )
        if not self.fit.strata or len(set(self.fit.strata)) < len(self.fit.strata):
            raise CausalFTError("name at least one stratum, and each once")
        self.fit.check()
        for loss in self.losses:
            optimum_of(loss)  # refuses an unknown name
        for head in self.heads:
            if head not in HEADS:
                raise CausalFTError(f"no head is named {head!r}; {nearest(head, HEADS)}")
        for what, names in (("loss", self.losses), ("head", self.heads)):
            if len(set(names)) < len(names):
                raise CausalFTError(f"a {what} is named twice in {', '.join(names)}")
        self.fit.tuning.check()


def config_of(settings: ProbeSettings) -> dict[str, Any]:
    """Everything needed to repeat it, for ``config.json``."""
    fit = asdict(settings.fit)
    names = ("fusion", "stratum_prior", "calibrate_strata", "control", "control_of", "tensorboard")
    for unused in names:
        fit.pop(unused, None)
    return {
        **fit,
        "zoo": settings.fit.zoo_name,
        "k": settings.k,
        "losses": settings.losses,
        "heads": settings.heads,
    }
