"""CPE: three heads, for a long-tailed, a uniform and a reversed law of the unlabelled images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.methods.semi.choices import SemiMethod
from causalft.methods.semi.method import Answers, Method, Targets, mean_loss

__all__ = ["TAUS", "ComplementaryExperts"]

TAUS = (0.0, 2.0, 4.0)
"""Strength of the logit adjustment of each head."""


class ComplementaryExperts(Method):
    """Three heads that learn labelled images with other strengths of logit adjustment, and their own pseudo-labels.

    Ma, Elezi, Deng, Dong & Xu, "Three Heads Are Better than One: Complementary Experts for Long-Tailed
    Semi-Supervised Learning", AAAI 2024. Head e learns ``CE(z_e + tau_e log P_L, y)`` with tau = 0, 2, 4, and the
    strong view by its own confident class of the weak one. The second predicts.

    Parameters
    ----------
    task : Task
    threshold : float
    unlabelled_weight : float
    """

    n_heads, main = len(TAUS), 1

    def labelled_loss(self, answers: Answers, labels: Tensor) -> Tensor:
        """Sum of the adjusted cross-entropies of the heads."""
        parts = [
            F.cross_entropy(answers.logits[:, head] + tau * self.log_prior, labels)
            for head, tau in enumerate(TAUS)
        ]
        return torch.stack(parts).sum()

    def unlabelled_loss(self, strong: Answers, targets: Targets) -> Tensor:
        """Sum of the losses of the heads."""
        return self.n_heads * self.unlabelled_weight * mean_loss(strong.logits, targets)


CPE = SemiMethod(
    name="cpe",
    help="three heads with weak, medium and strong logit adjustment, each with its own pseudo-labels",
    make=ComplementaryExperts,
    adjusts=True,
    ours=(
        "no class-wise batch norm, since a transformer has none; the loss of the unlabelled images is a mean over the "
        "batch, as in FixMatch, not over those kept"
    ),
    source="Ma et al., AAAI 2024",
    order=24,
)
