"""What a cut means for a fit: images by class group, classes without a part in something, how sure a test will be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.datasets.splits import Splits
from causalft.imbalance import GROUPS, data_groups

__all__ = ["GroupPlan", "SplitPlan", "plan_of", "uncertainty"]


@dataclass(frozen=True)
class GroupPlan:
    """The classes of a group, or all of them.

    Attributes
    ----------
    name : str
        ``many``, ``medium``, ``few`` (by training images) or ``all``.
    classes, train, validation, test : int
        How many classes, and images of them in each part.
    tested : int
        Classes with a test image.
    uncertainty : float or None
        Half the 95 % interval of the group's accuracy, see :func:`uncertainty`; None without a test image.
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
    """What :func:`plan_of` found.

    Attributes
    ----------
    groups : tuple of GroupPlan
        Those that have a class, and ``all`` last.
    not_tested, not_validated : tuple of str
        Classes without a test image, and without a validation image.
    sentences : tuple of str
        What that leaves uncertain.
    """

    groups: tuple[GroupPlan, ...]
    not_tested: tuple[str, ...]
    not_validated: tuple[str, ...]
    sentences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


def uncertainty(test_counts: ArrayLike, accuracy: float = 0.5) -> float | None:
    """Half the width of the 95 % interval that a mean of class accuracies will have, before anything is measured.

    ``1.96 / K * sqrt(sum_k a (1 - a) / n_k)`` for K tested classes of n_k test images and an accuracy a, at most 0.5:
    a plan and no interval. It is widest for an accuracy of one half, and falls with the square root of the images.

    Parameters
    ----------
    test_counts : (K,) array of int
        Test images of each class; classes without one do not count.
    accuracy : float in [0, 1]

    Returns
    -------
    float or None
        A fraction; None if no class has a test image.

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
    """Say what a fit on these splits can know.

    Examples
    --------
    >>> from causalft.datasets import ImageSet, cut_splits
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


def _points(width: float | None) -> str:
    return "unknown" if width is None else f"± {100 * width:.0f}"


def _they(names: Sequence[str]) -> str:
    return "it is" if len(names) == 1 else "they are"


def _classes(names: Sequence[str]) -> str:
    """``2 classes (ant, bee) have``, five names at most."""
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"1 class ({shown}) has" if len(names) == 1 else f"{len(names)} classes ({shown}) have"
