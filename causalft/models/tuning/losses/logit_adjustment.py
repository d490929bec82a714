"""Cross-entropy of shifted logits: LDAM, BS, LA, LADE, GLA-Train."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.tuning.choices import Loss
from causalft.models.tuning.losses import (
    Counts,
    Criterion,
    Vector,
    at_least,
    log_prior_of_model,
    shifted,
    wide,
)

__all__ = ["balanced_softmax", "gla_train", "lade", "ldam", "logit_adjusted", "logit_adjusted_loss"]


def ldam(counts: Counts, *, max_margin: float = 0.5, scale: float = 25.0) -> Criterion:
    """LDAM: CE after ``scale * margin_y`` is taken from the logit of the true class; rare classes get wide margins.

    margin_y = max_margin * (min_k n_k / n_y)^(1/4). Cao et al., "Learning Imbalanced Datasets with
    Label-Distribution-Aware Margin Loss", NeurIPS 2019, Eq. 12-13. The margin is one of cosines, so ``scale`` must be
    that of the head. The paper's deferred re-weighting (DRW) is not part of it: it changes the loss during training.

    Parameters
    ----------
    counts : Counts
    max_margin : float
        At least 0: the margin of the rarest class; at 0 it is CE.
    scale : float
        Positive.
    """
    at_least(max_margin, 0, "max_margin", "LDAM")
    if not (math.isfinite(scale) and scale > 0):
        raise CausalFTError(f"scale of the loss LDAM is {scale}; give a positive number")
    margins = Vector(scale * max_margin * (counts.values.min() / counts.values) ** 0.25)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        logits = wide(logits, counts)
        margin = margins.on(logits)[labels].unsqueeze(1)
        return F.cross_entropy(logits.scatter_add(1, labels.unsqueeze(1), -margin), labels)

    return loss


LDAM = Loss(
    name="LDAM",
    help="wide margins for rare classes; `scale` must be that of the head",
    formula=r"CE after $s\,\Delta_y$ is taken from $f_y$; $\Delta_y = m\,(\min_k n_k / n_y)^{1/4}$",
    make=ldam,
    uses_head_scale=True,
    symbols={"max_margin": "m", "scale": "s"},
    source="Cao et al., NeurIPS 2019",
)


def balanced_softmax(counts: Counts) -> Criterion:
    """BS: CE of f + log n_y; it has the gradient of LA with tau = 1.

    Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, Theorem 1.
    """
    return shifted(counts, np.log(counts.values))


BS = Loss(
    name="BS",
    help="as LA with `tau` 1: the same gradient",
    formula=r"CE of $f + \log n_y$",
    make=balanced_softmax,
    optimum="balanced posterior",
    source="Ren et al., NeurIPS 2020",
)


def logit_adjusted(counts: Counts, *, tau: float = 1.0) -> Criterion:
    """LA: CE of f + tau log P_S(y); with tau = 1 it is optimal at the log posterior under a balanced prior.

    Menon et al., "Long-tail Learning via Logit Adjustment", ICLR 2021, Eq. 10.

    Parameters
    ----------
    counts : Counts
    tau : float
        At least 0; at 0 it is CE.
    """
    at_least(tau, 0, "tau", "LA")
    return shifted(counts, tau * counts.log_prior)


LA = Loss(
    name="LA",
    help="the default: the optimum is the posterior under a balanced prior",
    formula=r"CE of $f + \tau \log P_S(y)$",
    make=logit_adjusted,
    optimum="balanced posterior",
    source="Menon et al., ICLR 2021",
)


def lade(counts: Counts, *, alpha: float = 0.1, lam: float = 0.1) -> Criterion:
    """LADE: BS plus ``alpha`` times a regulariser that draws f to log p(x|y) / p_u(x), with p_u balanced.

    The regulariser is sum_y P_S(y) (-E[f_y(x) | y] + L_y + lam L_y^2) with L_y = log E_u exp f_y(x), the
    Donsker-Varadhan bound; E_u weighs a sample by 1 / (K P_S(y_i)). Hong et al., "Disentangling Label Distribution for
    Long-tailed Visual Recognition", CVPR 2021.

    In a batch, sum_y P_S(y) E[f_y | y] is the mean of f_(y_i)(x_i), which needs no image of every class. (Code in
    circulation divides by the class counts of the batch, and weighs columns instead of samples.) L_y is a batch
    statistic, so accumulation changes it.

    Parameters
    ----------
    counts : Counts
    alpha : float
        At least 0; at 0 it is BS.
    lam : float
        At least 0: pins the level of each logit, which the bound leaves free.
    """
    at_least(alpha, 0, "alpha", "LADE")
    at_least(lam, 0, "lam", "LADE")
    log_prior = Vector(counts.log_prior)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        logits = wide(logits, counts)
        log_p = log_prior.on(logits)
        balanced = F.cross_entropy(logits + log_p, labels)
        own = logits.gather(1, labels.unsqueeze(1)).mean()
        log_weight = -log_p[labels] - math.log(len(counts) * len(labels))
        bound = torch.logsumexp(logits + log_weight.unsqueeze(1), dim=0)
        return balanced + alpha * (log_p.exp() @ (bound + lam * bound.square()) - own)

    return loss


LADE = Loss(
    name="LADE",
    help=r"logits that equal $\log p(x \mid y) / p_u(x)$, for any test prior",
    formula=r"BS $+\ \alpha \sum_y P_S(y)\,\left(-\mathbb E[f_y \mid y] + L_y + \lambda L_y^2\right)$, "
    r"$L_y = \log \mathbb E_u\, e^{f_y}$",
    make=lade,
    of_batch=True,
    optimum="balanced posterior",
    source="Hong et al., CVPR 2021",
)


def gla_train(
    counts: Counts, *, model_log_prior: ArrayLike | Tensor, tau: float = 1.0, data_tau: float = 1.0
) -> Criterion:
    """GLA-Train: CE of f + data_tau log P_S(y) + tau log q(y), q the label prior of the foundation model.

    LA that also trains the prior of the pre-training out. Chen et al. (ICML 2025, arXiv 2501.15955) find that this
    hardly helps; GLA removes log q after training (:mod:`causalft.methods.priors`). With a uniform q it is LA.

    Parameters
    ----------
    counts : Counts
        Every class needs an image, unless ``data_tau`` is 0.
    model_log_prior : (K,) array or Tensor
        log q, up to a constant: the log of :attr:`causalft.methods.priors.PriorEstimate.prior`.
    tau : float
        At least 0; at 0 it is LA.
    data_tau : float
        At least 0; at 0 the prior of the training data stays in.
    """
    at_least(tau, 0, "tau", "GLA-Train")
    at_least(data_tau, 0, "data_tau", "GLA-Train")
    log_q = log_prior_of_model(counts, model_log_prior)
    shift = tau * log_q
    if data_tau > 0:
        counts.need_every_class("GLA-Train")
        shift = shift + data_tau * counts.log_prior
    return shifted(counts, shift)


GLA_TRAIN = Loss(
    name="GLA-Train",
    help="to compare with GLA, which removes the pre-training prior $q$ after training",
    formula=r"CE of $f + \tau_S \log P_S(y) + \tau \log q(y)$",
    make=gla_train,
    needs_every_class=False,
    needs_model_prior=True,
    symbols={"data_tau": r"\tau_S"},
    source="Chen et al., ICML 2025",
)


def logit_adjusted_loss(logits: Tensor, labels: Tensor, log_prior: Tensor | None) -> Tensor:
    """Cross-entropy of ``logits + log P_S(y)`` (LA, Menon et al. 2021, Eq. 10); plain CE without a prior.

    Parameters
    ----------
    logits : Tensor
        Shape (n, n_classes).
    labels : Tensor
        Shape (n,), int64.
    log_prior : Tensor, optional
        Shape (n_classes,): log P_S(y) of the training set; or (n, n_classes), the log prior of each sample's stratum.

    Examples
    --------
    >>> logits = torch.zeros(1, 2)
    >>> log_prior = torch.tensor([0.9, 0.1]).log()
    >>> round(logit_adjusted_loss(logits, torch.tensor([1]), log_prior).item(), 3)  # -log 0.1
    2.303
    """
    if log_prior is not None:
        logits = logits + log_prior
    return F.cross_entropy(logits, labels)
