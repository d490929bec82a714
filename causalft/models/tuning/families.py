"""Families of image towers: the classes of open_clip, timm, torchvision and our own zoos, by name."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from torch import nn

__all__ = ["Family", "is_a", "is_exactly", "is_plain", "trunk_of"]


class Family(StrEnum):
    """Classes of open_clip, timm, torchvision and our own zoos, by name.

    A module can only be of a library that is loaded already; `isinstance` would import the library for every model,
    which takes seconds.
    """

    OPEN_CLIP_VIT = "open_clip.transformer.VisionTransformer"
    OPEN_CLIP_BLOCK = "open_clip.transformer.ResidualAttentionBlock"
    OPEN_CLIP_ATTENTION = "open_clip.transformer.Attention"
    OPEN_CLIP_RESNET = "open_clip.modified_resnet.ModifiedResNet"
    OPEN_CLIP_TIMM = "open_clip.timm_model.TimmModel"
    TIMM_VIT = "timm.models.vision_transformer.VisionTransformer"
    TIMM_RESNET = "timm.models.resnet.ResNet"
    TIMM_BLOCK = "timm.models.vision_transformer.Block"
    TIMM_ATTENTION = "timm.layers.attention.Attention"
    EVA = "timm.models.eva.Eva"
    EVA_ATTENTION = "timm.models.eva.EvaAttention"
    TORCHVISION_RESIZE = "torchvision.transforms.transforms.Resize"
    MINI_VIT = "causalft.models.strata.mini.MiniVision"
    MINI_BLOCK = "causalft.models.strata.mini.Block"


def is_a(module: object, *families: str) -> bool:
    """Whether a module is an instance of one of these classes or of a subclass.

    Examples
    --------
    >>> is_a(nn.Linear(2, 2), Family.EVA), is_a(nn.Linear(2, 2), "torch.nn.modules.linear.Linear")
    (False, True)
    """
    return any(_class_of(module, name) is not None for name in families)


def is_exactly(module: object, *families: str) -> bool:
    """Whether a module is of one of these classes itself, not of a subclass."""
    return f"{type(module).__module__}.{type(module).__qualname__}" in families


def is_plain(module: nn.Module, family: str) -> bool:
    """Whether a model of timm runs as its family does: a subclass may have another forward."""
    found = _class_of(module, family)
    return found is not None and type(module).forward_features is found.forward_features  # type: ignore[attr-defined]


def _class_of(module: object, name: str) -> type | None:
    return next((c for c in type(module).__mro__ if f"{c.__module__}.{c.__qualname__}" == name), None)


def trunk_of(visual: Any) -> Any:
    """Return the model of timm inside a tower of open_clip; any other tower unchanged."""
    return visual.trunk if is_a(visual, Family.OPEN_CLIP_TIMM) else visual
