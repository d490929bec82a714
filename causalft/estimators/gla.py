"""Generalised logit adjustment as a classifier: zero-shot logits without their prior, alone or with tuned ones.

    GLA-ZS   f_zs - log q
    GLA-FT   f_zs - log q  +  f_ft - log P_S                                   (Zhu et al., NeurIPS 2023)

Both say log P(y|x) of a balanced target, up to a constant; another target adds its log prior. GLA-FT is the Bayes
classifier where the two models see independent things of an image of class y: P(x1, x2|y) = P(x1|y) P(x2|y).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from causalft.errors import CausalFTError
from causalft.priors import PriorEstimate, debias, estimate_prior
from causalft.priors.checks import check_simplex

__all__ = ["GLAClassifier", "gla_finetuned", "gla_zero_shot"]


def gla_zero_shot(
    zero_shot: ArrayLike, prior: ArrayLike, target_prior: ArrayLike | None = None
) -> NDArray[np.float64]:
    """GLA-ZS: ``f_zs - log q [+ log target prior]``.

    Parameters
    ----------
    zero_shot : (..., K) array
        Logits or log-probabilities of the untouched model.
    prior : (K,) array
        q, from :func:`causalft.priors.estimate_prior`; positive, sums to 1.
    target_prior : (K,) array, optional
        Of the images to classify. Default: balanced.

    Returns
    -------
    (..., K) array
        Logits.

    Examples
    --------
    >>> gla_zero_shot(np.log([[.8, .2]]), [.9, .1]).argmax(axis=1).tolist()
    [1]
    """
    return _for_target(debias(zero_shot, prior), target_prior)


def gla_finetuned(
    zero_shot: ArrayLike,
    tuned: ArrayLike,
    prior: ArrayLike,
    train_prior: ArrayLike | None = None,
    target_prior: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """GLA-FT: ``f_zs - log q + f_ft - log P_S [+ log target prior]``.

    Parameters
    ----------
    zero_shot, tuned : (..., K) arrays
        Logits or log-probabilities of the same images, before and after tuning.
    prior : (K,) array
        q of the zero-shot model.
    train_prior : (K,) array, optional
        P_S, the class shares of the training set, for a model that was tuned with plain cross-entropy. None for
        one tuned with logit adjustment (LA): its logits are without P_S, and taking it out again would overshoot.
        Of some losses neither is right (:func:`causalft.tuning.losses.optimum_of`).
    target_prior : (K,) array, optional

    Returns
    -------
    (..., K) array
        Logits.

    Raises
    ------
    CausalFTError
        If the shapes do not agree or a prior does not sum to 1.

    Examples
    --------
    >>> f_zs, f_ft = np.log([[.6, .4]]), np.log([[.9, .1]])
    >>> gla_finetuned(f_zs, f_ft, [.5, .5], train_prior=[.95, .05]).argmax(axis=1).tolist()
    [1]
    """
    f_zs, f_ft = np.asarray(zero_shot, dtype=float), np.asarray(tuned, dtype=float)
    if f_zs.shape != f_ft.shape:
        raise CausalFTError(
            f"zero-shot logits {f_zs.shape} and tuned logits {f_ft.shape} must be of one shape"
        )
    without = f_ft if train_prior is None else debias(f_ft, train_prior)
    return _for_target(debias(f_zs, prior) + without, target_prior)


class GLAClassifier(ClassifierMixin, BaseEstimator):
    """Classify by GLA-ZS, or by GLA-FT where tuned logits are given too.

    Parameters
    ----------
    train_prior : (K,) array, optional
        P_S of tuned logits; see :func:`gla_finetuned`.
    target_prior : (K,) array, optional
        Class prior of the labelled images that ``fit`` sees and of those to classify. Default: balanced.
    l2 : float or "cv"
        See :func:`causalft.priors.estimate_prior`.
    seed : int
        Of the cross-validation.

    Attributes
    ----------
    estimate_ : PriorEstimate
        q.
    classes_ : (K,) array
        0 to K - 1: the columns of the logits.
    n_features_in_ : int
        K.

    References
    ----------
    Zhu et al., "Generalized Logit Adjustment", NeurIPS 2023.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat([0, 1], 100)
    >>> logits = rng.normal(np.eye(2)[labels] + np.log([.9, .1]))      # leans towards class 0
    >>> model = GLAClassifier().fit(logits, labels)
    >>> bool(model.score(logits, labels) > (logits.argmax(1) == labels).mean() + .1)
    True
    """

    def __init__(
        self,
        train_prior: ArrayLike | None = None,
        *,
        target_prior: ArrayLike | None = None,
        l2: float | str = 0.0,
        seed: int = 0,
    ) -> None:
        self.train_prior = train_prior
        self.target_prior = target_prior
        self.l2 = l2
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike) -> GLAClassifier:
        """Estimate q from zero-shot logits (n, K) and labels (n,) in [0, K) that no model was tuned on."""
        self.estimate_: PriorEstimate = estimate_prior(
            X, y, target_prior=self.target_prior, l2=self.l2, seed=self.seed
        )
        self.n_features_in_ = len(self.estimate_.prior)
        self.classes_ = np.arange(self.n_features_in_)
        return self

    def decision_function(self, X: ArrayLike, tuned: ArrayLike | None = None) -> NDArray[np.float64]:
        """Debiased logits (n, K) of zero-shot logits (n, K), added to those of ``tuned`` (n, K) where given."""
        check_is_fitted(self)
        if tuned is None:
            return gla_zero_shot(X, self.estimate_.prior, self.target_prior)
        return gla_finetuned(X, tuned, self.estimate_.prior, self.train_prior, self.target_prior)

    def predict_proba(self, X: ArrayLike, tuned: ArrayLike | None = None) -> NDArray[np.float64]:
        """P(Y|x) of the target: (n, K), rows sum to 1."""
        return softmax(self.decision_function(X, tuned), axis=1)

    def predict(self, X: ArrayLike, tuned: ArrayLike | None = None) -> NDArray[Any]:
        """The class of the largest probability: (n,)."""
        return self.classes_[self.decision_function(X, tuned).argmax(axis=1)]


def _for_target(logits: NDArray[np.float64], target_prior: ArrayLike | None) -> NDArray[np.float64]:
    if target_prior is None:
        return logits
    return logits + np.log(check_simplex(target_prior, logits.shape[-1], "target_prior"))
