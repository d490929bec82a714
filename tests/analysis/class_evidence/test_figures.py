"""Figures of class evidence: ticks that can be read, points that can be seen."""

from __future__ import annotations

import numpy as np
import pytest

from causalft.analysis.class_evidence.figures import accuracy_along_counts
from causalft.report.drawing import to_narrow
from causalft.report.style import figure_style
from tests.analysis.class_evidence.made_up import counts_and_accuracy


def metrics_of(apart: float, n_classes: int) -> dict:
    x, y = counts_and_accuracy(n_classes=n_classes, apart=apart)
    models = ["one", "two", "three"]
    classes = [
        {"used": True, "count": dict(zip(models, 10 ** x[:, k])), "accuracy": dict(zip(models, y[:, k]))}
        for k in range(n_classes)
    ]
    slope = {"estimate": 20.0, "ci95": [18.0, 22.0], "claimed": True}
    return {"strata": dict.fromkeys(models), "classes": classes, "slope": slope}


@pytest.mark.parametrize("apart", [0.4, 1.2])
def test_ticks_of_the_counts_stand_apart(apart: float) -> None:
    with figure_style():
        axes = accuracy_along_counts(metrics_of(apart, 60))[1]
        to_narrow(axes.figure)  # type: ignore[arg-type]
        axes.figure.canvas.draw()  # type: ignore[attr-defined]
    low, high = axes.get_xlim()
    ticks = [t for t in axes.xaxis.get_major_ticks() if low <= t.get_loc() <= high]
    boxes = sorted((tick.label1.get_window_extent() for tick in ticks), key=lambda box: box.x0)
    assert len(boxes) >= 2 and all(left.x1 < right.x0 for left, right in zip(boxes, boxes[1:]))


def test_points_of_few_classes_are_stronger() -> None:
    with figure_style():
        few, many = (accuracy_along_counts(metrics_of(0.4, n))[0].lines[0] for n in (60, 400))
    assert few.get_alpha() > many.get_alpha() and few.get_markersize() > many.get_markersize()
    assert np.shape(many.get_xdata()) == (400,)
