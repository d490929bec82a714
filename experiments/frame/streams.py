"""Streams of test images, clean, shifted and long-tailed, and what strata answer that adapt to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from causalft.methods.adaptation.tuned import TunedStratum
    from experiments.frame.lab import Lab

__all__ = [
    "CLEAN",
    "FUSED",
    "LONG_TAIL",
    "NOTHING",
    "SHIFTED",
    "Answers",
    "Stream",
    "answers_to_streams",
    "f1_by_class",
    "gain_rows",
    "stream_metrics",
    "streams_of",
]

CLEAN, LONG_TAIL, NOTHING, FUSED = "clean", "long-tailed", "unadapted", "fused"
SHIFTED = tuple(f"{shift} {strength}" for shift in ("noise", "blur", "contrast") for strength in (1, 2, 3))

IMBALANCE = 50.0
"""Of the long-tailed stream."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """Test images in the order of a stream.

    Attributes
    ----------
    name : str
    rows : (n,) array of int
        In the test set.
    shift : (str, int), optional
        Of :func:`causalft.data.shifts.shifted_images`.
    """

    name: str
    rows: Ints
    shift: tuple[str, int] | None = None


def streams_of(labels: Ints, n: int) -> list[Stream]:
    """The streams over a test set: clean, nine shifts of the same images, and a long tail with a factor of 50.

    Parameters
    ----------
    labels : (N,) array of int
    n : int
        Images of each stream, at most.
    """
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(labels))[:n]
    n_classes = int(labels.max()) + 1
    law = rng.permutation(IMBALANCE ** (-np.arange(n_classes) / max(1, n_classes - 1)))
    weights = (law / np.bincount(labels, minlength=n_classes).clip(1))[labels]
    tail = rng.choice(len(labels), min(n, len(labels) // 2), replace=False, p=weights / weights.sum())
    shifted = [
        Stream(name, rows, (shift, int(strength))) for name in SHIFTED for shift, strength in [name.split()]
    ]
    return [Stream(CLEAN, rows), *shifted, Stream(LONG_TAIL, tail)]


@dataclass
class Answers:
    """Predicted classes.

    Attributes
    ----------
    labels : dict of str to (n,) array
        By stream.
    of : dict of (str, str, str) to list of (n,) arrays
        By who (the first stratum, or ``fused``), stream and method (or ``unadapted``): one per seed.
    collapsed : dict of str to int
        Strata that fell back, over streams and seeds, by method.
    left_out : dict of str to str
        Methods that are not defined for the strata, and why.
    """

    labels: dict[str, Ints]
    of: dict[tuple[str, str, str], list[Ints]] = field(default_factory=dict)
    collapsed: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def answers_to_streams(lab: Lab, n: int) -> Answers:
    """Let the strata tuned with LA adapt to every stream; the order of the images differs between seeds.

    The first stratum sees all streams; the others, for the fusion with P(c) = 1 / M, the clean and the long-tailed one.
    """
    from causalft.errors import CausalFTError
    from causalft.methods.adaptation.at_test import AT_TEST
    from causalft.methods.adaptation.at_test.adapting import check_adapts
    from causalft.methods.estimators.fusion import fuse
    from experiments.frame.members import Member

    test = lab.world.splits(0).test
    streams = streams_of(test.labels, n)
    found = Answers({stream.name: test.labels[stream.rows] for stream in streams})
    first = lab.world.roles.strata[0]
    for seed in range(lab.seeds):
        logits: dict[tuple[str, str], list[Floats]] = {}
        for name in lab.world.roles.strata:
            _, tuned = lab.tuned(Member(name), seed)
            methods = []
            for method, record in AT_TEST.items():
                try:
                    check_adapts(tuned, record)
                    methods.append(method)
                except CausalFTError as error:
                    found.left_out[method] = str(error)
            for stream in streams:
                if name != first and stream.name not in (CLEAN, LONG_TAIL):
                    continue
                for method in (NOTHING, *methods):
                    answer, collapsed = _answer(tuned, test, stream, method, seed)
                    found.collapsed[method] = found.collapsed.get(method, 0) + collapsed
                    logits.setdefault((stream.name, method), []).append(answer)
                    if name == first:
                        found.of.setdefault((first, stream.name, method), []).append(answer.argmax(axis=1))
        for (stream_name, method), each in logits.items():
            if len(each) == len(lab.world.roles.strata) > 1:
                fused = fuse(each, kind="logits").argmax(axis=1)
                found.of.setdefault((FUSED, stream_name, method), []).append(fused)
    return found


def _answer(tuned: TunedStratum, test: Any, stream: Stream, method: str, seed: int) -> tuple[Floats, bool]:
    """Logits (n, K) in the order of the stream's rows, whatever the order of this seed; whether it fell back."""
    import torch

    from causalft.data.shifts import shifted_images
    from causalft.methods.adaptation.at_test import AT_TEST, BATCH_SIZE
    from causalft.methods.adaptation.at_test.adapting import AdaptingStratum
    from causalft.models.features.encoder import Crops

    kept = Crops(test.subset(stream.rows), tuned.stratum, progress=False)
    pixels = kept[torch.arange(len(stream.rows))].numpy()
    if stream.shift is not None:
        pixels = shifted_images(pixels, *stream.shift)
    order = np.random.default_rng([seed, 1]).permutation(len(pixels))
    adapting = None
    model: Any = tuned
    if method != NOTHING:
        model = adapting = AdaptingStratum(tuned, AT_TEST[method], test.class_names)
    logits = np.empty((len(pixels), len(test.class_names)))
    for start in range(0, len(order), BATCH_SIZE):
        rows = order[start : start + BATCH_SIZE]
        logits[rows] = model.logits_of(torch.from_numpy(pixels[rows])).numpy()
    if adapting is None:
        return logits, False
    stopped = adapting.stopped is not None
    adapting.reset()
    return logits, stopped


def f1_by_class(labels: Ints, predicted: Ints) -> Floats:
    """F1 of each class that has a label, in increasing order of the classes.

    Examples
    --------
    >>> f1_by_class(np.array([0, 0, 2, 2]), np.array([0, 2, 2, 1])).round(3).tolist()
    [0.667, 0.5]
    """
    found = []
    for k in np.unique(labels):
        hits = int(((labels == k) & (predicted == k)).sum())
        found.append(2 * hits / int((labels == k).sum() + (predicted == k).sum()))
    return np.array(found)


def stream_metrics(found: Answers) -> dict[str, Any]:
    """Accuracy, balanced accuracy and macro-F1 by stream and method, and what adapting adds to each.

    Returns
    -------
    dict
        ``streams`` and ``fused``: stream to method to measure to ``{estimate, ci95, p}``, with ``gain`` in place of the
        method's own value for ``accuracy``, ``balanced`` and ``f1``; ``shifted``: the gain in accuracy over all shifts;
        ``between``: CLIPTTA less TENT on them; ``worse``: share of streams and seeds in which a method is less accurate
        than the unadapted model, and by more than a point; ``collapsed``, ``left_out``.
    """
    first = next(who for who, _, _ in found.of)
    methods = list(dict.fromkeys(m for who, _, m in found.of if who == first and m != NOTHING))
    metrics: dict[str, Any] = {"stratum": first, "collapsed": found.collapsed, "left_out": found.left_out}
    for key, who in (("streams", first), (FUSED, FUSED)):
        metrics[key] = {
            stream: {m: _measured(found, who, stream, m) for m in (NOTHING, *methods)}
            for of, stream, method in found.of
            if of == who and method == NOTHING
        }
    gains = {m: np.concatenate([_gain(found, first, s, m) for s in SHIFTED], axis=1) for m in methods}
    metrics["shifted"] = {m: _over_shifts(gain) for m, gain in gains.items()}
    if {"tent", "cliptta"} <= gains.keys():
        metrics["between"] = _over_shifts(gains["cliptta"] - gains["tent"])
    metrics["worse"] = {m: _worse(found, first, m, list(metrics["streams"])) for m in methods}
    return metrics


def _over_shifts(gain: Floats) -> dict[str, Any]:
    """Mean (S, 9 n) with an interval over images, each with its nine shifts, and seeds."""
    from experiments.frame.means import mean_over_images

    return mean_over_images(gain.reshape(len(gain), len(SHIFTED), -1).mean(axis=1))


def _right(found: Answers, who: str, stream: str, method: str) -> Floats:
    return (np.stack(found.of[who, stream, method]) == found.labels[stream]).astype(float)


def _gain(found: Answers, who: str, stream: str, method: str) -> Floats:
    return _right(found, who, stream, method) - _right(found, who, stream, NOTHING)


def _measured(found: Answers, who: str, stream: str, method: str) -> dict[str, Any]:
    from experiments.frame.means import mean_over_images

    labels = found.labels[stream]
    _, place, count = np.unique(labels, return_inverse=True, return_counts=True)
    balance = len(labels) / (len(count) * count[place])

    def f1(name: str) -> Floats:
        return np.stack([f1_by_class(labels, predicted) for predicted in found.of[who, stream, name]])

    right = _right(found, who, stream, method)
    shown = {
        "accuracy": mean_over_images(right),
        "balanced": mean_over_images(balance * right),
        "f1": mean_over_images(f1(method)),
    }
    if method == NOTHING:
        return shown
    gain = right - _right(found, who, stream, NOTHING)
    shown["gain"] = {
        "accuracy": mean_over_images(gain),
        "balanced": mean_over_images(balance * gain),
        "f1": mean_over_images(f1(method) - f1(NOTHING)),
    }
    return shown


def _worse(found: Answers, who: str, method: str, streams: Sequence[str]) -> dict[str, Any]:
    from causalft.runs.intervals import share_interval

    gains = np.concatenate([_gain(found, who, stream, method).mean(axis=1) for stream in streams])

    def share(lost: NDArray[np.bool_]) -> dict[str, Any]:
        low, high = share_interval(lost.mean(), len(lost))
        return {
            "estimate": float(lost.mean()),
            "ci95": [float(low), float(high)],
            "hits": int(lost.sum()),
            "n": len(lost),
        }

    return {"at all": share(gains < 0), "by a point": share(gains < -0.01)}


def gain_rows(found: Mapping[str, Any], measure: str, methods: Sequence[str]) -> list[list[str]]:
    """Rows of a table: a stream with its unadapted value and what each method adds."""
    from causalft.runs.intervals import interval_text

    def words(value: Mapping[str, Any], sign: bool) -> str:
        return interval_text(value["estimate"], value["ci95"], sign=sign)

    return [
        [stream, words(of[NOTHING][measure], False), *(words(of[m]["gain"][measure], True) for m in methods)]
        for stream, of in found.items()
    ]
