"""The class counts of a training set, checked, and the error for a class without an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from causalft.errors import CausalFTError

__all__ = ["Counts", "class_counts_of"]


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
