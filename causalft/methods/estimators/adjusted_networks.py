"""Image classifiers trained on the confounded B set and adjusted for C: they estimate P(Y | do(X))."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from causalft.methods.estimators.fusion import fit_temperature
from causalft.models.resnet import ResNet

__all__ = ["ADJUSTED", "Adjusted", "adjust_pictures", "log_stratum_prior", "outputs"]

ADJUSTED = ("backdoor", "ipw", "frontdoor")
"""The adjusted estimators, in the order in which they are reported."""

_RIDGE = 0.1
"""Inverse strength of the ridge penalty of every head, on standardised features."""


@dataclass(frozen=True)
class Adjusted:
    """P(Y | do(X = image)) for some images, by each estimator.

    Attributes
    ----------
    probabilities : name in `ADJUSTED` -> (n, K), rows sum to 1.
    temperature : of the strata of ``backdoor``.
    effective_share : effective sample size of the inverse probability weights over the number of rows, in (0, 1].
    largest_weight : largest of the weights, which have mean 1.
    """

    probabilities: dict[str, np.ndarray]
    temperature: float
    effective_share: float
    largest_weight: float


def log_stratum_prior(labels: np.ndarray, factors: np.ndarray, n_classes: int) -> np.ndarray:
    """log P(Y | C) of the training rows, (2, K), with half a row added to every cell.

    Examples
    --------
    >>> np.exp(log_stratum_prior(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]), 2)).round(2).tolist()
    [[0.62, 0.38], [0.25, 0.75]]
    """
    counts = np.full((2, n_classes), 0.5)
    np.add.at(counts, (factors, labels), 1)
    return np.log(counts / counts.sum(1, keepdims=True))


def adjust_pictures(
    model: ResNet,
    train: tuple[Tensor, np.ndarray, np.ndarray, np.ndarray],
    calibrate: tuple[Tensor, np.ndarray, np.ndarray],
    pictures: Tensor,
    log_prior: np.ndarray,
    seed: int,
) -> Adjusted:
    """Estimate P(Y | do(X)) of images with a network that was trained with the LA loss of each stratum of C.

    The network's logits f(x) are the balanced representation of the paper: trained with cross-entropy of ``f(x) + log
    P(y | c)``, they do not contain the class prior of the stratum.

    - ``backdoor`` (Eq. 7): ``sum_c softmax((f(x) + log P(y | c)) / T) P(c)``, with one temperature T fitted on other
      images of B. Logits alone cannot make ``f(x) + log P(y | c)`` every law P(y | x, c): if contents are misread, a
      bias stays that no number of images removes (1.5 to 4 points of total variation in ``confounded``, by the exact
      law). The other two do not have it.
    - ``ipw``: a multinomial logistic head on the network's features, each row weighted with P(c) / P(c | x) (Hajek; P(c
      | x) is a logistic head too).
    - ``frontdoor``: ``sum_b P(b | x) sum_x' P(y | b, x') P(x')``: a head for B, and for each content b a head for Y
      whose predictions are averaged over all training images x'. It uses B and not C.

    Parameters
    ----------
    model : network in eval mode.
    train : images (n, 3, h, w) of B, labels, factors and contents, each (n,).
    calibrate : other images of B, labels and factors, for the temperature.
    pictures : (m, 3, h, w), the images to predict.
    log_prior : (2, K), of `log_stratum_prior`.
    seed : of the heads' solver.

    References
    ----------
    Eq. 7 of arXiv 2501.15955; logit adjustment: Menon et al. (2021); inverse probability weights: Horvitz and Thompson
    (1952); front-door: Pearl (1995).
    """
    x, labels, factors, contents = train
    n_classes = log_prior.shape[1]
    share = np.bincount(factors, minlength=2) / len(factors)
    logits, features = outputs(model, pictures)

    held, _ = outputs(model, calibrate[0])
    strata = log_softmax(held + log_prior[calibrate[2]], axis=1)
    temperature = fit_temperature(strata, calibrate[1], kind="log-probabilities")
    backdoor = sum(share[c] * softmax((logits + log_prior[c]) / temperature, axis=1) for c in (0, 1))

    _, known = outputs(model, x)
    scale = StandardScaler().fit(known)
    known, features = scale.transform(known), scale.transform(features)
    propensity = _head(known, factors, 2, seed)(known)[np.arange(len(factors)), factors]
    weights = share[factors] / np.maximum(propensity, 1e-6)
    weights *= len(weights) / weights.sum()
    ipw = _head(known, labels, n_classes, seed, weights)(features)

    by_content = np.full((n_classes, n_classes), 1 / n_classes)
    for b in range(n_classes):
        mine = contents == b
        if mine.any():
            by_content[b] = _head(known[mine], labels[mine], n_classes, seed)(known).mean(0)
    frontdoor = _head(known, contents, n_classes, seed)(features) @ by_content
    return Adjusted(
        probabilities={"backdoor": np.asarray(backdoor), "ipw": ipw, "frontdoor": frontdoor},
        temperature=float(temperature),
        effective_share=float(weights.sum() ** 2 / (weights**2).sum() / len(weights)),
        largest_weight=float(weights.max()),
    )


def outputs(model: ResNet, pictures: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, K) and features (n, 64) of images."""
    with torch.inference_mode():
        features = torch.cat([model.features(part) for part in pictures.split(256)])
        return model.head(features).double().numpy(), features.double().numpy()


def _head(
    features: np.ndarray, target: np.ndarray, n_classes: int, seed: int, weights: np.ndarray | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Fit a ridge-penalised multinomial logistic head; classes that never occur get probability 0."""
    present = np.unique(target)
    if len(present) == 1:
        return lambda x: np.tile(np.eye(n_classes)[present[0]], (len(x), 1))
    head = LogisticRegression(C=_RIDGE, max_iter=500, random_state=seed % 2**32).fit(
        features, target, weights
    )

    def predict(x: np.ndarray) -> np.ndarray:
        found = np.zeros((len(x), n_classes))
        found[:, present] = head.predict_proba(x)
        return found

    return predict
