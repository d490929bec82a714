"""Every choice of the training by name. Imports no PyTorch, so that a wrong name is refused at once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from causalft.errors import CausalFTError, nearest

__all__ = [
    "ALONE",
    "AUGMENTATIONS",
    "Choice",
    "HEADS",
    "HeadKind",
    "LOSSES",
    "LossName",
    "Optimum",
    "PRECISIONS",
    "Precision",
    "SAMPLERS",
    "SamplerName",
    "TEST_VIEWS",
    "TUNERS_WITH_WIDTH",
    "TUNER_NAMES",
    "n_views",
    "optimum_of",
    "own_spelling",
    "parse_tuner",
]


LossName = Literal["CE", "Focal", "LDAM", "CB", "GRW", "BS", "LA", "LADE", "GLA-Train"]
LOSSES: tuple[str, ...] = get_args(LossName)

Optimum = Literal["training posterior", "balanced posterior", "other"]

# What the softmax of the logits is at the optimum of a loss, at its usual settings. GRW weighs by 1 / P_S(y), and CB by
# almost that; BS, LA and LADE add log P_S(y) in training, and the logits are without it. Focal bends p(y|x), and the
# margins of LDAM are part of its logits for the true class alone: neither is a posterior with a prior that can be taken
# off. GLA-Train adds log q too, so its logits are those of LA less log q.
_OPTIMA: dict[str, Optimum] = {
    "CE": "training posterior",
    "Focal": "other",
    "LDAM": "other",
    "CB": "balanced posterior",
    "GRW": "balanced posterior",
    "BS": "balanced posterior",
    "LA": "balanced posterior",
    "LADE": "balanced posterior",
    "GLA-Train": "other",
}

HeadKind = Literal["cosine", "linear", "l2", "layernorm"]
HEADS: tuple[str, ...] = get_args(HeadKind)

SamplerName = Literal["uniform", "class-balanced", "square-root"]
SAMPLERS: tuple[str, ...] = get_args(SamplerName)

Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

AUGMENTATIONS = ("none", "flip", "crop-flip")

TUNER_NAMES = (
    "zero-shot",
    "linear-probe",
    # In the order in which they are put into a tower: later ones stand around, or leave out, what earlier ones brought.
    "ssf",
    "lora",
    "lora-mlp",
    "adaptformer",
    "adapter",
    "vpt-shallow",
    "vpt-deep",
    "bias",
    "layernorm",
    "batchnorm",
    "last-K",
    "full",
)

TUNERS_WITH_WIDTH = ("lora", "lora-mlp", "adaptformer", "adapter")
"""Those that use the bottleneck: the width of an adapter, the rank of LoRA."""


def own_spelling(name: str) -> str:
    """Return a loss in its own capitals, however it was typed; unknown names are returned unchanged.

    Examples
    --------
    >>> own_spelling("gla-train"), own_spelling("arcface")
    ('GLA-Train', 'arcface')
    """
    return next((own for own in LOSSES if own.lower() == name.lower()), name)


def optimum_of(name: str) -> Optimum:
    """Say what logits tuned with a loss, at its usual settings, converge to.

    Returns
    -------
    {"training posterior", "balanced posterior", "other"}
        log p(y|x) under P_S, the class prior of the training set, so that log P_S stands in the logits as a summand;
        log p(y|x) under a balanced prior; or neither. Only the first two can be used in GLA-FT
        (:func:`causalft.methods.estimators.gla.gla_finetuned`).

    Raises
    ------
    CausalFTError
        For an unknown name.

    Examples
    --------
    >>> optimum_of("CE"), optimum_of("LA"), optimum_of("Focal")
    ('training posterior', 'balanced posterior', 'other')
    """
    if name not in _OPTIMA:
        raise CausalFTError(f"no loss is named {name!r}; use one of {', '.join(LOSSES)}")
    return _OPTIMA[name]


ALONE = ("zero-shot", "linear-probe", "full")
"""Tuners that leave nothing to add: they train nothing of the tower, or all of it."""


@dataclass(frozen=True)
class Choice:
    """One tuner of a spec, and the last blocks that it is confined to (None: the whole tower)."""

    name: str
    last: int | None = None

    def __str__(self) -> str:
        if self.name == "last-K":
            return f"last-{self.last}"
        return self.name if self.last is None else f"{self.name}@last-{self.last}"


def parse_tuner(spec: str, known: Iterable[str]) -> tuple[Choice, ...]:
    """Read ``NAME[@last-K][+NAME[@last-K]...]``, in the order of ``known``.

    Parameters
    ----------
    spec : str
        ``@last-K`` confines a tuner to the last K blocks. ``last-K`` alone is a tuner of its own: those blocks whole.
    known : iterable of str
        The names; ``last-K`` stands for all its numbers.

    Returns
    -------
    tuple of Choice

    Raises
    ------
    CausalFTError
        For an unknown name, a name given twice, a malformed ``@last-K``, or tuners that exclude each other.

    Examples
    --------
    >>> [str(choice) for choice in parse_tuner("bias+lora@last-4", ["lora", "bias"])]
    ['lora@last-4', 'bias']
    """
    order = list(known)
    choices = [_choice(part.strip(), spec, order) for part in spec.lower().split("+")]
    names = [choice.name for choice in choices]
    for name in names:
        if names.count(name) > 1:
            raise CausalFTError(f"tuner {spec!r} names {name!r} twice; give it once")
        if name in ALONE and len(names) > 1:
            what = "trains the whole tower already" if name == "full" else "leaves the tower frozen"
            raise CausalFTError(f"tuner {spec!r}: {name} {what}; give it alone")
    if {"vpt-shallow", "vpt-deep"} <= set(names):
        raise CausalFTError(f"tuner {spec!r}: deep prompts include the shallow ones; choose one of them")
    return tuple(sorted(choices, key=lambda choice: order.index(choice.name)))


def _choice(part: str, spec: str, known: list[str]) -> Choice:
    alone = re.fullmatch(r"last-([1-9]\d*)", part)
    if alone and "last-K" in known:
        return Choice("last-K", int(alone[1]))
    name, at, place = part.partition("@")
    if name not in known or name == "last-K":
        raise CausalFTError(
            f"unknown tuner {name!r}{'' if name == spec else f' in {spec!r}'}: {nearest(name, known)}"
        )
    if not at:
        return Choice(name)
    confined = re.fullmatch(r"last-([1-9]\d*)", place)
    if not confined:
        raise CausalFTError(
            f"tuner {part!r}: after '@' stands last-K, the last K blocks (such as {name}@last-4)"
        )
    if name in ALONE:
        instead = f"; write last-{confined[1]}" if name == "full" else ""
        raise CausalFTError(f"tuner {part!r}: {name} cannot be confined to some blocks{instead}")
    return Choice(name, int(confined[1]))


TEST_VIEWS = {"centre": 1, "five-crop": 5, "ten-crop": 10}
"""Name to number of squares."""


def n_views(view: str) -> int:
    """Return how many squares a view has.

    Raises
    ------
    CausalFTError
        With the nearest names.

    Examples
    --------
    >>> n_views("five-crop")
    5
    """
    if view not in TEST_VIEWS:
        raise CausalFTError(f"no test-time view {view!r}; {nearest(view, TEST_VIEWS)}")
    return TEST_VIEWS[view]
