"""Settings of ``distill``: the student, its images and its recipe, and the settings of the run that it becomes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from causalft.data.settings import DATA
from causalft.errors import CausalFTError, nearest
from causalft.methods.adaptation.settings import FIRST, Tuning
from causalft.methods.estimators.settings import FitSettings, data_name
from causalft.models.strata.cards import ResizedName
from causalft.models.tuning.choices import AUGMENTATIONS, PRECISIONS, TUNERS, check_int8, parse_tuner
from causalft.runs import limits
from causalft.runs.limits import BUILT_IN
from causalft.runs.settings import check_settings, choices_of, documented, one_of, setting

if TYPE_CHECKING:
    from causalft.models.strata.zoo import Zoo

__all__ = [
    "LR_OF_MINIS",
    "LR_OF_PRETRAINED",
    "MINI",
    "DistillSettings",
    "distill_command",
    "student_settings",
    "student_tuning",
]

MINI = "mini"
"""Name of a student: the embedded mini of the best single stratum's name, or ``clip``."""

LR_OF_MINIS, LR_OF_PRETRAINED = 3e-3, 3e-5
"""Peak learning rates of AdamW where a whole tower is tuned: measured on minis (0.001 is worse in as many steps); of
large models that of Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022."""

EPOCHS, EPOCHS_OF_FEW = 16, 38
"""Passes over labelled and unlabelled images, and over labelled images alone: on the built-in images half the steps."""

OF_FEW = "crop-flip"
"""Augmentation of a student that sees the labelled images alone, and so each of them often."""

_OF_THE_RUN = (
    *(
        "data",
        "zoo",
        "weights",
        "offline",
        "allow_pickle",
        "data_options",
        "unlabelled_options",
        "imbalance_factor",
    ),
    *("profile", "order", "order_by", "n_validation", "n_test", "drop_empty_classes", "split_seed", "seed"),
    *("cache", "top", "all_probabilities", "known_priors", "target_law"),
)
"""Settings of a run that its student keeps: the same images, cut, drawn and weighted alike, and the same zoo."""

_FUSION = "product"
"""Of one stratum: only its temperature is fitted. The student has learnt the adjustment of its teacher."""


def _check_tuner(name: str) -> None:
    if [choice.name for choice in parse_tuner(name)] == ["zero-shot"]:
        raise CausalFTError("the tuner zero-shot trains nothing, so a student learns nothing; use full")


@documented()
@dataclass(frozen=True)
class DistillSettings:
    """The settings of ``distill``.

    Attributes
    ----------
    {settings}
    """

    unlabeled: str | None = setting(
        None,
        f"More images, without labels or with labels that are ignored: {DATA.rstrip('.')}; a folder, zip or tar of "
        "images in no classes.",
        group=FIRST,
        metavar="PATH",
        former=("--unlabelled",),
    )
    max_unlabeled: int | None = setting(
        None,
        "Use at most this many of them, drawn at random.",
        group=FIRST,
        metavar="N",
        usual="all; 10,000 of creatures-lt",
        limits=limits.PICTURES,
        noun="the number of unlabelled images",
    )
    strict: bool = setting(
        False,
        "Refuse unlabelled images that are also images of the run, instead of leaving them out.",
        group=FIRST,
    )
    student: str | None = setting(
        None,
        "Model that becomes the student: a stratum of the run, another of its zoo (with pretrained any ARCH/TAG), or "
        "mini. NAME:blocks=N has N blocks instead of its own: fewer cost less, more learn more.",
        group=FIRST,
        metavar="NAME",
        usual="the best single stratum on validation",
    )
    epochs: int | None = setting(
        None,
        "Passes over the labelled and unlabelled images. On creatures-lt 16 keep 97 % of the gain of the teacher, "
        "8 take half as long and keep 85 %.",
        group=FIRST,
        usual=f"{EPOCHS}; {EPOCHS_OF_FEW} over labelled images alone",
        limits=limits.EPOCHS,
        noun="number of epochs",
    )
    lr: float | None = setting(
        None,
        "Peak learning rate of AdamW.",
        group=FIRST,
        usual=f"{LR_OF_MINIS:g} for minis, {LR_OF_PRETRAINED:g} for pretrained",
        limits=limits.LEARNING_RATE,
        noun="learning rate",
    )
    label_weight: float = setting(
        0.2,
        "Weight of the labels (LA) against the teacher on labelled images: 0 the teacher alone, 1 the labels alone.",
        group="Student",
        limits=limits.SHARE,
        noun="weight of the labels",
    )
    balance: bool = setting(
        True,
        "Show classes that the pre-training rarely showed (P-few) as often as the average class.",
        group="Student",
    )
    tuner: str = setting(
        "full",
        f"What is trained: {one_of(TUNERS)}. NAME@last-K confines one to the last K blocks.",
        group="Student",
        metavar="NAME[+NAME...]",
        check=_check_tuner,
    )
    batch_size: int = setting(
        128, "Images per step.", group="Student", limits=limits.BATCH_SIZE, noun="batch size"
    )
    weight_decay: float = setting(
        0.05,
        "Weight decay of AdamW.",
        group="Student",
        limits=limits.WEIGHT_DECAY,
        noun="weight decay",
    )
    augmentation: str | None = setting(
        None,
        f"Augmentation of training images: {one_of(AUGMENTATIONS)}. The teacher answers to the same view.",
        group="Student",
        metavar="NAME",
        usual=f"that of the run; without --unlabeled {OF_FEW}",
        choices=AUGMENTATIONS,
    )
    precision: str = setting(
        "auto",
        "auto: half precision on CUDA, fp32 elsewhere. int8: the frozen layers, so not with the tuner full.",
        group="Student",
        metavar="|".join(PRECISIONS),
        choices=PRECISIONS,
    )
    seed: int | None = setting(
        None, "Seed of the training.", group="Student", usual="that of the run", limits=limits.SEED
    )
    device: str = setting(
        "auto",
        "Device: auto, cpu, cuda or cuda:N.",
        group=FIRST,
        metavar="DEVICE",
        check=limits.check_device,
    )
    cache: bool = setting(
        True, "Keep the answers of the teacher for other students of the run.", group="Output"
    )

    def check(self) -> None:
        """Check names and numbers before anything is loaded.

        Raises
        ------
        CausalFTError

        Examples
        --------
        >>> DistillSettings(label_weight=2).check()
        Traceback (most recent call last):
        ...
        causalft.errors.CausalFTError: weight of the labels 2 is out of range; give a number from 0 to 1
        """
        check_settings(self)
        check_int8(self.tuner, self.precision)
        if self.max_unlabeled is not None and self.unlabeled is None:
            raise CausalFTError("--max-unlabeled goes with --unlabeled PATH")
        if self.strict and self.unlabeled is None:
            raise CausalFTError("--strict goes with --unlabeled PATH")
        if self.label_weight == 1 and self.unlabeled is not None:
            raise CausalFTError(
                "--label-weight 1 learns the labels alone, and unlabelled images have none; lower it, or leave "
                "--unlabeled out"
            )

    def check_names(self, run: FitSettings, best_single: str) -> None:
        """Check the student and the paths of unlabelled images and target law; loads nothing and imports no PyTorch.

        Parameters
        ----------
        run : FitSettings
            Of the teacher.
        best_single : str
            Its best single stratum on validation images.

        Raises
        ------
        CausalFTError
            As :func:`student_settings`; if nothing is at the path, with the nearest names.
        """
        student_settings(self, run, best_single)
        if run.target_law is not None:
            from causalft.data.class_tables import read_class_table

            read_class_table(run.target_law, "share", positive=True)
        if self.unlabeled not in (None, *BUILT_IN):
            from causalft.data.opening import find_paths

            find_paths(self.unlabeled)

    def absolute(self) -> DistillSettings:
        """Return the settings with absolute paths."""
        if self.unlabeled is None:
            return self
        return replace(self, unlabeled=data_name(self.unlabeled, option="--unlabeled"))


def student_settings(settings: DistillSettings, run: FitSettings, best_single: str) -> FitSettings:
    """Return the settings of the student as a run of its own: one stratum on the images of the teacher.

    Parameters
    ----------
    settings : DistillSettings
    run : FitSettings
        Of the teacher.
    best_single : str
        Its best single stratum on validation images.

    Raises
    ------
    CausalFTError
        For a student that is in no zoo, with the nearest names, or one that cannot see the images of the run.
    """
    kept: dict[str, Any] = {name: getattr(run, name) for name in _OF_THE_RUN}
    zoo, name = run.open_zoo(), settings.student or best_single
    resized = ResizedName.parse(name)
    if resized.whole == MINI and MINI not in zoo.names():
        name, kept = _embedded_mini(run, ResizedName.parse(best_single).whole, kept)
        name = str(replace(resized, whole=name))
    else:
        _check_student(zoo, name, run)
    kept["order_by"] = run.order_by or run.strata[0]  # of the teacher: the tail is the same
    known = run.prior_files
    if known.prior_of and not set(known.prior_of) <= {name, kept["order_by"]}:
        left = {key: file for key, file in known.prior_of.items() if key in (name, kept["order_by"])}
        kept["known_priors"] = {**run.known_priors, "prior_of": left} if left else {}
    tuning = student_tuning(settings, run.tuning, kept["zoo"] or run.zoo_name)
    seed = run.seed if settings.seed is None else settings.seed
    made = FitSettings(strata=(name,), tuning=tuning, fusion=_FUSION, **kept)
    return replace(made, tuning=replace(made.tuning, seed=seed), device=settings.device)


def student_tuning(settings: DistillSettings, tuning: Tuning, zoo: str) -> Tuning:
    """Return the recipe of a student whose teacher was tuned by another, with that one's seed, template and view."""
    alone = settings.unlabeled is None
    return replace(
        tuning,
        loss="LA",
        lr=_learning_rate(settings, zoo),
        epochs=settings.epochs or (EPOCHS_OF_FEW if alone else EPOCHS),
        batch_size=settings.batch_size,
        weight_decay=settings.weight_decay,
        bottleneck=None,
        augmentation=settings.augmentation or (OF_FEW if alone else tuning.augmentation),
        tuner=settings.tuner,
        sampler="uniform",
        precision=settings.precision,
        patience=None,
        accumulation=1,
        wise_ft=1.0,
        **_plain_head(tuning),
    )


def _learning_rate(settings: DistillSettings, zoo: str) -> float:
    if settings.lr is not None:
        return settings.lr
    return LR_OF_PRETRAINED if zoo == "pretrained" else LR_OF_MINIS


def _plain_head(tuning: Tuning) -> dict[str, Any]:
    """The head ``tde`` takes out at test what the teacher has not."""
    return {"head": Tuning.head, "tde_alpha": Tuning.tde_alpha} if tuning.head == "tde" else {}


def _check_student(zoo: Zoo, name: str, run: FitSettings) -> None:
    from causalft.models.strata.zoo import MiniZoo, has_manifest

    mini = [] if MINI in zoo.names() or has_manifest(run.zoo) else [MINI]
    known = list(dict.fromkeys([*run.strata, *zoo.names(), *mini]))
    if isinstance(zoo, MiniZoo) and ResizedName.parse(name).whole not in zoo.names():
        whole, colon, _ = name.partition(":")
        hint = (
            f"for another number of blocks write {whole}:blocks=N"
            if colon and whole in known
            else nearest(name, known)
        )
        raise CausalFTError(f"zoo {zoo.label!r} has no model {name!r} to become the student; {hint}")
    zoo.check(name)


def _embedded_mini(run: FitSettings, best_single: str, kept: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The embedded mini, where it can see the run's images."""
    from causalft.models.strata.zoo import has_manifest, open_zoo

    if has_manifest(run.zoo):
        raise CausalFTError(
            f"--student mini is an embedded mini, and the images of this run are cut by the manifest of {run.zoo}, "
            f"whose members are minis too; name one of them: {', '.join(run.open_zoo().names())}"
        )
    names = open_zoo("mini").names()
    return (best_single if best_single in names else "clip"), {**kept, "zoo": "mini", "weights": {}}


def distill_command(run: str, settings: DistillSettings) -> list[str]:
    """Return the words of the command that distils a run, without ``--out``: only what differs from the defaults.

    Examples
    --------
    >>> " ".join(distill_command("runs/a", DistillSettings(epochs=3, balance=False)))
    'causalft distill runs/a --epochs 3 --no-balance'
    """
    words = ["causalft", "distill", os.fspath(run)]
    for choice in choices_of(DistillSettings):
        value = getattr(settings, choice.name)
        if choice.name == "device" or value is None or value == choice.default:
            continue
        if isinstance(value, bool):
            words.append(choice.flag if value else f"--no-{choice.flag[2:]}")
        else:
            words += [choice.flag, f"{value:g}" if isinstance(value, float) else str(value)]
    return words
