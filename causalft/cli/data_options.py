"""How labelled images are opened: the same options for every verb that reads them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from causalft.cli.option_groups import DATA_GROUP
from causalft.cli.options import name_value_pairs
from causalft.cli.types import FILE, TEXT

__all__ = ["DATA_HELP", "DATA_OPTIONS", "data_options"]

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
