"""ULFine, a reconstruction: prototypes that follow the images where pseudo-labels abound, and two fused classifiers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.methods.semi.choices import SemiMethod
from causalft.methods.semi.method import Answers, Method, Step, Targets, Task, hard_targets, mean_loss
from causalft.models.tuning.heads import L2Head

__all__ = ["Ulfine", "apart", "dual_logit"]


class Ulfine(Method):
    """A reconstruction of ULFine from public descriptions: its code and settings are not public.

    Zhang, Li, Geng & Chen, "ULFine: Unbiased Lightweight Fine-tuning for Foundation-Model-Assisted Long-Tailed
    Semi-Supervised Learning", arXiv 2505.05062. None of its numbers are this method's. Described are:

    - *prototype adaptive fitting*: with P_u the law of the pseudo-labels so far and v_k a moving average of the mean
      unit feature of the labelled images of class k, the text prototype follows the images,

          c_k <- (1 - a_k) c_k + a_k v_k,  a_k = mu P_u(k) / max P_u,

      under an orthogonality constraint between prototypes;
    - *dual-logit fusion*: the logits of the prototype classifier, ``s cos(x, c_k)``, and of a linear probe are fused,
      for pseudo-labels and for predictions.

    Open were, and are chosen here:

    - prototypes learn by the fitting alone, once per step, and not by the gradient; they stay unit vectors;
    - the constraint is a gradient step of size ``constraint``, after the fitting, on half the sum of the squared
      cosines of all pairs of prototypes;
    - P_u is a moving average over steps of the law of the pseudo-labels that were learnt, uniform at first;
    - the probe, an L2-normed linear head, starts from the same prototypes, so both have one scale and the fusion is
      ``(1 - fusion) z_prototype + fusion z_probe``;
    - both classifiers learn from the labels and the fused pseudo-labels, with weights in the loss as in the fusion;
    - ``mu``, the threshold and all other numbers, by validation images of a small set of creatures.

    With ``mu`` 0 nothing is fitted, with ``constraint`` 0 nothing is kept apart; with ``fusion`` 0 or 1 one classifier
    is left.

    Parameters
    ----------
    task : Task
    threshold : float
    unlabelled_weight : float
    mu : float
        Largest step of a prototype towards its class mean, in [0, 1].
    fusion : float
        Weight of the probe, in [0, 1].
    constraint : float
        Size of the step that keeps prototypes apart.
    visual_decay, law_decay : float
        Shares of the former averages that stay after a step, in [0, 1].

    Attributes
    ----------
    prototypes : (K, d) Tensor
        c, unit rows.
    visual : (K, d) Tensor
        v; zero before the first image of a class.
    law : (K,) Tensor
        P_u.
    """

    prototypes: Tensor
    visual: Tensor
    law: Tensor

    def __init__(
        self,
        task: Task,
        *,
        threshold: float = 0.95,
        unlabelled_weight: float = 1.0,
        mu: float = 0.01,
        fusion: float = 0.5,
        constraint: float = 1e-4,
        visual_decay: float = 0.9,
        law_decay: float = 0.99,
    ) -> None:
        super().__init__(task, threshold=threshold, unlabelled_weight=unlabelled_weight)
        self.mu, self.fusion, self.constraint = mu, fusion, constraint
        self.visual_decay, self.law_decay = visual_decay, law_decay
        unit = F.normalize(task.weight.float(), dim=-1)
        self.register_buffer("prototypes", unit.clone())
        self.register_buffer("visual", torch.zeros_like(unit))
        self.register_buffer("law", torch.full((task.n_classes,), 1 / task.n_classes))

    def make_head(self) -> nn.Module:
        """The probe."""
        return L2Head(F.normalize(self.task.weight, dim=-1), scale=self.task.scale)

    def forward(self, features: Tensor) -> Answers:
        """Logits (n, 3, K): fused, of the prototypes, of the probe."""
        similar = self.task.scale * F.normalize(features, dim=-1) @ self.prototypes.T
        probed = self.heads[0](features)
        return Answers(features, torch.stack([self.fused(similar, probed), similar, probed], dim=1))

    def fused(self, similar: Tensor, probed: Tensor) -> Tensor:
        """Weighted mean of what belongs to the prototypes and to the probe."""
        return (1 - self.fusion) * similar + self.fusion * probed

    def labelled_loss(self, answers: Answers, labels: Tensor) -> Tensor:
        """Cross-entropy of both classifiers, weighted as in the fusion, with ``adjust`` after log P_L is added."""
        logits = answers.logits + self.log_prior if self.task.adjust else answers.logits
        return self.fused(F.cross_entropy(logits[:, 1], labels), F.cross_entropy(logits[:, 2], labels))

    def choose(self, beliefs: Tensor, rows: Tensor) -> Targets:
        """One target for both classifiers: the class of the fused logits."""
        return hard_targets(beliefs[:, :1], self.threshold)

    def unlabelled_loss(self, strong: Answers, targets: Targets) -> Tensor:
        """Mean weighted cross-entropy of both classifiers, weighted as in the fusion."""
        similar, probed = (mean_loss(strong.logits[:, row, None], targets) for row in (1, 2))
        return self.unlabelled_weight * self.fused(similar, probed)

    def observe(self, seen: Step) -> None:
        labels, targets = seen.labels, seen.targets
        self._sums.index_add_(0, labels, F.normalize(seen.labelled.features.float(), dim=-1))
        found = (targets.weights[..., None] * targets.probabilities)[:, 0].sum(0)
        self._counts += torch.stack([torch.bincount(labels, minlength=len(found)).to(found), found])

    def start_batch(self) -> None:
        weight = self.heads[0].get_parameter("weight")
        self._sums = torch.zeros_like(weight, dtype=torch.float32, requires_grad=False)
        self._counts = self._sums.new_zeros(2, len(weight))

    def finish_batch(self, total: Callable[[Tensor], Tensor]) -> None:
        """Move the averages, then the prototypes."""
        sums, (labelled, pseudo) = total(self._sums), total(self._counts)
        with torch.no_grad():
            mean = sums / labelled.clamp(min=1)[:, None]
            new = ~self.visual.any(1, keepdim=True)
            moved = torch.where(new, mean, self.visual_decay * self.visual + (1 - self.visual_decay) * mean)
            self.visual.copy_(torch.where(labelled[:, None] > 0, moved, self.visual))
            if pseudo.sum() > 0:
                self.law.mul_(self.law_decay).add_((1 - self.law_decay) * pseudo / pseudo.sum())
            share = (self.mu * self.law / self.law.max())[:, None] * self.visual.any(1, keepdim=True)
            fitted = (1 - share) * self.prototypes + share * F.normalize(self.visual, dim=-1)
            self.prototypes.copy_(apart(fitted, self.constraint))
        self.start_batch()

    def final(self) -> tuple[Tensor, Tensor]:
        weight, bias = (self.heads[0].get_parameter(name).detach() for name in ("weight", "bias"))
        return self.fused(self.prototypes, weight), self.fused(torch.zeros_like(bias), bias)


def apart(vectors: Tensor, step: float) -> Tensor:
    """Unit rows of (K, d), moved by a gradient step on half the sum over pairs of their squared cosines.

    Examples
    --------
    >>> apart(torch.tensor([[2.0, 0.0], [0.6, 0.8]]), 0.0).tolist()
    [[1.0, 0.0], [0.6000000238418579, 0.800000011920929]]
    >>> first, second = apart(torch.tensor([[1.0, 0.0], [0.6, 0.8]]), 0.1)
    >>> bool(first @ second < 0.6)
    True
    """
    unit = F.normalize(vectors, dim=-1)
    cosines = (unit @ unit.T).fill_diagonal_(0)
    return F.normalize(unit - step * cosines @ unit, dim=-1)


ULFINE = SemiMethod(
    name="ulfine",
    help="a reconstruction of ULFine: text prototypes follow the images as far as pseudo-labels abound, and their "
    "logits are fused with a probe's",
    make=Ulfine,
    shares=("threshold", "mu", "fusion", "visual_decay", "law_decay"),
    ours=(
        "the original's code and settings are not public: prototypes learn by the fitting alone, mu 0.01 per step; the "
        "orthogonality constraint is a gradient step on the squared cosines of pairs; P_u is a moving average over "
        "steps; the fusion is the mean of logits of one scale; both classifiers learn; the threshold is 0.95"
    ),
    source="after Zhang et al., arXiv 2505.05062",
    order=30,
)


def dual_logit(
    task: Task, *, threshold: float = 0.95, unlabelled_weight: float = 1.0, fusion: float = 0.5
) -> Ulfine:
    """ULFine with neither fitting nor constraint: the prototypes stay those of the text.

    Examples
    --------
    >>> task = Task(torch.tensor([3.0, 1.0]), torch.eye(2, 3), n_unlabelled=4, epochs=1, adjust=True, scale=2.0)
    >>> dual_logit(task).prototypes.tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    return Ulfine(
        task,
        threshold=threshold,
        unlabelled_weight=unlabelled_weight,
        mu=0.0,
        fusion=fusion,
        constraint=0.0,
    )


DUAL_LOGIT = SemiMethod(
    name="dual-logit",
    help="ulfine without its fitting, which measured better: a probe's logits fused with those of the text prototypes",
    make=dual_logit,
    shares=("threshold", "fusion"),
    ours="the best variant of the reconstruction in the experiment ltssl_parts; its constraint, which changed nothing, "
    "is off too",
    source="after Zhang et al., arXiv 2505.05062",
    order=31,
)
