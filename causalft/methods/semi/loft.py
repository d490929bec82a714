"""LoFT: confident pseudo-labels are hard, less confident ones soft, and the least confident are left out."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.errors import CausalFTError, CausalFTWarning
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

    With a ``zero_shot_threshold`` it is LoFT-OW, for unlabelled images among which there are unseen classes: before the
    training, those that the untuned model takes for no class with at least that probability are left out for good. The
    authors' lists of images have 0.6.

    Parameters
    ----------
    task : Task
    threshold : float
    unlabelled_weight : float
    hard_weight, soft_weight : float
    outlier_threshold : float
        0 keeps every image.
    zero_shot_threshold : float
        0 leaves the filter out.

    Attributes
    ----------
    kept : (n_unlabelled,) Tensor of bool
        Images that have passed the filter.

    Raises
    ------
    CausalFTError
        If the outlier threshold is not below the threshold.
    """

    kept: Tensor

    def __init__(
        self,
        task: Task,
        *,
        threshold: float = 0.6,
        unlabelled_weight: float = 1.0,
        hard_weight: float = 3.0,
        soft_weight: float = 1.0,
        outlier_threshold: float = 0.3,
        zero_shot_threshold: float = 0.0,
    ) -> None:
        _refuse(outlier_threshold=outlier_threshold, threshold=threshold)
        super().__init__(task, threshold=threshold, unlabelled_weight=unlabelled_weight)
        self.hard_weight, self.soft_weight = hard_weight, soft_weight
        self.outlier_threshold, self.zero_shot_threshold = outlier_threshold, zero_shot_threshold
        self.needs_zero_shot = zero_shot_threshold > 0
        self.register_buffer("kept", torch.ones(task.n_unlabelled, dtype=torch.bool), persistent=False)

    def see_zero_shot(self, probabilities: Tensor) -> None:
        """Leave out images whose largest probability is below ``zero_shot_threshold``, and warn how many.

        Raises
        ------
        CausalFTError
            If no image is left.
        """
        self.kept.copy_(probabilities.amax(1) >= self.zero_shot_threshold)
        left, n = int(self.kept.sum()), len(self.kept)
        said = f"has a zero-shot probability of {self.zero_shot_threshold:g} or more"
        if not left:
            raise CausalFTError(f"no unlabelled image {said}; lower zero-shot-threshold of loft")
        if left == n:
            return
        warnings.warn(
            f"loft leaves out {n - left} of {n} unlabelled images: none of them {said}",
            CausalFTWarning,
            stacklevel=2,
        )

    def choose(self, beliefs: Tensor, rows: Tensor) -> Targets:
        best, label = beliefs.max(-1)
        hard, kept = best >= self.threshold, best > self.outlier_threshold
        one_hot = F.one_hot(label, beliefs.shape[-1]).to(beliefs.dtype)
        kept = kept & self.kept[rows.to(self.kept.device)][:, None]
        weights = torch.where(hard, self.hard_weight, self.soft_weight) * kept
        return Targets(torch.where(hard[..., None], one_hot, beliefs), weights.to(beliefs.dtype))


def _refuse(*, outlier_threshold: float, threshold: float, **_: Any) -> None:
    if outlier_threshold >= threshold:
        raise CausalFTError(
            f"loft drops images with a probability of {outlier_threshold:g} or less as outliers; give a threshold "
            f"above that, not {threshold:g}"
        )


LOFT = SemiMethod(
    name="loft",
    help="hard pseudo-labels where the model is confident, soft ones where less so, none for likely outliers",
    make=Loft,
    refuse=_refuse,
    shares=("threshold", "outlier_threshold", "zero_shot_threshold"),
    ours=(
        "the zero-shot filter of LoFT-OW is off unless zero_shot_threshold is given (0.6 in the authors' lists of "
        "images); a model without captions answers by class means"
    ),
    source="Huang, Chen & Su, arXiv 2509.09926",
    order=28,
)
