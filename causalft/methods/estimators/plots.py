"""Figures of a fitted classifier: the confusion matrix, and the label priors of its strata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalft.report.style import SERIES, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_confusion", "plot_priors"]


def plot_confusion(
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    classes: NDArray[Any],
    *,
    normalize: str | None = "true",
    ax: Axes | None = None,
) -> Axes:
    """Draw a confusion matrix; of more than 100 classes, the 30 that are mistaken most often.

    Parameters
    ----------
    truth, predicted : (n,) arrays of int in [0, K)
    classes : (K,) array
        Their names.
    normalize : {"true", "pred", "all"}, optional
        Shares of the true classes by default, over all K; None for counts.
    ax : matplotlib.axes.Axes, optional
    """
    from sklearn.metrics import ConfusionMatrixDisplay

    shown = _mistaken_most(truth, predicted, len(classes))
    place = np.full(len(classes), -1)
    place[shown] = np.arange(len(shown))
    inside = (place[truth] >= 0) & (place[predicted] >= 0)
    pairs = place[truth[inside]] * len(shown) + place[predicted[inside]]
    counts = np.bincount(pairs, minlength=len(shown) ** 2).reshape(len(shown), len(shown))
    totals = {
        "true": np.bincount(truth, minlength=len(classes))[shown][:, None],
        "pred": np.bincount(predicted, minlength=len(classes))[shown],
        "all": np.array(len(truth)),
    }
    axes = new_axes(6, 5) if ax is None else ax
    few = len(shown) <= 15
    ConfusionMatrixDisplay(
        counts if normalize is None else counts / np.maximum(totals[normalize], 1),
        display_labels=classes[shown],
    ).plot(
        ax=axes,
        cmap="Blues",
        include_values=few,
        xticks_rotation=90,
        values_format=None if normalize is None else ".2f",
    )
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if not few:
        axes.tick_params(labelsize=5)
    if len(shown) < len(classes):
        axes.set_title(f"{len(shown)} of {len(classes):,} classes, those mistaken most often")
    return axes


def _mistaken_most(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int, most: int = 30
) -> NDArray[np.int64]:
    """All of 100 classes; of more, those that are taken for another or another for them most often, in order."""
    if n_classes <= 100:
        return np.arange(n_classes)
    wrong = truth != predicted
    errors = sum(np.bincount(each[wrong], minlength=n_classes) for each in (truth, predicted))
    return np.sort(np.argsort(-errors, kind="stable")[:most])


def plot_priors(priors: Mapping[str, NDArray[np.float64]], *, ax: Axes | None = None) -> Axes:
    """Draw label priors (K,) by rank, one line per stratum, with the uniform one for comparison."""
    axes = new_axes(5, 3.5) if ax is None else ax
    n_classes = 1
    for name, colour in zip(priors, SERIES * len(priors)):
        ordered = np.sort(priors[name])[::-1]
        n_classes = len(ordered)
        axes.plot(np.arange(1, n_classes + 1), ordered, color=colour, label=name)
    axes.axhline(1 / n_classes, color="#777777", linewidth=1, linestyle=":", label="uniform")
    axes.set_yscale("log")
    axes.set_xlabel("class, from the most to the least favoured")
    axes.set_ylabel("estimated P(y) of the pre-training")
    axes.legend()
    return axes
