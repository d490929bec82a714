"""The cosine head, initialised from the text features of the classes."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CosineHead"]


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
