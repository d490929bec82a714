"""Settings of ``diagnose --class-accuracy``: tables of class accuracies, and the counts of the models' pre-training."""

from __future__ import annotations

from dataclasses import dataclass

from causalft.errors import CausalFTError
from causalft.runs import limits
from causalft.runs.settings import check_settings, documented, setting

__all__ = ["ACCURACY", "DRAWS", "EvidenceSettings"]

ACCURACY = "From tables of class accuracy"
DRAWS = "Intervals and placebos"
"""Headings in ``--help``."""


def _test_images(text: str) -> int | str:
    """A number of test images per class, or a file with that of each class."""
    number = text.strip().lstrip("+-").replace(".", "").isdecimal()
    return limits.PICTURES.read(text) if number else limits.check_text(text)


@documented()
@dataclass(frozen=True)
class EvidenceSettings:
    """The settings of ``diagnose --class-accuracy``.

    Attributes
    ----------
    {settings}
    """

    class_accuracy: tuple[str, ...] = setting(
        (),
        "Accuracy of each class, of one model or several: JSON, CSV, TSV or Parquet, in percent or fractions.",
        group=ACCURACY,
        metavar="FILE",
        repeated=True,
    )
    models: tuple[str, ...] = setting(
        (),
        "Models to use: parts of names, or shell patterns. Those without --prior-of appear in the cross-table only.",
        group=ACCURACY,
        usual="those with --prior-of",
    )
    test_images: int | str | None = setting(
        None,
        "Test images per class: a number, or a file with that of each class. Default: a column of the tables, if any.",
        group=ACCURACY,
        metavar="N|FILE",
        read=_test_images,
    )
    accuracy_unit: str = setting(
        "auto",
        "Unit of the accuracies. auto: percent if one is above 1; doubtful tables are refused.",
        group=ACCURACY,
        choices=("auto", "percent", "fractions"),
    )
    n_boot: int = setting(1000, "Bootstrap draws of classes.", group=DRAWS, limits=limits.BOOTSTRAP)
    permutations: int = setting(
        1000, "Permutations of each placebo.", group=DRAWS, limits=limits.PERMUTATIONS
    )

    def check(self) -> None:
        """Check numbers and words before anything is read.

        Raises
        ------
        CausalFTError
        """
        check_settings(self)
        if not self.class_accuracy:
            raise CausalFTError("give at least one table of class accuracies with --class-accuracy FILE")
