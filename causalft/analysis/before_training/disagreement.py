"""What strata disagree on: images that they answer differently, and classes that one of them recognises better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.data.groups import class_accuracy, prior_groups
from causalft.errors import CausalFTError
from causalft.runs.documents import Document

__all__ = ["ClassContrast", "Disagreement", "find_disagreement"]


@dataclass(frozen=True)
class ClassContrast:
    """A class on which the strata differ.

    Attributes
    ----------
    name : str
    best, worst : str
        The strata with the highest and lowest accuracy.
    accuracy : dict of str to float
        Of each stratum.
    P : dict of str to str
        Group by the prior of each stratum.
    n_test : int
    """

    name: str
    best: str
    worst: str
    accuracy: dict[str, float]
    P: dict[str, str]
    n_test: int

    @property
    def difference(self) -> float:
        """Accuracy of the best stratum less that of the worst."""
        return self.accuracy[self.best] - self.accuracy[self.worst]

    def to_json(self) -> Document:
        """A JSON object."""
        return {
            "class": self.name,
            "best": self.best,
            "worst": self.worst,
            "accuracy": self.accuracy,
            "P": self.P,
            "n_test": self.n_test,
        }


@dataclass(frozen=True)
class Disagreement:
    """How far the predictions of strata differ on the same test images; shares are fractions of the images.

    Attributes
    ----------
    pairs : dict of (str, str) to float
        Share of the images that two strata put into different classes.
    all_right, some_right : float
        Images that every stratum, and at least one stratum, gets right. No choice between the strata gets more than
        ``some_right``.
    classes : tuple of ClassContrast
        Classes on which the strata differ most, the largest difference first.
    """

    pairs: dict[tuple[str, str], float]
    all_right: float
    some_right: float
    classes: tuple[ClassContrast, ...]

    def to_json(self) -> Document:
        """A JSON object."""
        return {
            "pairs": [{"strata": list(names), "different": share} for names, share in self.pairs.items()],
            "all_right": self.all_right,
            "some_right": self.some_right,
            "classes": [found.to_json() for found in self.classes],
        }


def find_disagreement(
    labels: ArrayLike,
    predicted: Mapping[str, ArrayLike],
    priors: Mapping[str, ArrayLike],
    class_names: Sequence[str],
    *,
    most: int = 10,
) -> Disagreement:
    """Find what strata disagree on.

    Parameters
    ----------
    labels : (n,) array of int in [0, K)
        Of the test images.
    predicted : mapping of M names to (n,) arrays of int in [0, K)
    priors : mapping of the M names to (K,) arrays
    class_names : sequence of K str
    most : int
        Classes kept.

    Raises
    ------
    CausalFTError
        If a stratum has predictions for other images.

    Examples
    --------
    >>> found = find_disagreement([0, 0, 1, 1], {"a": [0, 0, 0, 0], "b": [0, 1, 1, 1]},
    ...                           {"a": [0.8, 0.2], "b": [0.3, 0.7]}, ["cat", "lynx"])
    >>> found.pairs, found.some_right, found.classes[0].name, found.classes[0].best, found.classes[0].P
    ({('a', 'b'): 0.75}, 1.0, 'lynx', 'b', {'a': 'few', 'b': 'many'})
    """
    y, names = np.asarray(labels), list(predicted)
    classes = {name: np.asarray(predicted[name]) for name in names}
    for name, found in classes.items():
        if found.shape != y.shape:
            raise CausalFTError(f"'{name}' has predictions of shape {found.shape} for {len(y)} test images")
    right = np.stack([classes[name] == y for name in names])
    n_test = np.bincount(y, minlength=len(class_names))
    accuracy = class_accuracy(right, y, len(class_names))
    groups = {name: prior_groups(priors[name]) for name in names}
    apart = np.where(n_test > 0, np.ptp(np.nan_to_num(accuracy), axis=0), 0.0)
    order = [k for k in np.argsort(-apart, kind="stable")[:most] if apart[k] > 0]
    return Disagreement(
        pairs={
            (one, other): float((classes[one] != classes[other]).mean())
            for place, one in enumerate(names)
            for other in names[place + 1 :]
        },
        all_right=float(right.all(axis=0).mean()),
        some_right=float(right.any(axis=0).mean()),
        classes=tuple(_contrast(k, names, accuracy, groups, class_names, n_test) for k in order),
    )


def _contrast(
    k: int,
    names: list[str],
    accuracy: NDArray[np.float64],
    groups: Mapping[str, NDArray[np.str_]],
    class_names: Sequence[str],
    n_test: NDArray[np.int64],
) -> ClassContrast:
    return ClassContrast(
        name=class_names[k],
        best=names[int(accuracy[:, k].argmax())],
        worst=names[int(accuracy[:, k].argmin())],
        accuracy={name: float(accuracy[i, k]) for i, name in enumerate(names)},
        P={name: str(groups[name][k]) for name in names},
        n_test=int(n_test[k]),
    )
