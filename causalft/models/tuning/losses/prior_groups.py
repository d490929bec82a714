"""LA that attends to the classes that the pre-training saw seldom: weights by the model's prior, and group-DRO."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.data.groups import GROUPS, prior_groups
from causalft.models.tuning.choices import Loss
from causalft.models.tuning.losses import Counts, Criterion, Vector, at_least, log_prior_of_model, wide

__all__ = ["GroupDRO", "group_dro", "prior_weighted"]


def prior_weighted(counts: Counts, *, model_log_prior: ArrayLike | Tensor, rho: float = 0.5) -> Criterion:
    """LA-PW: w_y times CE of f + log P_S(y) + log w_y, with w_y ~ q(y)^-rho and q the label prior of the model.

    P-few classes get larger steps, yet the optimum stays that of LA: a weight alone would add log w_y to the optimal
    logits, and the shift takes it out again. So, unlike GLA-Train, it moves no decision, only the effort. Weights
    have mean 1 over the training set. The weights are those of GRW with q for P_S.

    Parameters
    ----------
    counts : Counts
    model_log_prior : (K,) array or Tensor
        log q, up to a constant.
    rho : float
        At least 0; at 0 it is LA.
    """
    at_least(rho, 0, "rho", "LA-PW")
    log_q = log_prior_of_model(counts, model_log_prior)
    weights = np.exp(-rho * (log_q - log_q.min()))
    weights *= counts.values.sum() / (weights @ counts.values)
    constant, shift = Vector(weights), Vector(counts.log_prior + np.log(weights))

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        logits = wide(logits, counts)
        each = F.cross_entropy(logits + shift.on(logits), labels, reduction="none")
        return (constant.on(logits)[labels] * each).mean()

    return loss


LA_PW = Loss(
    name="LA-PW",
    help="more effort for classes that the pre-training saw seldom, with the optimum of LA",
    formula=r"$w_y\,$CE of $f + \log P_S(y) + \log w_y$, $w_y \propto q(y)^{-\rho}$",
    make=prior_weighted,
    optimum="balanced posterior",
    needs_model_prior=True,
)


class GroupDRO(nn.Module):
    """Group-DRO of LA: the sum of the groups' mean losses, weighted by h, where h_g grows with the loss of group g.

    Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts", ICLR 2020, Algorithm 1: for each batch
    h_g <- h_g exp(step * loss_g), scaled to sum 1, and then a gradient step at these weights. A group without an image
    in the batch has loss 0. The loss of a group is the mean over its images in the batch, so accumulation changes it.

    Parameters
    ----------
    counts : Counts
    groups : (K,) array of int
        The group of each class, from 0.
    step : float
        At least 0; at 0 all groups weigh alike.

    Attributes
    ----------
    group_weights : (G,) Tensor
        h, sums to 1; equal at the start. A buffer, so that a training that resumes goes on with it.
    """

    group_weights: Tensor
    groups: Tensor

    def __init__(self, counts: Counts, groups: ArrayLike, step: float) -> None:
        super().__init__()
        of_class = torch.as_tensor(np.asarray(groups, dtype=np.int64))
        n_groups = int(of_class.max()) + 1
        self.counts, self.step, self._log_prior = counts, step, Vector(counts.log_prior)
        self.register_buffer("groups", of_class, persistent=False)
        self.register_buffer("group_weights", torch.full((n_groups,), 1 / n_groups))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = wide(logits, self.counts)
        if self.groups.device != logits.device:
            self.to(logits.device)
        each = F.cross_entropy(logits + self._log_prior.on(logits), labels, reduction="none")
        group = self.groups[labels]
        none = torch.zeros_like(self.group_weights, dtype=each.dtype)
        n = none.index_add(0, group, torch.ones_like(each))
        means = none.index_add(0, group, each) / n.clamp_min(1)
        if torch.is_grad_enabled():
            # of its logarithm, so that no loss is too large for it
            moved = self.group_weights.log() + self.step * means.detach().to(self.group_weights.dtype)
            self.group_weights.copy_(moved.softmax(0))
        return self.group_weights.to(means.dtype, copy=True) @ means


def group_dro(counts: Counts, *, model_log_prior: ArrayLike | Tensor, step: float = 0.01) -> Criterion:
    """LA-DRO: :class:`GroupDRO` over the P-many, P-medium and P-few classes of the model.

    Parameters
    ----------
    counts : Counts
    model_log_prior : (K,) array or Tensor
        log q, up to a constant; its ranks make the groups (:func:`causalft.data.groups.prior_groups`).
    step : float
        At least 0.
    """
    at_least(step, 0, "step", "LA-DRO")
    names = prior_groups(log_prior_of_model(counts, model_log_prior))
    there = [name for name in GROUPS if name in names]
    return GroupDRO(counts, [there.index(name) for name in names], step)


LA_DRO = Loss(
    name="LA-DRO",
    help="the P group with the highest loss weighs most; tune `step` on validation images",
    formula=r"$\sum_g h_g\, \mathrm{LA}_g$ over P groups $g$; for each batch "
    r"$h_g \leftarrow h_g\, e^{\eta\,\mathrm{LA}_g}$, $\sum_g h_g = 1$",
    make=group_dro,
    of_batch=True,
    needs_model_prior=True,
    symbols={"step": r"\eta"},
    source="Sagawa et al., ICLR 2020",
)
