"""The settings of ``fit``. Imports no PyTorch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from causalft.data.settings import DATA, DataOptions, UnlabelledOptions, split_size
from causalft.data.tails import ORDERS, PROFILES
from causalft.errors import CausalFTError, nearest
from causalft.methods.adaptation.presets import PRESETS, preset
from causalft.methods.adaptation.settings import FIRST, Tuning, check_gla, default_tuning
from causalft.methods.estimators import FUSIONS
from causalft.methods.priors.settings import KnownPriorFiles
from causalft.methods.semi.choices import METHODS
from causalft.methods.semi.settings import SEMI, SemiSettings, check_semi, semi_tuning, usual_rate
from causalft.runs import limits
from causalft.runs.limits import BUILT_IN, CREATURES
from causalft.runs.settings import (
    check_settings,
    defaults,
    documented,
    nested,
    one_of,
    setting,
    values_of,
)

if TYPE_CHECKING:
    from causalft.models.strata.cards import MemberName
    from causalft.models.strata.zoo import Zoo

__all__ = [
    "CONTROLS",
    "FitSettings",
    "Fusion",
    "at_first_rate",
    "check_joint",
    "control_members",
    "data_name",
    "describe_control",
    "zoo_path",
]

if TYPE_CHECKING:
    Fusion = str
else:
    Fusion = Literal[tuple(FUSIONS)]

CONTROLS = ("none", "seeds")


class ControlSettings(Protocol):
    """What is asked of :class:`FitSettings`."""

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
    from causalft.models.strata.cards import MemberName

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


@documented()
@dataclass(frozen=True)
class FitSettings:
    """Everything that decides what ``fit`` does.

    Attributes
    ----------
    {settings}
    """

    strata: tuple[str, ...] = setting(
        ("clip", "openclip", "metaclip"), "Foundation models, by name.", group=FIRST
    )
    data: str = setting(
        CREATURES,
        DATA,
        group=FIRST,
        metavar="PATH",
    )
    zoo: str | None = setting(
        None,
        "mini, pretrained, or a folder made by `causalft zoo pretrain`. Default: mini for the built-in data, "
        "pretrained for any other.",
        group=FIRST,
        metavar="PATH",
    )
    weights: Mapping[str, str] = setting(
        help="Local weights for --zoo pretrained. Repeatable.",
        factory=dict,
        group="Strata",
        metavar="NAME=FILE",
    )
    offline: bool = setting(False, "Never ask the network for weights.", group="Strata")
    allow_pickle: bool = setting(False, "Read pickled weights, as tensors only.", group="Strata")
    data_options: Mapping[str, Any] = nested(DataOptions, factory=dict)
    unlabelled_options: Mapping[str, Any] = nested(UnlabelledOptions, factory=dict)
    semi: SemiSettings = nested(SemiSettings)
    preset: str | None = setting(
        None,
        f"A published recipe, which sets the options of tuning that are not given: {one_of(PRESETS)}.",
        group="Tuning",
        metavar="NAME",
        choices=PRESETS,
    )
    tuning: Tuning = nested(Tuning, default=None)  # of the preset or the zoo, after __post_init__
    learning_rates: tuple[float, ...] = setting(
        (),
        "Learning rate; with several (0.01,0.02,0.05) each stratum's is chosen on validation. "
        "Default: 0.05 for minis, 0.01 for pretrained.",
        group=FIRST,
        option="--lr",
        usual="",
        limits=limits.LEARNING_RATE,
        noun="learning rate",
    )
    gla: bool = setting(
        False,
        "GLA-FT: each stratum adds its zero-shot logits, minus their prior, to its tuned logits.",
        group="Strata",
    )
    fusion: Fusion = setting(
        "adjusted",
        "; ".join(f"{rule.name} is {rule.help}" for rule in FUSIONS.values()) + ".",
        group="Fusion",
        choices=FUSIONS,
    )
    tolerance: float = setting(
        3.0,
        "adjusted: points of validation accuracy that closing the gap may cost, by the lower end of a paired 95 % "
        "interval.",
        group="Fusion",
        limits=limits.POINTS,
    )
    unlabeled: str | None = setting(
        None,
        "Images without labels (folder, zip or any set; creatures-lt draws new ones): --method learns from them, "
        "--fusion adjusted chooses its strength on them.",
        group=SEMI,
        metavar="PATH",
    )
    target_law: str | None = setting(
        None,
        "adjusted: share of each class in the images to be classified (.txt, .tsv, .csv or .json).",
        group="Fusion",
        metavar="FILE",
        usual="every class alike",
    )
    stratum_prior: tuple[float, ...] | str | None = setting(
        None,
        "P(c): uniform, estimated on the validation images by EM, or numbers that sum to 1.",
        group="Fusion",
        metavar="uniform|em|P,P,...",
        usual="uniform",
        limits=limits.SHARE,
        words=("uniform", "em"),
    )
    calibrate_strata: bool = setting(
        False, "Fit one temperature per stratum before the fusion.", group="Fusion"
    )
    joint: bool = setting(False, "Tune all strata together, by one loss on the fused logits.", group="Fusion")
    control: Literal["none", "seeds"] = setting(
        "none",
        "seeds: also fuse seeds of ONE model, an ordinary ensemble, for comparison.",
        group=FIRST,
        choices=CONTROLS,
    )
    control_of: str | None = setting(
        None, "Stratum whose seeds form the control.", group="Fusion", usual="the first stratum"
    )
    imbalance_factor: float | None = setting(
        None,
        "Resample the training images to a long tail. creatures-lt: 100.",
        group="Data",
        limits=limits.IMBALANCE_FACTOR,
    )
    profile: str = setting("exponential", "Shape of the resampled tail.", group="Data", choices=PROFILES)
    order: str = setting(
        "random",
        "Which classes come first in the resampled tail. consistency, reverse, balance: as in the label prior of the "
        "first stratum, in reverse, or uncorrelated with it.",
        group="Data",
        choices=ORDERS,
    )
    order_by: str | None = setting(
        None,
        "Stratum, or name of --prior-of, whose label prior decides the order.",
        group="Data",
        metavar="STRATUM",
        usual="the first stratum",
    )
    n_validation: int | str = split_size("validation", "a tenth", 10)
    n_test: int | str = split_size("test", "a fifth", 50)
    drop_empty_classes: bool = setting(False, "Leave out classes without images.", group="Data")
    split_seed: int = setting(0, "Seed of the validation and test split.", option=None, limits=limits.SEED)
    seed: int = setting(0, "Seed of the long tail and of the training.", group="Tuning", limits=limits.SEED)
    n_seeds: int = setting(
        1, "Repetitions with seeds SEED, SEED+1, ...", group=FIRST, option="--seeds", limits=limits.SEEDS
    )
    device: str = setting(
        "auto",
        "Device: auto, cpu, cuda or cuda:N.",
        group=FIRST,
        metavar="DEVICE",
        check=limits.check_device,
    )
    cache: bool = setting(
        True, "Cache frozen features of validation and test images for later runs.", group="Output"
    )
    top: int = setting(
        5,
        "Classes kept of each test image in predictions.parquet, above 200 classes.",
        group="Output",
        limits=limits.TOP,
    )
    all_probabilities: bool = setting(
        False,
        "Keep the probability of every class in predictions.parquet, however many there are.",
        group="Output",
    )
    tensorboard: bool = setting(False, "Log the training to the run's tensorboard/.", group="Output")
    known_priors: Mapping[str, Any] = nested(KnownPriorFiles, factory=dict)

    def __post_init__(self) -> None:
        if self.tuning is None:
            object.__setattr__(self, "tuning", self._recipe())
        if (
            self.semi.method is not None and self.semi.method in METHODS
        ):  # an unknown name is refused by `check`
            object.__setattr__(self, "tuning", semi_tuning(self.tuning, self.semi))

    def _recipe(self) -> Tuning:
        """The tuning where nothing else is given: that of the preset, else the default of the zoo."""
        if self.preset is not None:
            return preset(self.preset)
        return usual_rate(default_tuning(self.zoo_name), self.semi)

    @property
    def zoo_name(self) -> str:
        """The zoo in use; there is no silent fallback."""
        return self.zoo or ("mini" if self.data in BUILT_IN else "pretrained")

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the default of every setting, which also holds for settings absent from older configs.

        Examples
        --------
        >>> FitSettings.defaults()["gla"]
        False
        """
        return {
            **defaults(cls),
            "tuning": defaults(Tuning),
            "semi": asdict(SemiSettings()),
            "known_priors": {},
            "unlabelled_options": {},
        }

    @property
    def prior_files(self) -> KnownPriorFiles:
        """The files of known priors."""
        return KnownPriorFiles(**self.known_priors)

    @property
    def prior_names(self) -> list[str]:
        """Names that ``--prior-of`` may give: the strata, and what ``--order-by`` names."""
        return list(dict.fromkeys([*self.strata, *filter(None, [self.order_by])]))

    def check(self) -> None:
        """Check numbers and the device.

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
        check_settings(self)
        beside = UnlabelledOptions(**self.unlabelled_options)
        beside.check(self.data, self.unlabeled, self.imbalance_factor)
        check_semi(self.semi, joint=self.joint, gla=self.gla)
        for option, given in (("--strict", beside.strict), ("--drop-outliers", beside.drop_outliers)):
            if given and not self.uses_unlabelled:
                raise CausalFTError(
                    f"{option} is about unlabelled images, and nothing here uses any; leave it out, or name a --method "
                    "that learns from them"
                )
        if self.semi.method is None:
            return
        if (
            self.semi.record.unlabelled
            and self.unlabeled is None
            and not beside.of(self.data).draws_unlabelled
        ):
            raise CausalFTError(
                f"the method {self.semi.method} learns from unlabelled images: give --unlabeled PATH, draw some of "
                "--data with --labeled-per-class and --unlabeled-per-class, or take --data creatures-ltssl"
            )
        if self.semi.share_labels and len(self.strata) < 2:
            raise CausalFTError("--share-labels is for two strata or more; leave it out")

    @property
    def uses_unlabelled(self) -> bool:
        """Whether the method learns from unlabelled images, or the fusion chooses its strength on them."""
        learns = self.semi.method is not None and self.semi.record.unlabelled
        return learns or FUSIONS[self.fusion].adjusts

    def absolute(self) -> FitSettings:
        """Return the settings with absolute paths, so that a run can be repeated from anywhere."""
        weights = {name: os.path.abspath(os.path.expanduser(file)) for name, file in self.weights.items()}
        return replace(
            self,
            data=data_name(self.data),
            zoo=zoo_path(self.zoo),
            weights=weights,
            unlabeled=None if self.unlabeled is None else data_name(self.unlabeled, option="--unlabeled"),
            target_law=None
            if self.target_law is None
            else os.path.abspath(os.path.expanduser(self.target_law)),
            known_priors=self.prior_files.absolute(),
        )

    def open_zoo(self) -> Zoo:
        """Open the zoo."""
        from causalft.models.strata.zoo import open_zoo  # NumPy, which --help does without

        return open_zoo(self.zoo_name, self.weights, offline=self.offline, allow_pickle=self.allow_pickle)

    def check_names(self) -> None:
        """Check the names of tuning, zoo, strata, control and data; loads nothing and imports no PyTorch.

        Raises
        ------
        CausalFTError
        """
        self.tuning.check()
        if self.gla:
            check_gla(self.tuning)
        check_joint(self)
        from causalft.models.strata.zoo import check_strata

        zoo = self.absolute().open_zoo()
        control_members(self, zoo)
        check_strata(self.strata, zoo)
        self.prior_files.check(self.prior_names)
        if self.target_law is not None:
            from causalft.data.class_tables import read_class_table

            read_class_table(self.target_law, "share", positive=True)
        for path in (self.data, self.unlabeled):
            if path not in (None, *BUILT_IN):
                from causalft.data.opening import find_paths

                find_paths(path)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FitSettings:
        """Return the settings of a run from its ``config.json``."""
        return cls(**values_of(cls, config))


class _JointSettings(Protocol):
    """What is asked of :class:`FitSettings` and of the classifier."""

    @property
    def joint(self) -> bool: ...
    @property
    def gla(self) -> bool: ...
    @property
    def calibrate_strata(self) -> bool: ...
    @property
    def stratum_prior(self) -> Any: ...


def check_joint(settings: _JointSettings) -> None:
    """Refuse to tune strata together with what needs each stratum to be a posterior of its own.

    Raises
    ------
    CausalFTError

    Examples
    --------
    >>> check_joint(FitSettings(joint=True, gla=True))
    Traceback (most recent call last):
    ...
    causalft.errors.CausalFTError: gla=True is for strata that are tuned one by one; leave it or joint out
    """
    if not settings.joint:
        return
    em = isinstance(settings.stratum_prior, str) and settings.stratum_prior == "em"
    control = getattr(settings, "control", "none") != "none"
    for option, given in (
        ("--gla", settings.gla),
        ("--calibrate-strata", settings.calibrate_strata),
        ("--stratum-prior em", em),
        ("--control seeds", control),
    ):
        if given:
            raise CausalFTError(f"{option} is for strata that are tuned one by one; leave it or --joint out")


def at_first_rate(settings: FitSettings) -> FitSettings:
    """Set the learning rate of the tuning to the first of ``learning_rates``, and drop these if there is only one."""
    if not settings.learning_rates:
        return settings
    tuning = replace(settings.tuning, lr=settings.learning_rates[0])
    rates = settings.learning_rates if len(settings.learning_rates) > 1 else ()
    return replace(settings, tuning=tuning, learning_rates=rates)


def data_name(data: str, option: str = "--data") -> str:
    """Return the name of a built-in set unchanged, and any other path, list or pattern of paths as absolute.

    Raises
    ------
    CausalFTError
        If the name is empty, or a missing path that resembles a built-in set.
    """
    if not data.strip():
        raise CausalFTError(f"{option} is empty; name a folder, a file or creatures-lt")
    if os.path.basename(data) == data and data not in BUILT_IN and not os.path.exists(data):
        hint = nearest(data, BUILT_IN)
        if hint.startswith("did you mean"):
            raise CausalFTError(f"{option} {data}: no such file or folder; {hint}")
    if data in BUILT_IN:
        return data
    from causalft.data.opening import absolute_path

    return absolute_path(data)


def zoo_path(zoo: str | None) -> str | None:
    """Return the name of a built-in zoo unchanged, any other as an absolute path."""
    return zoo if zoo in (None, "mini", "pretrained") else os.path.abspath(os.path.expanduser(zoo))
