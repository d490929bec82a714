"""Backdoor adjustment over strata for any array classifier: P(y|do(x)) = sum_c P(y|x,c) P(c)."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, check_cv
from sklearn.utils import get_tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
    has_fit_parameter,
    validate_data,
)

from causalft.errors import CausalFTError, nearest
from causalft.methods.estimators.fusion import apply_temperature, fit_temperature, fuse, stratum_weights
from causalft.scm import causal_graph

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["BackdoorClassifier"]


class BackdoorClassifier(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Classify by P(y|do(x)): one classifier per stratum c of the confounder, averaged by P(c).

    Parameters
    ----------
    estimator : classifier with ``predict_proba``, optional
        Cloned and fitted once per stratum, to P(y|x,c). Default: logistic regression.
    stratum_prior : None, "uniform", mapping or (M,) array
        P(C=c). None: the (weighted) shares of the strata in the training data; "uniform": 1/M; a mapping from stratum
        to probability, or numbers in the order of ``strata_``.
    graph : networkx DiGraph, optional
        The causal assumption. Default: the paper's graph, ``causalft.scm.causal_graph()``.
    treatment, outcome, stratum_node : str
        The nodes of the graph that X, y and ``stratum`` stand for.
    calibrate : {None, "temperature"}
        "temperature": one temperature for all P(y|x,c), fitted on ``cv`` held-out folds, each sample under its own
        stratum. (Not after mixing: observed labels follow P(y|x), not P(y|do(x)).)
    cv : int, splitter or iterable of (train, test) rows
        Folds for ``calibrate``. A number stratifies by (stratum, class); a scikit-learn splitter gets these cells as y.
        Samples that are held out several times count as often.
    positivity : {"raise", "warn"}
        What to do if a stratum has no sample of a class. "warn" goes on with P(y|x,c) = 0 for that class.

    Attributes
    ----------
    classes_ : (K,) array
    strata_ : (M,) array
        The values of ``stratum`` seen in fit.
    estimators_ : list of M classifiers
        None for a stratum with a single class.
    stratum_prior_ : (M,) array
        P(c), sums to 1.
    cell_weights_ : (M, K) array
        Sample weight in each cell (stratum, class).
    temperature_ : float
        1 without calibration.
    estimand_ : str or None
        What the graph says is estimated; None without strata.
    n_features_in_ : int

    Notes
    -----
    Eq. 7 of Chen et al. (ICML 2025); Pearl, *Causality* (2009), section 3.3.1. Without ``stratum`` nothing is adjusted
    for and the graph is not asked. P(y|x,c) exists only where P(x,c) > 0; empty (stratum, class) cells are named, but
    overlap *within* the feature space is not checked.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> c = rng.integers(0, 2, 400)
    >>> y = (rng.random(400) < .2 + .6 * c).astype(int)       # C -> Y, and X does nothing
    >>> X = (c + .3 * rng.normal(size=400))[:, None]            # C -> X
    >>> grid = [[0.], [1.]]
    >>> seen = BackdoorClassifier().fit(X, y).predict_proba(grid)[:, 1]
    >>> done = BackdoorClassifier().fit(X, y, stratum=c).predict_proba(grid)[:, 1]
    >>> bool(seen[1] - seen[0] > .4), bool(abs(done[1] - done[0]) < .2)
    (True, True)
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        stratum_prior: Any = None,
        graph: nx.DiGraph | None = None,
        treatment: str = "X",
        outcome: str = "Y",
        stratum_node: str = "C",
        calibrate: str | None = None,
        cv: Any = 5,
        positivity: str = "raise",
    ) -> None:
        self.estimator = estimator
        self.stratum_prior = stratum_prior
        self.graph = graph
        self.treatment = treatment
        self.outcome = outcome
        self.stratum_node = stratum_node
        self.calibrate = calibrate
        self.cv = cv
        self.positivity = positivity

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        stratum: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> BackdoorClassifier:
        """Ask the graph, then fit one classifier per stratum.

        Parameters
        ----------
        X : (n, d) array or sparse matrix
        y : (n,) array of class labels
        stratum : (n,) array, optional
            The value of the confounder for each sample (any labels).
        sample_weight : (n,) array, optional

        Raises
        ------
        CausalFTError
            If the graph leaves a backdoor path open given the strata variable (the path is named), a (stratum,
            class) cell is empty, or a parameter has an unknown value.
        """
        self._check_choices()
        tags = self._inner_tags().input_tags
        X, y = validate_data(
            self, X, y, accept_sparse="csr" if tags.sparse else False, ensure_all_finite=not tags.allow_nan
        )
        check_classification_targets(y)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        self.classes_, target = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise CausalFTError(
                f"y has one class only ({self.classes_[0]!r}); a classifier needs two classes"
            )
        group = self._groups(stratum, len(target))
        self.estimand_ = self._estimand() if stratum is not None else None
        counted = np.ones(len(target)) if weights is None else weights
        self.cell_weights_ = np.zeros((len(self.strata_), len(self.classes_)))
        np.add.at(self.cell_weights_, (group, target), counted)
        self._check_positivity()
        self.stratum_prior_ = self._prior()
        self.temperature_ = 1.0
        if self.calibrate == "temperature":
            self.temperature_ = self._held_out_temperature(X, target, group, weights)
        self.estimators_ = self._fit_strata(X, target, group, weights)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """P(y|do(x)).

        Parameters
        ----------
        X : (n, d) array

        Returns
        -------
        (n, K) array
            Columns as ``classes_``; rows sum to 1.
        """
        return fuse(self.stratum_proba(X), self.stratum_prior_, kind="probabilities")

    def stratum_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """P(y|x,c) of every stratum: (M, n, K), strata as ``strata_``."""
        check_is_fitted(self, "estimators_")
        tags = self._inner_tags().input_tags
        X = validate_data(
            self,
            X,
            reset=False,
            accept_sparse="csr" if tags.sparse else False,
            ensure_all_finite=not tags.allow_nan,
        )
        probs = np.stack([self._conditional(model, X, m) for m, model in enumerate(self.estimators_)])
        return (
            probs
            if self.temperature_ == 1
            else apply_temperature(probs, self.temperature_, kind="probabilities")
        )

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The class of the largest P(y|do(x)): (n,) array of labels."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = self._inner_tags()
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        return tags

    def _inner(self) -> Any:
        return LogisticRegression() if self.estimator is None else self.estimator

    def _inner_tags(self) -> Any:
        return get_tags(self._inner())

    def _check_choices(self) -> None:
        for name, known in (("calibrate", (None, "temperature")), ("positivity", ("raise", "warn"))):
            value = getattr(self, name)
            if value not in known:
                raise CausalFTError(f"{name}={value!r} is unknown; {nearest(str(value), map(str, known))}")
        if not hasattr(self._inner(), "predict_proba"):
            kind = type(self._inner()).__name__
            raise CausalFTError(
                f"{kind} has no predict_proba; wrap it in CalibratedClassifierCV or choose another"
            )

    def _estimand(self) -> str:
        from causalft.scm.identify import check_adjustment_set

        graph = causal_graph() if self.graph is None else self.graph
        return str(check_adjustment_set(graph, self.treatment, self.outcome, [self.stratum_node]).formula)

    def _groups(self, stratum: ArrayLike | None, n: int) -> NDArray[np.intp]:
        values = np.zeros(n, dtype=int) if stratum is None else column_or_1d(np.asarray(stratum))
        if len(values) != n:
            raise CausalFTError(f"stratum has {len(values)} entries, y has {n}; give one per sample")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise CausalFTError(
                f"the stratum of sample {row} is missing; an unknown C cannot be adjusted for"
            )
        self.strata_, group = np.unique(values, return_inverse=True)
        return group

    def _check_positivity(self) -> None:
        empty = np.argwhere(self.cell_weights_ == 0)
        if not len(empty):
            return
        cells = ", ".join(f"({self.strata_[m]}, {self.classes_[k]})" for m, k in empty[:5])
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        message = f"no sample in (stratum, class) {cells}{more}: P(y|x,c) cannot be learnt there"
        if self.positivity == "raise":
            raise CausalFTError(
                f"{message}; add samples, merge strata, or set positivity='warn' to take it as 0"
            )
        warnings.warn(f"{message} and is taken as 0", UserWarning, stacklevel=3)

    def _prior(self) -> NDArray[np.float64]:
        prior, n_strata = self.stratum_prior, len(self.strata_)
        if prior is None:
            share = self.cell_weights_.sum(axis=1)
            return share / share.sum()
        if isinstance(prior, str):
            if prior != "uniform":
                raise CausalFTError(
                    f"stratum_prior={prior!r} is unknown; use None, 'uniform', a mapping or numbers"
                )
            return stratum_weights(None, n_strata)
        if isinstance(prior, Mapping):
            missing = [c for c in self.strata_.tolist() if c not in prior]
            unknown = [c for c in prior if c not in self.strata_.tolist()]
            if missing or unknown:
                raise CausalFTError(
                    f"stratum_prior and the data disagree on stratum {(missing + unknown)[0]!r}; "
                    f"name exactly {self.strata_.tolist()}"
                )
            return stratum_weights([prior[c] for c in self.strata_.tolist()], n_strata)
        return stratum_weights(prior, n_strata)

    def _fit_strata(
        self, X: Any, target: NDArray[np.intp], group: NDArray[np.intp], weights: NDArray[np.float64] | None
    ) -> list[Any]:
        models: list[Any] = []
        for m in range(len(self.strata_)):
            rows = np.flatnonzero(group == m)
            if len(np.unique(target[rows])) < 2:
                models.append(None)
                continue
            model, extra = clone(self._inner()), {}
            if weights is not None:
                if not has_fit_parameter(model, "sample_weight"):
                    raise CausalFTError(f"{type(model).__name__} takes no sample_weight; fit without weights")
                extra["sample_weight"] = weights[rows]
            models.append(model.fit(X[rows], self.classes_[target[rows]], **extra))
        return models

    def _conditional(self, model: Any, X: Any, m: int) -> NDArray[np.float64]:
        """P(y|x, c=m) with one column per class of ``classes_``, also for classes that the stratum lacks."""
        probs = np.zeros((X.shape[0], len(self.classes_)))
        if model is None:
            probs[:, int(self.cell_weights_[m].argmax())] = 1.0
        else:
            probs[:, np.searchsorted(self.classes_, model.classes_)] = model.predict_proba(X)
        return probs

    def _held_out_temperature(
        self, X: Any, target: NDArray[np.intp], group: NDArray[np.intp], weights: NDArray[np.float64] | None
    ) -> float:
        cell = group * len(self.classes_) + target
        probs, rows = [], []
        for train, test in self._folds(X, cell):
            lost = np.setdiff1d(cell[test], cell[train])
            if len(lost):
                raise CausalFTError(
                    f"a fold of {self._cv_words()} has {self._cell(lost[0])} among its test samples only; use fewer "
                    "folds, a splitter that stratifies (it is given the (stratum, class) cells as y), or calibrate=None"
                )
            fold_weights = None if weights is None else weights[train]
            models = self._fit_strata(X[train], target[train], group[train], fold_weights)
            for m, model in enumerate(models):
                held_out = test[group[test] == m]
                if len(held_out):
                    probs.append(self._conditional(model, X[held_out], m))
                    rows.append(held_out)
        order = np.argsort(np.concatenate(rows), kind="stable")
        chosen = np.concatenate(rows)[order]
        return fit_temperature(
            np.concatenate(probs)[order], target[chosen], None if weights is None else weights[chosen]
        )

    def _folds(self, X: Any, cell: NDArray[np.intp]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Train and test rows, with every (stratum, class) cell as the y of the splitter."""
        cv: Any = self.cv
        if isinstance(cv, numbers.Integral) and not isinstance(cv, bool):
            cv = int(cv)
            counts = np.bincount(cell)
            smallest = int(counts[counts > 0].min())
            if cv < 2:
                raise CausalFTError(f"cv={cv} gives no held-out fold; use 2 or more")
            if smallest < cv:
                raise CausalFTError(
                    f"{self._cell(np.flatnonzero(counts == smallest)[0])} has {smallest} samples, calibrate needs "
                    f"cv={cv}; lower cv or set calibrate=None"
                )
            cv = StratifiedKFold(cv, shuffle=True, random_state=0)
        try:
            folds = [(self._rows(a, cell), self._rows(b, cell)) for a, b in check_cv(cv).split(X, cell)]
        except (ValueError, TypeError, IndexError) as error:
            raise CausalFTError(
                f"{self._cv_words()} gives no folds ({error}); give a number, a splitter of scikit-learn, or an "
                "iterable of (train, test) rows"
            ) from None
        if not any(len(test) for _, test in folds):
            raise CausalFTError(f"{self._cv_words()} holds out no sample; calibrate needs some")
        return folds

    @staticmethod
    def _rows(rows: ArrayLike, cell: NDArray[np.intp]) -> NDArray[np.intp]:
        """Row numbers, also where a mask was given."""
        return np.arange(len(cell))[np.asarray(rows)]

    def _cv_words(self) -> str:
        written = repr(self.cv)
        return f"cv={written}" if len(written) <= 60 else "the given cv"

    def _cell(self, number: int) -> str:
        m, k = divmod(int(number), len(self.classes_))
        return f"(stratum, class) ({self.strata_[m]}, {self.classes_[k]})"
