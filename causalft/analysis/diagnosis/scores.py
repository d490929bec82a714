"""Methods side by side on one test set: accuracy by group, and paired differences with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.diagnosis.answers import predicted_classes
from causalft.analysis.diagnosis.intervals import Interval, bootstrap
from causalft.analysis.diagnosis.parameter_imbalance import group_vectors
from causalft.analysis.diagnosis.result import Groups
from causalft.data.groups import GROUPS, class_accuracy, data_groups, group_accuracy, prior_groups
from causalft.errors import CausalFTError, nearest
from causalft.methods.priors.estimate import check_simplex
from causalft.runs.documents import Document

__all__ = [
    "Comparison",
    "GLAScore",
    "GLAScores",
    "ZeroShotScores",
    "compare_methods",
    "score_gla",
    "score_zero_shot",
]

MEASURES = ("accuracy", *GROUPS)


@dataclass(frozen=True)
class Comparison:
    """Methods on the same test images.

    Attributes
    ----------
    methods : dict of str to dict of str to Interval
        Method to measure to its value, which does not exist for a group without a tested class.
    paired : dict of str to Interval
        The differences that were asked for, by their words.
    """

    methods: dict[str, dict[str, Interval]]
    paired: dict[str, Interval]

    def to_metrics(self) -> Document:
        """A JSON document; null for what does not exist."""
        return {
            "methods": {
                name: {measure: value.to_json_or_null() for measure, value in found.items()}
                for name, found in self.methods.items()
            },
            "paired": {words: value.to_json_or_null() for words, value in self.paired.items()},
        }


def compare_methods(
    labels: ArrayLike,
    class_counts: ArrayLike,
    models: Mapping[str, Sequence[ArrayLike]],
    comparisons: Mapping[str, tuple[str, str, str]],
    *,
    n_boot: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Score methods on the same test images and seeds, and compare them in pairs.

    Parameters
    ----------
    labels : (n,) array of int in [0, K)
        Of the test images.
    class_counts : (K,) array of int
        Training images per class, for the D groups.
    models : mapping of method to sequence of (S, n, K) arrays
        Scores of S seeds, the largest is the prediction. Several arrays (one per stratum) are scored by their mean
        accuracy.
    comparisons : mapping of words to (method, other method, measure)
        Differences to estimate; the measure is ``accuracy``, ``many``, ``medium`` or ``few``.
    n_boot, seed : int
        Of :func:`causalft.analysis.diagnosis.intervals.bootstrap`.

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
    >>> found.methods["guess"]["accuracy"].estimate, found.paired["gain"].estimate
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

    def statistics(by_measure: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        of = {name: by_measure[:, r].mean(axis=1) for name, r in rows.items()}
        methods = np.stack(list(of.values()), axis=1)
        paired = [of[one][:, column[m]] - of[other][:, column[m]] for one, other, m in comparisons.values()]
        return {"methods": methods, "paired": np.stack(paired, axis=1) if paired else methods[:, :0, 0]}

    found = bootstrap(statistics, correct, y, n_classes, vectors=vectors, n_boot=n_boot, seed=seed)
    for index, (one, other, _) in enumerate(comparisons.values()):
        if found["paired"][index].exists and _same(models[one], models[other]):
            found["paired"][index] = Interval(0.0, 0.0, 0.0, 1.0)  # by construction: nothing is left to vary

    return Comparison(
        methods={
            name: dict(zip(MEASURES, found["methods"][index], strict=True))
            for index, name in enumerate(models)
        },
        paired=dict(zip(comparisons, found["paired"], strict=True)),
    )


def _same(one: Sequence[ArrayLike], other: Sequence[ArrayLike]) -> bool:
    """Whether two methods give every image the same scores."""
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@dataclass(frozen=True)
class GLAScore:
    """GLA-FT of one classifier, on the test images of all seeds.

    Attributes
    ----------
    accuracy : Interval
        Share of the images that are right.
    class_mean : Interval
        Mean over the classes that have a test image, as the difference and the groups are.
    difference : Interval
        The paired one to the same classifier without GLA.
    D : dict of str to float or None
        By group of training count.
    P : dict
        By group of the stratum's prior; for the fusion, each stratum to the groups by its prior.
    """

    accuracy: Interval
    class_mean: Interval
    difference: Interval
    D: Groups
    P: Groups | dict[str, Groups]

    def to_metrics(self) -> Document:
        """A JSON document."""
        return {
            "accuracy": self.accuracy.estimate,
            "ci95": self.accuracy.ci95,
            "mean_class_accuracy": self.class_mean.estimate,
            "mean_class_ci95": self.class_mean.ci95,
            "difference": self.difference.to_json(),
            "D": self.D,
            "P": self.P,
        }


@dataclass(frozen=True)
class GLAScores:
    """GLA-FT of each stratum, and of the fusion."""

    strata: dict[str, GLAScore]
    fused: GLAScore


def score_gla(
    labels: ArrayLike,
    class_counts: ArrayLike,
    tuned: Mapping[str, ArrayLike],
    fused: ArrayLike,
    with_gla: Mapping[str, ArrayLike],
    fused_with_gla: ArrayLike,
    priors: Mapping[str, ArrayLike],
    *,
    seed: int = 0,
) -> GLAScores:
    """Score GLA-FT beside the tuned strata and beside their fusion.

    Parameters
    ----------
    labels : (n,) array of int in [0, K)
        Of the test images.
    class_counts : (K,) array of int
        Training images per class.
    tuned, with_gla : mapping of M names to (S, n) arrays of int in [0, K)
        Predicted classes of S seeds, without and with GLA.
    fused, fused_with_gla : (S, n) arrays of int in [0, K)
        Those of their fusions.
    priors : mapping of the M names to (K,) arrays
    seed : int
        Of the bootstrap.
    """
    names, y, n_classes = list(tuned), np.asarray(labels), len(np.asarray(class_counts))
    rows = [*tuned.values(), fused, *with_gla.values(), fused_with_gla]
    correct = np.stack([np.asarray(predicted) == y for predicted in rows])
    test_counts = np.bincount(y, minlength=n_classes)
    shares = np.stack([test_counts / len(y), (test_counts > 0) / np.count_nonzero(test_counts)])
    half = len(rows) // 2

    def statistics(products: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        of_images, mean = np.moveaxis(products, -1, 0)
        return {
            "accuracy": of_images[:, half:],
            "class_mean": mean[:, half:],
            "difference": mean[:, half:] - mean[:, :half],
        }

    found = bootstrap(statistics, correct, y, n_classes, vectors=shares, seed=seed)
    by_class = class_accuracy(correct[half:], y, n_classes).mean(axis=1)
    d_groups = data_groups(class_counts)
    p_groups = {name: prior_groups(priors[name]) for name in names}

    def score(row: int, P: Groups | dict[str, Groups]) -> GLAScore:
        return GLAScore(
            accuracy=found["accuracy"][row],
            class_mean=found["class_mean"][row],
            difference=found["difference"][row],
            D=group_accuracy(by_class[row], d_groups),
            P=P,
        )

    of_fused = by_class[half - 1]
    return GLAScores(
        {name: score(row, group_accuracy(by_class[row], p_groups[name])) for row, name in enumerate(names)},
        score(half - 1, {name: group_accuracy(of_fused, groups) for name, groups in p_groups.items()}),
    )


@dataclass(frozen=True)
class ZeroShotScores:
    """Zero-shot accuracy of one stratum, with and without its log prior (GLA-ZS), known or estimated.

    ``accuracy`` and ``gla_accuracy`` are fractions of correct images; ``mean_class_...`` and the groups ``P`` by the
    prior are means over classes with test images.
    """

    accuracy: float
    gla_accuracy: float
    mean_class_accuracy: float
    mean_class_gla_accuracy: float
    P: dict[str, float | None]


def score_zero_shot(
    labels: ArrayLike, logits: ArrayLike, prior: ArrayLike, *, gla_prior: ArrayLike | None = None
) -> ZeroShotScores:
    """Score zero-shot logits with and without their log prior, known or estimated.

    Parameters
    ----------
    labels : (n,) array of int in [0, K)
        Of the test images.
    logits : (n, K) array
    prior : (K,) array of positive numbers that sum to 1
        Of the groups; NaN where it is not known.
    gla_prior : (K,) array, optional
        What GLA subtracts; ``prior`` by default.

    Examples
    --------
    >>> found = score_zero_shot([0, 1], np.log([[0.8, 0.2], [0.7, 0.3]]), [0.75, 0.25])
    >>> found.accuracy, found.gla_accuracy
    (0.5, 1.0)
    """
    y, f = np.asarray(labels), np.asarray(logits)
    log_prior = np.log(check_simplex(prior if gla_prior is None else gla_prior, f.shape[1], "prior"))
    right = np.stack([predicted_classes(f) == y, predicted_classes(f, -log_prior) == y])
    by_class = class_accuracy(right, y, f.shape[1])
    mean = np.nanmean(by_class, axis=1)
    return ZeroShotScores(
        accuracy=float(right[0].mean()),
        gla_accuracy=float(right[1].mean()),
        mean_class_accuracy=float(mean[0]),
        mean_class_gla_accuracy=float(mean[1]),
        P=group_accuracy(by_class[0], prior_groups(prior)),
    )
