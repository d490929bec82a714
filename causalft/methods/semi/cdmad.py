"""CDMAD: what a model answers to an image without content is its bias, and is taken off."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.methods.semi.choices import SemiMethod
from causalft.methods.semi.method import Answers, Method, Targets, Task, soft_targets

__all__ = ["Cdmad"]


class Cdmad(Method):
    """Pseudo-labels and predictions from ``z(x) - z(blank)``, blank being an image without content.

    Lee & Kim, "CDMAD: Class-Distribution-Mismatch-Aware Debiasing for Class-Imbalanced Semi-Supervised Learning",
    CVPR 2024, with the details of the authors' code. Labelled images are learnt by plain cross-entropy. Unlabelled
    ones are learnt without a threshold: the target of the strong view is the distribution ``softmax(z(x) - z(blank))``
    of the weak one, after a first part of the training in which it is ``softmax(z(x))``. Predictions always take
    ``z(blank)`` off.

    Parameters
    ----------
    task : Task
    threshold : float
        Least confidence of a pseudo-label; 0 in the paper.
    unlabelled_weight : float
    start : float
        Share of the epochs before pseudo-labels are corrected; 0.2 in the authors' code.

    Attributes
    ----------
    passed : Tensor
        Epochs that are complete, a scalar.
    blank : (K,) Tensor
        Logits of the image without content, the last that were seen.
    """

    needs_blank = True
    passed: Tensor
    blank: Tensor

    def __init__(
        self,
        task: Task,
        *,
        threshold: float = 0.0,
        unlabelled_weight: float = 1.0,
        start: float = 0.2,
    ) -> None:
        super().__init__(task, threshold=threshold, unlabelled_weight=unlabelled_weight)
        self.start = start
        self.register_buffer("passed", torch.zeros(()))
        self.register_buffer("blank", torch.zeros(task.n_classes))

    def see_blank(self, blank: Answers) -> None:
        self.blank.copy_(blank.logits[0, 0].detach())

    def labelled_loss(self, answers: Answers, labels: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(answers.logits[:, 0], labels)

    def beliefs(self, weak: Answers) -> Tensor:
        """Probabilities (n, 1, K), from the first part of the training on without the bias."""
        corrected = bool(self.passed >= self.start * self.task.epochs)
        return (weak.logits - self.blank if corrected else weak.logits).softmax(-1)

    def choose(self, beliefs: Tensor, rows: Tensor) -> Targets:
        return soft_targets(beliefs, self.threshold)

    def end_epoch(self, number: int) -> None:
        self.passed.fill_(number + 1)

    def final(self) -> tuple[Tensor, Tensor]:
        weight, _ = super().final()
        return weight, -self.blank.clone()


CDMAD = SemiMethod(
    name="cdmad",
    help="takes the answer to an image without content off every answer, whatever law the unlabelled images have",
    make=Cdmad,
    shares=("threshold", "start"),
    adjusts=True,
    ours="the image without content is grey; one strong view in place of two",
    source="Lee & Kim, CVPR 2024",
    order=26,
)
