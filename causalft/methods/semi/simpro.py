"""SimPro: expectation-maximisation in which the law of the unlabelled images is estimated, not assumed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.methods.semi.choices import SemiMethod
from causalft.methods.semi.method import Answers, Method, Step, Targets, Task, mean_loss, soft_targets

__all__ = ["SimPro"]


class SimPro(Method):
    """Pseudo-labels under the estimated law of the unlabelled images, learnt under that of all images.

    Du, Han & Huang, "SimPro: A Simple Probabilistic Framework Towards Realistic Long-Tailed Semi-Supervised Learning",
    ICML 2024, with the details of the authors' code. With logits z,

    - E-step: the pseudo-label of a weak view is the distribution ``softmax(z + tau log pi_u)``, which counts where its
      largest entry reaches the threshold;
    - M-step: labelled images and strong views are learnt by the cross-entropy of ``z + tau log pi``. A labelled image
      weighs as much as an unlabelled one: the labelled loss is multiplied by N / M times the unlabelled images per
      labelled one in a step (N labelled and M unlabelled images);
    - after each epoch, pi_u moves to the mean of the pseudo-labels that counted, and pi to that of the labels and
      pseudo-labels that were learnt: ``pi <- decay pi + (1 - decay) mean``.

    pi_u starts uniform, pi from the labelled law. z itself, which predicts, belongs to a uniform law.

    Parameters
    ----------
    task : Task
    threshold : float
    unlabelled_weight : float
    tau : float
        Strength of both adjustments.
    decay : float
        Share of the former estimate that stays after an epoch, in [0, 1).

    Attributes
    ----------
    law : (K,) Tensor
        pi_u.
    common_law : (K,) Tensor
        pi.
    labelled_counts, unlabelled_counts : (K,) Tensors
        Labels, and sums of the pseudo-labels that counted, of this epoch so far.
    """

    law: Tensor
    common_law: Tensor
    labelled_counts: Tensor
    unlabelled_counts: Tensor

    def __init__(
        self,
        task: Task,
        *,
        threshold: float = 0.95,
        unlabelled_weight: float = 1.0,
        tau: float = 1.0,
        decay: float = 0.9,
    ) -> None:
        super().__init__(task, threshold=threshold, unlabelled_weight=unlabelled_weight)
        self.tau, self.decay = tau, decay
        self.labelled_weight = task.ratio * float(task.counts.sum()) / task.n_unlabelled
        n_classes = task.n_classes
        self.register_buffer("law", torch.full((n_classes,), 1 / n_classes))
        self.register_buffer("common_law", task.prior.float().clone())
        self.register_buffer("labelled_counts", torch.zeros(n_classes))
        self.register_buffer("unlabelled_counts", torch.zeros(n_classes))

    def adjusted(self, logits: Tensor, law: Tensor) -> Tensor:
        """Logits (n, H, K) with ``tau log law`` added; a share of 0 counts as 1e-12, as in the authors' code."""
        return logits + self.tau * law.clamp(min=1e-12).log()

    def labelled_loss(self, answers: Answers, labels: Tensor) -> Tensor:
        """Cross-entropy under pi, times the weight of the labelled images."""
        logits = self.adjusted(answers.logits, self.common_law)[:, 0]
        return self.labelled_weight * F.cross_entropy(logits, labels)

    def beliefs(self, weak: Answers) -> Tensor:
        """Probabilities (n, 1, K) under pi_u."""
        return self.adjusted(weak.logits, self.law).softmax(-1)

    def choose(self, beliefs: Tensor, rows: Tensor) -> Targets:
        return soft_targets(beliefs, self.threshold)

    def unlabelled_loss(self, strong: Answers, targets: Targets) -> Tensor:
        """Mean weighted cross-entropy under pi."""
        return self.unlabelled_weight * mean_loss(self.adjusted(strong.logits, self.common_law), targets)

    def observe(self, seen: Step) -> None:
        n_classes = self.task.n_classes
        targets = seen.targets
        found = (targets.weights[..., None] * targets.probabilities)[:, 0].sum(0)
        self._counts += torch.stack([torch.bincount(seen.labels, minlength=n_classes).to(found), found])

    def start_batch(self) -> None:
        self._counts = torch.zeros(2, *self.log_prior.shape, device=self.log_prior.device)

    def finish_batch(self, total: Callable[[Tensor], Tensor]) -> None:
        labelled, unlabelled = total(self._counts)
        self.labelled_counts += labelled
        self.unlabelled_counts += unlabelled
        self.start_batch()

    def end_epoch(self, number: int) -> None:
        """Move both laws; an epoch without a pseudo-label leaves pi_u as it is."""
        found, both = self.unlabelled_counts, self.labelled_counts + self.unlabelled_counts
        for law, counts in ((self.law, found), (self.common_law, both)):
            if counts.sum() > 0:
                law.mul_(self.decay).add_((1 - self.decay) * counts / counts.sum())
        self.labelled_counts.zero_()
        self.unlabelled_counts.zero_()


SIMPRO = SemiMethod(
    name="simpro",
    help="estimates the law of the unlabelled images by EM, without an assumption about its form",
    make=SimPro,
    shares=("threshold", "decay"),
    adjusts=True,
    ours="one weak view of a labelled image and one strong view of an unlabelled one, in place of two each",
    source="Du, Han & Huang, ICML 2024",
    order=25,
)
