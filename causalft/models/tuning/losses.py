"""Losses by name to tune with, and two contrastive losses to pre-train with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from causalft.errors import CausalFTError, nearest
from causalft.models.tuning import rebalance
from causalft.models.tuning.names import LOSSES, LossName, Optimum, optimum_of, own_spelling
from causalft.models.tuning.rebalance import class_counts_of

__all__ = [
    "LOSSES",
    "LossName",
    "Optimum",
    "caption_bank_loss",
    "in_batch_contrastive_loss",
    "logit_adjusted_loss",
    "loss_settings",
    "make_loss",
    "optimum_of",
    "own_spelling",
]

_MAKERS: dict[str, Callable[..., rebalance.Loss]] = {
    "CE": rebalance.cross_entropy,
    "Focal": rebalance.focal,
    "LDAM": rebalance.ldam,
    "CB": rebalance.class_balanced,
    "GRW": rebalance.generalised_reweighting,
    "BS": rebalance.balanced_softmax,
    "LA": rebalance.logit_adjusted,
    "LADE": rebalance.lade,
    "GLA-Train": rebalance.gla_train,
}


def loss_settings(name: str) -> dict[str, float]:
    """Return the settings of a loss and their defaults.

    Raises
    ------
    CausalFTError
        For an unknown name.

    Examples
    --------
    >>> loss_settings("LDAM")
    {'max_margin': 0.5, 'scale': 25.0}
    """
    if name not in _MAKERS:
        raise CausalFTError(f"no loss is named {name!r}; use one of {', '.join(LOSSES)}")
    parameters = inspect.signature(_MAKERS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def make_loss(
    name: str,
    class_counts: ArrayLike | Tensor,
    *,
    model_log_prior: ArrayLike | Tensor | None = None,
    class_names: Sequence[str] | None = None,
    **settings: Any,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Make a loss from its name and the class counts of the training set.

    Parameters
    ----------
    name : str
        One of :data:`LOSSES`; formulas and sources stand in :mod:`causalft.models.tuning.rebalance`.
    class_counts : (K,) array or Tensor
        Training images of each class; where a sampler changes how often a class is seen, what it makes of them
        (:func:`causalft.models.tuning.samplers.expected_counts`).
    model_log_prior : (K,) array or Tensor, optional
        log q, the label prior of the foundation model. GLA-Train needs it; the other losses do not look at it.
    class_names : sequence of str, optional
        For messages.
    **settings
        As :func:`loss_settings` lists them.

    Returns
    -------
    callable
        ``loss(logits (n, K), labels (n,) int64) -> scalar``, a mean over the batch, on the device of the logits and
        in single precision at least.

    Raises
    ------
    CausalFTError
        For an unknown loss or setting, a setting out of its range, counts that are no counts, a class without an
        image where the loss is then undefined, or GLA-Train without ``model_log_prior``.

    Examples
    --------
    >>> loss = make_loss("LA", [90, 10])
    >>> round(loss(torch.zeros(1, 2), torch.tensor([1])).item(), 3)  # -log 0.1
    2.303
    """
    known = loss_settings(name)
    for setting, value in settings.items():
        if setting not in known:
            hint = nearest(setting, known) if known else "it has none"
            raise CausalFTError(f"the loss {name} has no setting {setting!r}; {hint}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CausalFTError(f"{setting} of the loss {name} is {value!r}; give a number")
    counts = class_counts_of(class_counts, class_names)
    if name == "GLA-Train":
        if model_log_prior is None:
            raise CausalFTError(
                "the loss GLA-Train needs model_log_prior, the log of the foundation model's label prior; "
                "estimate it with causalft.methods.priors.estimate_prior, or use LA"
            )
        settings["model_log_prior"] = model_log_prior
    return _MAKERS[name](counts, **settings)


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
