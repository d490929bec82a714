"""How images are opened and cut: the settings shared by every command with ``--data``. Imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from causalft.data.formats import FORMATS
from causalft.runs import limits
from causalft.runs.settings import setting

__all__ = ["DATA", "DataOptions", "SplitCounts", "split_size"]

DATA = (
    "creatures-lt; a folder, zip or tar with one folder per class; a CSV, TSV or Parquet table; list files; "
    "iNaturalist JSON; binary CIFAR; a saved Hugging Face set; Parquet with images; webdataset shards."
)
"""What a path of labelled images can be."""


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(limits.check_text(path)))


@dataclass(frozen=True)
class DataOptions:
    """How :func:`causalft.open_images` opens a path; None is detected."""

    format: str | None = setting(
        None,
        f"Force a format: {', '.join(sorted(FORMATS))}.",
        group="Data",
        metavar="NAME",
        usual="recognised from the data",
    )
    root: str | None = setting(
        None,
        "Folder, zip or tar that the paths of a table, list or JSON start from.",
        group="Data",
        metavar="PATH",
        usual="the folder of the file",
        read=_absolute,
    )
    class_names: str | None = setting(
        None,
        "Class names: one per line, lines with WordNet id or number and name, or JSON.",
        group="Data",
        metavar="FILE",
        read=_absolute,
    )
    path_column: str | None = setting(
        None, "Column of the image paths.", group="Data", metavar="NAME", usual="path"
    )
    label_column: str | None = setting(
        None, "Column of the labels.", group="Data", metavar="NAME", usual="label"
    )
    split_column: str | None = setting(
        None, "Column of the splits.", group="Data", metavar="NAME", usual="split, if present"
    )
    factor_column: str | None = setting(
        None, "Column of a factor.", group="Data", metavar="NAME", usual="factor, if present"
    )
    split_as: Mapping[str, str] = setting(
        help="Use a split as another, as in validation=test. Repeatable.",
        factory=dict,
        group="Data",
        metavar="SPLIT=SPLIT",
    )

    def given(self) -> dict[str, Any]:
        """Return only what was given, as ``config.json`` stores it."""
        return {name: value for name, value in asdict(self).items() if value}


def split_size(what: str, share: str, cap: int, group: str = "Data") -> Any:
    """Return the setting for the number of images per class in a split.

    Parameters
    ----------
    what : {"validation", "test"}
    share, cap : str, int
        The share of each class that ``auto`` takes, at most ``cap`` images.
    """
    return setting(
        limits.AUTO,
        f"{what.capitalize()} images of each class, unless the data have splits. auto: {share} of a class, at most "
        f"{cap}; training keeps the rest.",
        group=group,
        limits=limits.IMAGES_PER_CLASS,
        words=(limits.AUTO,),
    )


@dataclass(frozen=True)
class SplitCounts:
    """Images per class for validation and test."""

    n_validation: int | str = split_size("validation", "a tenth", 10)
    n_test: int | str = split_size("test", "a fifth", 50)
