"""FineSSL: margins that follow the pseudo-label counts, and a second head that only tells confidence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.methods.semi.choices import SemiMethod
from causalft.methods.semi.method import Answers, Method, Step, Targets, Task, soft_cross_entropy

__all__ = ["FineSsl"]


class FineSsl(Method):
    """A head with balanced margins that predicts, and a head for confidence that does not reach the tower.

    Gan & Wei, "Erasing the Bias: Fine-Tuning Foundation Models for Semi-Supervised Learning", ICML 2024, with the
    details of the authors' code. With s_k the number of pseudo-labels k over that of the most frequent one,

        margin_k = alpha (max s - min s) (1 - s_k) / (1 + s_k),

    which is added to the logits of all classes but the (pseudo-)label k: classes that are rarely predicted must win by
    more. The first head learns labelled images, and every strong view by the class of its weak view, weighted by the
    probability that the second head gives its own most probable class. The second head reads features through which
    no gradient flows. It learns labelled images, and the classes of the first head with smoothed labels, where the
    first head is as sure as the threshold.

    Parameters
    ----------
    task : Task
    threshold : float
    unlabelled_weight : float
        Of the first head's loss; 3 in the authors' settings.
    alpha : float
        In units of the logits.
    smoothing : float
        Share of a smoothed label that the other classes have.

    Attributes
    ----------
    latest : (n_unlabelled,) Tensor of int
        Latest pseudo-label of each image, -1 before its first.
    """

    n_heads = 2
    latest: Tensor

    def __init__(
        self,
        task: Task,
        *,
        threshold: float = 0.7,
        unlabelled_weight: float = 3.0,
        alpha: float = 8.0,
        smoothing: float = 0.5,
    ) -> None:
        super().__init__(task, threshold=threshold, unlabelled_weight=unlabelled_weight)
        self.alpha, self.smoothing = alpha, smoothing
        self.register_buffer("latest", torch.full((task.n_unlabelled,), -1, dtype=torch.int64))

    @property
    def margins(self) -> Tensor:
        """Margin of each class, (K,); 0 before the first pseudo-label."""
        counts = torch.bincount(self.latest + 1, minlength=self.task.n_classes + 1)[1:].float()
        share = counts / counts.max().clamp(min=1)
        return self.alpha * (share.max() - share.min()) * (1 - share) / (1 + share)

    def forward(self, features: Tensor) -> Answers:
        first, second = self.heads
        return Answers(features, torch.stack([first(features), second(features.detach())], dim=1))

    def balanced(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits (n, K), the margin of the label added to all classes but the label (n,)."""
        return logits + self.margins[labels, None] * (1 - F.one_hot(labels, logits.shape[-1]))

    def labelled_loss(self, answers: Answers, labels: Tensor) -> Tensor:
        """Sum of the cross-entropies of the heads, with ``adjust`` after log P_L is added."""
        logits = answers.logits + self.log_prior if self.task.adjust else answers.logits
        return F.cross_entropy(self.balanced(logits[:, 0], labels), labels) + F.cross_entropy(
            logits[:, 1], labels
        )

    def choose(self, beliefs: Tensor, rows: Tensor) -> Targets:
        best, label = beliefs[:, 0].max(-1)
        n_classes = beliefs.shape[-1]
        hard = F.one_hot(label, n_classes).to(beliefs.dtype)
        smooth = (1 - self.smoothing) * hard + self.smoothing / (n_classes - 1) * (1 - hard)
        sure = (best >= self.threshold).to(beliefs.dtype)
        return Targets(torch.stack([hard, smooth], 1), torch.stack([beliefs[:, 1].amax(-1), sure], 1))

    def unlabelled_loss(self, strong: Answers, targets: Targets) -> Tensor:
        """Weighted cross-entropy with margins of the first head, and that of the second against smoothed labels."""
        label = targets.probabilities[:, 0].argmax(-1)
        first = F.cross_entropy(self.balanced(strong.logits[:, 0], label), label, reduction="none")
        second = soft_cross_entropy(strong.logits[:, 1], targets.probabilities[:, 1])
        return (
            self.unlabelled_weight * targets.weights[:, 0] * first + targets.weights[:, 1] * second
        ).mean()

    def observe(self, seen: Step) -> None:
        label = seen.targets.probabilities[:, 0].argmax(-1)
        sure = seen.targets.weights[:, 1] > 0
        self._found.append((seen.rows.to(label.device)[sure], label[sure]))

    def start_batch(self) -> None:
        self._found: list[tuple[Tensor, Tensor]] = []

    def finish_batch(self, total: Callable[[Tensor], Tensor]) -> None:
        found = torch.zeros_like(self.latest)
        for rows, labels in self._found:
            found[rows] = labels + 1
        found = total(found)
        self.latest.copy_(torch.where(found > 0, found - 1, self.latest))
        self.start_batch()


FINESSL = SemiMethod(
    name="finessl",
    help="margins grow for classes rarely predicted, and images count by the confidence of a second head",
    make=FineSsl,
    shares=("threshold", "smoothing"),
    ours=(
        "heads start from the class prototypes, not at random, at the scale of the other heads; pseudo-labels are "
        "counted over the whole training, not anew in each epoch; the second head's loss is a mean over all unlabelled "
        "images, not over those kept; one strong view in place of two; with LA, log P_L is also added"
    ),
    source="Gan & Wei, ICML 2024",
    order=27,
)
