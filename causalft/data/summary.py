"""A set in numbers, and what its splits mean for a fit: classes, sizes, groups, precision of the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.data.groups import GROUPS, data_groups, imbalance_factor
from causalft.data.image_set import ImageSet
from causalft.data.splits import Splits, cut_splits
from causalft.errors import CausalFTError
from causalft.runs.notebook import ShownAsTable

__all__ = ["GroupPlan", "Overview", "SplitPlan", "overview", "plan_for_fit", "plan_of", "uncertainty"]


@dataclass(frozen=True)
class Overview(ShownAsTable):
    """A set in numbers.

    Attributes
    ----------
    name, format, location : str
    n_images, n_classes : int
    splits : dict of str to int
        Images in each split; empty if the set has no splits.
    imbalance : float
        Largest over smallest class, of the training split if there is one.
    groups : dict of str to int
        Classes in each D group (`causalft.data.groups.data_groups`).
    class_counts : dict of str to (dict of str to int)
        Images of each class in each split, or in ``all``.
    factors : dict of str to int
        Images with each value of the semantic factor; empty if unknown.
    notes : tuple of str
        What was left out, and other remarks.
    """

    name: str
    format: str
    location: str
    n_images: int
    n_classes: int
    splits: dict[str, int]
    imbalance: float
    groups: dict[str, int]
    class_counts: dict[str, dict[str, int]]
    factors: dict[str, int]
    notes: tuple[str, ...]

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        splits = list(self.splits) or ["all"]
        rows = [
            [name, *(counts.get(split, 0) for split in splits)] for name, counts in self.class_counts.items()
        ]
        return ["class", *splits], rows

    def __repr__(self) -> str:
        return f"Overview({self.format} '{self.name}': {self.n_images} images of {self.n_classes} classes)"

    def by_size(self) -> list[tuple[str, int]]:
        """Class names with their (training) images, largest first."""
        part = "train" if "train" in self.splits else "all" if not self.splits else next(iter(self.splits))
        sizes = [(name, counts[part]) for name, counts in self.class_counts.items()]
        return sorted(sizes, key=lambda item: -item[1])

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON, with the five largest and smallest classes."""
        sizes = self.by_size()
        return {**asdict(self), "largest": dict(sizes[:5]), "smallest": dict(sizes[-5:])}


def overview(images: ImageSet) -> Overview:
    """Count what is in a set; no image is read.

    Examples
    --------
    >>> pixels = np.zeros((23, 2, 2, 3), np.uint8)
    >>> found = overview(ImageSet.from_arrays(pixels, [0] * 20 + [1] * 3, ["ant", "bee"]))
    >>> found.groups, found.by_size()
    ({'many': 0, 'medium': 1, 'few': 1}, [('ant', 20), ('bee', 3)])
    """
    parts = images.splits or {"all": np.arange(len(images))}
    counts = {
        part: np.bincount(images.labels[rows], minlength=images.n_classes) for part, rows in parts.items()
    }
    source = counts.get("train", next(iter(counts.values())))
    groups = data_groups(source)
    factors: dict[str, int] = {}
    if images.factors is not None:
        values, totals = np.unique(images.factors, return_counts=True)
        factors = {str(value): int(total) for value, total in zip(values, totals)}
    table = np.stack(list(counts.values()), axis=1).tolist()
    return Overview(
        name=images.name,
        format=images.format,
        location=images.location,
        n_images=len(images),
        n_classes=images.n_classes,
        splits={part: len(rows) for part, rows in images.splits.items()},
        imbalance=imbalance_factor(source),
        groups={group: int((groups == group).sum()) for group in GROUPS},
        class_counts={name: dict(zip(counts, row)) for name, row in zip(images.class_names, table)},
        factors=factors,
        notes=images.notes,
    )


@dataclass(frozen=True)
class GroupPlan:
    """The classes of a group (``many``, ``medium``, ``few`` by training images) or ``all``.

    Numbers of classes, of their images in each part, and of classes with a test image; ``uncertainty`` is the expected
    half-width of the 95 % interval of the accuracy, None without a test image.
    """

    name: str
    classes: int
    train: int
    validation: int
    test: int
    tested: int
    uncertainty: float | None


@dataclass(frozen=True)
class SplitPlan:
    """What a fit on some splits can know: by group, the classes without test or validation images, and in sentences."""

    groups: tuple[GroupPlan, ...]
    not_tested: tuple[str, ...]
    not_validated: tuple[str, ...]
    sentences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


def uncertainty(test_counts: ArrayLike, accuracy: float = 0.5) -> float | None:
    """Expected half-width of the 95 % interval of a mean of class accuracies, for planning.

    ``1.96 / K * sqrt(sum_k a (1 - a) / n_k)``, at most 0.5, for K tested classes of n_k test images and accuracy a;
    None without a test image.

    Examples
    --------
    >>> round(uncertainty([50] * 10), 3), round(uncertainty([5] * 10), 3), round(uncertainty([20, 1, 0]), 3)
    (0.044, 0.139, 0.5)
    """
    counts = np.asarray(test_counts, dtype=float)
    counts = counts[counts > 0]
    if not len(counts):
        return None
    spread = np.sqrt((accuracy * (1 - accuracy) / counts).sum()) / len(counts)
    return float(min(0.5, 1.96 * spread))


def plan_of(splits: Splits) -> SplitPlan:
    """Return what a fit on these splits can know.

    Examples
    --------
    >>> from causalft.data import ImageSet, cut_splits
    >>> images = ImageSet.from_arrays(np.zeros((33, 2, 2, 3), np.uint8), [0] * 30 + [1] * 3, ["ant", "bee"])
    >>> plan = plan_of(cut_splits(images, seed=0, duplicates=None))
    >>> [(group.name, group.train, group.validation, group.test) for group in plan.groups]
    [('medium', 21, 3, 6), ('few', 2, 0, 1), ('all', 23, 3, 7)]
    >>> plan.not_validated
    ('bee',)
    """
    train, validation, test = (part.class_counts for part in (splits.train, splits.validation, splits.test))
    groups = data_groups(train)

    def group(name: str, inside: NDArray[np.bool_]) -> GroupPlan:
        return GroupPlan(
            name,
            classes=int(inside.sum()),
            train=int(train[inside].sum()),
            validation=int(validation[inside].sum()),
            test=int(test[inside].sum()),
            tested=int((inside & (test > 0)).sum()),
            uncertainty=uncertainty(test[inside]),
        )

    rows = [group(name, groups == name) for name in GROUPS if (groups == name).any()]
    rows.append(group("all", np.ones(len(train), dtype=bool)))
    names = np.asarray(splits.class_names)
    not_tested, not_validated = tuple(names[test == 0].tolist()), tuple(names[validation == 0].tolist())
    sentences = []
    if not_tested:
        sentences.append(
            f"{_classes(not_tested)} no test image and no part in any accuracy: how well {_they(not_tested)} "
            "predicted will not be known"
        )
    if not_validated:
        sentences.append(
            f"{_classes(not_validated)} no validation image and no part in the temperature or in any choice; a label "
            "prior gives each the geometric mean of the others"
        )
    widths = [f"{row.name} {_points(row.uncertainty)}" for row in rows if row.uncertainty is not None]
    if widths and len(test) and (test.min() != test.max() or (rows[-1].uncertainty or 0) > 0.05):
        sentences.append(
            f"an accuracy of 50 % (mean over classes) will be known to about {', '.join(widths)} points"
        )
    return SplitPlan(tuple(rows), not_tested, not_validated, tuple(sentences))


COMPARED = 20_000
"""Up to so many images are compared with each other: of files of equal size the bytes are read."""


def plan_for_fit(images: ImageSet, n_validation: int | str, n_test: int | str) -> dict[str, Any]:
    """Return what ``fit`` would cut of the set, as JSON; ``refused`` says why it could not."""
    few = len(images) <= COMPARED
    options: dict[str, Any] = {"n_validation": n_validation, "n_test": n_test}
    try:
        splits = cut_splits(images, **options, seed=0, duplicates="bytes" if few else None)
    except CausalFTError as error:
        return {"refused": error.on_command_line}
    for name, part in (("validation", splits.validation), ("test", splits.test)):
        if not len(part):
            return {"refused": f"there is no {name} image; give --n-{name} 1 or more or auto"}
    new = [note for note in splits.notes if note not in images.notes]
    if not few:
        new.append(f"looks for duplicates first, which is not done here for more than {COMPARED:,} images")
    return {"refused": None, **plan_of(splits).to_dict(), "notes": new}


def _points(width: float | None) -> str:
    return "unknown" if width is None else f"± {100 * width:.0f}"


def _they(names: Sequence[str]) -> str:
    return "it is" if len(names) == 1 else "they are"


def _classes(names: Sequence[str]) -> str:
    """``2 classes (ant, bee) have``, five names at most."""
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"1 class ({shown}) has" if len(names) == 1 else f"{len(names)} classes ({shown}) have"
