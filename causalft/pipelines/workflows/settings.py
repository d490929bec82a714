"""Settings of ``probe``, ``diagnose`` and ``verify-confounder``, and the strata of a zoo with their control."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.data.settings import DataOptions
from causalft.errors import CausalFTError, nearest
from causalft.methods.adaptation.presets import PRESETS
from causalft.methods.adaptation.settings import FIRST
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.priors.settings import KnownPriorFiles
from causalft.models.strata.zoo import has_manifest
from causalft.models.tuning.choices import HEADS, LOSSES, optimum_of, own_spelling
from causalft.runs import limits
from causalft.runs.settings import check_settings, documented, nested, one_of, setting
from synthetic.settings import DesignSettings, GeneratorSettings

if TYPE_CHECKING:
    from causalft.models.strata.zoo import Zoo

__all__ = [
    "DiagnoseSettings",
    "LogitsFile",
    "PriorSettings",
    "ProbeSettings",
    "VerifySettings",
    "config_of",
    "strata_and_control",
]


def strata_and_control(zoo: Zoo, folder: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the strata of a zoo pre-trained on images, and its one-prior control: as many pre-trainings of one.

    Raises
    ------
    CausalFTError
        If the folder is no such zoo, has one stratum only, or no model was pre-trained often enough.
    """
    make = "`causalft zoo pretrain --data IMAGES --control-seeds {seeds} --out ZOO`"
    if not has_manifest(folder):
        raise CausalFTError(
            f"--zoo {folder} is not the folder of a zoo pre-trained on images; make one: {make.format(seeds=2)}"
        )
    from causalft.models.strata.cards import MemberName

    names = [MemberName.parse(name) for name in zoo.names()]
    names = [name for name in names if not name.wide]
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


@documented()
@dataclass(frozen=True)
class ProbeSettings:
    """The settings of ``probe``.

    Of the tuning it uses epochs, batch size, learning rate, head scale, template and precision. The heads have the
    seeds ``fit.seed``, ``fit.seed + 1``, ...

    Attributes
    ----------
    {settings}
    """

    fit: FitSettings = nested(
        FitSettings,
        only=(
            *("strata", "zoo", "weights", "offline", "allow_pickle", "data", *vars(DataOptions())),
            *("preset", "learning_rates", "epochs", "batch_size", "head_scale", "template", "precision"),
            *(
                "n_validation",
                "n_test",
                "imbalance_factor",
                "profile",
                "order",
                "order_by",
                "drop_empty_classes",
            ),
            *("seed", "n_seeds", "cache", "device"),
        ),
        changes={
            "learning_rates": {
                "help": "Learning rate of the heads; with several (0.01,0.05) each head's is chosen on validation. "
                "Default: 0.05 for minis, 0.01 for pretrained."
            },
            "preset": {
                "help": f"Epochs, batch size, learning rate and head scale of a published recipe: {one_of(PRESETS)}.",
                "group": "Heads",
            },
            "head_scale": {"help": "Inverse temperature of the heads."},
            "template": {"help": "Prompt of a class, as for `fit`."},
            "precision": {"help": "Of the frozen tower, as for `fit`."},
            "order_by": {"help": "Stratum whose label prior decides the order."},
            "seed": {"help": "Seed of the long tail."},
            "n_seeds": {"default": 5, "help": "Trainings of each head, with seeds SEED, SEED+1, ..."},
            "cache": {"help": "Cache the features for later runs."},
        },
    )
    k: tuple[int, ...] = setting(
        (1, 5, 20),
        "Numbers of neighbours, at most the number of training images; validation chooses one.",
        group=FIRST,
        limits=limits.NEIGHBOURS,
        noun="the number of neighbours",
    )
    losses: tuple[str, ...] = setting(
        ("CE", "LA"),
        f"Losses of the heads: {', '.join(LOSSES)}; none: neighbours only.",
        group=FIRST,
        former=("--loss",),
    )
    heads: tuple[str, ...] = setting(
        ("cosine",), f"Kinds of heads: {', '.join(HEADS)}.", group=FIRST, former=("--head",)
    )

    def __post_init__(self) -> None:
        none = [name.lower() for name in self.losses] == ["none"]
        object.__setattr__(self, "losses", () if none else tuple(map(own_spelling, self.losses)))

    def absolute(self) -> ProbeSettings:
        """Return the settings with absolute paths."""
        return replace(self, fit=self.fit.absolute())

    def check(self) -> None:
        """Check names and numbers before anything is loaded.

        Raises
        ------
        CausalFTError
        """
        check_settings(self)
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
    """Return the settings that matter, for ``config.json``."""
    fit = asdict(settings.fit)
    names = (
        "fusion",
        "known_priors",
        "stratum_prior",
        "calibrate_strata",
        "joint",
        "control",
        "control_of",
        "tensorboard",
    )
    for unused in names:
        fit.pop(unused, None)
    return {
        **fit,
        "zoo": settings.fit.zoo_name,
        "k": settings.k,
        "losses": settings.losses,
        "heads": settings.heads,
    }


@documented()
@dataclass(frozen=True)
class DiagnoseSettings:
    """The settings of ``diagnose --data``. Nothing is trained.

    Attributes
    ----------
    {settings}
    """

    fit: FitSettings = nested(
        FitSettings,
        only=(
            *("data", "strata", "zoo", "weights", "offline", "allow_pickle", *vars(DataOptions())),
            *("template", "precision", "batch_size", "n_validation", "n_test", "imbalance_factor"),
            *("profile", "order", "order_by", "drop_empty_classes", "seed", "cache", "device"),
        ),
        changes={
            "data": {"usual": ""},
            "template": {"help": "Prompt of a class, as for `fit`.", "former": ("--prompts",)},
            "precision": {"help": "Of the frozen towers, as for `fit`.", "group": "Strata"},
            "batch_size": {"help": "Images encoded at once.", "default": 64, "group": "Strata"},
            "seed": {
                "help": "Seed of the long tail, of the images drawn for the prior and of the bootstrap.",
                "group": "Data",
            },
            "cache": {"help": "Cache the features for later runs."},
        },
    )
    n_prior: int = setting(
        20,
        "Labelled images per class for the estimated priors, at most: validation images first, then training images.",
        group="Data",
        option="--prior-images",
        limits=limits.LABELLED_PER_CLASS,
        noun="the number of labelled images per class",
    )
    n_boot_prior: int = setting(
        200, "Bootstrap draws for the intervals of the priors.", option=None, limits=limits.BOOTSTRAP
    )
    n_boot: int = setting(1000, "Bootstrap draws of classes.", option=None, limits=limits.BOOTSTRAP)
    permutations: int = setting(
        1000, "Permutations of each placebo.", option=None, limits=limits.PERMUTATIONS
    )

    def absolute(self) -> DiagnoseSettings:
        """Return the settings with absolute paths."""
        return replace(self, fit=self.fit.absolute())

    def check(self) -> None:
        """Check names and numbers before anything is loaded.

        Raises
        ------
        CausalFTError
        """
        check_settings(self)
        self.fit.check()
        self.fit.check_names()


@dataclass(frozen=True)
class VerifySettings:
    """The options of ``verify-confounder``: the arguments of :func:`causalft.verify_confounder`, and a generator."""

    design: str = setting(
        "confounded",
        "confounded, paper, selection, null, label-noise, a .yaml file of your own, or all five side by side.",
        group=FIRST,
        metavar="NAME|FILE|all",
    )
    source: GeneratorSettings = nested(GeneratorSettings)
    law: DesignSettings = nested(DesignSettings)
    n_per_class: int | None = setting(
        None,
        "Images of each class in each set.",
        group=FIRST,
        usual="100 for paper, else 600; 200 with --quick",
        limits=limits.PICTURES_PER_CLASS,
    )
    seeds: int | None = setting(
        None,
        "Number of replications.",
        group=FIRST,
        usual="3; 5 for paper without --quick",
        limits=limits.SEEDS,
    )
    first_seed: int = setting(
        0,
        "Seed of the first replication; the others have the seeds SEED + 1, SEED + 2, ...",
        group="Training",
        option="--seed",
        former=("--first-seed",),
        limits=limits.SEED,
    )
    backbone: str | None = setting(
        None,
        "Network trained from scratch.",
        group="Training",
        metavar="resnet32|resnet20|resnet8",
        usual="resnet32 for paper, else resnet8",
    )
    adjust: bool = setting(True, "Also train the adjusted network on B.", group="Training")
    curve: bool = setting(
        False, "Measure bias and coverage of the estimators by number of rows.", group=FIRST
    )
    quick: bool = setting(False, "Smaller images, shorter training: half a minute on two cores.", group=FIRST)

    def options(self) -> dict[str, Any]:
        """Return the arguments of `verify_confounder` but the design and the open generator."""
        own = {name: value for name, value in vars(self).items() if name not in ("design", "source", "law")}
        return {**vars(self.law), **own}


@dataclass(frozen=True)
class LogitsFile:
    """Labelled logits in a file: an array (n, K), or a table."""

    logits: Path | None = setting(None, "npz, npy, safetensors, Parquet or CSV: (n, K) logits.")
    labels: Path | None = setting(
        None, "Labels file (same formats, or .txt). Default: the file of the logits."
    )
    logits_name: str = setting("logits", "Name of the array, tensor or column of lists with the logits.")
    labels_name: str = setting("label", "Name of the array, tensor or column with the labels.")
    classes: Path | None = setting(None, "Class names, one per line, in the order of the logits.")


@dataclass(frozen=True)
class PriorSettings:
    """The settings of ``prior estimate``: the strata of a run, or logits in a file."""

    run: Path | None = setting(None, "A complete fit: its strata, on its validation images.")
    stratum: str | None = setting(None, "Only this stratum of the run.")
    file: LogitsFile = nested(LogitsFile)
    known: KnownPriorFiles = nested(KnownPriorFiles)
    target: str = setting(
        "auto",
        "Class prior of the labelled images: balanced, or their shares. auto: shares if significantly "
        "non-uniform.",
        choices=("auto", "balanced", "shares"),
    )
    l2: float | str = setting(
        "cv",
        "Strength of the shrinkage towards a uniform prior: cv, 0 or a number.",
        limits=limits.PENALTY,
        words=("cv",),
    )
    n_boot: int = setting(500, "Bootstrap draws.", limits=limits.BOOTSTRAP)
    seed: int = setting(0, "Seed of the bootstrap and of the folds.", limits=limits.SEED)
    pretraining_loss: str | None = setting(
        None,
        "caption-bank, in-batch contrastive, no captions or unknown. Default: what is known of the model.",
    )
