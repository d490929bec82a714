"""How a stratum is tuned: every choice by name, and the measured recipe of each zoo."""

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
    TUNERS,
    n_views,
    optimum_of,
    parse_tuner,
)
from causalft.models.tuning.recipe import Recipe
from causalft.runs import limits

__all__ = ["HEAD_STARTS", "Tuning", "check_gla", "default_tuning"]

HEAD_STARTS = ("text", "class-mean", "1-shot", "10-shot", "100-shot", "linear-probe")
"""Where a head starts; any ``K-shot`` goes."""


@dataclass(frozen=True)
class Tuning:
    """How a stratum is tuned.

    Attributes
    ----------
    loss : str
        One of :data:`causalft.models.tuning.losses.LOSSES`.
    lr, epochs, batch_size, weight_decay, momentum
        Of SGD with a cosine schedule, as in Chen et al. (ICML 2025, arXiv 2501.15955).
    bottleneck : int, optional
        Width of adapters, rank of LoRA; by default the rule of
        :func:`causalft.models.tuning.tuners.adapters.bottleneck_width`.
    head_scale : float
    template : str
        Prompt from which a head starts: with ``{}`` for the class name, the name of a set of
        :data:`causalft.models.strata.prompts.TEMPLATES`, or a file of descriptors. Zero-shot logits use it too.
    augmentation : {"none", "flip", "crop-flip"}
    seed : int
    tuner : str
        What is trained of the image tower, as :func:`causalft.models.tuning.choices.parse_tuner` reads it.
    head : {"cosine", "linear", "l2", "layernorm"}
    head_start : str
        One of :data:`HEAD_STARTS`.
    sampler : {"uniform", "class-balanced", "square-root"}
    precision : {"auto", "fp32", "bf16", "fp16"}
        See :func:`causalft.models.tuning.precision.choose_precision`.
    patience : int, optional
        Stop after so many epochs without a lower validation risk, and keep the best.
    accumulation : int
        Micro-batches of a step.
    wise_ft : float
        In (0, 1]: how far to go from the start to the tuned weights (WiSE-FT); 1 is all the way.
    test_view : {"centre", "five-crop", "ten-crop"}
        Test-time ensembling: logits are the mean over the crops.
    """

    loss: str = "LA"
    lr: float = 0.01
    epochs: int = 10
    batch_size: int = 128
    weight_decay: float = 5e-4
    momentum: float = 0.9
    bottleneck: int | None = None
    head_scale: float = 25.0
    template: str = "a photo of a {}."
    augmentation: str = "none"
    seed: int = 0
    tuner: str = "adaptformer"
    head: str = "cosine"
    head_start: str = "text"
    sampler: str = "uniform"
    precision: str = "auto"
    patience: int | None = None
    accumulation: int = 1
    wise_ft: float = 1.0
    test_view: str = "centre"

    @property
    def recipe(self) -> Recipe:
        """The settings of the training loop."""
        return Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            seed=self.seed,
            patience=self.patience,
            accumulation=self.accumulation,
        )

    @property
    def uses_bottleneck(self) -> bool:
        """Whether one of the tuners has an inner width."""
        return any(TUNERS[choice.name].uses_bottleneck for choice in parse_tuner(self.tuner))

    @property
    def trains_nothing(self) -> bool:
        """Whether the tuner is ``zero-shot``, which leaves tower and head as they are."""
        return [choice.name for choice in parse_tuner(self.tuner)] == ["zero-shot"]

    def shots(self) -> int | None:
        """K of a ``K-shot`` start, else None."""
        number, _, rest = self.head_start.partition("-")
        return int(number) if rest == "shot" and number.isdigit() and int(number) > 0 else None

    def check(self) -> None:
        """Refuse what has no meaning, before anything is loaded.

        As :meth:`check_choices`, and the template, which may be a file.

        Raises
        ------
        CausalFTError
        """
        self.check_choices()
        check_template(self.template)

    def check_choices(self) -> None:
        """Refuse names and numbers that have no meaning; no file is looked at.

        Raises
        ------
        CausalFTError
            For an unknown name (the nearest is offered), a number out of its range, a template that is none, or a
            bottleneck that the tuner would not use.

        Examples
        --------
        >>> Tuning(sampler="square-rot").check()
        Traceback (most recent call last):
        ...
        causalft.errors.CausalFTError: unknown sampler 'square-rot'; did you mean 'square-root'?
        """
        for what, value, known in (
            ("loss", self.loss, LOSSES),
            ("augmentation", self.augmentation, AUGMENTATIONS),
            ("head", self.head, HEADS),
            ("sampler", self.sampler, SAMPLERS),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in known:
                raise CausalFTError(f"unknown {what} {value!r}; {nearest(value, known)}")
        if self.head_start not in HEAD_STARTS and self.shots() is None:
            hint = nearest(self.head_start, HEAD_STARTS)
            raise CausalFTError(f"unknown start of a head {self.head_start!r}; {hint}")
        if not self.uses_bottleneck and self.bottleneck is not None:  # an unknown tuner is refused here too
            wide = ", ".join(name for name, tuner in TUNERS.items() if tuner.uses_bottleneck)
            raise CausalFTError(
                f"a bottleneck (--bottleneck) does nothing with the tuner {self.tuner!r}: it is the width of {wide}; "
                "leave it out"
            )
        self.recipe.check()
        n_views(self.test_view)
        limits.WISE_FT.check(self.wise_ft, "wise_ft")
        limits.HEAD_SCALE.check(self.head_scale, "head scale")
        if self.bottleneck is not None:
            limits.BOTTLENECK.check(self.bottleneck, "bottleneck")


def default_tuning(zoo: str) -> Tuning:
    """Return the measured recipe of a zoo: minis on renders, minis on photographs, or ViT-B/16 as in the paper.

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
    """Refuse a tuning whose logits GLA-FT cannot be made of.

    Raises
    ------
    CausalFTError
        Where nothing is tuned, where the tuned logits are no posterior with a prior that can be taken off (Focal,
        LDAM), or where log q is off already (GLA-Train).

    Examples
    --------
    >>> check_gla(Tuning(loss="LA"))
    """
    if tuning.trains_nothing:
        raise CausalFTError(
            "GLA-FT adds zero-shot logits to tuned ones, and the tuner zero-shot tunes nothing"
        )
    if optimum_of(tuning.loss) == "other":
        reason = (
            f"takes the model's label prior out, and the loss {tuning.loss} has done that in training"
            if LOSSES[tuning.loss].needs_model_prior
            else f"needs tuned logits whose class prior is known, and those of the loss {tuning.loss} are no posterior"
        )
        others = [name for name in LOSSES if optimum_of(name) != "other"]
        raise CausalFTError(f"GLA-FT (--gla) {reason}; use the loss {', '.join(others[:-1])} or {others[-1]}")
