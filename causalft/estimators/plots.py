"""Figures of a fitted classifier: what is taken for what, and what its strata were pre-trained to expect."""

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
    """Draw a confusion matrix.

    Parameters
    ----------
    truth, predicted : (n,) arrays of int in [0, K)
    classes : (K,) array
        Their names.
    normalize : {"true", "pred", "all"}, optional
        Shares of the true classes by default; None for counts.
    ax : matplotlib Axes, optional
    """
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    counts = confusion_matrix(truth, predicted, labels=np.arange(len(classes)), normalize=normalize)
    axes = new_axes(6, 5) if ax is None else ax
    few = len(classes) <= 15
    ConfusionMatrixDisplay(counts, display_labels=classes).plot(
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
    return axes


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
