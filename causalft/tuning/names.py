"""Every choice of the training by name. Imports no PyTorch, so that a wrong name is refused at once."""

from __future__ import annotations

from typing import Literal, get_args

from causalft.errors import CausalFTError

__all__ = [
    "AUGMENTATIONS",
    "HEADS",
    "LOSSES",
    "PRECISIONS",
    "SAMPLERS",
    "TUNERS_WITH_WIDTH",
    "TUNER_NAMES",
    "HeadKind",
    "LossName",
    "Optimum",
    "Precision",
    "SamplerName",
    "optimum_of",
    "own_spelling",
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
        (:func:`causalft.estimators.gla.gla_finetuned`).

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
