"""Which foundation models, and where their weights come from: the same options for every verb that opens a zoo."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from causalft.cli.options import name_value_pairs
from causalft.cli.types import FILE, NAMES, TEXT

__all__ = ["strata_options"]

_OPTIONS = (
    click.option(
        "--strata",
        type=NAMES,
        default="clip,openclip,metaclip",
        show_default=True,
        help="Foundation models, by name.",
    ),
    click.option(
        "--zoo",
        type=FILE,
        help="mini, pretrained, or a folder made by `causalft zoo pretrain`. Default: mini for the built-in data, "
        "pretrained for any other.",
    ),
    click.option(
        "--weights",
        type=TEXT,
        multiple=True,
        metavar="NAME=FILE",
        help="Local weights for --zoo pretrained. Repeatable.",
    ),
    click.option("--offline", is_flag=True, help="Never ask the network for weights."),
    click.option("--allow-pickle", is_flag=True, help="Read weights that are a pickle, as tensors only."),
)


def strata_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command receives them as the fields of :class:`causalft.pipelines.workflows.settings.FitSettings`."""

    @wraps(command)
    def read(*args: Any, strata: tuple[str, ...], weights: tuple[str, ...], **options: Any) -> Any:
        return command(*args, strata=strata, weights=name_value_pairs(weights, "--weights"), **options)

    decorated: Callable[..., Any] = read
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
