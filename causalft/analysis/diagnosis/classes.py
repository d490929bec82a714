"""The classes that a model does worst on: groups, accuracy before and after fusion, confusions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.diagnosis.answers import Answers
from causalft.analysis.diagnosis.intervals import Interval
from causalft.data.groups import data_groups, prior_groups
from causalft.errors import CausalFTError
from causalft.runs.documents import Document
from causalft.runs.intervals import share_interval

__all__ = [
    "ClassReport",
    "Confusion",
    "Miss",
    "frequent_confusions",
    "report_worst",
    "worst_classes",
    "worst_classes_line",
]


@dataclass(frozen=True)
class Confusion:
    """A wrong class and the share of a class's test images predicted as it."""

    name: str
    share: float


@dataclass(frozen=True)
class Miss:
    """A misclassified test image (its row), the predicted class and its probability."""

    row: int
    taken_for: str
    probability: float


@dataclass(frozen=True)
class ClassReport:
    """What is known of one class.

    Attributes
    ----------
    name : str
    n_train, n_test : int
        Images.
    D : str
        Group by training images: many, medium or few.
    P : dict of str to str
        Stratum to the group by its prior; "unknown" where that is not known.
    zero_shot, single, fused : Interval
        Accuracy of the best single stratum before and after tuning, and of the fusion, with 95 % intervals over test
        images; NaN where there is no such model.
    confused_with : tuple of Confusion
        The fusion's most frequent wrong classes, most frequent first.
    misses : tuple of Miss
        Test images that the fusion gets wrong, the most confident first.
    examples : tuple of int
        Rows of training images of the class.
    """

    name: str
    n_train: int
    n_test: int
    D: str
    P: dict[str, str]
    zero_shot: Interval
    single: Interval
    fused: Interval
    confused_with: tuple[Confusion, ...]
    misses: tuple[Miss, ...] = ()
    examples: tuple[int, ...] = ()

    def to_json(self) -> Document:
        """The entry of ``worst_classes`` in ``metrics.json``; it names no image."""
        return {
            "class": self.name,
            "n_train": self.n_train,
            "n_test": self.n_test,
            "D": self.D,
            "P": self.P,
            **{
                name: _share(value)
                for name, value in (
                    ("zero_shot", self.zero_shot),
                    ("single", self.single),
                    ("fused", self.fused),
                )
            },
            "confused_with": [{"class": c.name, "share": c.share} for c in self.confused_with],
        }


def worst_classes(
    labels: ArrayLike,
    class_names: Sequence[str],
    class_counts: ArrayLike,
    fused_probs: ArrayLike,
    priors: Mapping[str, ArrayLike],
    *,
    single_probs: ArrayLike | None = None,
    zero_shot: ArrayLike | None = None,
    train_labels: ArrayLike | None = None,
    among: ArrayLike | None = None,
    n_classes: int = 10,
    n_confusions: int = 3,
    n_misses: int = 4,
    n_examples: int = 2,
) -> list[ClassReport]:
    """The classes with the lowest accuracy of the fused model, lowest first.

    Ties go to the class with more test images, then by index. Classes without a test image, or with none wrong, are
    left out.

    Parameters
    ----------
    labels : (n,) array of int in [0, K)
        Of the test images.
    class_names : sequence of K str
    class_counts : (K,) array of int
        Training images per class.
    fused_probs, single_probs : (S, n, K) or (n, K) arrays
        Scores of S seeds: the fused model, and the best single stratum. Accuracies and confusions are means over seeds;
        misses are those of the first, whose classifier is saved.
    priors : mapping of str to (K,) arrays
        Label prior of each stratum, NaN where it is not known.
    zero_shot : (n, K) array, optional
        Logits of the single stratum before tuning.
    train_labels : (n_train,) array of int, optional
        To choose examples from.
    among : (K,) array of bool, optional
        Consider these classes only.
    n_classes, n_confusions, n_misses, n_examples : int
        Maximum numbers.

    Raises
    ------
    CausalFTError
        If names, counts and probabilities are not of the same K classes.

    Examples
    --------
    >>> probs = np.array([[0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.0, 0.3, 0.7]])
    >>> found = worst_classes([0, 1, 2], ["cat", "lynx", "mole"], [200, 9, 50], probs, {"clip": [0.6, 0.1, 0.3]})
    >>> [(c.name, c.D, c.P["clip"], c.fused.estimate, c.confused_with[0]) for c in found]
    [('lynx', 'few', 'few', 0.0, Confusion(name='cat', share=1.0))]
    """
    y, names, counts = np.asarray(labels), list(class_names), np.asarray(class_counts)
    fused = _seeds(fused_probs)
    k = len(names)
    if counts.shape != (k,) or fused.shape[1:] != (len(y), k):
        raise CausalFTError(
            f"{k} class names, counts of shape {counts.shape} and probabilities of shape {fused.shape} for {len(y)} "
            "images do not belong together"
        )
    return report_worst(
        y,
        names,
        counts,
        Answers.of(fused, y),
        priors,
        single=None if single_probs is None else _seeds(single_probs).argmax(axis=-1),
        zero_shot=None if zero_shot is None else _seeds(zero_shot).argmax(axis=-1),
        train_labels=train_labels,
        among=among,
        n_classes=n_classes,
        n_confusions=n_confusions,
        n_misses=n_misses,
        n_examples=n_examples,
    )


def report_worst(
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    class_counts: NDArray[Any],
    fused: Answers,
    priors: Mapping[str, ArrayLike],
    *,
    single: NDArray[Any] | None = None,
    zero_shot: NDArray[Any] | None = None,
    train_labels: ArrayLike | None = None,
    among: ArrayLike | None = None,
    n_classes: int = 10,
    n_confusions: int = 3,
    n_misses: int = 4,
    n_examples: int = 2,
) -> list[ClassReport]:
    """:func:`worst_classes` of answers; ``single`` and ``zero_shot`` are predicted classes (S, n)."""
    y, names, counts = labels, list(class_names), class_counts
    k = len(names)
    n_test = np.bincount(y, minlength=k)
    accuracy = _accuracy(fused.predicted, y, n_test)
    d_groups = data_groups(counts)
    p_groups = {name: prior_groups(prior) for name, prior in priors.items()}
    alone = None if single is None else _accuracy(single, y, n_test)
    before = None if zero_shot is None else _accuracy(zero_shot, y, n_test)
    considered = (n_test > 0) if among is None else (n_test > 0) & np.asarray(among, dtype=bool)
    order = [i for i in np.lexsort((np.arange(k), -n_test, accuracy)) if considered[i] and accuracy[i] < 1]
    return [
        ClassReport(
            name=names[i],
            n_train=int(counts[i]),
            n_test=int(n_test[i]),
            D=str(d_groups[i]),
            P={name: str(groups[i]) for name, groups in p_groups.items()},
            zero_shot=_with_interval(None if before is None else before[i], n_test[i]),
            single=_with_interval(None if alone is None else alone[i], n_test[i]),
            fused=_with_interval(accuracy[i], n_test[i]),
            confused_with=_confusions(fused.predicted, y, i, names, n_confusions),
            misses=_misses(fused, y, i, names, n_misses),
            examples=_examples(train_labels, i, n_examples),
        )
        for i in order[:n_classes]
    ]


def frequent_confusions(
    labels: ArrayLike, predicted: ArrayLike, class_names: Sequence[str], most: int = 3
) -> list[tuple[Confusion, ...]]:
    """The most frequent wrong classes of every class, most frequent first: K tuples.

    Parameters
    ----------
    labels, predicted : (n,) arrays of int in [0, K)
    class_names : sequence of K str
    most : int

    Examples
    --------
    >>> frequent_confusions([0, 0, 0, 1], [1, 1, 0, 1], ["lynx", "cat"])
    [(Confusion(name='cat', share=0.6666666666666666),), ()]
    """
    y, taken, k = np.asarray(labels), np.asarray(predicted), len(class_names)
    n_test = np.bincount(y, minlength=k)
    wrong = taken != y
    pairs, times = np.unique(y[wrong].astype(np.int64) * k + taken[wrong], return_counts=True)
    found: list[list[Confusion]] = [[] for _ in range(k)]
    for at in np.lexsort((pairs, -times)):
        i, j = divmod(int(pairs[at]), k)
        if len(found[i]) < most:
            found[i].append(Confusion(class_names[j], float(times[at] / n_test[i])))
    return [tuple(each) for each in found]


def worst_classes_line(reports: Sequence[ClassReport], most: int = 3) -> str:
    """One line that names the worst classes; empty if every test image is right.

    Examples
    --------
    >>> never = Interval(*[float("nan")] * 4)
    >>> lynx = ClassReport("lynx", 9, 8, "few", {}, never, never, Interval(0.125, 0.02, 0.47, float("nan")), ())
    >>> worst_classes_line([lynx])
    'worst classes: lynx 12.5 % (of 8 test images)'
    """
    if not reports:
        return ""
    words = [
        f"{c.name} {100 * c.fused.estimate:.1f} % (of {c.n_test} test image{'s' * (c.n_test != 1)})"
        for c in reports[:most]
    ]
    return f"worst classes: {', '.join(words)}"


def _seeds(values: ArrayLike) -> NDArray[Any]:
    array = np.asarray(values)
    return array[None] if array.ndim == 2 else array


def _accuracy(predicted: NDArray[Any], y: NDArray[Any], n_test: NDArray[Any]) -> NDArray[np.float64]:
    """Accuracy of each class, mean over seeds; NaN for a class without a test image."""
    right = (predicted == y).mean(axis=0)
    hits = np.bincount(y, weights=right, minlength=len(n_test))
    return np.divide(hits, n_test, out=np.full(len(n_test), np.nan), where=n_test > 0)


def _with_interval(share: float | None, n: int) -> Interval:
    """Accuracy over n images with its mid-p interval, whose width is never zero."""
    if share is None:
        return Interval.none("no test image of this class")
    low, high = share_interval(share, n)
    return Interval(float(share), float(low), float(high), float("nan"))


def _confusions(
    predicted: NDArray[Any], y: NDArray[Any], i: int, names: Sequence[str], most: int
) -> tuple[Confusion, ...]:
    taken = predicted[:, y == i]
    shares = np.bincount(taken.ravel(), minlength=len(names)) / taken.size
    shares[i] = 0.0
    order = np.argsort(-shares, kind="stable")[:most]
    return tuple(Confusion(names[j], float(shares[j])) for j in order if shares[j] > 0)


def _misses(fused: Answers, y: NDArray[Any], i: int, names: Sequence[str], most: int) -> tuple[Miss, ...]:
    rows = np.flatnonzero(y == i)
    taken, surety = fused.predicted[0, rows], fused.confidence[0, rows]
    wrong = np.flatnonzero(taken != i)
    order = wrong[np.argsort(-surety[wrong], kind="stable")][:most]
    return tuple(Miss(int(rows[j]), names[taken[j]], float(surety[j])) for j in order)


def _examples(train_labels: ArrayLike | None, i: int, most: int) -> tuple[int, ...]:
    """Rows spread over the training images of a class."""
    if train_labels is None:
        return ()
    rows = np.flatnonzero(np.asarray(train_labels) == i)
    if not len(rows):
        return ()
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))
    return tuple(int(rows[j]) for j in chosen)


def _share(value: Interval) -> Document | None:
    return {"accuracy": value.estimate, "ci95": [value.low, value.high]} if value.exists else None
