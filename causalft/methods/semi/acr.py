"""ACR: pseudo-labels whose adjustment follows the law that the unlabelled images seem to have."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.methods.semi.choices import SemiMethod
from causalft.methods.semi.method import Answers, Method, Step, Targets, Task, mean_loss

__all__ = ["AdaptiveConsistency", "reversed_law", "symmetric_divergence"]


class AdaptiveConsistency(Method):
    """Two heads: one learns by cross-entropy, one, which predicts, by logit adjustment of strength 2.

    Wei & Gan, "Towards Realistic Long-Tailed Semi-Supervised Learning: Consistency Is All You Need", CVPR 2023, with
    the details of the authors' code. Both learn unlabelled images by labels of the first head: head 1 by the class of
    ``z_1 - tau log P_L``, head 2 by that of ``z_1 - 2 log P_L``. An image counts where this label is confident, or the
    answer of the head itself. The law of the confident classes of head 2, a moving average over steps, is compared
    with three anchors, P_L, uniform and P_L reversed, by symmetric KL; after each epoch

        tau = 2 softmax(mean KL over the steps)[P_L]

    so that tau is near 0 where the unlabelled images follow the labelled law, and near 2 where they are far from it.

    Parameters
    ----------
    task : Task
    threshold : float
    unlabelled_weight : float
    adjustment : float
        The 2 in all three places.
    decay : float
        Of the moving average of the law.

    Attributes
    ----------
    tau : Tensor
        A scalar.
    law : (K,) Tensor
        Moving average of the law of the confident classes of head 2.
    distances : (3,) Tensor
        Sum over the ``steps`` of this epoch of the symmetric KL to P_L, uniform, P_L reversed.
    """

    n_heads, main = 2, 1
    tau: Tensor
    law: Tensor
    distances: Tensor
    steps: Tensor
    anchors: Tensor

    def __init__(
        self,
        task: Task,
        *,
        threshold: float = 0.95,
        unlabelled_weight: float = 1.0,
        adjustment: float = 2.0,
        decay: float = 0.9,
    ) -> None:
        super().__init__(task, threshold=threshold, unlabelled_weight=unlabelled_weight)
        self.adjustment, self.decay = adjustment, decay
        labelled, n_classes = self.log_prior.exp(), task.n_classes
        uniform = torch.full((n_classes,), 1 / n_classes)
        self.register_buffer(
            "anchors", torch.stack([labelled, uniform, reversed_law(labelled)]), persistent=False
        )
        self.register_buffer("tau", torch.tensor(float(adjustment)))
        self.register_buffer("law", uniform.clone())
        self.register_buffer("distances", torch.zeros(3))
        self.register_buffer("steps", torch.zeros(()))

    def labelled_loss(self, answers: Answers, labels: Tensor) -> Tensor:
        """Sum of the cross-entropy of head 1 and the adjusted one of head 2."""
        first, second = answers.logits[:, 0], answers.logits[:, 1] + self.adjustment * self.log_prior
        return F.cross_entropy(first, labels) + F.cross_entropy(second, labels)

    def choose(self, beliefs: Tensor, rows: Tensor) -> Targets:
        logs = beliefs[:, 0].clamp(min=torch.finfo(beliefs.dtype).tiny).log()
        strengths = torch.stack([self.tau, torch.full_like(self.tau, self.adjustment)])
        adjusted = (logs[:, None] - strengths[:, None] * self.log_prior).softmax(-1)  # (n, 2, K)
        best, label = adjusted.max(-1)
        sure = (best >= self.threshold) | (beliefs.amax(-1) >= self.threshold)
        return Targets(F.one_hot(label, beliefs.shape[-1]).to(beliefs.dtype), sure.to(beliefs.dtype))

    def unlabelled_loss(self, strong: Answers, targets: Targets) -> Tensor:
        """Sum of the losses of the heads."""
        return self.n_heads * self.unlabelled_weight * mean_loss(strong.logits, targets)

    def observe(self, seen: Step) -> None:
        best, label = seen.beliefs[:, 1].max(-1)
        self._counts += torch.bincount(label[best >= self.threshold], minlength=len(self._counts)).to(
            self._counts
        )

    def start_batch(self) -> None:
        self._counts = torch.zeros_like(self.log_prior)

    def finish_batch(self, total: Callable[[Tensor], Tensor]) -> None:
        counts = total(self._counts)
        if counts.sum() > 0:
            self.law.mul_(self.decay).add_((1 - self.decay) * counts / counts.sum())
            self.distances += symmetric_divergence(self.law, self.anchors)
            self.steps += 1
        self.start_batch()

    def end_epoch(self, number: int) -> None:
        if self.steps > 0:
            self.tau.copy_(self.adjustment * (self.distances / self.steps).softmax(0)[0])
        self.distances.zero_()
        self.steps.zero_()


def reversed_law(law: Tensor) -> Tensor:
    """Give the most frequent class the share of the least frequent one, and so on, (K,).

    Examples
    --------
    >>> reversed_law(torch.tensor([0.2, 0.5, 0.3])).tolist()
    [0.5, 0.2, 0.3]
    """
    order = law.argsort(descending=True, stable=True)
    found = torch.empty_like(law)
    found[order] = law[order.flip(0)]
    return found


def symmetric_divergence(law: Tensor, anchors: Tensor) -> Tensor:
    """``KL(law || anchor) / 2 + KL(anchor || law) / 2`` of a law (K,) and each of the anchors (n, K), in nats.

    Examples
    --------
    >>> round(symmetric_divergence(torch.tensor([0.75, 0.25]), torch.tensor([[0.5, 0.5]])).item(), 3)  # log(3) / 8
    0.137
    """
    return ((law - anchors) * (law.log() - anchors.log())).sum(-1) / 2


ACR = SemiMethod(
    name="acr",
    help="pseudo-labels whose logit adjustment follows the law that the unlabelled images seem to have",
    make=AdaptiveConsistency,
    shares=("threshold", "decay"),
    adjusts=True,
    ours=(
        "one strong view in place of two; tau follows the law from the second epoch on, where the published code waits "
        "for six of 500 epochs"
    ),
    source="Wei & Gan, CVPR 2023",
    order=23,
)
