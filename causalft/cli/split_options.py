"""How images without splits are cut, and training images drawn to a long tail: the same options for every such verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from causalft.cli.data_options import DATA_OPTIONS
from causalft.cli.options import refuse_given
from causalft.cli.types import TEXT, Number
from causalft.runs import limits
from causalft.runs.limits import PRIOR_ORDERS

__all__ = ["refuse_idle_splits", "size_options", "split_options"]


def size_options(validation_cap: int, test_cap: int) -> tuple[Callable[..., Any], ...]:
    """``--n-validation`` and ``--n-test``, a share of each class up to these caps by default."""
    return tuple(
        click.option(
            f"--n-{what}",
            type=Number(limits.IMAGES_PER_CLASS, limits.AUTO),
            default=limits.AUTO,
            show_default=True,
            help=f"{what.capitalize()} images of each class, where the data bring none. auto: {share} of a class, at "
            f"most {cap}; training keeps the rest.",
        )
        for what, share, cap in (("validation", "a tenth", validation_cap), ("test", "a fifth", test_cap))
    )


_OPTIONS = (
    click.option(
        "--imbalance-factor",
        type=Number(limits.IMBALANCE_FACTOR),
        help="Resample the training images to a long tail. creatures-lt has 100.",
    ),
    click.option(
        "--profile",
        type=click.Choice(["exponential", "zipf", "pareto"]),
        default="exponential",
        show_default=True,
        help="Shape of the resampled tail.",
    ),
    click.option(
        "--order",
        type=click.Choice(["random", "class", "size", *PRIOR_ORDERS]),
        default="random",
        show_default=True,
        help="Which classes come first in the resampled tail. consistency, reverse, balance: as in the label prior of "
        "the first stratum, in reverse, or uncorrelated with it.",
    ),
    click.option(
        "--order-by",
        type=TEXT,
        metavar="STRATUM",
        help="Stratum whose label prior decides the order.  [default: the first stratum]",
    ),
    *size_options(10, 50),
    click.option("--drop-empty-classes", is_flag=True, help="Leave classes without an image out."),
)


def split_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command receives them as the fields of :class:`causalft.pipelines.workflows.settings.FitSettings`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def refuse_idle_splits(options: Mapping[str, Any]) -> None:
    """Refuse those, and those of the data, that would do nothing beside the ``data`` and ``zoo`` of ``options``."""
    against_a_prior = options["order"] in PRIOR_ORDERS
    if options["data"] == "creatures-lt":
        own = ("n_validation", "n_test", "order", "order_by", "drop_empty_classes", "profile", *DATA_OPTIONS)
        refuse_given(own, "is for your own images; creatures-lt brings its splits and its order")
    elif options["zoo"] and (Path(options["zoo"]) / "manifest.parquet").exists():
        refuse_given(
            ("n_validation", "n_test", *(() if against_a_prior else ("order",))),
            f"is decided by {options['zoo']}: its manifest names the images its minis never saw; leave it out",
        )
    if options["imbalance_factor"] is None:
        refuse_given(("profile", "order", "order_by"), "goes with --imbalance-factor")
    if not against_a_prior:
        refuse_given(("order_by",), f"goes with --order {', '.join(PRIOR_ORDERS)}")
