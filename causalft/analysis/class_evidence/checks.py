"""What a reviewer asks of the slope: ceilings, names with two meanings, bent effects, one model, one sort of class."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.class_evidence.regression import Draws, Estimate, Regression, within
from causalft.runs.documents import Document

__all__ = ["Check", "checks"]

Floats = NDArray[np.float64]

_FEWEST = 20
"""Classes below which a part of them is not looked at."""

_BLOCK = 20
"""Neighbouring classes that are drawn together."""


@dataclass(frozen=True)
class Check:
    """The slope under one objection.

    Attributes
    ----------
    name : str
        Key in documents.
    words : str
        What was done.
    slope : Estimate
        Accuracy (a fraction) per factor 100; that of ``bend`` is its change over a factor 100.
    n_classes, n_models : int
        That remain.
    """

    name: str
    words: str
    slope: Estimate
    n_classes: int
    n_models: int

    def to_json(self) -> Document:
        """``{words, estimate, ci95, ..., n_classes, n_models}`` in points."""
        return {
            "words": self.words,
            **self.slope.to_json(),
            "n_classes": self.n_classes,
            "n_models": self.n_models,
        }


def checks(
    accuracy: Floats,
    log_counts: Floats,
    models: Sequence[str],
    classes: Sequence[str],
    *,
    outside: Floats | None = None,
    variance: Floats | None = None,
    subsets: Mapping[str, tuple[str, NDArray[np.bool_]]] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> list[Check]:
    """Fit the slope again under each objection.

    Parameters
    ----------
    accuracy, log_counts : (M, K) arrays
        Of 2 or more models.
    models, classes : sequences of M and of K str
    outside : (R, K) array, optional
        Accuracies of further models, which measure class difficulty from outside.
    variance : (M, K) array, optional
        Of the accuracies over test images.
    subsets : mapping of str to (str, (K,) array of bool), optional
        Further parts of the classes: name to words and mask.
    n_boot, seed : int
    """
    n_models, n_classes = accuracy.shape
    whole = Draws(n_classes, n_boot, seed)
    found = []

    def add(
        name: str, words: str, mask: NDArray[np.bool_] | None = None, rows: Sequence[int] | None = None
    ) -> None:
        chosen = np.ones(n_classes, dtype=bool) if mask is None else mask
        if chosen.sum() < min(_FEWEST, n_classes) or (mask is not None and chosen.all()):
            return
        at = np.ix_(np.arange(n_models) if rows is None else np.array(rows), np.flatnonzero(chosen))
        draws = whole if chosen.all() else Draws(int(chosen.sum()), n_boot, seed)
        part = None if variance is None else variance[at]
        [slope] = Regression(accuracy[at], [log_counts[at]]).estimates(draws, part)
        found.append(Check(name, words, slope, int(chosen.sum()), len(at[0])))

    def add_given(name: str, words: str, others: list[Floats], place: int = 0, unit: float = 2.0) -> None:
        slopes = Regression(accuracy, [log_counts, *others]).estimates(whole, variance, unit)
        found.append(Check(name, words, slopes[place], n_classes, n_models))

    for name, words, mask in _parts(accuracy, log_counts, classes):
        add(name, words, mask)
    for name, (words, mask) in (subsets or {}).items():
        add(name, words, mask)
    if n_classes >= 10 * _BLOCK:
        [slope] = Regression(accuracy, [log_counts]).estimates(
            Draws(n_classes, n_boot, seed, _BLOCK), variance
        )
        words = f"interval over blocks of {_BLOCK} neighbours in the list, which may be akin"
        found.append(Check("neighbours", words, slope, n_classes, n_models))
    if outside is not None and len(outside):
        # A class that is hard for other models may cost a weak model more than a strong one.
        hard = outside.mean(axis=0)
        each = [np.eye(n_models)[m][:, None] * (hard - hard.mean()) for m in range(1, n_models)]
        names = "one further model" if len(outside) == 1 else f"{len(outside)} further models"
        add_given(
            "difficulty_by_model",
            f"difficulty, measured by {names}, may weigh differently in each model",
            each,
        )
    # A weak model may need more pre-training images of any class, by whatever prior they are counted.
    level = log_counts.mean(axis=0)
    levels = [np.eye(n_models)[m][:, None] * (level - level.mean()) for m in range(1, n_models)]
    words = "the mean log count over the models may weigh differently in each model"
    add_given("popularity_by_model", words, levels)
    # The slope between two counts a factor 100 apart changes by this much when both rise by a factor 100.
    middle = log_counts - log_counts.mean()
    add_given("bend", "change of the slope where both counts are a factor 100 higher", [middle**2], 1, 8.0)
    if n_models > 2:
        for m, model in enumerate(models):
            add(f"without {model}", f"without the model {model}", rows=[r for r in range(n_models) if r != m])
    return found


def _parts(
    accuracy: Floats, log_counts: Floats, classes: Sequence[str]
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    mean = accuracy.mean(axis=0)
    yield "no_ceiling", "only classes with a mean accuracy of 20 to 80 %", (mean >= 0.2) & (mean <= 0.8)
    several = np.array([len(re.findall(r"[^\W_]+", name)) > 1 for name in classes])
    yield "one_word", "only classes named by one word, which may have other meanings", ~several
    yield "several_words", "only classes named by several words", several
    level = log_counts.mean(axis=0)
    rank = np.argsort(np.argsort(level, kind="stable"), kind="stable") / len(level)
    yield "not_generic", "without the tenth of the classes with the highest counts", rank < 0.9
    for name, words, low, high in (
        ("rare", "only the third of the classes with the lowest counts", 0.0, 1 / 3),
        ("middle", "only the middle third by counts", 1 / 3, 2 / 3),
        ("common", "only the third with the highest counts", 2 / 3, 1.1),
    ):
        yield name, words, (rank >= low) & (rank < high)
    half = np.arange(len(level)) < len(level) / 2
    yield "first_half", "only the first half of the list of classes", half
    yield "second_half", "only the second half of the list of classes", ~half
    lever = (within(log_counts) ** 2).sum(axis=0)
    outlying = "without the twentieth of the classes whose counts differ most between the models"
    yield "no_outliers", outlying, lever <= np.quantile(lever, 0.95)
