"""Why nothing may be concluded from a classifier of ``probe`` or ``wise-ft``: its scores and predictions, asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike

from causalft.analysis.diagnosis.intervals import Interval
from causalft.analysis.diagnosis.no_conclusion import facts_of, reasons
from causalft.data.image_set import ImageSet

__all__ = ["doubts"]


def doubts(
    name: str,
    scores: Mapping[str, Any],
    predicted: ArrayLike,
    test: ImageSet,
    *,
    temperatures: Sequence[float] = (),
) -> list[str]:
    """Reasons of :mod:`causalft.analysis.diagnosis.no_conclusion` for one classifier.

    Parameters
    ----------
    name : str
        As a sentence names it.
    scores : mapping
        ``mean_class_accuracy`` and ``mean_class_ci95`` on the test images.
    predicted : (n,) or (S, n) array of int in [0, K)
        Classes of the test images.
    test : ImageSet
    temperatures : sequence of float
        That were fitted for it.
    """
    low, high = scores["mean_class_ci95"] or (float("nan"), float("nan"))
    accuracy = Interval(scores["mean_class_accuracy"], low, high, float("nan"))
    return list(
        reasons([facts_of(name, predicted, test.labels, test.n_classes, accuracy, temperatures=temperatures)])
    )
