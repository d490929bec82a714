"""How a stratum is tuned, and the default recipe of each zoo."""

from __future__ import annotations

from dataclasses import dataclass

from causalft.errors import CausalFTError, nearest
from causalft.models.strata.prompts import check_template
from causalft.models.tuning.choices import (
    AUGMENTATIONS,
    HEADS,
    LOSSES,
    PRECISIONS,
    SAMPLERS,
    TEST_VIEWS,
    TUNERS,
    check_int8,
    n_views,
    optimum_of,
    own_spelling,
    parse_tuner,
)
from causalft.models.tuning.recipe import Recipe
from causalft.runs import limits
from causalft.runs.settings import check_settings, documented, one_of, setting

__all__ = [
    "ADAPTED",
    "ADAPTER",
    "GLA",
    "HEAD",
    "HEAD_STARTS",
    "TUNED_FILES",
    "Tuning",
    "check_gla",
    "default_tuning",
    "shots_of",
]

ADAPTER, HEAD, GLA = TUNED_FILES = ("adapter.safetensors", "head.safetensors", "gla.safetensors")
"""What a run knows of a stratum beyond its backbone; the last is there with GLA-FT only."""

ADAPTED = "adapted.safetensors"
"""Tensors of the tower that test-time adaptation changed; in saved classifiers only."""


FIRST = "Options that matter first"
"""Heading of the few options that ``--help`` lists first."""

HEAD_STARTS = ("text", "class-mean", "1-shot", "10-shot", "100-shot", "linear-probe")
"""Where a head starts; any ``K-shot`` is allowed."""


def shots_of(head_start: str) -> int | None:
    """K of a ``K-shot`` start, else None.

    Examples
    --------
    >>> shots_of("10-shot"), shots_of("text")
    (10, None)
    """
    number, _, rest = head_start.partition("-")
    return int(number) if rest == "shot" and number.isdigit() and int(number) > 0 else None


def _check_head_start(name: str) -> None:
    if name not in HEAD_STARTS and shots_of(name) is None:
        raise CausalFTError(f"unknown start of a head {name!r}; {nearest(name, HEAD_STARTS)}")


@documented()
@dataclass(frozen=True)
class Tuning:
    """How a stratum is tuned: by SGD with a cosine schedule, as in Chen et al. (ICML 2025, arXiv 2501.15955).

    Attributes
    ----------
    {settings}
    """

    loss: str = setting(
        "LA",
        f"Loss: {one_of(LOSSES)}. LA adjusts the logits by the class counts.",
        group=FIRST,
        metavar="NAME",
        choices=LOSSES,
        read=own_spelling,
    )
    loss_setting: str = setting(
        "",
        "Settings of the loss, such as tau=0.8 for LA.",
        group="Tuning",
        metavar="NAME=VALUE[,...]",
        usual="those of the loss",
    )
    lr: float = setting(
        0.01, "Peak learning rate.", option=None, limits=limits.LEARNING_RATE, noun="learning rate"
    )
    epochs: int = setting(10, "Passes over the training images.", group=FIRST, limits=limits.EPOCHS)
    batch_size: int = setting(
        128, "Images per step.", group="Tuning", limits=limits.BATCH_SIZE, noun="batch size"
    )
    weight_decay: float = setting(
        5e-4, "Weight decay of SGD.", group="Tuning", limits=limits.WEIGHT_DECAY, noun="weight decay"
    )
    momentum: float = setting(0.9, "Momentum of SGD.", option=None, limits=limits.MOMENTUM)
    bottleneck: int | None = setting(
        None,
        "Width of adapters, rank of LoRA.",
        group="Tuning",
        usual="2^floor(log2(K / 2L)), in a mini at least 16",
        limits=limits.BOTTLENECK,
    )
    head_scale: float = setting(
        25.0,
        "Inverse temperature of the head.",
        group="Tuning",
        limits=limits.HEAD_SCALE,
        noun="head scale",
    )
    template: str = setting(
        "a photo of a {}.",
        "Prompt of a class: a text with {}, classname, default or ensemble, or a file of descriptors.",
        group="Strata",
        metavar="TEXT|NAME|FILE",
    )
    augmentation: str = setting(
        "none",
        f"Augmentation of training images: {one_of(AUGMENTATIONS)}.",
        group="Tuning",
        metavar="NAME",
        usual="none for mini, flip for your own minis, crop-flip for pretrained",
        choices=AUGMENTATIONS,
    )
    seed: int = setting(0, "Seeds the training.", option=None, limits=limits.SEED)
    tuner: str = setting(
        "adaptformer",
        f"What is trained in each image tower: {one_of(TUNERS)}. NAME@last-K confines one to the last K blocks.",
        group=FIRST,
        metavar="NAME[+NAME...]",
    )
    head: str = setting(
        "cosine", f"Kind of head: {one_of(HEADS)}.", group="Tuning", metavar="NAME", choices=HEADS
    )
    tde_alpha: float | str = setting(
        1.5,
        "Head tde: how much of the mean training feature is taken out at test; validation: chosen on validation "
        "images.",
        group="Tuning",
        limits=limits.TDE_ALPHA,
        words=("validation",),
        noun="alpha of the head tde",
    )
    head_start: str = setting(
        "text",
        "Where the head starts: text, class-mean, K-shot or linear-probe.",
        group="Tuning",
        metavar="NAME",
        check=_check_head_start,
    )
    sampler: str = setting(
        "uniform",
        f"How training images are sampled: {one_of(SAMPLERS)}.",
        group="Tuning",
        metavar="NAME",
        choices=SAMPLERS,
    )
    precision: str = setting(
        "auto",
        "auto: bf16 in frozen layers where it is faster on this machine, half precision on CUDA. int8: on a CPU.",
        group="Tuning",
        metavar="|".join(PRECISIONS),
        choices=PRECISIONS,
    )
    patience: int | None = setting(
        None,
        "Stop after this many epochs without a lower validation risk, and keep the best.",
        group="Tuning",
        usual="train to the end",
        limits=limits.PATIENCE,
    )
    accumulation: int = setting(1, "Micro-batches per step.", group="Tuning", limits=limits.ACCUMULATION)
    wise_ft: float = setting(
        1.0,
        "WiSE-FT: position between initial (0) and tuned (1) weights.",
        group="Tuning",
        limits=limits.WISE_FT,
    )
    test_view: str = setting(
        "centre",
        f"Crops of a test image whose logits are averaged: {one_of(TEST_VIEWS)}.",
        group="Strata",
        metavar="NAME",
        check=n_views,
    )

    @property
    def recipe(self) -> Recipe:
        """The settings of the training loop."""
        shared = (
            "epochs",
            "batch_size",
            "lr",
            "weight_decay",
            "momentum",
            "seed",
            "patience",
            "accumulation",
        )
        return Recipe(**{name: getattr(self, name) for name in shared})

    @property
    def uses_bottleneck(self) -> bool:
        """Whether one of the tuners has a bottleneck."""
        return any(TUNERS[choice.name].uses_bottleneck for choice in parse_tuner(self.tuner))

    @property
    def trains_nothing(self) -> bool:
        """Whether the tuner is ``zero-shot``, which changes neither tower nor head."""
        return [choice.name for choice in parse_tuner(self.tuner)] == ["zero-shot"]

    @property
    def scale_of_head(self) -> float:
        """The inverse temperature of the head: its own, or ``head_scale``."""
        return HEADS[self.head].scale or self.head_scale

    @property
    def loss_settings(self) -> dict[str, float]:
        """Settings of the loss: the scale of the head where it needs one, and those that are given.

        Raises
        ------
        CausalFTError
            For one that is no number or is given twice, or that the loss does not have.

        Examples
        --------
        >>> Tuning(loss="GLA-Train", loss_setting="tau=0.5, data-tau=1").loss_settings
        {'tau': 0.5, 'data_tau': 1.0}
        """
        record = LOSSES.get_or_refuse(self.loss)
        found = {"scale": self.scale_of_head} if record.uses_head_scale else {}
        for part in filter(None, map(str.strip, self.loss_setting.split(","))):
            name, is_there, value = (word.strip() for word in part.partition("="))
            name = name.replace("-", "_")
            if not is_there:
                raise CausalFTError(f"the loss setting {part!r} has no value; write {part}=NUMBER")
            if name not in record.settings:
                hint = nearest(name, record.settings) if record.settings else "it has none"
                raise CausalFTError(f"the loss {record.name} has no setting {name!r}; {hint}")
            if name in found:
                why = "is that of the head (--head-scale)" if name == "scale" else "is given twice"
                raise CausalFTError(f"{name} of the loss {record.name} {why}; give it once")
            try:
                found[name] = float(value)
            except ValueError:
                raise CausalFTError(f"{name} of the loss {record.name} is {value!r}; give a number") from None
        return found

    @property
    def head_settings(self) -> dict[str, float]:
        """What :func:`causalft.models.tuning.heads.make_head` is given beside the scale."""
        if not HEADS[self.head].uses_alpha:
            return {}
        return {"alpha": 0.0 if isinstance(self.tde_alpha, str) else self.tde_alpha}

    def shots(self) -> int | None:
        """K of a ``K-shot`` start, else None."""
        return shots_of(self.head_start)

    def check(self) -> None:
        """Check choices as :meth:`check_choices`, and the template, which may be a file.

        Raises
        ------
        CausalFTError
        """
        self.check_choices()
        check_template(self.template)

    def check_choices(self) -> None:
        """Check names and numbers; reads no file.

        Raises
        ------
        CausalFTError
            For an unknown name (the nearest is offered), a number out of its range, an invalid template, or a
            bottleneck that the tuner would not use.

        Examples
        --------
        >>> Tuning(sampler="square-rot").check()
        Traceback (most recent call last):
        ...
        causalft.errors.CausalFTError: unknown sampler 'square-rot'; did you mean 'square-root'?
        """
        check_settings(self)
        check_int8(self.tuner, self.precision)
        if not self.uses_bottleneck and self.bottleneck is not None:  # an unknown tuner is refused here too
            wide = ", ".join(name for name, tuner in TUNERS.items() if tuner.uses_bottleneck)
            raise CausalFTError(
                f"a bottleneck (--bottleneck) does nothing with the tuner {self.tuner!r}: it is the width of {wide}; "
                "leave it out"
            )
        _ = self.loss_settings
        self._check_head()

    def _check_head(self) -> None:
        head, default = HEADS[self.head], Tuning
        if head.scale is not None and self.head_scale != default.head_scale:
            raise CausalFTError(
                f"the head {head.name} has a scale of its own, {head.scale:g}; leave --head-scale out"
            )
        if not head.uses_alpha and self.tde_alpha != default.tde_alpha:
            raise CausalFTError(f"--tde-alpha goes with --head tde; the head {head.name} takes nothing out")
        if head.uses_alpha and self.trains_nothing:
            raise CausalFTError(
                f"the head {head.name} learns the mean feature in training, and the tuner zero-shot trains nothing; "
                "use another head or tuner"
            )


def default_tuning(zoo: str) -> Tuning:
    """Return the default recipe of a zoo, as measured on it.

    Parameters
    ----------
    zoo : str
        ``mini``, ``pretrained`` or a folder.

    Examples
    --------
    >>> default_tuning("mini").lr, default_tuning("pretrained").augmentation
    (0.05, 'crop-flip')
    """
    if zoo == "mini":
        return Tuning(lr=0.05, augmentation="none")
    if zoo == "pretrained":
        return Tuning(lr=0.01, augmentation="crop-flip")
    return Tuning(lr=0.05, augmentation="flip")


def check_gla(tuning: Tuning) -> None:
    """Refuse a tuning that GLA-FT cannot be combined with.

    Raises
    ------
    CausalFTError
        If nothing is tuned, if the tuned logits are not a posterior with a known prior (Focal, LDAM, the head ``tde``),
        or if log q is already subtracted (GLA-Train).

    Examples
    --------
    >>> check_gla(Tuning(loss="LA"))
    """
    if tuning.trains_nothing:
        raise CausalFTError(
            "GLA-FT adds zero-shot logits to tuned ones, and the tuner zero-shot tunes nothing"
        )
    if not HEADS[tuning.head].posterior:
        others = [name for name, head in HEADS.items() if head.posterior]
        raise CausalFTError(
            f"GLA-FT (--gla) needs tuned logits whose class prior is known, and those of the head {tuning.head} are no "
            f"posterior; use the head {one_of(others)}"
        )
    if optimum_of(tuning.loss) == "other":
        reason = (
            f"takes the model's label prior out, and the loss {tuning.loss} has used it in training"
            if LOSSES[tuning.loss].needs_model_prior
            else f"needs tuned logits whose class prior is known, and those of the loss {tuning.loss} are no posterior"
        )
        others = [name for name in LOSSES if optimum_of(name) != "other"]
        raise CausalFTError(f"GLA-FT (--gla) {reason}; use the loss {', '.join(others[:-1])} or {others[-1]}")
