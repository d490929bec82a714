"""The equalization loss: other classes do not push the logits of rare classes down."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.tuning.choices import Loss
from causalft.models.tuning.losses import Counts, Criterion, Vector, at_least, wide

__all__ = ["equalization"]


def equalization(counts: Counts, *, gamma: float = 0.9, tail: float = 0.3) -> Criterion:
    """EQL: -log of exp(f_y) / sum_k w_k exp(f_k), with w_k = 1 - gamma for each rare class k other than y, else 1.

    Tan et al., "Equalization Loss for Long-Tailed Object Recognition", CVPR 2020, section 3.3 (softmax version). There
    w_k = 1 - beta with a random beta that is 1 with probability gamma; here beta is its mean, so that the loss draws
    nothing.

    Parameters
    ----------
    counts : Counts
    gamma : float
        In [0, 1): how much of the push is taken away; at 0 it is CE.
    tail : float
        At least 0. A class is rare below this multiple of the uniform share: n_k / n < tail / K (lambda in the paper).
    """
    if not 0 <= gamma < 1:
        raise CausalFTError(f"gamma of the loss EQL is {gamma}; give a number from 0 to below 1")
    at_least(tail, 0, "tail", "EQL")
    rare = counts.values / counts.values.sum() < tail / len(counts)
    log_weight = Vector(np.where(rare, np.log1p(-gamma), 0.0))

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        logits = wide(logits, counts)
        own = labels.unsqueeze(1)
        shifted = (logits + log_weight.on(logits)).scatter(1, own, logits.gather(1, own))
        return F.cross_entropy(shifted, labels)

    return loss


EQL = Loss(
    name="EQL",
    help="samples of other classes should not push the logits of rare classes down",
    formula=r"CE of $f_k + \log(1 - \gamma)$ for each class $k \ne y$ with $P_S(k) < \lambda / K$",
    make=equalization,
    needs_every_class=False,
    symbols={"gamma": r"\gamma", "tail": r"\lambda"},
    source="Tan et al., CVPR 2020",
)
