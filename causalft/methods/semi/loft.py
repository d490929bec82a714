"""LoFT: confident pseudo-labels are hard, less confident ones soft, and the least confident are left out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.methods.semi.choices import SemiMethod
from causalft.methods.semi.method import Method, Targets, Task

__all__ = ["Loft"]


class Loft(Method):
    """FixMatch for tuned foundation models, with soft targets in the middle and outliers dropped.

    Huang, Chen & Su, "LoFT: Long-Tailed Semi-Supervised Learning via Parameter-Efficient Fine-Tuning in Open-World
    Scenarios", arXiv 2509.09926, with the details of the authors' code. With p the largest probability of a weak view,
    its strong view is learnt

    - by its class where p is at least ``threshold``, with weight ``hard_weight``;
    - by the whole distribution where p lies between, with weight ``soft_weight``;
    - not at all where p is at most ``outlier_threshold``: such images may belong to no class.

    Parameters
    ----------
    task : Task
    threshold : float
    unlabelled_weight : float
    hard_weight, soft_weight : float
    outlier_threshold : float
        0 keeps every image.

    Raises
    ------
    CausalFTError
        If the outlier threshold is not below the threshold.
    """

    def __init__(
        self,
        task: Task,
        *,
        threshold: float = 0.6,
        unlabelled_weight: float = 1.0,
        hard_weight: float = 3.0,
        soft_weight: float = 1.0,
        outlier_threshold: float = 0.3,
    ) -> None:
        if outlier_threshold >= threshold:
            raise CausalFTError(
                f"loft drops images with a probability of {outlier_threshold:g} or less as outliers; give a threshold "
                f"above that, not {threshold:g}"
            )
        super().__init__(task, threshold=threshold, unlabelled_weight=unlabelled_weight)
        self.hard_weight, self.soft_weight = hard_weight, soft_weight
        self.outlier_threshold = outlier_threshold

    def choose(self, beliefs: Tensor, rows: Tensor) -> Targets:
        best, label = beliefs.max(-1)
        hard, kept = best >= self.threshold, best > self.outlier_threshold
        one_hot = F.one_hot(label, beliefs.shape[-1]).to(beliefs.dtype)
        weights = torch.where(hard, self.hard_weight, self.soft_weight) * kept
        return Targets(torch.where(hard[..., None], one_hot, beliefs), weights.to(beliefs.dtype))


LOFT = SemiMethod(
    name="loft",
    help="hard pseudo-labels where the model is confident, soft ones where less so, none for likely outliers",
    make=Loft,
    shares=("threshold", "outlier_threshold"),
    ours="outliers are told by confidence alone, not also by a zero-shot filter before the training",
    source="Huang, Chen & Su, arXiv 2509.09926",
    order=28,
)
