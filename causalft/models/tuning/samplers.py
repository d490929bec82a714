"""How often an epoch shows each class: uniform, class-balanced, square-root."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from causalft.errors import CausalFTError
from causalft.models.tuning.choices import SAMPLERS, Sampler

__all__ = ["SAMPLERS", "expected_counts", "make_sampler"]

UNIFORM = Sampler(name="uniform", help="each image once", power=1.0)
CLASS_BALANCED = Sampler(name="class-balanced", help="every class alike, images with replacement", power=0.0)
SQUARE_ROOT = Sampler(name="square-root", help="between the two, images with replacement", power=0.5)


def expected_counts(name: str, class_counts: ArrayLike) -> NDArray[np.float64]:
    """Return the expected images of each class in an epoch of a sampler.

    Give these to a re-balancing loss instead of the class counts; otherwise the imbalance is corrected twice.

    Parameters
    ----------
    name : str
        One of :data:`SAMPLERS`.
    class_counts : (K,) array of non-negative numbers

    Returns
    -------
    (K,) array
        With the sum of the counts; 0 for a class without an image.

    Raises
    ------
    CausalFTError
        For an unknown name.

    Examples
    --------
    >>> expected_counts("square-root", [81, 9, 0]).tolist()
    [67.5, 22.5, 0.0]
    """
    counts = np.asarray(class_counts, dtype=float)
    shares = np.where(counts > 0, counts ** SAMPLERS.get_or_refuse(name).power, 0.0)
    return shares * (counts.sum() / max(shares.sum(), 1e-300))


def make_sampler(name: str, labels: ArrayLike | Tensor) -> Callable[[torch.Generator], Tensor] | None:
    """Make the order of an epoch: draw a class, then one of its images, with replacement.

    P(class) is proportional to n_class^q with q = 0 (class-balanced) or 1/2 (square-root): Kang et al., "Decoupling
    Representation and Classifier for Long-Tailed Recognition", ICLR 2020, Eq. 1.

    Parameters
    ----------
    name : {"uniform", "class-balanced", "square-root"}
    labels : (n,) array or Tensor of int

    Returns
    -------
    callable or None
        ``sampler(generator) -> (n,) int64 indices`` of one epoch. None for uniform: the training loop then visits each
        image once.

    Raises
    ------
    CausalFTError
        For an unknown name, or labels that are no vector of class indices.

    Examples
    --------
    >>> labels = torch.tensor([0] * 90 + [1] * 10)
    >>> order = make_sampler("class-balanced", labels)(torch.Generator().manual_seed(0))
    >>> len(order), bool(40 < (labels[order] == 1).sum() < 60)
    (100, True)
    """
    power = SAMPLERS.get_or_refuse(name).power
    y = torch.as_tensor(np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels))
    if y.ndim != 1 or len(y) == 0 or y.is_floating_point() or y.is_complex():
        raise CausalFTError(
            f"labels must be a vector of class indices, not {y.dtype} of shape {tuple(y.shape)}"
        )
    if name == "uniform":
        return None
    grouped = torch.argsort(y, stable=True)
    counts = torch.unique(y, return_counts=True)[1]
    ends = counts.cumsum(0)
    cumulated = counts.double().pow(power).cumsum(0)

    def sampler(generator: torch.Generator) -> Tensor:
        of_class, within = torch.rand(2, len(y), dtype=torch.float64, generator=generator)
        # The clamp is for a product that rounds up to the total.
        drawn = torch.searchsorted(cumulated, of_class * cumulated[-1], right=True).clamp_(
            max=len(counts) - 1
        )
        member = (within * counts[drawn]).long().minimum(counts[drawn] - 1)
        return grouped[(ends - counts)[drawn] + member]

    return sampler
