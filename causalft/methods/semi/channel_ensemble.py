"""The channel ensemble: heads on groups of channels, whose mean is the pseudo-label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.methods.semi.choices import SemiMethod
from causalft.methods.semi.method import Answers, Method, Targets, Task, soft_cross_entropy
from causalft.models.tuning.heads import L2Head

__all__ = ["ChannelEnsemble", "channel_groups", "correlation", "refuse_heads"]


class ChannelEnsemble(Method):
    """Heads that see some channels in common and some of their own; pseudo-labels are those of their mean.

    Wu, Pang, Zhang & Huang, "A Channel-ensemble Approach: Unbiased and Low-variance Pseudo-labels is Critical for
    Semi-supervised Classification", arXiv 2403.18407, with the details of the authors' code, on FixMatch. An unlabelled
    image counts where enough heads are as sure as the threshold; its label is the class of the mean of their
    probabilities, and all heads learn it. In each step one head, in turn, rests. Two losses are added:

    - low bias: the mean correlation, without its sign, of the own channels of each head with those of the next, over
      the strong views. It trains the tower; where the tower is frozen, it does nothing;
    - low variance: 1 minus the mean correlation of a head's probabilities of labelled images with their labels.

    The mean of the logits predicts.

    Parameters
    ----------
    task : Task
    threshold : float
    unlabelled_weight : float
    heads : int
        At least 2.
    agree : int
        Heads that must be as sure as the threshold.
    own_share : float
        Share of the channels that each head has for itself.
    low_bias, low_variance : float
        Weights of the two losses.

    Raises
    ------
    CausalFTError
        For fewer than 2 heads, more agreement than heads, or fewer channels than the heads need.

    Attributes
    ----------
    step : Tensor of int
        Steps so far, a scalar.
    """

    step: Tensor
    mask: Tensor

    def __init__(
        self,
        task: Task,
        *,
        threshold: float = 0.9,
        unlabelled_weight: float = 1.0,
        heads: int = 5,
        agree: int = 4,
        own_share: float = 0.1,
        low_bias: float = 1.0,
        low_variance: float = 1.0,
    ) -> None:
        refuse_heads(heads=heads, agree=agree)
        mask, self.own = channel_groups(task.weight.shape[1], heads, own_share)
        self.n_heads, self.agree, self.low_bias, self.low_variance = heads, agree, low_bias, low_variance
        super().__init__(task, threshold=threshold, unlabelled_weight=unlabelled_weight)
        self.register_buffer("mask", mask.to(task.weight), persistent=False)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        with torch.no_grad():
            for head, seen in zip(self.heads, self.mask, strict=True):
                weight = head.get_parameter("weight")
                weight.copy_(F.normalize(weight * seen, dim=-1))

    def make_head(self) -> nn.Module:
        return L2Head(self.task.weight, scale=self.task.scale)

    def forward(self, features: Tensor) -> Answers:
        """Logits (n, 1 + heads, K): their mean, then each head."""
        unit = F.normalize(features, dim=-1)
        each = torch.stack(
            [
                F.linear(
                    self.task.scale * unit, head.get_parameter("weight") * seen, head.get_parameter("bias")
                )
                for head, seen in zip(self.heads, self.mask, strict=True)
            ],
            dim=1,
        )
        return Answers(features, torch.cat([each.mean(1, keepdim=True), each], dim=1))

    @property
    def awake(self) -> list[int]:
        """Rows of the logits of the heads that learn in this step."""
        return [1 + head for head in range(self.n_heads) if head != int(self.step) % self.n_heads]

    def labelled_loss(self, answers: Answers, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the heads that are awake, with ``adjust`` after log P_L is added, and low variance."""
        logits = answers.logits + self.log_prior if self.task.adjust else answers.logits
        truth = F.one_hot(labels, logits.shape[-1]).to(logits.dtype)
        loss = soft_cross_entropy(logits[:, self.awake], truth[:, None]).mean()
        found = [correlation(logits[:, 1 + head].softmax(-1), truth) for head in range(self.n_heads)]
        return loss + self.low_variance * (1 - torch.stack(found).mean())

    def beliefs(self, weak: Answers) -> Tensor:
        """Probabilities (n, 1 + heads, K): their mean, then those of each head."""
        each = weak.logits[:, 1:].softmax(-1)
        return torch.cat([each.mean(1, keepdim=True), each], dim=1)

    def choose(self, beliefs: Tensor, rows: Tensor) -> Targets:
        """One target for all heads."""
        one_hot = F.one_hot(beliefs[:, :1].argmax(-1), beliefs.shape[-1]).to(beliefs.dtype)
        sure = (beliefs[:, 1:].amax(-1) >= self.threshold).sum(1, keepdim=True)
        return Targets(one_hot, (sure >= self.agree).to(beliefs.dtype))

    def unlabelled_loss(self, strong: Answers, targets: Targets) -> Tensor:
        """Mean weighted cross-entropy of the heads that are awake, and low bias."""
        each = soft_cross_entropy(strong.logits[:, self.awake], targets.probabilities)
        own = F.normalize(strong.features, dim=-1)[:, : self.n_heads * self.own].unflatten(
            1, (self.n_heads, self.own)
        )
        found = [
            correlation(own[:, head], own[:, (head + 1) % self.n_heads].detach()).abs()
            for head in range(self.n_heads)
        ]
        return self.unlabelled_weight * (
            (targets.weights * each).mean() + self.low_bias * torch.stack(found).mean()
        )

    def finish_batch(self, total: Callable[[Tensor], Tensor]) -> None:
        self.step += 1

    def final(self) -> tuple[Tensor, Tensor]:
        weights = [
            head.get_parameter("weight").detach() * seen
            for head, seen in zip(self.heads, self.mask, strict=True)
        ]
        biases = [head.get_parameter("bias").detach() for head in self.heads]
        return torch.stack(weights).mean(0), torch.stack(biases).mean(0)


def channel_groups(width: int, heads: int, own_share: float) -> tuple[Tensor, int]:
    """Return which channels each head sees, (heads, width) of 0 and 1, and the number that each has for itself.

    The first channels belong to one head each, the others to all.

    Raises
    ------
    CausalFTError
        If no channel is left for all.

    Examples
    --------
    >>> channel_groups(6, 2, 0.2)[0].tolist()
    [[1.0, 0.0, 1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]]
    """
    own = max(1, int(own_share * width))
    if heads * own >= width:
        raise CausalFTError(
            f"{heads} heads with {own} channels of their own need more than the {width} channels of the features; take "
            "fewer heads or a smaller share"
        )
    mask = torch.zeros(heads, width)
    mask[:, heads * own :] = 1
    for head in range(heads):
        mask[head, head * own : (head + 1) * own] = 1
    return mask, own


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlation of all entries of two tensors of one shape; 0 if one of them is constant.

    Examples
    --------
    >>> correlation(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[4.0, 3.0], [2.0, 1.0]])).item()
    -1.0
    """
    a, b = first.flatten() - first.mean(), second.flatten() - second.mean()
    return (a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-12)


def refuse_heads(*, heads: int, agree: int, **_: Any) -> None:
    """Refuse numbers of heads that cannot agree.

    Raises
    ------
    CausalFTError
    """
    if heads < 2 or not 1 <= agree <= heads:
        raise CausalFTError(
            f"{heads} heads of which {agree} must agree; give at least 2 heads, and from 1 to all of them"
        )


CHANNEL_ENSEMBLE = SemiMethod(
    name="channel-ensemble",
    help="heads on groups of channels; an image counts where most of them are sure, and their mean is its label",
    make=ChannelEnsemble,
    refuse=refuse_heads,
    shares=("threshold", "own_share"),
    ours=(
        "channels of the model's features, not of an added convolution, and no noise on them; the variance loss "
        "correlates probabilities with one-hot labels, since the published one depends on the numbering of classes; "
        "heads weigh the same in predictions; both added losses are statistics of a (micro-)batch"
    ),
    source="Wu et al., arXiv 2403.18407",
    order=29,
)
