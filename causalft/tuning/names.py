"""Every choice of the training by name. Imports no PyTorch, so that a wrong name is refused at once."""

from __future__ import annotations

from typing import Literal, get_args

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
    "Precision",
    "SamplerName",
    "own_spelling",
]

LossName = Literal["CE", "Focal", "LDAM", "CB", "GRW", "BS", "LA", "LADE", "GLA-Train"]
LOSSES: tuple[str, ...] = get_args(LossName)

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
