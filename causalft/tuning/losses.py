"""Losses: logit adjustment and cross-entropy to tune with, two contrastive losses to pre-train with."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["LossName", "caption_bank_loss", "in_batch_contrastive_loss", "logit_adjusted_loss"]

LossName = Literal["LA", "CE"]


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


def caption_bank_loss(image: Tensor, bank: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """Contrast each picture with the captions of ALL classes, and each class in the batch with all pictures in it.

    The bank does not follow the class frequencies of the batch, so the optimum of the first term is log p(y|x): the
    class prior of the pre-training data stays in the logits. Compare :func:`in_batch_contrastive_loss`.

    Parameters
    ----------
    image : Tensor
        Shape (batch, d), unit rows.
    bank : Tensor
        Shape (n_classes, d), unit rows: one caption a class.
    labels : Tensor
        Shape (batch,), int64.
    scale : Tensor
        Scalar, the inverse temperature.
    """
    logits = scale * image @ bank.T
    to_text = F.cross_entropy(logits, labels)
    present = labels.unique()
    to_image = logits[:, present].T.log_softmax(1)
    positive = (labels == present[:, None]).float()
    return (to_text - (to_image * positive).sum(1).div(positive.sum(1)).mean()) / 2


def in_batch_contrastive_loss(image: Tensor, bank: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """CLIP's own loss: each picture against the captions of its batch (InfoNCE), in both directions.

    A class's captions enter the denominator as often as the class enters the batch, so the optimum is
    log p(y|x) - log p(y) + const: the class prior cancels, and a prior estimated from such logits is not P_P(Y).

    Parameters
    ----------
    image, bank, labels, scale
        As in :func:`caption_bank_loss`.
    """
    logits = scale * image @ bank[labels].T
    target = torch.arange(len(labels), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
