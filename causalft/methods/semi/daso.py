"""DASO: pseudo-labels that are part of the head, part of class prototypes, more of them for classes predicted often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.methods.semi.choices import SemiMethod
from causalft.methods.semi.method import (
    Answers,
    Method,
    Step,
    Targets,
    Task,
    hard_targets,
    soft_cross_entropy,
)

__all__ = ["DistributionAware", "SemanticTargets"]


@dataclass(frozen=True, eq=False)
class SemanticTargets(Targets):
    """Targets, and what the prototypes make of the weak views.

    Attributes
    ----------
    semantic : (n, K) Tensor
        Probabilities.
    """

    semantic: Tensor


class DistributionAware(Method):
    """FixMatch whose pseudo-labels are blended from the head and from class prototypes.

    Oh, Kim & Kweon, "DASO: Distribution-Aware Semantics-Oriented Pseudo-label for Imbalanced Semi-Supervised
    Learning", CVPR 2022, Eq. 1-5. With p of the head and q = softmax(cos(x, c_k) / 0.05) of the prototypes c_k, the
    means of labelled features, an image that the head takes for class k has

        p' = (1 - v_k) p + v_k q,    v_k = (m_k / max m)^(1 / T)

    where m is the law of the pseudo-labels so far. The confident class of p' is the label of the strong view, and q of
    the strong view shall be q of the weak one. The first epoch is FixMatch alone.

    Parameters
    ----------
    task : Task
    threshold : float
    unlabelled_weight : float
    temperature : float
        T: 1.5 in the paper where labelled and unlabelled images have one law, 0.3 where they do not.
    prototype_temperature : float
    alignment_weight : float
    window : int
        Labelled features of a class that its prototype remembers.

    Attributes
    ----------
    sums : (K, d) Tensor
        Weighted sum of the unit features of a class, and ``weights`` (K,), the sum of the weights: each further feature
        of the class leaves ``1 - 1 / window`` of them.
    law : (K,) Tensor
        m, of the last epoch; ``counts`` are those of this epoch.
    warm : Tensor
        Whether the first epoch is complete, 0 or 1.
    """

    sums: Tensor
    weights: Tensor
    law: Tensor
    counts: Tensor
    warm: Tensor

    def __init__(
        self,
        task: Task,
        *,
        threshold: float = 0.95,
        unlabelled_weight: float = 1.0,
        temperature: float = 1.5,
        prototype_temperature: float = 0.05,
        alignment_weight: float = 1.0,
        window: int = 256,
    ) -> None:
        super().__init__(task, threshold=threshold, unlabelled_weight=unlabelled_weight)
        self.temperature, self.prototype_temperature = temperature, prototype_temperature
        self.alignment_weight, self.window = alignment_weight, window
        n_classes = task.n_classes
        self.register_buffer("start", F.normalize(task.weight.detach().float(), dim=-1), persistent=False)
        self.register_buffer("sums", torch.zeros(task.weight.shape))
        self.register_buffer("weights", torch.zeros(n_classes))
        self.register_buffer("law", torch.full((n_classes,), 1 / n_classes))
        self.register_buffer("counts", torch.zeros(n_classes))
        self.register_buffer("warm", torch.zeros(()))
        self.start_batch()

    start: Tensor

    @property
    def prototypes(self) -> Tensor:
        """c_k, (K, d), unit rows; where the head starts, for a class of which no feature was seen."""
        seen = (self.weights > 0)[:, None]
        return F.normalize(torch.where(seen, self.sums, self.start), dim=-1)

    def semantic_logits(self, features: Tensor) -> Tensor:
        """``cos(x, c_k) / temperature``, (n, K)."""
        return F.normalize(features, dim=-1) @ self.prototypes.T / self.prototype_temperature

    def beliefs(self, weak: Answers) -> Tensor:
        """Probabilities of the head, then those of the prototypes, (n, 2, K)."""
        semantic = self.semantic_logits(weak.features).softmax(-1)
        return torch.cat([super().beliefs(weak), semantic[:, None]], dim=1)

    def choose(self, beliefs: Tensor, rows: Tensor) -> Targets:
        linear, semantic = beliefs[:, :1], beliefs[:, 1:]
        share = (self.law / self.law.max()) ** (1 / self.temperature)
        blend = self.warm * share[linear.argmax(-1)][..., None]
        hard = hard_targets((1 - blend) * linear + blend * semantic, self.threshold)
        return SemanticTargets(hard.probabilities, hard.weights, semantic[:, 0])

    def unlabelled_loss(self, strong: Answers, targets: Targets) -> Tensor:
        """That of FixMatch, plus, after the first epoch, the mean cross-entropy of q of the strong and weak views."""
        assert isinstance(targets, SemanticTargets)
        aligned = soft_cross_entropy(self.semantic_logits(strong.features), targets.semantic).mean()
        return super().unlabelled_loss(strong, targets) + self.alignment_weight * self.warm * aligned

    def observe(self, seen: Step) -> None:
        n_classes = len(self.law)
        self._sums.index_add_(0, seen.labels, F.normalize(seen.labelled.features, dim=-1).to(self._sums))
        self._numbers += torch.bincount(seen.labels, minlength=n_classes).to(self._numbers)
        self._counts += seen.targets.probabilities[:, 0].sum(0).to(self._counts)

    def start_batch(self) -> None:
        self._numbers = torch.zeros_like(self.log_prior)
        self._counts = torch.zeros_like(self.log_prior)
        self._sums = torch.zeros(self.task.weight.shape, device=self.log_prior.device)

    def finish_batch(self, total: Callable[[Tensor], Tensor]) -> None:
        numbers = total(self._numbers)
        left = (1 - 1 / self.window) ** numbers
        self.sums.mul_(left[:, None]).add_(total(self._sums))
        self.weights.mul_(left).add_(numbers)
        self.counts += total(self._counts)
        self.start_batch()

    def end_epoch(self, number: int) -> None:
        if self.counts.sum() > 0:
            self.law.copy_(self.counts / self.counts.sum())
        self.counts.zero_()
        self.warm.fill_(1.0)


DASO = SemiMethod(
    name="daso",
    help="pseudo-labels are part of the head, part of class prototypes, more of these for classes predicted often",
    make=DistributionAware,
    ours=(
        "T = 1.5 whatever the law; prototypes of the features of the step, with an exponential window in place of a "
        "queue, and no slow copy of the tower; the law of the pseudo-labels is that of the last epoch; the first epoch "
        "is FixMatch alone, where the published code waits for 2 % of the steps"
    ),
    source="Oh, Kim & Kweon, CVPR 2022",
    order=21,
)
