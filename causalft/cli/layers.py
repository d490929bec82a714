"""Options that say how the layers of a fitted run are computed: their precision, and how many tokens they see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from causalft.cli.options import Number
from causalft.models.tuning.choices import PRECISIONS
from causalft.runs import limits

__all__ = ["layer_options"]


def layer_options(reported: str = "") -> Callable[[Any], Any]:
    """Add ``--precision`` and ``--merge-tokens`` to a command; ``reported`` ends the help of the latter."""
    precision = click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        help="Of the backbone's layers; int8 is faster on a CPU. Default: that of the run.",
    )
    merge_tokens = click.option(
        "--merge-tokens",
        type=Number(limits.MERGED_TOKENS),
        default=0,
        show_default=True,
        metavar="R",
        help="Merge R similar patch tokens in each block of a ViT, at most half of them (token merging, ToMe): faster, "
        f"and less accurate.{' ' if reported else ''}{reported}",
    )
    return lambda function: precision(merge_tokens(function))
