"""The total direct effect: a cosine head that takes out the feature direction that momentum favours."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.tuning.choices import Head
from causalft.models.tuning.statistics import BatchStatistics

__all__ = ["ALPHAS", "TDEHead"]

ALPHAS: tuple[float, ...] = tuple(step / 4 for step in range(17))
"""What alpha is chosen from on validation images: 0, 0.25, ..., 4."""

GROUPS, SCALE, MOMENTUM, FLOOR = 2, 16.0, 0.9, 1 / 32


class TDEHead(nn.Module, BatchStatistics):
    """The total-direct-effect classifier of Tang et al. (NeurIPS 2020), arXiv 2009.12991.

    In its causal graph the momentum M of the optimiser confounds the features X and the logits Y, and D, the direction
    in which features drift towards the head classes, mediates M. Features and weights are cut into K = 2 groups (halves
    of the vector). With ``x^ = x / |x|`` and ``w^ = w / (|w| + 1/32)`` of each group the logits are::

        (scale / K) sum_k  x^_k . w^_k                                        in training
        (scale / K) sum_k (x^_k - alpha cos(x_k, d_k) d^_k) . w^_k            at test

    where d is the moving average, with momentum 0.9, of the mean feature of each batch. Train it with
    cross-entropy: the subtraction is what re-balances.

    Parameters
    ----------
    weight : Tensor
        Initial value, shape (n_classes, d); d is even.
    scale : float
        16 in its paper.
    alpha : float
        3.0 in its paper for ImageNet-LT (and Places-LT), 1.5 for CIFAR-100-LT, 1.0 for CIFAR-10-LT. It is part of the
        state, and may be changed after training: ``head.alpha.fill_(1.5)``.

    Raises
    ------
    CausalFTError
        If d is odd.

    Examples
    --------
    >>> head = TDEHead(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), alpha=1.0).eval()
    >>> x = torch.tensor([[3.0, 0.0, 0.0, 2.0]])
    >>> round(head(x).item(), 3)  # 16 / 2 times 1 / (1 + 1/32)
    7.758
    >>> head.d.copy_(x[0])  # x lies along the mean feature: nothing of it is left
    tensor([3., 0., 0., 2.])
    >>> head(x).item()
    0.0
    """

    d: Tensor
    alpha: Tensor

    def __init__(self, weight: Tensor, scale: float = SCALE, alpha: float = 1.0) -> None:
        super().__init__()
        if weight.shape[1] % GROUPS:
            raise CausalFTError(
                f"the head tde cuts features into {GROUPS} groups, and these have {weight.shape[1]} numbers; use "
                "another head"
            )
        self.weight = nn.Parameter(weight.detach().clone())
        self.scale = scale
        self.register_buffer("d", torch.zeros_like(weight[0]))
        self.register_buffer("alpha", torch.tensor(alpha, dtype=weight.dtype, device=weight.device))
        self.start_batch()

    def forward(self, features: Tensor) -> Tensor:
        x = F.normalize(_groups(features), dim=-1)
        if self.training:
            self._sums.append(features.detach().sum(0))
            self._n += len(features)
        else:
            d = F.normalize(_groups(self.d), dim=-1)  # 0 before the first step
            x = x - self.alpha * (x * d).sum(-1, keepdim=True) * d
        w = _groups(self.weight)
        w = w / (w.norm(dim=-1, keepdim=True) + FLOOR)
        return self.scale / GROUPS * x.flatten(-2) @ w.flatten(-2).T

    def start_batch(self) -> None:
        self._sums: list[Tensor] = []
        self._n = 0

    def finish_batch(self, total: Callable[[Tensor], Tensor]) -> None:
        if not self.training:
            return
        n = torch.full_like(self.d[:1], self._n)
        found = total(torch.cat([torch.stack([torch.zeros_like(self.d), *self._sums]).sum(0), n]))
        self.d.lerp_(found[:-1] / found[-1], 1 - MOMENTUM)
        self.start_batch()


def _groups(x: Tensor) -> Tensor:
    """(..., d) as (..., K, d / K)."""
    return x.unflatten(-1, (GROUPS, -1))


TDE = Head(
    name="tde",
    help="the total direct effect: train it with CE; at test the part along the mean training feature $d$ is taken out",
    formula=r"$\frac{16}{2} \sum_{k} (\hat x_k - \alpha \cos(x_k, d_k)\, \hat d_k) \cdot \hat w_k$",
    make=TDEHead,
    saves="weight, d, alpha",
    scale=16.0,
    uses_alpha=True,
    posterior=False,
    source="Tang et al., NeurIPS 2020",
)
