"""Where a head starts: class means, k shots, or a linear probe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from causalft.errors import CausalFTError

__all__ = ["class_means", "k_shot", "probe_weights"]

_ROWS = 16_384


def class_means(
    features: NDArray[np.floating] | Tensor,
    labels: ArrayLike | Tensor,
    n_classes: int,
    *,
    class_names: Sequence[str] | None = None,
) -> Tensor:
    """Return the direction of the mean unit feature of each class.

    Parameters
    ----------
    features : (n, d) array or Tensor
        A memory-mapped array is read in parts.
    labels : (n,) array or Tensor of int in [0, n_classes)
    n_classes : int
    class_names : sequence of str, optional
        For messages.

    Returns
    -------
    Tensor
        Shape (n_classes, d), float32, unit rows.

    Raises
    ------
    CausalFTError
        If a class has no image, shapes do not agree, or a feature is not finite.

    Examples
    --------
    >>> class_means(np.array([[2.0, 0.0], [0.0, 3.0], [0.0, 1.0]]), [0, 1, 1], 2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    y = _checked(features, labels, n_classes, class_names)
    sums = torch.zeros(n_classes, features.shape[1], dtype=torch.float64)
    for rows, unit in _unit_parts(features):
        sums.index_add_(0, y[rows], unit.cpu().double())
    return F.normalize(sums, dim=1).float()


def k_shot(
    features: NDArray[np.floating] | Tensor,
    labels: ArrayLike | Tensor,
    n_classes: int,
    k: int,
    seed: int,
    *,
    class_names: Sequence[str] | None = None,
) -> Tensor:
    """Return :func:`class_means` of ``k`` images per class, drawn without replacement.

    Parameters
    ----------
    features, labels, n_classes, class_names
        As in :func:`class_means`.
    k : int
        At least 1. A class with fewer images gives all of them.
    seed : int

    Returns
    -------
    Tensor
        Shape (n_classes, d), float32, unit rows.

    Raises
    ------
    CausalFTError
        As :func:`class_means`, and for ``k`` below 1.

    Examples
    --------
    >>> start = k_shot(np.eye(4)[[0, 1, 2, 3]], [0, 0, 1, 1], 2, k=1, seed=0)
    >>> start.sum(1).tolist()  # one of the two images of each class
    [1.0, 1.0]
    """
    if k < 1:
        raise CausalFTError(f"{k} images per class are no start; give k = 1 or more")
    y = _checked(features, labels, n_classes, class_names)
    shuffled = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    grouped = shuffled[torch.argsort(y[shuffled], stable=True)]
    counts = torch.bincount(y, minlength=n_classes)
    starts = counts.cumsum(0) - counts
    rank = torch.arange(len(y)) - starts[y[grouped]]
    chosen = grouped[rank < k].sort().values
    rows = chosen.numpy() if isinstance(features, np.ndarray) else chosen.to(features.device)
    return class_means(features[rows], y[chosen], n_classes, class_names=class_names)


def probe_weights(
    features: NDArray[np.floating] | Tensor,
    labels: ArrayLike | Tensor,
    n_classes: int,
    *,
    C: float = 100.0,
    scale: float = 25.0,
    balanced: bool = True,
    max_iter: int = 200,
    class_names: Sequence[str] | None = None,
) -> Tensor:
    """Return the weights of a linear probe: multinomial logistic regression of unit features, without intercept.

    With V = scale * weight, it minimises ``C * sum_i w_i CE(V x_i, y_i) + |V|^2 / 2`` by L-BFGS, as scikit-learn's
    ``LogisticRegression(C=C, fit_intercept=False, class_weight="balanced")``, but in single precision, on the device
    of the features, and in parts. An ``l2`` head with the same ``scale`` starts as this probe; a cosine head keeps the
    directions.

    Parameters
    ----------
    features, labels, n_classes, class_names
        As in :func:`class_means`.
    C : float
        Positive, the inverse strength of the penalty. Features are of unit length, so weights are long: at 10 images
        per class, weights of length 25 cost 31 / C nats per image.
    scale : float
        Positive, that of the head.
    balanced : bool
        Weigh each sample by n / (n_classes * n_class).
    max_iter : int

    Returns
    -------
    Tensor
        Shape (n_classes, d), float32, on the CPU.

    Raises
    ------
    CausalFTError
        As :func:`class_means`, and if a setting is out of range.

    Examples
    --------
    >>> weight = probe_weights(np.array([[1.0, 0.0], [0.0, 1.0]]), [0, 1], 2)
    >>> bool(weight[0, 0] > 0 > weight[1, 0])
    True
    """
    for setting, value in (("C", C), ("scale", scale), ("max_iter", max_iter)):
        if not (math.isfinite(value) and value > 0):
            raise CausalFTError(f"{setting} of the linear probe is {value}; give a positive number")
    y = _checked(features, labels, n_classes, class_names)
    n, device = len(y), features.device if isinstance(features, Tensor) else torch.device("cpu")
    counts = torch.bincount(y, minlength=n_classes)
    each = (n / (n_classes * counts.double()) if balanced else torch.ones(n_classes)).float().to(device)
    y = y.to(device)
    V = torch.zeros(n_classes, features.shape[1], device=device)
    solver = torch.optim.LBFGS(
        [V],
        max_iter=max_iter,
        history_size=8,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def mean_risk() -> float:
        """The convex risk at V; its gradient goes into V.grad."""
        risk = V.square().sum().item() / (2 * C * n)
        V.grad = V / (C * n)
        for rows, unit in _unit_parts(features):
            target = y[rows].unsqueeze(1)
            share = each[target] / n
            log_p = (unit @ V.T).log_softmax(1)
            risk -= (share * log_p.gather(1, target)).sum().item()
            slope = (share * log_p.exp()).scatter_add_(1, target, -share)
            V.grad.addmm_(slope.T, unit)
        return risk

    solver.step(mean_risk)
    return V.cpu() / scale


def _unit_parts(features: NDArray[np.floating] | Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Unit rows in float32, in parts."""
    for start in range(0, len(features), _ROWS):
        rows = slice(start, start + _ROWS)
        part = features[rows]
        if isinstance(part, np.ndarray):
            part = torch.from_numpy(np.array(part, dtype=np.float32))  # a copy: the cache is read-only
        unit = F.normalize(part.detach().float(), dim=1)
        if not torch.isfinite(unit).all():
            row = start + int((~torch.isfinite(unit)).any(1).nonzero()[0])
            raise CausalFTError(f"the feature of image {row} is not finite; a head cannot start from it")
        yield rows, unit


def _checked(
    features: NDArray[np.floating] | Tensor,
    labels: ArrayLike | Tensor,
    n_classes: int,
    class_names: Sequence[str] | None,
) -> Tensor:
    """The labels as int64 on the CPU, if everything fits together and no class is empty."""
    y = torch.as_tensor(np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels))
    if features.ndim != 2 or y.shape != features.shape[:1]:
        raise CausalFTError(
            f"features of shape {tuple(features.shape)} and labels of shape {tuple(y.shape)} do not agree; "
            "give (n, d) and (n,)"
        )
    if len(y) and (y.is_floating_point() or y.min() < 0 or y.max() >= n_classes):
        raise CausalFTError(f"labels must be integers from 0 to {n_classes - 1}")
    y = y.long()
    empty = (torch.bincount(y, minlength=n_classes) == 0).nonzero().flatten().tolist()
    if empty:
        named = [class_names[k] if class_names is not None else k for k in empty[:3]]
        listed = ", ".join(map(repr, named)) + (", ..." if len(empty) > 3 else "")
        raise CausalFTError(
            f"{len(empty)} of {n_classes} classes have no image to start the head from ({listed}); add images or "
            "start from text"
        )
    return y
