"""Of which class of open_clip, timm or torchvision a module is, told by the names of its classes.

A module can only be of a library that is loaded already. Asking with ``isinstance`` would import the library for every
model, also for those that do without it, which takes seconds.
"""

from __future__ import annotations

from torch import nn

__all__ = [
    "EVA",
    "EVA_ATTENTION",
    "FAMILIES",
    "MINI_BLOCK",
    "MINI_VIT",
    "OPEN_CLIP_ATTENTION",
    "OPEN_CLIP_BLOCK",
    "OPEN_CLIP_RESNET",
    "OPEN_CLIP_TIMM",
    "OPEN_CLIP_VIT",
    "TIMM_RESNET",
    "TIMM_VIT",
    "TORCHVISION_RESIZE",
    "is_a",
    "is_exactly",
    "is_plain",
]

OPEN_CLIP_VIT = "open_clip.transformer.VisionTransformer"
OPEN_CLIP_BLOCK = "open_clip.transformer.ResidualAttentionBlock"
OPEN_CLIP_ATTENTION = "open_clip.transformer.Attention"
OPEN_CLIP_RESNET = "open_clip.modified_resnet.ModifiedResNet"
OPEN_CLIP_TIMM = "open_clip.timm_model.TimmModel"
TIMM_VIT = "timm.models.vision_transformer.VisionTransformer"
TIMM_RESNET = "timm.models.resnet.ResNet"
EVA = "timm.models.eva.Eva"
TORCHVISION_RESIZE = "torchvision.transforms.transforms.Resize"
EVA_ATTENTION = "timm.models.eva.EvaAttention"

# causalft's own, named too: the training does not know the zoos.
MINI_VIT = "causalft.models.strata.mini.MiniVision"
MINI_BLOCK = "causalft.models.strata.mini.Block"

FAMILIES = (
    OPEN_CLIP_VIT,
    OPEN_CLIP_BLOCK,
    OPEN_CLIP_ATTENTION,
    OPEN_CLIP_RESNET,
    OPEN_CLIP_TIMM,
    TIMM_VIT,
    TIMM_RESNET,
    EVA,
    EVA_ATTENTION,
    TORCHVISION_RESIZE,
    MINI_VIT,
    MINI_BLOCK,
)


def _family(module: object, name: str) -> type | None:
    return next((c for c in type(module).__mro__ if f"{c.__module__}.{c.__qualname__}" == name), None)


def is_a(module: object, *families: str) -> bool:
    """Whether a module is an instance of one of these classes or of a subclass.

    Examples
    --------
    >>> is_a(nn.Linear(2, 2), TIMM_RESNET), is_a(nn.Linear(2, 2), "torch.nn.modules.linear.Linear")
    (False, True)
    """
    return any(_family(module, name) is not None for name in families)


def is_exactly(module: object, *families: str) -> bool:
    """Whether a module is of one of these classes itself, and of no subclass."""
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}" in families


def is_plain(module: nn.Module, family: str) -> bool:
    """Whether a model of timm runs as its family does (a subclass may have another forward)."""
    found = _family(module, family)
    return found is not None and type(module).forward_features is found.forward_features  # type: ignore[attr-defined]
