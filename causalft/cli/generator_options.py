"""The options of the generators of A/B pictures, the same for every verb that draws them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from causalft.cli.options import ANY_TEXT, DEVICE, FILE, GENERATOR_GROUP, TEXT, Number, refuse_given
from causalft.runs import limits

if TYPE_CHECKING:
    from synthetic.generate import PictureSource

__all__ = ["DIFFUSION_OPTIONS", "generator_options", "open_from_options", "take_options"]

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--generator",
        type=TEXT,
        default="renderer",
        show_default=True,
        metavar="renderer|stable-diffusion",
        help="Who draws the pictures. stable-diffusion has options of its own.",
    ),
    click.option(
        "--model",
        type=FILE,
        default="mini",
        show_default=True,
        metavar="mini|FOLDER|FILE|OWNER/NAME",
        help="Pipeline: the embedded mini, a folder of diffusers, a .safetensors file, or a model of the hub.",
    ),
    click.option(
        "--revision", type=TEXT, metavar="NAME", help="Branch, tag or commit of a model of the hub."
    ),
    click.option(
        "--model-config",
        type=FILE,
        metavar="FOLDER|OWNER/NAME",
        help="For a .safetensors file: where its networks are described.",
    ),
    click.option(
        "--prompts",
        type=FILE,
        metavar="FILE",
        help="YAML with classes, parts, templates and a negative prompt.",
    ),
    click.option(
        "--template",
        type=TEXT,
        multiple=True,
        metavar="NAME",
        help="Template of the prompts; several may be given.",
    ),
    click.option(
        "--negative-prompt",
        type=ANY_TEXT,
        metavar="TEXT",
        help="Negative prompt; '' for none.",
    ),
    click.option(
        "--scheduler",
        type=TEXT,
        default="auto",
        show_default=True,
        metavar="auto|ddim|dpm++|euler|...",
        help="Sampler.",
    ),
    click.option("--steps", type=Number(limits.STEPS), help="Steps a picture.  [default: the model's own]"),
    click.option(
        "--guidance",
        type=Number(limits.GUIDANCE),
        help="Classifier-free guidance; 1 is none.  [default: the model's own]",
    ),
    click.option(
        "--precision",
        type=TEXT,
        default="auto",
        show_default=True,
        metavar="auto|fp32|fp16|bf16",
        help="auto: fp16 on CUDA, else fp32.",
    ),
    click.option(
        "--device",
        type=DEVICE,
        default="auto",
        show_default=True,
        metavar="auto|cpu|cuda|mps",
        help="Where pictures are drawn.",
    ),
    click.option(
        "--batch-size",
        type=Number(limits.BATCH_SIZE, "auto"),
        default="auto",
        show_default=True,
        metavar="auto|N",
        help="Pictures at once; halved when memory runs out.",
    ),
    click.option(
        "--attention-slicing",
        type=TEXT,
        default="auto",
        show_default=True,
        metavar="auto|on|off",
        help="on: less memory, slower.",
    ),
    click.option(
        "--safety-checker/--no-safety-checker",
        default=True,
        help="Run the pipeline's safety checker where it has one.  [default: run it]",
    ),
)
DIFFUSION_OPTIONS = GENERATOR_GROUP
"""Names of the options that only the stable-diffusion generator reads."""


def generator_options(command: Command) -> Command:
    """Give a command ``--generator`` and the options of the stable-diffusion generator."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_options(values: dict[str, Any]) -> dict[str, Any]:
    """Take ``generator`` and its options out of a command's values, for `open_from_options`.

    Examples
    --------
    >>> values = {"generator": "renderer", "seed": 1}
    >>> take_options(values), values
    ({'generator': 'renderer'}, {'seed': 1})
    """
    return {name: values.pop(name) for name in ("generator", *DIFFUSION_OPTIONS) if name in values}


def open_from_options(
    generator: str = "renderer", *, size: int | None = None, fetch: bool = True, **options: Any
) -> PictureSource:
    """Open the generator that the options of the command line ask for.

    Parameters
    ----------
    generator : ``"renderer"`` or ``"stable-diffusion"``.
    size : side of the pictures in pixels; 48 for the renderer, the model's own for a pipeline by default.
    fetch : whether the hub may be asked for a model that is not here.
    options : of `DIFFUSION_OPTIONS`.

    Raises
    ------
    CausalFTError
        For options of the one generator given to the other, and whatever keeps the generator from opening.
    """
    from synthetic.generate import open_source

    if generator != "stable-diffusion":
        if click.get_current_context(silent=True) is not None:
            refuse_given(DIFFUSION_OPTIONS, "goes with --generator stable-diffusion")
        return open_source(generator, **({} if size is None else {"size": size}))
    templates = options.pop("template", ())
    return open_source(generator, size=size, templates=templates, fetch=fetch, **options)
