"""Label shift: calibrated class scores of a model, and the class law that makes unlabelled images likeliest (EM).

A model's posterior under equal class shares is taken as softmax(beta z + b), with one inverse temperature and one bias
per class (bias-corrected temperature scaling; Alexandari, Kundaje and Shrikumar, ICML 2020). Ten validation images per
class do not fix sixty biases: they are shrunk towards 0 by a normal distribution whose spread is estimated from the
same images (empirical Bayes; MacKay, Neural Computation 1992), so that a model without class biases is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.errors import CausalFTError

__all__ = [
    "Calibration",
    "LawPosterior",
    "calibrate",
    "em_law",
    "law_posterior",
    "mean_log_likelihood",
    "responsibilities",
]

_STEPS = 50
# Ten images per class say little of a spread below a third, and would have it at 0.06 where 450 per class show 0.16;
# then the intervals hold the truth too rarely. No less than 0.1 is believed of any model.
_BIAS_SPREADS = np.array([0.1, 0.2, 0.4, 0.8, 1.6, 3.2])
_HALF = 0.5  # of an image, beside the validation counts of a class
_EM_STEPS = 5_000
_SINGLE = 20_000_000
"""Entries of a table above which it is kept in float32."""

Floats = NDArray[np.float64]


def log_scores(logits: ArrayLike) -> Floats:
    """Log-softmax of logits or log-probabilities (n, K), no less than -1,000.

    Raises
    ------
    CausalFTError
        For another shape, for probabilities, and for a row without a finite number or with NaN; the row is named.

    Examples
    --------
    >>> log_scores([[0.0, 0.0]]).round(3).tolist()
    [[-0.693, -0.693]]
    """
    table = np.asarray(logits, dtype=float)
    if table.ndim != 2:
        raise CausalFTError(f"scores must be (images, classes), not of shape {table.shape}")
    if not len(table):
        return table
    wrong = ~np.isfinite(table.max(axis=1))
    if wrong.any():
        raise CausalFTError(
            f"row {int(wrong.argmax())} of the scores has no finite class score, or one that is no number"
        )
    if table.min() >= 0 and np.allclose(table.sum(axis=1), 1, atol=1e-3):
        raise CausalFTError("these scores are probabilities; give their logarithms, or logits")
    return np.maximum(_log_softmax(table), -1e3)


def _log_softmax(table: Floats) -> Floats:
    off = table - table.max(axis=1, keepdims=True)
    found: Floats = off - np.log(np.exp(off).sum(axis=1, keepdims=True))
    return found


@dataclass(frozen=True)
class Calibration:
    """Bias-corrected temperature scaling.

    Attributes
    ----------
    beta : float
        Inverse temperature.
    bias : (K,) array
        Sums to about 0.
    covariance : (K + 1, K + 1) array
        Of beta and the biases, given the validation images.
    spread : float
        Posterior mean of the standard deviation of the biases.
    n : int
        Validation images.
    """

    beta: float
    bias: Floats
    covariance: Floats
    spread: float
    n: int

    @property
    def temperature(self) -> float:
        """1 / beta."""
        return 1 / self.beta

    def scores(self, logits: ArrayLike) -> Floats:
        """Log-posterior under equal class shares, (n, K), of logits or log-probabilities like those calibrated."""
        return _log_softmax(self.beta * log_scores(logits) + self.bias)


def calibrate(logits: ArrayLike, labels: ArrayLike) -> Calibration:
    """Fit temperature and class biases to validation images that the model was not trained on.

    Parameters
    ----------
    logits : (n, K) array
        Logits or log-probabilities of a model.
    labels : (n,) array of int in [0, K)
        Their shares may differ between classes: they are taken out.

    Raises
    ------
    CausalFTError
        If there is no image, labels and rows do not match, or probabilities are given.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat([0, 1, 2], 2000)
    >>> logits = 2 * (np.eye(3)[labels] + rng.normal(0, 0.7, (6000, 3)))  # the posterior is softmax(logits / .98)
    >>> found = calibrate(3 * logits, labels)
    >>> bool(abs(found.temperature - 2.94) < 0.1), bool(np.abs(found.bias).max() < 0.1)
    (True, True)
    """
    z, y = log_scores(logits), np.asarray(labels)
    if not len(z) or y.shape != (len(z),):
        raise CausalFTError(f"the law needs validation images and their labels, not {z.shape} and {y.shape}")
    n, k = z.shape
    if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= k:
        raise CausalFTError(f"labels of the validation images must be whole numbers from 0 to {k - 1}")
    counts = np.bincount(y, minlength=k)
    own = np.log((counts + _HALF) / (n + _HALF * k))  # the law of the validation images
    theta, fits = np.concatenate([[1.0], np.zeros(k)]), []
    for spread in _BIAS_SPREADS:
        theta, covariance, evidence = _most_likely(z, y, own, theta, spread)
        fits.append((theta, covariance, evidence))
    weights = _shares(np.array([evidence for _, _, evidence in fits]))
    mean = weights @ np.array([theta for theta, _, _ in fits])
    covariance = sum(
        weight * (each + np.outer(theta - mean, theta - mean))
        for weight, (theta, each, _) in zip(weights, fits)
    )
    return Calibration(float(mean[0]), mean[1:], covariance, float(weights @ _BIAS_SPREADS), n)


def _most_likely(
    z: Floats, y: NDArray[np.int64], own: Floats, theta: Floats, spread: float
) -> tuple[Floats, Floats, float]:
    """Posterior mode of (beta, biases) at one spread of the biases, by Newton's method.

    Returns the mode, the inverse Hessian and the log-evidence of the spread (Laplace).
    """
    rows, ridge = np.arange(len(y)), np.concatenate([[0.0], np.full(z.shape[1], spread**-2)])

    def risk(at: Floats) -> tuple[float, Floats]:
        log_p = _log_softmax(at[0] * z + at[1:] + own)
        return float(-log_p[rows, y].sum() + 0.5 * (ridge * at**2).sum()), np.exp(log_p)

    value, p = risk(theta)
    hessian: Floats = np.eye(len(theta))
    for _ in range(_STEPS):
        off = p.copy()
        off[rows, y] -= 1
        gradient = np.concatenate([[float((off * z).sum())], off.sum(axis=0)]) + ridge * theta
        mean = (p * z).sum(axis=1)
        hessian = np.diag(ridge)
        hessian[1:, 1:] += np.diag(p.sum(axis=0)) - p.T @ p
        hessian[0, 1:] = hessian[1:, 0] = (p * (z - mean[:, None])).sum(axis=0)
        hessian[0, 0] += float((p * z**2).sum() - (mean**2).sum()) + 1e-9
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while True:
            new = theta - size * step
            new[0] = max(new[0], 0.01)
            found, q = risk(new)
            if found <= value + 1e-12 or size < 1e-6:
                break
            size /= 2
        moved = float(np.abs(new - theta).max())
        theta, value, p = new, found, q
        if moved < 1e-8:
            break
    evidence = -value - len(own) * np.log(spread) - 0.5 * float(np.linalg.slogdet(hessian)[1])
    return theta, np.linalg.inv(hessian).astype(np.float64), evidence


def em_law(scores: ArrayLike, *, start: ArrayLike | None = None, tolerance: float = 1e-8) -> Floats:
    """Class shares that make images likeliest under label shift, (K,): EM, accelerated.

    Parameters
    ----------
    scores : (n, K) array
        log P(k | x) less log pi_k of each image, up to a constant of the row, where pi is the law under which P is the
        posterior: :meth:`Calibration.scores` as they are.
    start : (K,) array, optional
        Positive shares to start from; by default equal ones. The likelihood is concave, so it decides only the speed.
    tolerance : float
        Largest sum of absolute changes of the shares in a step of EM at the end.

    Raises
    ------
    CausalFTError
        If there is no image, or a row has no finite score.

    Examples
    --------
    Images whose classes are certain give their shares:

    >>> em_law(np.log(np.array([[1, 1e-9], [1, 1e-9], [1e-9, 1], [1, 1e-9]]))).round(6).tolist()
    [0.75, 0.25]
    """
    ratios = _ratios(scores)
    q = np.full(ratios.shape[1], 1 / ratios.shape[1])
    if start is not None:
        q = np.maximum(np.asarray(start, dtype=float), 1e-12)
        q = q / q.sum()

    def step(at: Floats) -> Floats:
        return at * _gradient(ratios, at)

    # Varadhan and Roland, "Simple and globally convergent methods for accelerating EM" (SQUAREM), 2008
    for _ in range(_EM_STEPS):
        one = step(q)
        if np.abs(one - q).sum() < tolerance:
            return one
        two = step(one)
        r, v = one - q, (two - one) - (one - q)
        length = float(np.sqrt((r**2).sum() / max((v**2).sum(), 1e-300)))
        far = q + 2 * length * r + length**2 * v
        if length > 1 and far.min() > 0 and np.isfinite(far).all():
            leapt = step(far / far.sum())
            if _likelihood(ratios, leapt) >= _likelihood(ratios, two):
                q = leapt
                continue
        q = two
    return q


def _ratios(scores: ArrayLike) -> NDArray[np.floating]:
    table = np.asarray(scores, dtype=float)
    if table.ndim != 2 or not table.size:
        raise CausalFTError(f"the law of unlabelled images needs scores (n, K), not {table.shape}")
    largest = table.max(axis=1, keepdims=True)
    if not np.isfinite(largest).all():
        raise CausalFTError(f"image {int(np.argmin(np.isfinite(largest[:, 0])))} has no finite class score")
    found = np.exp(table - largest)
    return found.astype(np.float32) if found.size > _SINGLE else found


def _gradient(ratios: NDArray[np.floating], q: Floats) -> Floats:
    """Mean of r_ik / sum_j q_j r_ij, (K,): 1 at the maximum where the share is positive, at most 1 elsewhere."""
    inverse = 1 / np.maximum(ratios @ q.astype(ratios.dtype), np.finfo(ratios.dtype).tiny)
    return (inverse @ ratios).astype(float) / len(ratios)


def _likelihood(ratios: NDArray[np.floating], q: Floats) -> float:
    return float(np.log(np.maximum(ratios @ q.astype(ratios.dtype), np.finfo(ratios.dtype).tiny)).mean())


def mean_log_likelihood(scores: ArrayLike, law: ArrayLike) -> float:
    """Mean log-likelihood of an image under a law, up to a constant that all laws share."""
    return _likelihood(_ratios(scores), np.asarray(law, dtype=float))


def responsibilities(scores: ArrayLike, law: ArrayLike) -> Floats:
    """P(k | x) of each image under a law, (n, K); rows sum to 1.

    Examples
    --------
    >>> responsibilities(np.log([[0.5, 0.5]]), [0.9, 0.1]).round(6).tolist()
    [[0.9, 0.1]]
    """
    shares = np.maximum(np.asarray(law, dtype=float), 1e-300)
    return np.exp(_log_softmax(np.asarray(scores, dtype=float) + np.log(shares)))


@dataclass(frozen=True)
class LawPosterior:
    """What images and calibration say of log q, with a prior around a trend over the classes.

    Attributes
    ----------
    means : (T, K) array
        Posterior means of log q, up to a constant, one for each spread of the classes about the trend.
    covariances : (T, K, K) array
    weights : (T,) array
        Posterior of the spreads; sums to 1.
    spreads : (T,) array
        Standard deviations about the trend, on the log scale.
    score : (K,) array
        Gradient of the log-likelihood at ``centre``, plus the information times ``centre``.
    information : (K, K) array
        Of the images on log q.
    noise : (K, K) array
        Covariance of the score: of the images, and of the calibration.
    free : float
        Log-density of the score under the trend, averaged over the spreads; as :meth:`log_evidence`.
    """

    means: Floats
    covariances: Floats
    weights: Floats
    spreads: Floats
    score: Floats
    information: Floats
    noise: Floats
    free: float

    @property
    def mean(self) -> Floats:
        """Posterior mean of log q, (K,)."""
        return self.weights @ self.means

    @property
    def spread(self) -> float:
        """Posterior mean of the spread."""
        return float(self.weights @ self.spreads)

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        """Draws of the law, (n, K); rows sum to 1."""
        counts = rng.multinomial(n, self.weights)
        rows = []
        for mean, covariance, count in zip(self.means, self.covariances, counts):
            if count:
                values, vectors = np.linalg.eigh(covariance)
                scaled = rng.normal(size=(count, len(mean))) * np.sqrt(np.maximum(values, 0))
                rows.append(np.exp(_log_softmax(mean + scaled @ vectors.T)))
        return np.concatenate(rows)

    def log_evidence(self, law: ArrayLike, spread: float) -> float:
        """Log-density of the score if log q is spread so much about that of a law, up to a constant of the images."""
        covariance = self.noise + spread**2 * self.information @ self.information
        return _log_normal(self.score - self.information @ np.log(np.asarray(law, dtype=float)), covariance)


SPREADS = np.geomspace(0.02, 2.0, 13)
_TREND_VARIANCE = 4.0
_CENTRES, _RESTS = 60, 1e-4
_BLOCK = 16_384


def law_posterior(
    logits: ArrayLike,
    calibration: Calibration,
    trend: ArrayLike,
    *,
    start: ArrayLike,
) -> LawPosterior:
    """Posterior of the law of unlabelled images: a trend over the classes, and a spread about it, both estimated.

    Maximum likelihood takes confusions of the model apart and so multiplies the errors of the calibration: with 60
    classes, half of them confused, it is off by a third of the images. Here log q_k = (F theta)_k + e_k, where the
    spread of e is estimated with the rest (empirical Bayes, averaged over a grid): laws that follow the trend are known
    to its precision, and others as well as the images allow.

    The score of the likelihood at log q has mean A (log q - centre) and variance A + B C B^T, where A = sum (p_i -
    mean)(p_i - mean)^T is the information of the images (p_i = P(. | x_i) at the centre), C the covariance of the
    calibration and B the slopes of the score in it: sum diag(p_i) - p_i p_i^T for the biases and sum p_i (z_i - E z_i)
    for the inverse temperature. The centre moves to the posterior mean until it rests.

    Parameters
    ----------
    logits : (n, K) array
        Of the unlabelled images, like those calibrated.
    calibration : Calibration
    trend : (K, f) array
        Columns F with mean 0.
    start : (K,) array
        A law to start from.
    """
    z = log_scores(logits)
    n, k = z.shape
    f = np.asarray(trend, dtype=float)
    priors = [spread**2 * np.eye(k) + _TREND_VARIANCE * f @ f.T for spread in SPREADS]
    centre = np.log(np.maximum(np.asarray(start, dtype=float), 0.5 / n))
    for _ in range(_CENTRES):
        score, information, slopes = _score(z, calibration, centre)
        noise = information + slopes @ calibration.covariance @ slopes.T
        target = score + information @ centre
        found = [_posterior(target, information, noise, prior) for prior in priors]
        evidence = np.array([one[0] for one in found])
        mean = _shares(evidence) @ np.array([one[1] for one in found])
        moved = np.clip(mean - np.log(np.exp(mean).sum()) - centre, -1, 1)
        centre = centre + moved
        if np.abs(moved * np.exp(centre)).sum() < _RESTS:
            break
    free = float(evidence.max() + np.log(np.exp(evidence - evidence.max()).mean()))
    return LawPosterior(
        np.array([one[1] for one in found]),
        np.array([one[2] for one in found]),
        _shares(evidence),
        SPREADS,
        target,
        information,
        noise,
        free,
    )


def _shares(evidence: Floats) -> Floats:
    """Posterior of hypotheses that are alike at first."""
    weights = np.exp(evidence - evidence.max())
    return weights / weights.sum()


def _posterior(
    target: Floats, information: Floats, noise: Floats, prior: Floats
) -> tuple[float, Floats, Floats]:
    """Log-evidence, and posterior mean and covariance of log q, under a normal prior of mean 0."""
    carried = information @ prior
    of_score = noise + carried @ information
    gain = np.linalg.solve(_whole(of_score), carried).T
    return _log_normal(target, of_score), gain @ target, prior - gain @ carried


def _score(z: Floats, calibration: Calibration, centre: Floats) -> tuple[Floats, Floats, Floats]:
    """Score (K,), information (K, K) and slopes (K, K + 1) in the calibration, at log shares ``centre``."""
    n, k = z.shape
    law = np.exp(_log_softmax(centre[None])[0])
    total, squares, tilt = np.zeros(k), np.zeros((k, k)), np.zeros(k)
    for first in range(0, n, _BLOCK):
        rows = z[first : first + _BLOCK]
        p = responsibilities(calibration.beta * rows + calibration.bias, law)
        total += p.sum(axis=0)
        squares += p.T @ p
        tilt += (p * (rows - (p * rows).sum(axis=1, keepdims=True))).sum(axis=0)
    information = squares - np.outer(total, total) / n
    return total - n * law, information, np.column_stack([tilt, np.diag(total) - squares])


def _whole(covariance: Floats) -> Floats:
    """A covariance of scores, which sum to 0, with that direction filled in."""
    k = len(covariance)
    return covariance + np.trace(covariance) / k**2 + 1e-9 * np.trace(covariance) / k * np.eye(k)


def _log_normal(off: Floats, covariance: Floats) -> float:
    """Log-density of a score that is ``off`` its mean, up to a constant."""
    whole = _whole(covariance)
    return -0.5 * float(off @ np.linalg.solve(whole, off) + np.linalg.slogdet(whole)[1])
