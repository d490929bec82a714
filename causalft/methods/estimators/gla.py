"""Generalised logit adjustment: zero-shot logits without their prior, alone (GLA-ZS) or with tuned ones (GLA-FT).

    GLA-ZS   f_zs - log q
    GLA-FT   f_zs - log q  +  f_ft - log P_S                                   (Zhu et al., NeurIPS 2023)

Both are log P(y|x) of a balanced target, up to a constant; another target adds its log prior. GLA-FT is the Bayes
classifier if the two models see independent things of an image of class y: P(x1, x2|y) = P(x1|y) P(x2|y).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from causalft.errors import CausalFTError, nearest
from causalft.methods.adaptation.settings import check_gla
from causalft.methods.priors import PriorEstimate, debias, estimate_prior
from causalft.methods.priors.estimate import check_simplex

__all__ = [
    "EXPECTED_FAILED_CHECKS",
    "GLAClassifier",
    "check_gla",
    "gla_finetuned",
    "gla_zero_shot",
]

_MORE_CLASSES = "fits 3 classes to 2 or 10 columns; the columns of X are logits, one per class"
EXPECTED_FAILED_CHECKS: dict[str, str] = {
    "check_estimators_overwrite_params": _MORE_CLASSES,
    "check_estimators_fit_returns_self": _MORE_CLASSES,
    "check_readonly_memmap_input": _MORE_CLASSES,
    "check_classifiers_classes": _MORE_CLASSES,
    "check_classifiers_train": _MORE_CLASSES,
    "check_classifiers_one_label": "a column of X is a class also where no label was seen, so another may be predicted",
}
"""Checks of scikit-learn's ``check_estimator`` that a :class:`GLAClassifier` cannot pass, and why."""


def gla_zero_shot(
    zero_shot: ArrayLike, prior: ArrayLike, target_prior: ArrayLike | None = None
) -> NDArray[np.float64]:
    """GLA-ZS: ``f_zs - log q [+ log target prior]``.

    Parameters
    ----------
    zero_shot : (..., K) array
        Logits or log-probabilities of the zero-shot model.
    prior : (K,) array
        q, from :func:`causalft.methods.priors.estimate_prior`; positive, sums to 1.
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
        P_S, the class shares of the training set, for a model tuned with plain cross-entropy; None for one tuned with
        logit adjustment (LA), whose logits are without P_S. Some losses allow neither
        (:func:`causalft.models.tuning.choices.optimum_of`).
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
    """Classify by GLA-ZS, or by GLA-FT if tuned logits are given too.

    The features are logits: column k of ``X`` belongs to class k. The checks of scikit-learn that need other features
    are named in :data:`EXPECTED_FAILED_CHECKS`; all others pass.

    Parameters
    ----------
    train_prior : (K,) array, optional
        P_S of tuned logits; see :func:`gla_finetuned`.
    target_prior : (K,) array, optional
        Class prior of the labelled images and of those to classify. Default: balanced.
    l2 : float or "cv"
        See :func:`causalft.methods.priors.estimate_prior`.
    seed : int
        Of the cross-validation.
    classes : (K,) array of labels, optional
        The class of each column. Default: 0 to K - 1 if ``y`` holds such numbers, else the sorted labels if there are
        K.

    Attributes
    ----------
    estimate_ : PriorEstimate
        q.
    classes_ : (K,) array
        The class of each column.
    n_features_in_ : int
        K.
    feature_names_in_ : (K,) array of str
        If ``X`` is a table with names.

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
        l2: float | str = "cv",
        seed: int = 0,
        classes: ArrayLike | None = None,
    ) -> None:
        self.train_prior = train_prior
        self.target_prior = target_prior
        self.l2 = l2
        self.seed = seed
        self.classes = classes

    def fit(self, X: ArrayLike, y: ArrayLike) -> GLAClassifier:
        """Estimate q on labelled images that no model was tuned on.

        Parameters
        ----------
        X : (n, K) array
            Zero-shot logits.
        y : (n,) array of labels
            Column numbers, or K different labels of any kind.

        Raises
        ------
        CausalFTError
            If the labels do not determine the columns, or a class has no labelled sample and ``l2`` is 0.
        """
        logits, labels = validate_data(
            self, X, y, dtype=[np.float64, np.float32], ensure_min_features=2, ensure_min_samples=2
        )
        check_classification_targets(labels)
        self.classes_, columns = self._columns(labels, logits.shape[1])
        self.estimate_: PriorEstimate = estimate_prior(
            logits, columns, target_prior=self.target_prior, l2=self.l2, seed=self.seed
        )
        return self

    def _columns(self, y: NDArray[Any], n_classes: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """The class of each column, and the column of each label."""
        found = np.unique(y)
        if self.classes is not None:
            classes = np.asarray(self.classes)
            if classes.shape != (n_classes,) or len(np.unique(classes)) != n_classes:
                raise CausalFTError(f"classes must be {n_classes} different labels, one per column of X")
            unknown = [label for label in found.tolist() if label not in set(classes.tolist())]
            if unknown:
                hint = nearest(str(unknown[0]), map(str, classes.tolist()))
                raise CausalFTError(f"label {unknown[0]!r} of y is not one of classes; {hint}")
        elif found.dtype.kind in "iuf" and found[0] >= 0 and found[-1] < n_classes and (found % 1 == 0).all():
            return np.arange(n_classes), y.astype(np.int64)
        elif len(found) == n_classes:
            classes = found
        else:
            raise CausalFTError(
                f"X has {n_classes} columns, one logit per class, and y has {len(found)} classes"
                f"{'' if len(found) > 1 else ' (1 class)'} that are not column numbers from 0 to {n_classes - 1}; say "
                "which label each column is for with classes=[...]"
            )
        place = {label: column for column, label in enumerate(classes.tolist())}
        return classes, np.array([place[label] for label in y.tolist()], dtype=np.int64)

    def decision_function(self, X: ArrayLike, tuned: ArrayLike | None = None) -> NDArray[np.float64]:
        """Debiased zero-shot logits, plus tuned ones if given.

        Parameters
        ----------
        X : (n, K) array
            Zero-shot logits.
        tuned : (n, K) array, optional

        Returns
        -------
        (n, K) array, or (n,) for K = 2
            For two classes, the log odds of the second, as in scikit-learn.
        """
        logits = self._debiased(X, tuned)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def _debiased(self, X: ArrayLike, tuned: ArrayLike | None) -> NDArray[np.float64]:
        check_is_fitted(self, "estimate_")
        zero_shot = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        if tuned is None:
            return gla_zero_shot(zero_shot, self.estimate_.prior, self.target_prior)
        tuned = check_array(tuned, dtype=[np.float64, np.float32], input_name="tuned")
        return gla_finetuned(zero_shot, tuned, self.estimate_.prior, self.train_prior, self.target_prior)

    def predict_proba(self, X: ArrayLike, tuned: ArrayLike | None = None) -> NDArray[np.float64]:
        """P(Y|x) of the target: (n, K), rows sum to 1."""
        return softmax(self._debiased(X, tuned), axis=1)

    def predict(self, X: ArrayLike, tuned: ArrayLike | None = None) -> NDArray[Any]:
        """The class of the largest probability: (n,)."""
        best = self._debiased(X, tuned).argmax(axis=1)
        return self.classes_[best]


def _for_target(logits: NDArray[np.float64], target_prior: ArrayLike | None) -> NDArray[np.float64]:
    if target_prior is None:
        return logits
    return logits + np.log(check_simplex(target_prior, logits.shape[-1], "target_prior"))
