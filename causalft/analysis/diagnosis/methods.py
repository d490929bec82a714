"""Methods side by side on one test set: accuracy by count group, and paired differences with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.diagnosis.intervals import Interval, bootstrap
from causalft.analysis.diagnosis.parameter_imbalance import group_vectors
from causalft.data.groups import GROUPS, data_groups
from causalft.errors import CausalFTError, nearest

__all__ = ["compare_methods"]

MEASURES = ("accuracy", *GROUPS)


def compare_methods(
    labels: ArrayLike,
    class_counts: ArrayLike,
    models: Mapping[str, Sequence[ArrayLike]],
    comparisons: Mapping[str, tuple[str, str, str]],
    *,
    n_boot: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score methods on the same test images and the same seeds, and compare them in pairs.

    Parameters
    ----------
    labels : (n,) array of int in [0, K)
        Of the test images.
    class_counts : (K,) array of int
        Training images per class, for the D groups.
    models : mapping of method to sequence of (S, n, K) arrays
        Scores of S seeds, the largest is the prediction. A method of several arrays (one a stratum) is scored by their
        mean accuracy.
    comparisons : mapping of words to (method, other method, measure)
        Differences to estimate; the measure is ``accuracy``, ``many``, ``medium`` or ``few``.
    n_boot, seed : int
        Of :func:`causalft.analysis.diagnosis.intervals.bootstrap`.

    Returns
    -------
    dict
        ``methods[name][measure]`` and ``paired[words]``: intervals as JSON, None for a group without a tested class.

    Raises
    ------
    CausalFTError
        For a comparison of an unknown method or in an unknown measure.

    Examples
    --------
    >>> labels = np.repeat([0, 1], 50)
    >>> right, guess = np.eye(2)[labels][None], np.tile([1.0, 0.0], (1, 100, 1))
    >>> found = compare_methods(labels, [200, 5], {"right": [right], "guess": [guess]},
    ...                         {"gain": ("right", "guess", "few")})
    >>> found["methods"]["guess"]["accuracy"]["estimate"], found["paired"]["gain"]["estimate"]
    (0.5, 1.0)
    """
    for words, (one, other, measure) in comparisons.items():
        for name in (one, other):
            if name not in models:
                raise CausalFTError(f"comparison '{words}' names no method '{name}'; {nearest(name, models)}")
        if measure not in MEASURES:
            raise CausalFTError(
                f"comparison '{words}' is in no measure '{measure}'; {nearest(measure, MEASURES)}"
            )
    y, counts = np.asarray(labels), np.asarray(class_counts)
    n_classes = len(counts)
    shares = np.bincount(y, minlength=n_classes) / len(y)
    vectors = np.concatenate([shares[None], group_vectors(data_groups(counts), shares > 0)])
    correct = np.stack(
        [np.asarray(scores).argmax(-1) == y for arrays in models.values() for scores in arrays]
    )
    ends = np.cumsum([len(arrays) for arrays in models.values()])
    rows = {
        name: slice(end - len(arrays), end) for (name, arrays), end in zip(models.items(), ends, strict=True)
    }
    column = {measure: index for index, measure in enumerate(MEASURES)}

    def statistics(class_acc: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        by_measure = np.nan_to_num(class_acc) @ vectors.T
        of = {name: by_measure[:, r].mean(axis=1) for name, r in rows.items()}
        methods = np.stack(list(of.values()), axis=1)
        paired = [of[one][:, column[m]] - of[other][:, column[m]] for one, other, m in comparisons.values()]
        return {"methods": methods, "paired": np.stack(paired, axis=1) if paired else methods[:, :0, 0]}

    found = bootstrap(statistics, correct, y, n_classes, n_boot=n_boot, seed=seed)
    for index, (one, other, _) in enumerate(comparisons.values()):
        if found["paired"][index].exists and _same(models[one], models[other]):
            found["paired"][index] = Interval(0.0, 0.0, 0.0, 1.0)  # by construction: nothing is left to vary

    def shown(interval: Any) -> dict[str, Any] | None:
        return interval.to_json() if interval.exists else None

    return {
        "methods": {
            name: dict(zip(MEASURES, map(shown, found["methods"][index]), strict=True))
            for index, name in enumerate(models)
        },
        "paired": dict(zip(comparisons, map(shown, found["paired"]), strict=True)),
    }


def _same(one: Sequence[ArrayLike], other: Sequence[ArrayLike]) -> bool:
    """Whether two methods are one: the same scores of every image."""
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
