"""The image sets of a classifier, from what Python code passes to fit and score."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.data.given import given_images, labelled_images, numbered_labels
from causalft.data.image_set import ImageSet
from causalft.data.splits import cut_splits
from causalft.errors import CausalFTError, CausalFTWarning
from causalft.models.pretraining.leakage import keep_apart, pretraining_pool
from causalft.models.strata.zoo import Zoo

__all__ = ["GivenSets", "fit_sets", "scored_images"]

GivenSets = tuple[ImageSet, ImageSet, ImageSet | None, NDArray[Any]]


def fit_sets(
    images: Any,
    y: ArrayLike | None,
    validation: Any,
    test: Any,
    class_names: Sequence[str] | None,
    seed: int,
    zoo: Zoo,
) -> GivenSets:
    """Return training, validation and test images with one list of classes, and the label of each class.

    Parameters
    ----------
    images, y, class_names
        As :func:`causalft.data.given.labelled_images`.
    validation : ImageSet, path or (images, labels), optional
        Default: the validation split of the images, or a share of each class cut from them.
    test : ImageSet, path or (images, labels), optional
        Default: the test split of the images, if any.
    seed : int
        Of the cut.
    zoo : Zoo
        Images that a home-made zoo was pre-trained on are left out before the cut.

    Raises
    ------
    CausalFTError
        As `labelled_images` and `cut_splits`.
    """
    train, classes = labelled_images(images, y, class_names)
    if y is not None and class_names is None and classes.dtype.kind in "iu":
        warnings.warn(
            f"the labels are numbers ({classes[0]}, ...), which say nothing to a text encoder; give class_names",
            CausalFTWarning,
            stacklevel=4,
        )
    held_out = None if validation is None else _labelled(validation, train.class_names, classes, "validation")
    tested = None if test is None else _labelled(test, train.class_names, classes, "test")
    if held_out is None:
        train = keep_apart(zoo, train, train.subset([]), None) if len(pretraining_pool(zoo)) else train
        cut = cut_splits(train, n_validation="auto", n_test=0, seed=seed)
        train, held_out = cut.train, cut.validation
        if tested is None and len(cut.test):
            tested = cut.test
    return train, held_out, tested, classes


def scored_images(
    images: Any, y: ArrayLike | None, classes: NDArray[Any]
) -> tuple[ImageSet, NDArray[np.int64]]:
    """Return images and the index of each label among the classes of a fitted classifier."""
    names = [str(label) for label in classes.tolist()]
    if y is None:
        found = labelled_images(images)[0].align_classes(names)
        return found, found.labels
    shown = given_images(images)
    truth = numbered_labels(y, names)
    if len(truth) != len(shown):
        raise CausalFTError(f"{len(shown)} images but {len(truth)} labels; give one label for each")
    return shown, truth


def _labelled(given: Any, class_names: Sequence[str], classes: NDArray[Any], what: str) -> ImageSet:
    """A set in the classes of the training images."""
    if isinstance(given, ImageSet):
        return given
    if isinstance(given, tuple) and len(given) == 2:
        images, labels = given
        places = numbered_labels(labels, classes.tolist())
        return labelled_images(images, [class_names[k] for k in places], class_names, name=what)[0]
    return labelled_images(given, name=what)[0].align_classes(class_names)
