"""ABC: a second head that learns from as many images of each class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.methods.semi.choices import SemiMethod
from causalft.methods.semi.method import Answers, Method, Targets, Task, hard_targets, mean_loss

__all__ = ["AuxiliaryBalancedClassifier"]


class AuxiliaryBalancedClassifier(Method):
    """FixMatch, and beside its head a balanced one that predicts.

    Lee, Shin & Kim, "ABC: Auxiliary Balanced Classifier for Class-imbalanced Semi-supervised Learning", NeurIPS 2021,
    Eq. 2-5. The balanced head learns each image with a probability (a Bernoulli mask of 0 or 1): a labelled image of
    class y with N_min / N_y, an unlabelled one with pseudo-label q, in epoch t of T, with
    ``1 - (t / T) (1 - N_min / N_q)``. Its pseudo-labels are soft, its own, and need the same confidence.

    Parameters
    ----------
    task : Task
    threshold : float
    unlabelled_weight : float

    Attributes
    ----------
    rate : (K,) Tensor
        N_min / N_k; a class without a labelled image counts as one with one.
    passed : Tensor
        Epochs that are complete, a scalar.
    """

    n_heads, main = 2, 1
    rate: Tensor
    passed: Tensor

    def __init__(self, task: Task, *, threshold: float = 0.95, unlabelled_weight: float = 1.0) -> None:
        super().__init__(task, threshold=threshold, unlabelled_weight=unlabelled_weight)
        counts = task.counts.clamp(min=1)
        self.register_buffer("rate", counts.min() / counts, persistent=False)
        self.register_buffer("passed", torch.zeros(()))

    def labelled_loss(self, answers: Answers, labels: Tensor) -> Tensor:
        """Cross-entropy of the first head, plus that of the balanced head on the images that its mask keeps."""
        first = F.cross_entropy(answers.logits[:, 0], labels)
        each = F.cross_entropy(answers.logits[:, 1], labels, reduction="none")
        return first + (self.mask(self.rate[labels]) * each).mean()

    def choose(self, beliefs: Tensor, rows: Tensor) -> Targets:
        hard = hard_targets(beliefs, self.threshold)
        rate = 1 - self.passed / self.task.epochs * (1 - self.rate)
        kept = hard.weights[:, 1] * self.mask(rate[beliefs[:, 1].argmax(-1)])
        return Targets(
            torch.stack([hard.probabilities[:, 0], beliefs[:, 1]], dim=1),
            torch.stack([hard.weights[:, 0], kept], dim=1),
        )

    def unlabelled_loss(self, strong: Answers, targets: Targets) -> Tensor:
        """Sum of the losses of the heads."""
        return self.n_heads * self.unlabelled_weight * mean_loss(strong.logits, targets)

    def end_epoch(self, number: int) -> None:
        self.passed.fill_(number + 1)

    def mask(self, rate: Tensor) -> Tensor:
        """Ones with probability ``rate``, else zeros."""
        drawn = torch.rand(rate.shape, generator=self.generator).to(rate.device)
        return (drawn < rate).to(rate.dtype)


ABC = SemiMethod(
    name="abc",
    help="FixMatch trains the tower; a second head, which predicts, learns from as many images of each class",
    make=AuxiliaryBalancedClassifier,
    adjusts=True,
    ours="one strong view in place of two",
    source="Lee, Shin & Kim, NeurIPS 2021",
    order=22,
)
