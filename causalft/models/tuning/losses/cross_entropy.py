"""Cross-entropy, plain and with weighted samples: CE, Focal, CB, GRW."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.tuning.choices import Loss
from causalft.models.tuning.losses import Counts, Criterion, at_least, shifted, weighted, wide

__all__ = ["class_balanced", "cross_entropy", "focal", "generalised_reweighting"]


def cross_entropy(counts: Counts) -> Criterion:
    """CE: the mean of -log softmax(f)_y, optimal at log P_S(y|x): frequent classes win ties."""
    return shifted(counts, np.zeros(len(counts)))


CE = Loss(
    name="CE",
    help="the test set has the class frequencies of the training set",
    formula=r"$-\log p_y$",
    make=cross_entropy,
    optimum="training posterior",
    needs_every_class=False,
)


def focal(counts: Counts, *, gamma: float = 2.0) -> Criterion:
    """Focal: the mean of -(1 - p_y)^gamma log p_y, which down-weights samples that are already right.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, Eq. 4 (without the class weight alpha).

    Parameters
    ----------
    counts : Counts
    gamma : float
        At least 0; at 0 it is CE.
    """
    at_least(gamma, 0, "gamma", "Focal")

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        each = F.cross_entropy(wide(logits, counts), labels, reduction="none")
        # 1 - p without cancellation; the floor keeps the slope of the power finite where p rounds to 1.
        wrong = (-torch.expm1(-each)).clamp_min(1e-12)
        return (wrong**gamma * each).mean()

    return loss


FOCAL = Loss(
    name="Focal",
    help="many easy samples; ignores the class counts",
    formula=r"$-(1 - p_y)^\gamma \log p_y$",
    make=focal,
    needs_every_class=False,
    source="Lin et al., ICCV 2017",
)


def class_balanced(counts: Counts, *, beta: float = 0.9999) -> Criterion:
    """CB: CE weighted by one over the effective number of samples, (1 - beta) / (1 - beta^n_y).

    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, section 4. Weights have mean 1
    over the training set (in the paper: over the classes), so a learning rate for CE works.

    Parameters
    ----------
    counts : Counts
    beta : float
        In [0, 1). At 0 it is CE; towards 1 the weights approach 1 / n_y.
    """
    if not 0 <= beta < 1:
        raise CausalFTError(f"beta of the loss CB is {beta}; give a number from 0 to below 1")
    effective = np.ones(len(counts)) if beta == 0 else -np.expm1(counts.values * math.log(beta))
    return weighted(counts, 1 / effective)


CB = Loss(
    name="CB",
    help=r"milder than GRW for classes with more than $1 / (1 - \beta)$ images",
    formula=r"$w_y\,$CE, $w_y \propto (1 - \beta) / (1 - \beta^{n_y})$",
    make=class_balanced,
    optimum="balanced posterior",
    source="Cui et al., CVPR 2019",
)


def generalised_reweighting(counts: Counts, *, rho: float = 1.0) -> Criterion:
    """GRW: CE weighted by P_S(y)^-rho.

    Zhang et al., "Distribution Alignment: A Unified Framework for Long-tail Visual Recognition" (DisAlign), CVPR 2021,
    where it calibrates the head. Weights have mean 1 over the training set (in the paper: sum 1 over the classes).

    Parameters
    ----------
    counts : Counts
    rho : float
        At least 0. At 0 it is CE, at 1 every class has the same weight.
    """
    at_least(rho, 0, "rho", "GRW")
    return weighted(counts, (counts.values / counts.values.max()) ** -rho)


GRW = Loss(
    name="GRW",
    help="re-weighting in full; a rare class has a large step",
    formula=r"$w_y\,$CE, $w_y \propto P_S(y)^{-\rho}$",
    make=generalised_reweighting,
    optimum="balanced posterior",
    source="Zhang et al. (DisAlign), CVPR 2021",
)
