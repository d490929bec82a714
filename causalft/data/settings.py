"""How images are opened and cut: the settings shared by every command with ``--data``. Imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from causalft.data.formats import FORMATS
from causalft.data.tails import UNLABELLED_ORDERS
from causalft.errors import CausalFTError
from causalft.runs import limits
from causalft.runs.limits import CREATURES, CREATURES_LTSSL
from causalft.runs.settings import check_settings, setting

__all__ = ["DATA", "DataOptions", "SplitCounts", "UnlabelledOptions", "split_size"]

DATA = (
    "creatures-lt; creatures-ltssl (few labels, with unlabelled images of its own); "
    "a folder, zip or tar with one folder per class; a CSV, TSV or Parquet table; list files; "
    "iNaturalist JSON; binary CIFAR or STL-10; a saved Hugging Face set; Parquet with images; webdataset shards."
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


@dataclass(frozen=True)
class UnlabelledOptions:
    """Few labelled and many unlabelled images drawn of one labelled set, and what is refused among unlabelled ones.

    A draw follows the protocol of long-tailed semi-supervised learning: ``labeled_per_class`` images of the largest
    labelled class (N1) and ``unlabeled_per_class`` of the largest unlabelled one (M1), exponential tails.
    """

    labeled_per_class: int | None = setting(
        None,
        "N1: train on a long tail with this many labelled images of the largest class.",
        group="Unlabelled images",
        metavar="N",
        usual="50 of creatures-ltssl",
        limits=limits.LABELLED_PER_CLASS,
        noun="the number of labelled images",
        former=("--labelled-per-class",),
    )
    unlabeled_per_class: int | None = setting(
        None,
        "M1: of the other training images draw unlabelled ones, this many of the largest class.",
        group="Unlabelled images",
        metavar="N",
        usual="400 of creatures-ltssl",
        limits=limits.LABELLED_PER_CLASS,
        noun="the number of unlabelled images",
        former=("--unlabelled-per-class",),
    )
    gamma_l: float | None = setting(
        None,
        "Imbalance of the labelled images: the largest class over the smallest.",
        group="Unlabelled images",
        usual="100; 20 of creatures-ltssl",
        limits=limits.IMBALANCE_FACTOR,
    )
    gamma_u: float | None = setting(
        None,
        "Imbalance of the unlabelled images; 1 draws every class alike.",
        group="Unlabelled images",
        usual="that of the labelled images",
        limits=limits.IMBALANCE_FACTOR,
    )
    unlabeled_order: str | None = setting(
        None,
        f"{'; '.join(f'{order.name}: {order.help}' for order in UNLABELLED_ORDERS.values())}.",
        group="Unlabelled images",
        metavar="|".join(UNLABELLED_ORDERS),
        usual="consistent",
        noun="order of unlabelled images",
        choices=UNLABELLED_ORDERS,
        former=("--unlabelled-order",),
    )
    strict: bool = setting(
        False,
        "Refuse unlabelled images that are also labelled, validation or test images, instead of leaving them out.",
        group="Unlabelled images",
    )

    drop_outliers: bool = setting(
        False,
        "Leave out unlabelled images that look like no labelled class to the strata before tuning, if there is "
        "evidence of any.",
        group="Unlabelled images",
    )

    @property
    def draws(self) -> bool:
        """Whether labelled images are drawn to a tail."""
        return self.labeled_per_class is not None

    @property
    def draws_unlabelled(self) -> bool:
        """Whether unlabelled images are drawn beside them."""
        return self.unlabeled_per_class is not None

    @property
    def order(self) -> str:
        """The order in use: ``uniform`` if the unlabelled classes are alike."""
        return "uniform" if self.gamma_u == 1 else self.unlabeled_order or "consistent"

    def of(self, data: str) -> UnlabelledOptions:
        """Return the options of a data set with its defaults filled in.

        Examples
        --------
        >>> UnlabelledOptions(gamma_l=50).of("creatures-ltssl")
        UnlabelledOptions(labeled_per_class=50, unlabeled_per_class=400, gamma_l=50, gamma_u=50, \
unlabeled_order='consistent', strict=False, drop_outliers=False)
        """
        built_in = data == CREATURES_LTSSL
        gamma_l = self.gamma_l or (20.0 if built_in else 100.0)
        return replace(
            self,
            labeled_per_class=self.labeled_per_class or (50 if built_in else None),
            unlabeled_per_class=self.unlabeled_per_class or (400 if built_in else None),
            gamma_l=gamma_l,
            gamma_u=1.0 if self.order == "uniform" else self.gamma_u or gamma_l,
            unlabeled_order=self.order,
        )

    def check(self, data: str, unlabeled: str | None = None, imbalance_factor: float | None = None) -> None:
        """Refuse values out of range, and options that need others or exclude them.

        Parameters
        ----------
        data : str
            The labelled set.
        unlabeled : str, optional
            A path of unlabelled images.
        imbalance_factor : float, optional
            Of another draw of the labelled images.

        Raises
        ------
        CausalFTError

        Examples
        --------
        >>> UnlabelledOptions(gamma_l=50).check("photos")
        Traceback (most recent call last):
        ...
        causalft.errors.CausalFTError: gamma_l goes with labeled_per_class
        """
        check_settings(self)
        if data == CREATURES_LTSSL:
            if unlabeled is not None:
                raise CausalFTError(
                    f"{data} brings its own unlabelled images; leave --unlabeled out, or train on creatures-lt"
                )
        else:
            self._check_draw(data, unlabeled)
        if imbalance_factor is not None and self.of(data).draws:
            raise CausalFTError(
                "--imbalance-factor draws every image that a tail leaves, --labeled-per-class few of them, by "
                "--gamma-l; give one of the two draws"
            )
        if self.unlabeled_order == "uniform" and self.gamma_u not in (None, 1):
            raise CausalFTError(
                f"--unlabeled-order uniform draws every class alike, --gamma-u {self.gamma_u:g} does not; leave one out"
            )

    def _check_draw(self, data: str, unlabeled: str | None) -> None:
        for needs, options in {
            "labeled_per_class": ("gamma_l", "unlabeled_per_class"),
            "unlabeled_per_class": ("gamma_u", "unlabeled_order"),
        }.items():
            given = next((name for name in options if getattr(self, name) is not None), None)
            if given is not None and getattr(self, needs) is None:
                raise CausalFTError(f"{_flag(given)} goes with {_flag(needs)}")
        if self.draws and data == CREATURES:
            raise CausalFTError(
                f"{CREATURES} brings its own long tail; --labeled-per-class goes with {CREATURES_LTSSL}"
            )
        if self.draws_unlabelled and unlabeled is not None:
            raise CausalFTError(
                "--unlabeled-per-class draws the unlabelled images from --data, --unlabeled reads others; give one of "
                "the two"
            )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
