"""Accuracies of a run on its validation and test images: means over the classes, with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.diagnosis.intervals import bootstrap
from causalft.data.groups import GROUPS, class_accuracy, data_groups
from causalft.data.image_set import ImageSet
from causalft.data.splits import Splits

__all__ = ["mean_class_accuracy", "score_correct"]


def score_correct(right: NDArray[np.bool_], splits: Splits, seed: int) -> dict[str, Any]:
    """Test accuracy, overall and by D group, with 95 % intervals over images (within class) and seeds.

    ``accuracy`` is the share of right images; the groups and ``mean_class_accuracy`` are means over the classes that
    have a test image.

    Parameters
    ----------
    right : (n_seeds, n_test) array of bool
    splits : Splits
        Its training counts make the groups.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``accuracy``, ``ci95``, ``mean_class_accuracy``, ``mean_class_ci95``,
        and ``D``, ``D_ci95`` by group; None for a group without a test image, which ``reasons["D"]`` then names.
    """
    groups = data_groups(splits.train.class_counts)
    tested = splits.test.class_counts > 0
    images = splits.test.class_counts / len(splits.test)

    def statistics(accuracy: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        of_class = accuracy[:, 0]
        found = {"accuracy": np.nan_to_num(of_class) @ images, "class mean": of_class[:, tested].mean(1)}
        for group in GROUPS:
            inside = tested & (groups == group)
            found[group] = of_class[:, inside].mean(1) if inside.any() else np.full(len(of_class), np.nan)
        return found

    found = bootstrap(statistics, right[None], splits.test.labels, splits.test.n_classes, seed=seed)
    exists = {group: found[group].exists for group in GROUPS}
    return {
        "accuracy": found["accuracy"].estimate,
        "ci95": found["accuracy"].ci95,
        "mean_class_accuracy": found["class mean"].estimate,
        "mean_class_ci95": found["class mean"].ci95,
        "D": {g: found[g].estimate if exists[g] else None for g in GROUPS},
        "D_ci95": {g: found[g].ci95 for g in GROUPS},
        "reasons": {"D": {g: "no class of the group has a test image" for g in GROUPS if not exists[g]}},
    }


def mean_class_accuracy(predicted: NDArray[Any], images: ImageSet) -> float:
    """Mean over the classes: a validation set need not be balanced, and a choice should not go by its head classes."""
    return float(np.nanmean(class_accuracy(predicted == images.labels, images.labels, images.n_classes)))
