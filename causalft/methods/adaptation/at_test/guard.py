"""Whether the predictions of a model that adapts collapse onto few classes, beside those of the unadapted model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Collapse", "CollapseGuard", "effective_classes"]

RATIO = 0.6
"""Below this share of the unadapted model's effective number of classes, predictions have collapsed."""

WINDOW = 64
"""Fewest of the last images that are looked at, where there are as many."""

_FEWEST = 16


@dataclass(frozen=True)
class Collapse:
    """Why an adaptation stopped.

    Attributes
    ----------
    k : int, optional
        The class onto which predictions collapse: the one that gained most. None: the logits are not finite.
    share, before : float
        Its share of the last images by the adapted and by the unadapted model.
    n : int
        Number of these images.
    """

    k: int | None
    share: float = float("nan")
    before: float = float("nan")
    n: int = 0


def effective_classes(counts: ArrayLike) -> float:
    """Effective number of classes: the exponential of the entropy of the shares; 0 without a count.

    Examples
    --------
    >>> round(effective_classes([5, 5, 0]), 6), round(effective_classes([10, 0, 0]), 6)
    (2.0, 1.0)
    """
    found = np.asarray(counts, dtype=float)
    if found.sum() == 0:
        return 0.0
    share = found[found > 0] / found.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


class CollapseGuard:
    """Compares the classes that an adapted and the unadapted model predict for the last images of a stream.

    Predictions have collapsed when their effective number of classes is below `RATIO` times that of the unadapted model
    on the same images. A stream of few classes is therefore no collapse: the unadapted model sees few as well.

    Parameters
    ----------
    n_classes : int

    Examples
    --------
    >>> guard, spread = CollapseGuard(4), np.arange(32) % 4
    >>> guard.update(spread, spread) is None
    True
    >>> guard.update(np.full(64, 2), np.arange(64) % 4)
    Collapse(k=2, share=1.0, before=0.25, n=64)
    """

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes
        self._adapted = np.empty(0, np.int64)
        self._unadapted = np.empty(0, np.int64)
        self.ratio = 1.0
        """Effective number of classes by that of the unadapted model, at the last look."""

    def update(self, adapted: NDArray[np.int64], unadapted: NDArray[np.int64]) -> Collapse | None:
        """Look at one more batch: classes (b,) by the adapted and the unadapted model."""
        last = max(WINDOW, len(adapted))
        self._adapted = np.concatenate([self._adapted, adapted])[-last:]
        self._unadapted = np.concatenate([self._unadapted, unadapted])[-last:]
        n = len(self._adapted)
        if n < _FEWEST:
            return None
        now = np.bincount(self._adapted, minlength=self.n_classes)
        before = np.bincount(self._unadapted, minlength=self.n_classes)
        self.ratio = effective_classes(now) / effective_classes(before)
        if self.ratio >= RATIO:
            return None
        k = int((now - before).argmax())
        return Collapse(k, float(now[k] / n), float(before[k] / n), n)
