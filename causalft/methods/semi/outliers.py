"""Unlabelled images of classes that the labelled set lacks: how many at least, and which ones.

A model is less sure of images from no class of its own. A score of the unlabelled images, their confidence or energy,
is compared with that of validation images, weighted to the class law of the unlabelled ones (rare or hard classes would
pass for unseen ones else). The evidence is the largest difference of the two distributions in units of its spread. The
share that the validation images cannot explain is the largest excess of the one over the other (a mixture proportion;
Blanchard, Lee and Scott, "Semi-supervised novelty detection", JMLR 2010).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from causalft.errors import CausalFTError
from causalft.methods.semi.label_shift import Calibration, log_scores
from causalft.runs.documents import Document

__all__ = ["Outliers", "confidence", "energy", "find_outliers"]

_BOOTSTRAPS = 200
_KEPT = 0.95
"""Share of the known images that :attr:`Outliers.drop` keeps."""
_BELOW = (0.05, 0.5)
"""Share of known images below the thresholds where the excess is looked for: outside, few images decide."""
_TESTED = (0.05, 0.95)
"""The same, of the test: where both distributions have passed most images, a small share shows as well."""


@dataclass(frozen=True)
class Outliers:
    """What the confidence of unlabelled images says of classes that the labelled set lacks.

    Attributes
    ----------
    share : float
        Of unlabelled images that no class explains: a lower bound, as some of them look like a known class.
    ci95 : tuple of float
        Interval of that bound, for both sets of images.
    p : float
        Share of sets of known images alone that would show as large a difference.
    drop : (m,) array of bool
        Unlabelled images with a lower score than 95 % of the known ones; none, if the difference is not significant.
    n : int
        Unlabelled images.
    """

    share: float
    ci95: tuple[float, float]
    p: float
    drop: NDArray[np.bool_]
    n: int

    @property
    def found(self) -> bool:
        """Whether there are any (p < 0.01)."""
        return self.p < 0.01

    @property
    def document(self) -> Document:
        """The evidence in JSON."""
        return {
            "n": self.n,
            "share": self.share,
            "share_ci95": list(self.ci95),
            "p": self.p,
            "drop": int(self.drop.sum()),
        }

    @property
    def warning(self) -> str | None:
        """A sentence for the user; None without outliers."""
        if not self.found:
            return None
        low, high = (100 * end for end in self.ci95)
        return (
            f"at least {100 * self.share:.0f} % [{low:.0f}, {high:.0f}] of the {self.n} unlabelled images look like no "
            f"class of the labelled ones; the {int(self.drop.sum())} least like one are best left out"
        )


def confidence(logits: ArrayLike, calibration: Calibration | None = None) -> NDArray[np.float64]:
    """Largest class probability of each image, (n,); calibrated, if a calibration is given.

    Hendrycks and Gimpel, "A baseline for detecting misclassified and out-of-distribution examples", ICLR 2017; on
    zero-shot probabilities Ming et al., NeurIPS 2022.

    Examples
    --------
    >>> confidence([[0.0, 0.0], [0.0, 50.0]]).round(3).tolist()
    [0.5, 1.0]
    """
    scores = log_scores(logits) if calibration is None else calibration.scores(logits)
    return np.exp(scores.max(axis=1))


def energy(*logits: ArrayLike) -> NDArray[np.float64]:
    """Log of the sum over classes of exp(logit), (n,), of the mean logits of one or more strata, (n, K) each.

    Liu et al., "Energy-based out-of-distribution detection", NeurIPS 2020, with the sign turned: an image that
    resembles no class has small logits of all, and one on which strata disagree has small mean logits.

    Examples
    --------
    >>> energy([[9.0, 0.0]], [[9.0, 0.0]]).round(2).tolist(), energy([[9.0, 0.0]], [[0.0, 9.0]]).round(2).tolist()
    ([9.0], [5.19])
    """
    mean = np.mean([np.asarray(each, dtype=float) for each in logits], axis=0)
    found: NDArray[np.float64] = logsumexp(mean, axis=1)
    return found


def find_outliers(
    known: ArrayLike,
    labels: ArrayLike,
    unlabelled: ArrayLike,
    law: ArrayLike | None = None,
    *,
    seed: int = 0,
) -> Outliers:
    """Compare a score of unlabelled images with that of validation images.

    Parameters
    ----------
    known : (n,) array
        Score of the validation images; larger is surer: :func:`energy`, or :func:`confidence`.
    labels : (n,) array of int in [0, K)
        Their classes.
    unlabelled : (m,) array
        Score of the unlabelled images.
    law : (K,) array, optional
        Class shares of the unlabelled images, such as :attr:`causalft.methods.semi.law.UnlabelledLaw.law`; by default
        those of the validation images.
    seed : int
        Of the bootstrap.

    Raises
    ------
    CausalFTError
        If either set is empty, or a score is no finite number.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> known, more = rng.beta(6, 2, 600), rng.beta(6, 2, 1500)
    >>> labels = np.arange(600) % 3
    >>> find_outliers(known, labels, more).found
    False
    >>> found = find_outliers(known, labels, np.concatenate([more, rng.beta(2, 6, 500)]))
    >>> found.found, bool(0.15 < found.share < 0.27), bool(found.drop[1500:].mean() > 0.8)
    (True, True, True)
    """
    a, b, y = np.asarray(known, dtype=float), np.asarray(unlabelled, dtype=float), np.asarray(labels)
    for what, scores in (("validation", a), ("unlabelled", b)):
        if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
            raise CausalFTError(f"the scores of the {what} images must be (n,) finite numbers, at least one")
    if y.shape != a.shape:
        raise CausalFTError(f"{len(a)} validation images but labels of shape {y.shape}; give one for each")
    weights = _weights(y, law)
    rng = np.random.default_rng(seed)
    found = _distributions(a, weights, b)
    excess, difference = _excess(*found), _difference(*found)
    draws, null, differences = np.empty((3, _BOOTSTRAPS))
    share = weights / weights.sum()
    for i in range(_BOOTSTRAPS):
        rows = rng.integers(len(a), size=len(a))
        draws[i] = _excess(*_distributions(a[rows], weights[rows], b[rng.integers(len(b), size=len(b))]))
        alone = _distributions(a[rows], weights[rows], a[rng.choice(len(a), size=len(b), p=share)])
        null[i], differences[i] = _excess(*alone), _difference(*alone)
    p = float((1 + (differences >= difference).sum()) / (1 + _BOOTSTRAPS))
    bias = float(null.mean())  # a maximum over thresholds is above 0 without any outlier
    low, high = (float(np.clip(end - bias, 0, 1)) for end in np.quantile(draws, [0.025, 0.975]))
    drop = np.zeros(len(b), dtype=bool)
    if p < 0.01:
        order = np.argsort(a)
        at = np.searchsorted(np.cumsum(share[order]), 1 - _KEPT)
        drop = b < a[order][min(int(at), len(a) - 1)]
    estimate = float(np.clip(excess - bias, 0, 1))
    return Outliers(estimate, (min(low, estimate), max(high, estimate)), p, drop, len(b))


def _weights(labels: NDArray[np.int64], law: ArrayLike | None) -> NDArray[np.float64]:
    """Weights of the validation images that give their classes the shares of a law."""
    if law is None:
        return np.ones(len(labels))
    shares = np.asarray(law, dtype=float)
    if labels.min() < 0 or labels.max() >= len(shares):
        raise CausalFTError(
            f"labels of the validation images must be whole numbers from 0 to {len(shares) - 1}"
        )
    counts = np.bincount(labels, minlength=len(shares))
    found: NDArray[np.float64] = (shares / np.maximum(counts, 1))[labels]
    return found / found.sum() * len(labels)


def _distributions(
    known: NDArray[np.float64], weights: NDArray[np.float64], other: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """F and G, (n,): the shares of the known and of the other scores up to each known one."""
    order = np.argsort(known)
    below = np.cumsum(weights[order]) / weights.sum()
    return below, np.searchsorted(np.sort(other), known[order], side="right") / len(other)


def _excess(below: NDArray[np.float64], of_other: NDArray[np.float64]) -> float:
    """Largest share of the other images that the known ones cannot explain, over thresholds t of the score.

    If other = (1 - e) known + e new, then G(t) is at most (1 - e) F(t) + e, so that e is at least
    (G(t) - F(t)) / (1 - F(t)).
    """
    usable = (below >= _BELOW[0]) & (below <= _BELOW[1])
    return float(np.max(((of_other - below) / np.maximum(1 - below, 1e-9))[usable], initial=-1.0))


def _difference(below: NDArray[np.float64], of_other: NDArray[np.float64]) -> float:
    """Largest G(t) - F(t), in units of sqrt(F(t) (1 - F(t))): its spread without new images is in proportion."""
    usable = (below >= _TESTED[0]) & (below <= _TESTED[1])
    spread = np.sqrt(np.clip(below * (1 - below), 1e-9, None))
    return float(np.max(((of_other - below) / spread)[usable], initial=-1.0))
