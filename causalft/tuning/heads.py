"""Classifier heads: cosine, linear, and linear on features that are L2-normed or layer-normed first."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.errors import CausalFTError, nearest
from causalft.tuning.names import HEADS, HeadKind

__all__ = ["HEADS", "CosineHead", "HeadKind", "L2Head", "LayerNormHead", "LinearHead", "make_head"]


class CosineHead(nn.Module):
    """Logits are ``scale`` times the cosine between the image feature and each class weight.

    Parameters
    ----------
    weight : Tensor
        Shape (n_classes, d): where training starts, the text features of the classes.
    scale : float
        25 in the paper's recipe.

    Examples
    --------
    >>> import torch
    >>> head = CosineHead(torch.eye(2), scale=10.0)
    >>> head(torch.tensor([[3.0, 0.0]])).tolist()
    [[10.0, 0.0]]
    """

    def __init__(self, weight: Tensor, scale: float = 25.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * F.normalize(features, dim=-1) @ F.normalize(self.weight, dim=-1).T


class LinearHead(nn.Module):
    """Logits are ``features @ weight.T + bias``, of the features as they come.

    Parameters
    ----------
    weight : Tensor
        Shape (n_classes, d).

    Examples
    --------
    >>> import torch
    >>> LinearHead(torch.eye(2))(torch.tensor([[3.0, 0.0]])).tolist()
    [[3.0, 0.0]]
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = nn.Parameter(torch.zeros_like(weight[:, 0]))

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight, self.bias)


class L2Head(LinearHead):
    """Logits are linear in the feature's direction: ``scale * unit(features) @ weight.T + bias``.

    With unit weights it starts as the cosine head; then each weight has a length of its own.

    Parameters
    ----------
    weight : Tensor
        Shape (n_classes, d).
    scale : float

    Examples
    --------
    >>> import torch
    >>> L2Head(torch.eye(2), scale=10.0)(torch.tensor([[3.0, 0.0]])).tolist()
    [[10.0, 0.0]]
    """

    def __init__(self, weight: Tensor, scale: float = 25.0) -> None:
        super().__init__(weight)
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(self.scale * F.normalize(features, dim=-1), self.weight, self.bias)


class LayerNormHead(LinearHead):
    """Logits are linear in the layer-normed feature: ``scale / sqrt(d) * LN(features) @ weight.T + bias``.

    LN(x) / sqrt(d) is the direction of x after its mean over the d entries is taken out, so the logits start as
    large as those of the L2-normed head. LN has no gain of its own: the weight would take it up.

    Parameters
    ----------
    weight : Tensor
        Shape (n_classes, d).
    scale : float

    Examples
    --------
    >>> import torch
    >>> logits = LayerNormHead(torch.eye(2), scale=10.0)(torch.tensor([[3.0, 1.0]]))
    >>> [round(value, 3) for value in logits[0].tolist()]
    [7.071, -7.071]
    """

    def __init__(self, weight: Tensor, scale: float = 25.0) -> None:
        super().__init__(weight)
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        width = self.weight.shape[1]
        normed = F.layer_norm(features, (width,))
        return F.linear(self.scale / math.sqrt(width) * normed, self.weight, self.bias)


def make_head(kind: str, weight: Tensor, *, scale: float = 25.0) -> nn.Module:
    """Make a head that starts from ``weight``.

    Parameters
    ----------
    kind : {"cosine", "linear", "l2", "layernorm"}
    weight : Tensor
        Shape (n_classes, d): text features, class means, or the weights of a linear probe
        (:mod:`causalft.tuning.head_start`). Copied.
    scale : float
        Positive: the inverse temperature. The linear head takes features as they come and has none.

    Returns
    -------
    torch.nn.Module
        Features (n, d) to logits (n, n_classes). The state of the cosine head is ``weight``, that of the others
        ``weight`` and ``bias``, which starts at 0.

    Raises
    ------
    CausalFTError
        For an unknown kind, a weight that is no finite floating-point matrix, or a scale that is not positive.

    Examples
    --------
    >>> import torch
    >>> sorted(make_head("l2", torch.eye(3)).state_dict())
    ['bias', 'weight']
    """
    if kind not in HEADS:
        raise CausalFTError(f"no head is named {kind!r}; {nearest(kind, HEADS)}")
    if weight.ndim != 2 or not weight.is_floating_point():
        raise CausalFTError(
            f"a head starts from a floating-point matrix (n_classes, d), not from {weight.dtype} of shape "
            f"{tuple(weight.shape)}"
        )
    if not torch.isfinite(weight).all():
        row = int((~torch.isfinite(weight)).any(1).nonzero()[0])
        raise CausalFTError(f"the weight of class {row} that the head should start from is not finite")
    if not (math.isfinite(scale) and scale > 0):
        raise CausalFTError(f"the scale of the head is {scale}; give a positive number (25 in the paper)")
    if kind == "linear":
        return LinearHead(weight)
    return {"cosine": CosineHead, "l2": L2Head, "layernorm": LayerNormHead}[kind](weight, scale)
