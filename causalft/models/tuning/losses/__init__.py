"""Losses for long-tailed training sets: one record each, made from the class counts of the training set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from causalft.errors import CausalFTError, nearest, several
from causalft.models.tuning.choices import LOSSES

__all__ = [
    "LOSSES",
    "Counts",
    "Criterion",
    "Vector",
    "at_least",
    "class_counts_of",
    "log_prior_of_model",
    "make_loss",
    "shifted",
    "weighted",
    "wide",
]

Criterion = Callable[[Tensor, Tensor], Tensor]
"""``(logits (n, K), labels (n,) int64) -> scalar``, a mean over the batch."""


def make_loss(
    name: str,
    class_counts: ArrayLike | Tensor,
    *,
    model_log_prior: ArrayLike | Tensor | None = None,
    class_names: Sequence[str] | None = None,
    **settings: Any,
) -> Criterion:
    """Make a loss from its name and the class counts of the training set.

    Parameters
    ----------
    name : str
        One of :data:`causalft.models.tuning.choices.LOSSES`.
    class_counts : (K,) array or Tensor
        Training images of each class, or :func:`causalft.models.tuning.samplers.expected_counts`.
    model_log_prior : (K,) array or Tensor, optional
        log q, the label prior of the foundation model, for losses that use it.
    class_names : sequence of str, optional
        For messages.
    **settings
        As in :attr:`causalft.models.tuning.choices.Loss.settings`.

    Returns
    -------
    callable
        ``loss(logits (n, K), labels (n,) int64) -> scalar``, a mean over the batch, on the device of the logits and in
        at least single precision.

    Raises
    ------
    CausalFTError
        For an unknown loss or setting, a setting out of range, invalid counts, a class without an image where the loss
        is then undefined, or no ``model_log_prior`` where it is needed.

    Examples
    --------
    >>> loss = make_loss("LA", [90, 10])
    >>> round(loss(torch.zeros(1, 2), torch.tensor([1])).item(), 3)  # -log 0.1
    2.303
    """
    record = LOSSES.get_or_refuse(name)
    known = record.settings
    for setting, value in settings.items():
        if setting not in known:
            hint = nearest(setting, known) if known else "it has none"
            raise CausalFTError(f"the loss {name} has no setting {setting!r}; {hint}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CausalFTError(f"{setting} of the loss {name} is {value!r}; give a number")
    counts = class_counts_of(class_counts, class_names)
    if record.needs_every_class:
        counts.need_every_class(name)
    if record.needs_model_prior:
        if model_log_prior is None:
            raise CausalFTError(
                f"the loss {name} needs model_log_prior, the log of the foundation model's label prior; "
                "estimate it with causalft.methods.priors.estimate_prior, or use LA"
            )
        settings["model_log_prior"] = model_log_prior
    return record.make(counts, **settings)


class Counts:
    """Training images of each class.

    Parameters
    ----------
    values : (K,) array of non-negative numbers
    names : sequence of str, optional
        For messages.
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
        """Raise a :class:`CausalFTError` if a class has no image: ``loss`` is then undefined."""
        empty = np.flatnonzero(self.values == 0)
        if len(empty):
            first = repr(self.names[empty[0]]) if self.names is not None else str(empty[0])
            raise CausalFTError(
                f"class {first} has no training image ({len(empty)} of {len(self)} classes lack one), so the loss "
                f"{loss} is undefined; add images, drop the class, or use CE"
            )


def class_counts_of(values: ArrayLike | Tensor, names: Sequence[str] | None = None) -> Counts:
    """Check class counts.

    Raises
    ------
    CausalFTError
        Unless they are two or more finite, non-negative numbers with a positive sum, as many as the names.
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
        raise CausalFTError(
            f"{len(array)} class counts but {several(names, 'class name', 'class names')}; they must agree"
        )
    return Counts(array, names)


class Vector:
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


def wide(logits: Tensor, counts: Counts) -> Tensor:
    """Logits in at least single precision, checked for their number of classes."""
    if logits.ndim != 2 or logits.shape[1] != len(counts):
        raise CausalFTError(
            f"the loss was made for {len(counts)} classes, the logits have the shape {tuple(logits.shape)}"
        )
    return logits if logits.dtype == torch.float64 else logits.float()


def shifted(counts: Counts, shift: NDArray[np.float64]) -> Criterion:
    """CE of the logits plus one constant per class."""
    constant = Vector(shift)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        logits = wide(logits, counts)
        return F.cross_entropy(logits + constant.on(logits), labels)

    return loss


def weighted(counts: Counts, weights: NDArray[np.float64]) -> Criterion:
    """CE with class weights of mean 1 over the training set; divided by n, not by the batch's weights."""
    constant = Vector(weights * counts.values.sum() / (weights @ counts.values))

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        logits = wide(logits, counts)
        each = F.cross_entropy(logits, labels, reduction="none")
        return (constant.on(logits)[labels] * each).mean()

    return loss


def log_prior_of_model(counts: Counts, values: ArrayLike | Tensor) -> NDArray[np.float64]:
    """log q as a checked (K,) array.

    Raises
    ------
    CausalFTError
        Unless there is a finite number for each class.
    """
    log_q = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=float)
    if log_q.shape != (len(counts),) or not np.isfinite(log_q).all():
        raise CausalFTError(
            f"model_log_prior must hold {len(counts)} finite numbers, the log prior of each class, "
            f"not an array of shape {log_q.shape}"
            + ("" if np.isfinite(log_q).all() else " with entries that are not finite")
        )
    return log_q


def at_least(value: float, least: float, setting: str, loss: str) -> None:
    if not (math.isfinite(value) and value >= least):
        raise CausalFTError(
            f"{setting} of the loss {loss} is {value}; give a finite number of {least} or more"
        )
