"""Classifier heads: one record each, and the functions that give a head its start."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.tuning.choices import HEADS, Head
from causalft.models.tuning.heads.start import class_means, k_shot, probe_weights

__all__ = [
    "CosineHead",
    "HEADS",
    "L2Head",
    "LayerNormHead",
    "LinearHead",
    "class_means",
    "k_shot",
    "make_head",
    "probe_weights",
]


class CosineHead(nn.Module):
    """Logits are ``scale`` times the cosine between feature and class weight.

    Parameters
    ----------
    weight : Tensor
        Initial value, shape (n_classes, d).
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


COSINE = Head(
    name="cosine",
    help="the paper's recipe, $s = 25$: no class can win by the length of its weight",
    formula=r"$s \cos(x, w_k)$",
    make=CosineHead,
    saves="weight",
)


class LinearHead(nn.Module):
    """Logits are ``features @ weight.T + bias``.

    Parameters
    ----------
    weight : Tensor
        Shape (n_classes, d).
    scale : float
        Ignored: the length of a feature is its own scale.

    Examples
    --------
    >>> import torch
    >>> LinearHead(torch.eye(2))(torch.tensor([[3.0, 0.0]])).tolist()
    [[3.0, 0.0]]
    """

    def __init__(self, weight: Tensor, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = nn.Parameter(torch.zeros_like(weight[:, 0]))

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight, self.bias)


LINEAR = Head(
    name="linear",
    help="features whose length means something",
    formula=r"$w_k \cdot x + b_k$",
    make=LinearHead,
)


class L2Head(LinearHead):
    """Logits are linear in the feature's direction: ``scale * unit(features) @ weight.T + bias``.

    With unit weights it starts as the cosine head.

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


L2 = Head(
    name="l2",
    help="starts as `cosine` from unit weights, then learns their lengths",
    formula=r"$s\, w_k \cdot x / \lVert x \rVert + b_k$",
    make=L2Head,
)


class LayerNormHead(LinearHead):
    """Logits are linear in the layer-normed feature: ``scale / sqrt(d) * LN(features) @ weight.T + bias``.

    LN(x) / sqrt(d) is a direction, so the logits start as large as those of the L2-normed head. LN has no gain: the
    weight would absorb it.

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


LAYER_NORM = Head(
    name="layernorm",
    help="features with a large common offset",
    formula=r"$(s / \sqrt d)\, w_k \cdot \mathrm{LN}(x) + b_k$",
    make=LayerNormHead,
)


def make_head(kind: str, weight: Tensor, *, scale: float = 25.0, **settings: float) -> nn.Module:
    """Make a head that starts from ``weight``.

    Parameters
    ----------
    kind : str
        A name of :data:`causalft.models.tuning.choices.HEADS`.
    weight : Tensor
        Shape (n_classes, d): text features, class means, or the weights of a linear probe. Copied.
    scale : float
        Positive, the inverse temperature; the linear head ignores it, and a head with a scale of its own takes that.
    **settings
        Of the head: ``alpha`` of ``tde``.

    Returns
    -------
    torch.nn.Module
        Features (n, d) to logits (n, n_classes). Its state is what :attr:`causalft.models.tuning.choices.Head.saves`
        names.

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
    record = HEADS.get_or_refuse(kind)
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
    return record.make(weight, record.scale or scale, **settings)
