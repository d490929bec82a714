"""Losses for long-tailed training sets: each function makes one loss of (logits, labels) from the class counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from causalft.errors import CausalFTError

__all__ = [
    "Counts",
    "Loss",
    "balanced_softmax",
    "class_balanced",
    "class_counts_of",
    "cross_entropy",
    "focal",
    "generalised_reweighting",
    "gla_train",
    "lade",
    "ldam",
    "logit_adjusted",
]


class Counts:
    """Training images of each class, and the way to name a class that has none.

    Parameters
    ----------
    values : (K,) array of non-negative numbers
    names : sequence of str, optional
    """

    def __init__(self, values: NDArray[np.float64], names: Sequence[str] | None = None) -> None:
        self.values = values
        self.names = names

    def __len__(self) -> int:
        return len(self.values)

    @property
    def log_prior(self) -> NDArray[np.float64]:
        """log P_S(y), shape (K,)."""
        return np.log(self.values / self.values.sum())

    def need_every_class(self, loss: str) -> None:
        """Raise a :class:`CausalFTError` if a class has no image, where ``loss`` is then undefined."""
        empty = np.flatnonzero(self.values == 0)
        if len(empty):
            first = repr(self.names[empty[0]]) if self.names is not None else str(empty[0])
            raise CausalFTError(
                f"class {first} has no training image ({len(empty)} of {len(self)} classes lack one), so the loss "
                f"{loss} is undefined; add images, drop the class, or use CE"
            )


def class_counts_of(values: ArrayLike | Tensor, names: Sequence[str] | None = None) -> Counts:
    """Check class counts.

    Parameters
    ----------
    values : (K,) array or Tensor of non-negative numbers
    names : sequence of str, optional
        Class names, for messages.

    Raises
    ------
    CausalFTError
        If they are no vector of two or more finite, non-negative numbers with a positive sum, or the names are not
        as many.
    """
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=float)
    if array.ndim != 1 or len(array) < 2:
        raise CausalFTError(
            f"class counts must be a vector of two or more classes, not of shape {array.shape}"
        )
    wrong = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if len(wrong):
        raise CausalFTError(f"the count of class {wrong[0]} is {array[wrong[0]]}; counts must be 0 or more")
    if array.sum() == 0:
        raise CausalFTError("every class count is 0; there is nothing to train on")
    if names is not None and len(names) != len(array):
        raise CausalFTError(f"{len(array)} class counts but {len(names)} class names; they must agree")
    return Counts(array, names)


Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(counts: Counts) -> Loss:
    """CE: the mean of -log softmax(f)_y. Its optimum is log P_S(y|x): head classes win ties."""
    return _shifted(counts, np.zeros(len(counts)))


def focal(counts: Counts, *, gamma: float = 2.0) -> Loss:
    """Focal: the mean of -(1 - p_y)^gamma log p_y, which plays down samples that are already right.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, Eq. 4 (without the class weight alpha).

    Parameters
    ----------
    counts : Counts
    gamma : float
        At least 0; at 0 it is CE.
    """
    _at_least(gamma, 0, "gamma", "Focal")

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        each = F.cross_entropy(_wide(logits, counts), labels, reduction="none")
        # 1 - p without cancellation; the floor keeps the slope of the power finite where p rounds to 1.
        wrong = (-torch.expm1(-each)).clamp_min(1e-12)
        return (wrong**gamma * each).mean()

    return loss


def ldam(counts: Counts, *, max_margin: float = 0.5, scale: float = 25.0) -> Loss:
    """LDAM: CE after ``scale * margin_y`` is taken from the logit of the true class; rare classes get wide margins.

    margin_y = max_margin * (min_k n_k / n_y)^(1/4). Cao et al., "Learning Imbalanced Datasets with
    Label-Distribution-Aware Margin Loss", NeurIPS 2019, Eq. 12-13. The margin is one of cosines, so ``scale`` must be
    the scale of the head. The paper's second part, deferred re-weighting (DRW: from some epoch on, weights as in CB),
    is a change of loss in the middle of training and is not part of this function.

    Parameters
    ----------
    counts : Counts
        Every class needs an image.
    max_margin : float
        At least 0: the margin of the rarest class; at 0 it is CE.
    scale : float
        Positive.
    """
    counts.need_every_class("LDAM")
    _at_least(max_margin, 0, "max_margin", "LDAM")
    _positive(scale, "scale", "LDAM")
    margins = _Vector(scale * max_margin * (counts.values.min() / counts.values) ** 0.25)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        logits = _wide(logits, counts)
        margin = margins.on(logits)[labels].unsqueeze(1)
        return F.cross_entropy(logits.scatter_add(1, labels.unsqueeze(1), -margin), labels)

    return loss


def class_balanced(counts: Counts, *, beta: float = 0.9999) -> Loss:
    """CB: CE weighted by one over the effective number of samples, (1 - beta) / (1 - beta^n_y).

    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, section 4. The weights are scaled
    to a mean of 1 over the training set (in the paper: over the classes): a learning rate for CE serves here too.

    Parameters
    ----------
    counts : Counts
        Every class needs an image.
    beta : float
        In [0, 1). At 0 it is CE; towards 1 the weights go to 1 / n_y.
    """
    counts.need_every_class("CB")
    if not 0 <= beta < 1:
        raise CausalFTError(f"beta of the loss CB is {beta}; give a number from 0 up to, but not, 1")
    effective = np.ones(len(counts)) if beta == 0 else -np.expm1(counts.values * math.log(beta))
    return _weighted(counts, 1 / effective)


def generalised_reweighting(counts: Counts, *, rho: float = 1.0) -> Loss:
    """GRW: CE weighted by P_S(y)^-rho.

    Zhang et al., "Distribution Alignment: A Unified Framework for Long-tail Visual Recognition" (DisAlign), CVPR 2021,
    where it calibrates the head. Weights are scaled to a mean of 1 over the training set (in the paper: a sum of 1 over
    the classes): a learning rate for CE serves here too.

    Parameters
    ----------
    counts : Counts
        Every class needs an image.
    rho : float
        At least 0. At 0 it is CE, at 1 every class weighs the same.
    """
    counts.need_every_class("GRW")
    _at_least(rho, 0, "rho", "GRW")
    return _weighted(counts, (counts.values / counts.values.max()) ** -rho)


def balanced_softmax(counts: Counts) -> Loss:
    """BS: CE of f + log n_y; it has the gradient of LA with tau = 1.

    Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, Theorem 1.

    Parameters
    ----------
    counts : Counts
        Every class needs an image.
    """
    counts.need_every_class("BS")
    return _shifted(counts, np.log(counts.values))


def logit_adjusted(counts: Counts, *, tau: float = 1.0) -> Loss:
    """LA: CE of f + tau log P_S(y); with tau = 1 the optimum is the log posterior under a balanced prior.

    Menon et al., "Long-tail Learning via Logit Adjustment", ICLR 2021, Eq. 10.

    Parameters
    ----------
    counts : Counts
        Every class needs an image.
    tau : float
        At least 0; at 0 it is CE.
    """
    counts.need_every_class("LA")
    _at_least(tau, 0, "tau", "LA")
    return _shifted(counts, tau * counts.log_prior)


def lade(counts: Counts, *, alpha: float = 0.1, lam: float = 0.1) -> Loss:
    """LADE: BS plus ``alpha`` times a regulariser that draws f to log p(x|y) / p_u(x), p_u being balanced.

    The regulariser is sum_y P_S(y) (-E[f_y(x) | y] + L_y + lam L_y^2) with L_y = log E_u exp f_y(x), the
    Donsker-Varadhan bound; E_u, the mean over a balanced world, weighs a sample by 1 / (K P_S(y_i)). Hong et al.,
    "Disentangling Label Distribution for Long-tailed Visual Recognition", CVPR 2021.

    In a batch, sum_y P_S(y) E[f_y | y] is estimated by the mean of f_(y_i)(x_i), which needs no image of every class.
    (Code in circulation divides by the class counts of the batch, and weighs by column, not by sample.) L_y is a
    statistic of the batch: cutting a batch into parts for accumulation changes it.

    Parameters
    ----------
    counts : Counts
        Every class needs an image.
    alpha : float
        At least 0; at 0 it is BS.
    lam : float
        At least 0: what pins the level of each logit, which the bound leaves free.
    """
    counts.need_every_class("LADE")
    _at_least(alpha, 0, "alpha", "LADE")
    _at_least(lam, 0, "lam", "LADE")
    log_prior = _Vector(counts.log_prior)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        logits = _wide(logits, counts)
        log_p = log_prior.on(logits)
        balanced = F.cross_entropy(logits + log_p, labels)
        own = logits.gather(1, labels.unsqueeze(1)).mean()
        log_weight = -log_p[labels] - math.log(len(counts) * len(labels))
        bound = torch.logsumexp(logits + log_weight.unsqueeze(1), dim=0)
        return balanced + alpha * (log_p.exp() @ (bound + lam * bound.square()) - own)

    return loss


def gla_train(
    counts: Counts, *, model_log_prior: ArrayLike | Tensor, tau: float = 1.0, data_tau: float = 1.0
) -> Loss:
    """GLA-Train: CE of f + data_tau log P_S(y) + tau log q(y), q the label prior of the foundation model.

    LA taken one prior further: training is asked to undo the prior of the pre-training, too. Chen et al. (ICML 2025,
    arXiv 2501.15955) find that this hardly helps; GLA takes log q out after training
    (:mod:`causalft.methods.priors`). With
    a uniform q it is LA.

    Parameters
    ----------
    counts : Counts
        Every class needs an image, unless ``data_tau`` is 0.
    model_log_prior : (K,) array or Tensor
        log q; a constant added to it changes nothing. The log of :attr:`causalft.methods.priors.PriorEstimate.prior`.
    tau : float
        At least 0; at 0 it is LA.
    data_tau : float
        At least 0; at 0 the prior of the training data stays in.
    """
    _at_least(tau, 0, "tau", "GLA-Train")
    _at_least(data_tau, 0, "data_tau", "GLA-Train")
    if isinstance(model_log_prior, Tensor):
        model_log_prior = model_log_prior.detach().cpu()
    log_q = np.asarray(model_log_prior, dtype=float)
    if log_q.shape != (len(counts),) or not np.isfinite(log_q).all():
        raise CausalFTError(
            f"model_log_prior must hold {len(counts)} finite numbers, the log prior of each class, "
            f"not an array of shape {log_q.shape}"
            + ("" if np.isfinite(log_q).all() else " with entries that are not finite")
        )
    shift = tau * log_q
    if data_tau > 0:
        counts.need_every_class("GLA-Train")
        shift = shift + data_tau * counts.log_prior
    return _shifted(counts, shift)


class _Vector:
    """A constant (K,) vector that follows the logits to their device and precision, copied once for each."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        self._value = torch.from_numpy(np.array(values, dtype=np.float64))
        self._placed: Tensor | None = None

    def on(self, logits: Tensor) -> Tensor:
        placed = self._placed
        if placed is None or placed.device != logits.device or placed.dtype != logits.dtype:
            # the precision first: some devices have no float64
            placed = self._placed = self._value.to(logits.dtype).to(logits.device)
        return placed


def _wide(logits: Tensor, counts: Counts) -> Tensor:
    """Logits in single precision at least, checked for their number of classes."""
    if logits.ndim != 2 or logits.shape[1] != len(counts):
        raise CausalFTError(
            f"the loss was made for {len(counts)} classes, the logits have the shape {tuple(logits.shape)}"
        )
    return logits if logits.dtype == torch.float64 else logits.float()


def _shifted(counts: Counts, shift: NDArray[np.float64]) -> Loss:
    """CE of the logits plus a constant for each class."""
    constant = _Vector(shift)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        logits = _wide(logits, counts)
        return F.cross_entropy(logits + constant.on(logits), labels)

    return loss


def _weighted(counts: Counts, weights: NDArray[np.float64]) -> Loss:
    """CE with class weights, scaled to a mean of 1 over the training set; divided by n, not by the batch's weights."""
    constant = _Vector(weights * counts.values.sum() / (weights @ counts.values))

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        logits = _wide(logits, counts)
        each = F.cross_entropy(logits, labels, reduction="none")
        return (constant.on(logits)[labels] * each).mean()

    return loss


def _at_least(value: float, least: float, setting: str, loss: str) -> None:
    if not (math.isfinite(value) and value >= least):
        raise CausalFTError(
            f"{setting} of the loss {loss} is {value}; give a finite number of {least} or more"
        )


def _positive(value: float, setting: str, loss: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise CausalFTError(f"{setting} of the loss {loss} is {value}; give a positive number")
