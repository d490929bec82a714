"""When nothing may be concluded, and why a number does not exist: from facts to reasons."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.diagnosis.intervals import Interval
from causalft.runs.intervals import interval_text

__all__ = [
    "GroupFacts",
    "MEASURES",
    "MIN_CLASSES",
    "MIN_IMAGES",
    "MOST_IN_ONE_CLASS",
    "ModelFacts",
    "TEMPERATURES",
    "explain_missing",
    "facts_of",
    "grouped",
    "groups_of",
    "no_conclusion_lines",
    "reasons",
    "reasons_of_groups",
    "reasons_of_models",
    "statistic",
]


_NO_CLASS = "no class of the group has a test image"
_NO_GAP = "P-many or P-few has no class with a test image"
_ONE = "one stratum alone: its prior cannot be told from class difficulty"
_NO_SLOPE = "the slope takes two strata whose priors differ, and two classes with test images"
_NOTHING_TO_FUSE = "one stratum alone: the fusion is that stratum"
_SAME_FUSION = "the fusion is itself the mean of log-probabilities"
_NO_FALL = "the measure is not clearly above 0 before the fusion"
_NO_SHARE = "the gain of the strata is not clearly above 0"


MEASURES: dict[str, str] = {"P_gap": _NO_GAP, "own_minus_off_gap": _NO_GAP, "prior_slope": _NO_SLOPE}
"""Measures of the single models and of their fusion, and why one does not exist."""

PARTS = ("before", "after", "fall")
"""What is estimated of each measure: in the single models, in their fusion, and the share that fusion removes."""


def statistic(name: str, part: str = "", control: str = "") -> str:
    """Name of a statistic of a diagnosis, with the part of a measure and the control it belongs to."""
    return "/".join(word for word in (control, name, part) if word)


def explain_missing(
    found: Mapping[str, Any], strata: Sequence[str], fusion: str, controls: Sequence[str] = ()
) -> dict[str, Any]:
    """Give every null of a diagnosis its reason.

    A difference of a model from itself is 0 by construction and has no interval, and neither has a share of something
    that may be 0.

    Parameters
    ----------
    found : mapping of str to Interval or object array of Interval
        Of :func:`causalft.analysis.diagnosis.intervals.bootstrap`, named by `statistic`.
    strata : sequence of str
    fusion : str
    controls : sequence of str
        Names of the controls.
    """
    alone = len(strata) == 1
    done = {
        name: _or_none(value, _NO_GAP) if isinstance(value, Interval) else value
        for name, value in found.items()
    }
    done["gap"] = _each(found["gap"], lambda value: _or_none(value, _NO_GAP))
    done["groups"] = _each(found["groups"], lambda value: _or_none(value, _NO_CLASS))
    for control in ("", *controls):
        for measure, why in MEASURES.items():
            if alone and measure == "own_minus_off_gap":
                why = _ONE
            names = [statistic(measure, part, control) for part in PARTS]
            for name in names:
                done[name] = _or_none(found[name], why)
            before, _, fall = (done[name] for name in names)
            if fall.exists and not before.low > 0:
                done[names[-1]] = Interval.none(_NO_FALL, fall.estimate)
        if control:
            name = statistic("ensemble_share", control=control)
            share = _or_none(found[name], _NO_SHARE)
            done[name] = share if found["gain"].low > 0 else Interval.none(_NO_SHARE, share.estimate)
    if alone:
        for name in ("gain", "fused_minus_single", "fused_minus_logit_mean", "fused_minus_members_gap"):
            done[name] = _each(done[name], lambda value: _of_itself(value, _NOTHING_TO_FUSE))
    elif fusion == "logit":
        done["fused_minus_logit_mean"] = _of_itself(done["fused_minus_logit_mean"], _SAME_FUSION)
    return done


def _or_none(value: Interval, why: str) -> Interval:
    return value if value.exists else Interval.none(why)


def _of_itself(value: Interval, why: str) -> Interval:
    return Interval.none(why, 0.0) if value.estimate == 0 else value


def _each(values: Any, change: Any) -> Any:
    """Change an interval, or each of an object array of them."""
    if isinstance(values, Interval):
        return change(values)
    changed = np.empty(values.shape, dtype=object)
    for index in np.ndindex(values.shape):
        changed[index] = change(values[index])
    return changed


MOST_IN_ONE_CLASS = 0.9
"""A model that puts this share of the images into a class that holds at most half of them has collapsed: at most one
image in ten is left to tell the other classes apart."""

TEMPERATURES = (0.02, 10.0)
"""Temperatures outside are extreme. Trained networks need 1 to 3 (Guo et al., ICML 2017), mixtures of calibrated ones
somewhat less than 1, and far less where every validation image is right. At 10 odds of 22,000 to 1 become 2.7 to 1: the
probabilities said nothing of the labels. Below 0.02 the fit has run to its bound, 0.01: it never found a best value."""

MIN_IMAGES = 10
"""A group of fewer test images is too small: the interval of ten is 27 (all alike) to 59 points wide (half right), and
that of a gap between two such groups is wider still."""

MIN_CLASSES = 2
"""A group of one class tells of that class, not of what classes of its kind have in common."""


@dataclass(frozen=True)
class ModelFacts:
    """What decides whether a model's accuracies mean anything.

    Attributes
    ----------
    name : str
        As a sentence names it.
    accuracy : Interval
    n_classes : int
    largest_prediction : float
        Share of the test images predicted as the most frequent prediction.
    largest_label : float
        Share of the test images that are of that class.
    loss : float, optional
        Mean negative log-likelihood, nats.
    temperatures : tuple of float
        Fitted ones, if any.
    """

    name: str
    accuracy: Interval
    n_classes: int
    largest_prediction: float
    largest_label: float
    loss: float | None = None
    temperatures: tuple[float, ...] = ()


@dataclass(frozen=True)
class GroupFacts:
    """A group whose accuracy is compared with another's: tested classes and test images."""

    name: str
    n_classes: int
    n_images: int


def facts_of(
    name: str,
    predicted: ArrayLike,
    labels: ArrayLike,
    n_classes: int,
    accuracy: Interval,
    *,
    loss: float | None = None,
    temperatures: Sequence[float] = (),
) -> ModelFacts:
    """Facts of a model from its predictions.

    Parameters
    ----------
    name : str
    predicted : (n,) or (S, n) array of int in [0, K)
        Of all seeds.
    labels : (n,) array of int in [0, K)
    n_classes : int
    accuracy : Interval
    loss, temperatures
        As in `ModelFacts`.

    Examples
    --------
    >>> labels = np.repeat([0, 1], 20)
    >>> facts = facts_of("the fusion", np.zeros(40, int), labels, 2, Interval(.5, .35, .65, 0.0))
    >>> reasons_of_models([facts])[1]
    'the fusion puts 100 % of the test images into one class'
    """
    classes = np.asarray(predicted, dtype=np.int64)
    shares = np.bincount(classes.ravel(), minlength=n_classes) / classes.size
    most = int(shares.argmax())
    of_label = float((np.asarray(labels) == most).mean())
    return ModelFacts(
        name, accuracy, n_classes, float(shares[most]), of_label, loss, tuple(map(float, temperatures))
    )


def reasons_of_models(models: Sequence[ModelFacts]) -> tuple[str, ...]:
    """Why nothing may be concluded from these models: at chance, collapsed, or an extreme temperature.

    A model is at chance where the interval of its accuracy does not lie above 1 / K.

    Examples
    --------
    >>> at_chance = ModelFacts("the fusion", Interval(.125, .04, .28, 0.0), 8, .3, .1, loss=2.079, temperatures=(57.0,))
    >>> print("\\n".join(reasons_of_models([at_chance])))
    the fusion is at chance: 12.5 % [4.0, 28.0] right where a guess gives 12.5, loss 2.08 nats where it gives 2.08
    the temperature fitted for the fusion is 57, outside 0.02 to 10
    """
    return tuple(words for model in models for words in _of_model(model))


def _of_model(model: ModelFacts) -> list[str]:
    found, chance = [], 1 / model.n_classes
    value = model.accuracy
    if model.n_classes > 1 and value.exists and not value.low > chance:
        loss = ""
        if model.loss is not None:
            loss = f", loss {model.loss:.2f} nats where it gives {np.log(model.n_classes):.2f}"
        right = interval_text(value.estimate, value.ci95, value.reason, unit=" %")
        found.append(f"{model.name} is at chance: {right} right where a guess gives {100 * chance:.3g}{loss}")
    if model.largest_prediction >= MOST_IN_ONE_CLASS and model.largest_label <= 0.5:
        found.append(
            f"{model.name} puts {100 * model.largest_prediction:.0f} % of the test images into one class"
        )
    extreme = [t for t in model.temperatures if not TEMPERATURES[0] < t < TEMPERATURES[1]]
    if extreme:
        found.append(
            f"the temperature fitted for {model.name} is {extreme[0]:.3g}, outside {TEMPERATURES[0]:g} to "
            f"{TEMPERATURES[1]:g}"
        )
    return found


def reasons_of_groups(groups: Sequence[GroupFacts]) -> tuple[str, ...]:
    """Why nothing may be concluded from differences between these groups: too few images or classes.

    Examples
    --------
    >>> reasons_of_groups([GroupFacts("P-many by clip", 2, 6), GroupFacts("P-few by clip", 3, 30)])
    ('P-many by clip has 6 test images of 2 classes; 10 images and 2 classes are needed',)
    """
    return tuple(
        f"{group.name} has {_count(group.n_images, 'test image', 'test images')} of "
        f"{_count(group.n_classes, 'class', 'classes')}; {MIN_IMAGES} images and {MIN_CLASSES} classes are needed"
        for group in groups
        if group.n_images < MIN_IMAGES or group.n_classes < MIN_CLASSES
    )


def reasons(models: Sequence[ModelFacts], groups: Sequence[GroupFacts] = ()) -> tuple[str, ...]:
    """All reasons, those of the models first: ``no_conclusion`` in ``metrics.json``."""
    return (*reasons_of_models(models), *reasons_of_groups(groups))


# Reasons of one kind: what they have in common, and what is said of each model or group.
_KINDS = (
    (
        r"(.+) is at chance: (.+) right where a guess gives ([^ ,]+)(?:, loss .*)?",
        r"at chance, where a guess gives \3 %",
        r"\1 \2",
    ),
    (
        r"(.+) puts (\d+ %) of the test images into one class",
        "nearly all test images put into one class",
        r"\1 (\2)",
    ),
    (r"the temperature fitted for (.+) is (.+), (outside .+)", r"temperature \3", r"\1 (\2)"),
    (
        rf"(.+) has (\d+) test images? of (\d+) class(?:es)?; {MIN_IMAGES} images and {MIN_CLASSES} classes are needed",
        f"fewer than {MIN_IMAGES} test images or {MIN_CLASSES} classes (images, classes)",
        r"\1 (\2, \3)",
    ),
)


def grouped(found: Sequence[str]) -> list[str]:
    """Reasons of one kind in one phrase, with all that it concerns; the others are returned unchanged.

    Examples
    --------
    >>> clip, metaclip = (f"{name} puts 95 % of the test images into one class" for name in ("clip", "metaclip"))
    >>> grouped([clip, metaclip]), grouped([clip])[0] == clip
    (['nearly all test images put into one class: clip (95 %), metaclip (95 %)'], True)
    """
    of_kind: dict[str, list[tuple[str, str]]] = {}
    for reason in found:
        kind, about = reason, ""
        for pattern, common, each in _KINDS:
            if (match := re.fullmatch(pattern, reason)) is not None:
                kind, about = match.expand(common), match.expand(each)
                break
        of_kind.setdefault(kind, []).append((reason, about))
    return [
        rows[0][0] if len(rows) == 1 else f"{kind}: {', '.join(about for _, about in rows)}"
        for kind, rows in of_kind.items()
    ]


def no_conclusion_lines(about: str, found: Sequence[str]) -> list[str]:
    """Say that nothing is concluded on something: one line, and one for each reason if there are several.

    Examples
    --------
    >>> no_conclusion_lines("Parameter imbalance", ["the fusion is at chance"])
    ['Parameter imbalance: no conclusion, for the fusion is at chance.']
    >>> no_conclusion_lines("Parameter imbalance", ["the fusion is at chance", "one seed"])
    ['Parameter imbalance: no conclusion, for 2 reasons.', 'Reason 1: the fusion is at chance.', 'Reason 2: one seed.']
    """
    told = grouped(found)
    if len(told) == 1:
        return [f"{about}: no conclusion, for {told[0]}."]
    lines = [f"Reason {number}: {reason}." for number, reason in enumerate(told, 1)]
    return [f"{about}: no conclusion, for {len(told)} reasons.", *lines]


def _count(n: int, one: str, more: str) -> str:
    return f"{n} {one if n == 1 else more}"


def groups_of(names: NDArray[np.str_], counts: NDArray[np.int64], by: str) -> list[GroupFacts]:
    """The groups of a gap, many and few; ``names`` (K,) are the classes' groups, ``counts`` (K,) their test images."""
    return [
        GroupFacts(
            f"P-{group} by {by}",
            int(((names == group) & (counts > 0)).sum()),
            int(counts[names == group].sum()),
        )
        for group in ("many", "few")
    ]
