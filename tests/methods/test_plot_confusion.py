"""The confusion matrix: all of a few classes, the most mistaken of many, shares over all."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from causalft.methods.estimators.plots import plot_confusion


def drawn(axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"])
def test_a_few_classes_are_all_shown(normalize) -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(5, size=(2, 200))
    found = plot_confusion(truth, predicted, np.array(list("abcdef")), normalize=normalize)
    wanted = confusion_matrix(truth, predicted, labels=np.arange(6), normalize=normalize)
    np.testing.assert_allclose(drawn(found), wanted)


def test_of_many_classes_the_most_mistaken_are_shown() -> None:
    n_classes = 8142
    truth = np.repeat(np.arange(n_classes), 3)
    predicted = truth.copy()
    mistaken = np.arange(0, 300, 10)  # 30 classes, each once taken for the next of them
    predicted[3 * mistaken] = np.roll(mistaken, -1)
    names = np.array([f"kind {k}" for k in range(n_classes)])
    axes = plot_confusion(truth, predicted, names)
    wanted = np.eye(30) * 2 / 3 + np.roll(np.eye(30), 1, axis=1) / 3
    np.testing.assert_allclose(drawn(axes), wanted)
    assert [label.get_text() for label in axes.get_xticklabels()] == names[mistaken].tolist()
    assert axes.get_title() == "30 of 8,142 classes, those mistaken most often"
