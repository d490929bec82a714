"""How good are features by themselves: a k-nearest-neighbour classifier by cosine, with no head in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from causalft.errors import CausalFTError, nearest

__all__ = ["FeatureKNN"]

_VOTES = ("uniform", "softmax")


class FeatureKNN(ClassifierMixin, BaseEstimator):
    """Classify by the labels of the nearest features under the cosine.

    A head that is re-balanced can hide what its features are like; neighbours cannot. (Table 4 of Chen et al., ICML
    2025, arXiv 2501.15955: logit adjustment hardly changes the kNN accuracy of rare classes, so it mends the head.)

    Parameters
    ----------
    n_neighbors : int
        Neighbours that vote; all of them where the training set has fewer.
    weights : {"uniform", "softmax"}
        A neighbour's vote: 1, or exp(cosine / temperature).
    temperature : float
        Of the softmax votes; 0.07 in Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
        Discrimination", CVPR 2018, section 3.4.
    chunk_size : int
        Rows that are classified at once: memory grows with ``chunk_size * n_classes``, not with the test set.
    n_jobs : int, optional
        Threads, as in scikit-learn.

    Attributes
    ----------
    classes_ : (K,) array
    n_neighbors_ : int
        Neighbours that vote.
    n_features_in_ : int

    Notes
    -----
    Rows are brought to unit length; among those the Euclidean order is that of the cosine, and scikit-learn's exact
    brute-force search finds it without a matrix of all distances. Ties between classes go to the first class.

    Examples
    --------
    Accuracy by D group, where every class of the test set counts alike:

    >>> from causalft.data.groups import class_accuracy, data_groups, group_accuracy
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], [150, 10])
    >>> X = np.eye(8)[y] + 0.1 * rng.normal(size=(160, 8))
    >>> model = FeatureKNN(n_neighbors=5).fit(X, y)
    >>> by_class = class_accuracy(model.predict(np.eye(8)[:2]) == [0, 1], [0, 1], n_classes=2)
    >>> group_accuracy(by_class, data_groups(np.bincount(y)))
    {'many': 1.0, 'medium': None, 'few': 1.0}
    """

    def __init__(
        self,
        n_neighbors: int = 20,
        *,
        weights: str = "softmax",
        temperature: float = 0.07,
        chunk_size: int = 4096,
        n_jobs: int | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.weights = weights
        self.temperature = temperature
        self.chunk_size = chunk_size
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: ArrayLike) -> FeatureKNN:
        """Keep the training features.

        Parameters
        ----------
        X : (n, d) array
            Float32 stays float32.
        y : (n,) array of class labels

        Raises
        ------
        CausalFTError
            If a parameter is unknown or out of its range.
        """
        self._check_choices()
        checked, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_, self._target = np.unique(y, return_inverse=True)
        self.n_neighbors_ = min(self.n_neighbors, len(checked))
        self._index = NearestNeighbors(
            n_neighbors=self.n_neighbors_, algorithm="brute", metric="euclidean", n_jobs=self.n_jobs
        ).fit(normalize(checked))
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return each class's share of the votes: (n, K), columns as ``classes_``, rows sum to 1."""
        features = self._validated(X)
        return np.concatenate([self._votes(features[rows]) for rows in self._chunks(len(features))])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class with most votes: (n,) array of labels."""
        features = self._validated(X)
        best = [self._votes(features[rows]).argmax(axis=1) for rows in self._chunks(len(features))]
        return self.classes_[np.concatenate(best)]

    def predict_each(self, X: ArrayLike, n_neighbors: Sequence[int]) -> dict[int, NDArray[Any]]:
        """Return what fewer neighbours would say too, from one search.

        Parameters
        ----------
        X : (m, d) array
        n_neighbors : sequence of int
            Each from 1 to ``n_neighbors_``: more than there are training rows would be fewer under a larger name.

        Returns
        -------
        dict of int to (m,) array of labels
            For each number k what :meth:`predict` of a model with ``n_neighbors=k`` gives.

        Raises
        ------
        CausalFTError
            For a number out of range.

        Examples
        --------
        >>> model = FeatureKNN(n_neighbors=3, weights="uniform").fit(np.eye(3), [0, 1, 1])
        >>> {k: y.tolist() for k, y in model.predict_each([[1.0, 0.0, 0.0]], [1, 3]).items()}
        {1: [0], 3: [1]}
        """
        check_is_fitted(self, "_index")
        wrong = [k for k in n_neighbors if not 1 <= k <= self.n_neighbors_]
        if wrong:
            all_rows = self.n_neighbors_ == self._index.n_samples_fit_
            raise CausalFTError(
                f"{wrong[0]} neighbours were asked for; give 1 to {self.n_neighbors_}, "
                + ("the number of training rows" if all_rows else "or make the model with more")
            )
        features = self._validated(X)
        found: dict[int, list[NDArray[Any]]] = {int(k): [] for k in n_neighbors}
        for rows in self._chunks(len(features)):
            distance, neighbour = self._index.kneighbors(normalize(features[rows]))
            for k, parts in found.items():
                parts.append(self.classes_[self._count(distance[:, :k], neighbour[:, :k]).argmax(axis=1)])
        return {k: np.concatenate(parts) for k, parts in found.items()}

    def _validated(self, X: ArrayLike) -> NDArray[np.floating]:
        check_is_fitted(self, "_index")
        return validate_data(self, X, reset=False, dtype=[np.float64, np.float32])

    def _chunks(self, n: int) -> list[slice]:
        return [slice(start, start + self.chunk_size) for start in range(0, n, self.chunk_size)]

    def _votes(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        return self._count(*self._index.kneighbors(normalize(X)))

    def _count(self, distance: NDArray[np.floating], neighbour: NDArray[np.integer]) -> NDArray[np.float64]:
        """Shares of the votes from (m, k) neighbours, nearest first."""
        weight = np.ones(distance.shape)
        if self.weights == "softmax":
            # cosine = 1 - distance^2 / 2 between unit rows; the nearest neighbour has weight 1
            squared = distance.astype(float) ** 2
            weight = np.exp((squared[:, :1] - squared) / (2 * self.temperature))
        n_classes = len(self.classes_)
        cell = np.arange(len(distance))[:, None] * n_classes + self._target[neighbour]
        votes = np.bincount(cell.ravel(), weights=weight.ravel(), minlength=len(distance) * n_classes)
        votes = votes.reshape(len(distance), n_classes)
        return votes / votes.sum(axis=1, keepdims=True)

    def _check_choices(self) -> None:
        if self.weights not in _VOTES:
            raise CausalFTError(f"weights={self.weights!r} is unknown; {nearest(str(self.weights), _VOTES)}")
        for name in ("n_neighbors", "chunk_size"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 1:
                raise CausalFTError(f"{name} is {value!r}; give a whole number of 1 or more")
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise CausalFTError(f"temperature is {self.temperature}; give a positive number")
