"""Options that say which images, and how they are split."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import click

from causalft.cli.options import DATA_GROUP, FILE, TEXT, Number, name_value_pairs, refuse_given
from causalft.data.tails import ORDERS, PRIOR_ORDERS, PROFILES
from causalft.runs import limits

__all__ = ["DATA_HELP", "DATA_OPTIONS", "data_options", "refuse_idle_splits", "size_options", "split_options"]


#: What a path of labelled images can be, for the help of the option or argument that takes it.
DATA_HELP = (
    "creatures-lt; a folder, zip or tar with one folder a class; a CSV, TSV or Parquet table; list files; "
    "iNaturalist JSON; binary CIFAR; a saved Hugging Face set; webdataset shards."
)

_OPTIONS = (
    click.option(
        "--format",
        type=TEXT,
        metavar="NAME",
        help="Force a format: folder, zip, tar, table, list, inaturalist, cifar, huggingface, webdataset.  "
        "[default: told by what is there]",
    ),
    click.option(
        "--root",
        type=FILE,
        metavar="PATH",
        help="Folder, zip or tar that the paths of a table, list or JSON start from.  [default: the folder it lies in]",
    ),
    click.option(
        "--class-names",
        type=FILE,
        metavar="FILE",
        help="Class names: one a line, lines with WordNet id or number and name, or JSON.",
    ),
    click.option(
        "--path-column", type=TEXT, metavar="NAME", help="Column of the image paths.  [default: path]"
    ),
    click.option("--label-column", type=TEXT, metavar="NAME", help="Column of the labels.  [default: label]"),
    click.option(
        "--split-column", type=TEXT, metavar="NAME", help="Column of the splits.  [default: split, if there]"
    ),
    click.option(
        "--factor-column", type=TEXT, metavar="NAME", help="Column of a factor.  [default: factor, if there]"
    ),
    click.option(
        "--split-as",
        type=TEXT,
        multiple=True,
        metavar="SPLIT=SPLIT",
        help="Use a split as another, as in validation=test. Repeatable.",
    ),
)

#: Names of the parameters, as `refuse_given` of `causalft.cli.options` takes them.
DATA_OPTIONS = DATA_GROUP


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which receives them as one dict ``data_options`` for `causalft.open_images`.

    The dict holds what was given and nothing else; paths in it are absolute, so that it can stand in the
    configuration of a run.
    """

    @wraps(command)
    def collected(*args: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in DATA_OPTIONS}
        given["split_as"] = name_value_pairs(given["split_as"], "--split-as")
        for name in ("root", "class_names"):
            if given[name] is not None:
                given[name] = os.path.abspath(os.path.expanduser(given[name]))
        return command(*args, data_options={name: value for name, value in given.items() if value}, **options)

    decorated: Callable[..., Any] = collected
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


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


_SPLIT_OPTIONS = (
    click.option(
        "--imbalance-factor",
        type=Number(limits.IMBALANCE_FACTOR),
        help="Resample the training images to a long tail. creatures-lt has 100.",
    ),
    click.option(
        "--profile",
        type=click.Choice(list(PROFILES)),
        default="exponential",
        show_default=True,
        help="Shape of the resampled tail.",
    ),
    click.option(
        "--order",
        type=click.Choice(list(ORDERS)),
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
    """Add the options; the command receives them as the fields of `FitSettings`."""
    for option in reversed(_SPLIT_OPTIONS):
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
