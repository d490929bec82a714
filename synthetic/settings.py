"""The settings of A/B designs and of the generators that draw their images. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError
from causalft.runs import limits
from causalft.runs.settings import documented, nested, setting

if TYPE_CHECKING:
    from synthetic.generate import PictureSource

__all__ = ["DesignSettings", "GenerateSettings", "GeneratorSettings", "parse_ratio"]

_FIRST = "Options that matter first"
_DIFFUSION = "Stable Diffusion (with --generator stable-diffusion)"


def parse_ratio(text: str) -> float:
    """Read ``90:10``, ``0.9`` or ``90%`` as the majority's share.

    Examples
    --------
    >>> parse_ratio("90:10"), parse_ratio("0.8"), parse_ratio("3:1")
    (0.9, 0.8, 0.75)
    """
    try:
        if ":" in text:
            first, second = (float(part) for part in text.split(":"))
            value = first / (first + second)
            if not (0 <= first < float("inf") and 0 <= second < float("inf")):
                raise ValueError("a part below zero")
        elif text.endswith("%"):
            value = float(text[:-1]) / 100
        else:
            value = float(text)
        return float(limits.SHARE.check(value, "the ratio"))
    except (ValueError, ZeroDivisionError):
        raise CausalFTError(
            f"{limits.shown(text)} is not a ratio of two parts; write it as 90:10 or 0.9"
        ) from None


def _max_rejects(text: str) -> float:
    """Read a share, as 0.25 or 25%, or a number of images."""
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise CausalFTError(f"{limits.shown(text)}: use a share such as 0.25 or 25%, or a number such as 40")
    return value


@dataclass(frozen=True)
class DesignSettings:
    """Classes, and how closely C is tied to the label in the B sets: as :func:`synthetic.designs.make_design`."""

    classes: tuple[str, ...] | None = setting(
        None, "At least two class names.", group="Design", metavar="A,B,...", usual="all six"
    )
    ratio: float | None = setting(
        None,
        "Majority to minority value of C within a class of B.",
        group="Design",
        metavar="RATIO",
        usual="90:10",
        read=parse_ratio,
    )
    strength: float | None = setting(
        None,
        "The same as a number from 0 to 1: 2 * ratio - 1.",
        group="Design",
        usual="0.8",
        limits=limits.STRENGTH,
    )


@documented()
@dataclass(frozen=True)
class GeneratorSettings:
    """What draws the images: the renderer, or Stable Diffusion, to which all other settings belong.

    Attributes
    ----------
    {settings}
    """

    generator: str = setting(
        "renderer",
        "What draws the images; stable-diffusion has its own options.",
        group=_FIRST,
        metavar="renderer|stable-diffusion",
    )
    model: str = setting(
        "mini",
        "Pipeline: the embedded mini, a diffusers folder, a .safetensors file, or a model on the hub.",
        group=_DIFFUSION,
        metavar="mini|FOLDER|FILE|OWNER/NAME",
    )
    revision: str | None = setting(
        None, "Branch, tag or commit of a model on the hub.", group=_DIFFUSION, metavar="NAME"
    )
    model_config: str | None = setting(
        None,
        "For a .safetensors file: description of its networks.",
        group=_DIFFUSION,
        metavar="FOLDER|OWNER/NAME",
    )
    prompts: str | None = setting(
        None,
        "YAML with classes, parts, templates and a negative prompt.",
        group=_DIFFUSION,
        metavar="FILE",
    )
    templates: tuple[str, ...] = setting(
        (),
        "Prompt template; repeatable.",
        group=_DIFFUSION,
        option="--template",
        metavar="NAME",
        repeated=True,
    )
    negative_prompt: str | None = setting(
        None, "Negative prompt; '' for none.", group=_DIFFUSION, metavar="TEXT", read=str
    )
    scheduler: str = setting("auto", "Sampler.", group=_DIFFUSION, metavar="auto|ddim|dpm++|euler|...")
    steps: int | None = setting(
        None, "Steps per image.", group=_DIFFUSION, usual="the model's own", limits=limits.STEPS
    )
    guidance: float | None = setting(
        None,
        "Classifier-free guidance; 1 is none.",
        group=_DIFFUSION,
        usual="the model's own",
        limits=limits.GUIDANCE,
    )
    precision: str = setting(
        "auto", "auto: fp16 on CUDA, else fp32.", group=_DIFFUSION, metavar="auto|fp32|fp16|bf16"
    )
    device: str = setting(
        "auto",
        "Where images are drawn.",
        group=_DIFFUSION,
        metavar="auto|cpu|cuda|mps",
        check=limits.check_device,
    )
    batch_size: int | str = setting(
        "auto",
        "Images at once; halved when memory runs out.",
        group=_DIFFUSION,
        metavar="auto|N",
        limits=limits.BATCH_SIZE,
        words=("auto",),
    )
    attention_slicing: str = setting(
        "auto", "on: less memory, slower.", group=_DIFFUSION, metavar="auto|on|off"
    )
    safety_checker: bool = setting(
        True, "Run the safety checker of the pipeline, if it has one.", group=_DIFFUSION, usual="run it"
    )

    def open(self, *, size: int | None = None, fetch: bool = True) -> PictureSource:
        """Open the generator.

        Parameters
        ----------
        size : int, optional
            Side of the images in pixels; By default 48 for the renderer, the model's own for a pipeline.
        fetch : bool
            Whether a missing model may be fetched from the hub.

        Raises
        ------
        CausalFTError
            If the generator cannot be opened.
        """
        from synthetic.generate import open_source

        options: dict[str, Any] = {} if size is None else {"size": size}
        if self.generator == "stable-diffusion":
            options |= {name: value for name, value in vars(self).items() if name != "generator"}
            options["fetch"] = fetch
        return open_source(self.generator, **options)


@dataclass(frozen=True)
class GenerateSettings:
    """The settings of ``generate``."""

    design: str = setting(
        "confounded",
        "Design, or a YAML file with your own.",
        group=_FIRST,
        metavar="paper|confounded|selection|null|label-noise|FILE",
    )
    law: DesignSettings = nested(
        DesignSettings,
        changes={"ratio": {"help": "Majority to minority part within a class in the B sets."}},
    )
    n_per_class: int = setting(
        100, "Images of each class in each set.", group=_FIRST, limits=limits.PICTURES_PER_CLASS
    )
    size: int | None = setting(
        None,
        "Side of the images in pixels.",
        group=_FIRST,
        usual="48 for the renderer, the model's own",
        limits=limits.PICTURE_SIZE,
    )
    seed: int = setting(0, "The same seed gives the same bytes.", group=_FIRST, limits=limits.SEED)
    source: GeneratorSettings = nested(GeneratorSettings)
    check: str | None = setting(
        None,
        "CLIP model that must recognise class and part of each image, or a classifier trained on renders (for mini); "
        "rejected images are kept aside and replaced.",
        group="Checking the images",
        metavar="clip|ARCH/TAG|renders",
    )
    check_weights: Path | None = setting(
        None, "Local weights of the --check model.", group="Checking the images"
    )
    max_rejects: float = setting(
        0.25,
        "Abort above this many rejected images (fraction or count).",
        group="Checking the images",
        metavar="SHARE|N",
        read=_max_rejects,
    )
