"""Classifiers on frozen features: nearest neighbours, and heads of every kind, loss, learning rate and seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from causalft.data.groups import balancing_weights, class_accuracy, data_groups, group_accuracy
from causalft.errors import CausalFTError, nearest
from causalft.models.tuning.heads import class_means, make_head
from causalft.models.tuning.losses import Criterion, make_loss
from causalft.models.tuning.samplers import expected_counts, make_sampler
from causalft.models.tuning.team import current_team
from causalft.models.tuning.train import Recipe, train
from causalft.runs.intervals import mean_interval
from causalft.runs.notebook import ShownAsTable
from causalft.runs.progress import steps

__all__ = ["FeatureKNN", "Sweep", "head_logits", "sweep_heads"]

_VOTES = ("uniform", "softmax")


class FeatureKNN(ClassifierMixin, BaseEstimator):
    """Classify by the labels of the nearest features under the cosine.

    A re-balanced head can hide what its features are like; neighbours cannot. (Table 4 of Chen et al., ICML 2025: logit
    adjustment hardly changes the kNN accuracy of rare classes, so it mends the head.)

    Parameters
    ----------
    n_neighbors : int
        Neighbours that vote, at most the training set.
    weights : {"uniform", "softmax"}
        A neighbour's vote: 1, or exp(cosine / temperature).
    temperature : float
        Of the softmax votes; 0.07 in Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
        Discrimination", CVPR 2018, section 3.4.
    chunk_size : int
        Rows classified at once: memory grows with ``chunk_size * n_classes``.
    n_jobs : int, optional
        Threads, as in scikit-learn.

    Attributes
    ----------
    classes_ : (K,) array
    n_neighbors_ : int
    n_features_in_ : int

    Notes
    -----
    Rows are scaled to unit length, where the Euclidean order is that of the cosine; the search is scikit-learn's exact
    brute force. Ties go to the first class.

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
        """Predict with several numbers of neighbours from one search.

        Processes that work together (:func:`causalft.models.tuning.team.work_together`) share the rows.

        Parameters
        ----------
        X : (m, d) array
        n_neighbors : sequence of int
            Each from 1 to ``n_neighbors_``.

        Returns
        -------
        dict of int to (m,) array of labels

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
        wanted = [int(k) for k in n_neighbors]

        def best(rows: slice) -> NDArray[np.int64]:
            """The winning class for each number of neighbours, (m, number of numbers)."""
            found = [np.empty((0, len(wanted)), dtype=np.int64)]
            chosen = features[rows]
            for part in self._chunks(len(chosen)):
                distance, neighbour = self._index.kneighbors(normalize(chosen[part]))
                votes = [self._count(distance[:, :k], neighbour[:, :k]).argmax(axis=1) for k in wanted]
                found.append(np.stack(votes, axis=1))
            return np.concatenate(found)

        classes = self.classes_[current_team().rows(len(features), best)]
        return {k: classes[:, column] for column, k in enumerate(wanted)}

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


_KEPT_BYTES = 2**30
_CHOICES = ["head", "loss", "lr", "seed"]

Labelled = tuple[NDArray[np.floating], ArrayLike]


@dataclass(frozen=True, repr=False)
class Sweep(ShownAsTable):
    """The trainings of a sweep.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per training: ``head``, ``loss``, ``lr``, ``seed``, ``train_loss`` (of the last epoch), ``seconds``, and
        for each evaluated set NAME its size ``NAME_n``, ``NAME_accuracy``, ``NAME_balanced_accuracy``, ``NAME_many``,
        ``NAME_medium``, ``NAME_few`` (fractions), ``NAME_nll`` and ``NAME_balanced_nll`` (mean over the classes).
    heads : dict of (head, loss, lr, seed) to torch.nn.Module
        The trained heads, with ``keep_heads``.
    """

    table: pd.DataFrame
    heads: dict[tuple[str, str, float, int], nn.Module]

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        return [str(name) for name in self.table.columns], self.table.to_numpy(dtype=object).tolist()

    def __repr__(self) -> str:
        return f"Sweep({len(self.table)} heads in {self.table['seconds'].sum():.1f} s)"

    def summary(self, measure: str) -> pd.DataFrame:
        """Mean of a column over the seeds, with a 95 % t interval, best mean first.

        The limits are NaN for one seed, or if all seeds are equal.

        Parameters
        ----------
        measure : str
            A column of ``table``, such as ``test_accuracy``.

        Returns
        -------
        pandas.DataFrame
            ``head``, ``loss``, ``lr``, ``n_seeds``, ``mean``, ``low``, ``high``.
        """
        if measure not in self.table:
            raise CausalFTError(
                f"the sweep has no column {measure!r}; it has {', '.join(self.table.columns)}"
            )
        rows = []
        for (head, loss, lr), group in self.table.groupby(_CHOICES[:3], sort=False):
            values = group[measure].to_numpy(dtype=float)
            rows.append((head, loss, lr, len(values), *mean_interval(values)))
        found = pd.DataFrame(rows, columns=[*_CHOICES[:3], "n_seeds", "mean", "low", "high"])
        return found.sort_values("mean", ascending=measure.endswith("nll"), ignore_index=True)


def sweep_heads(
    features: NDArray[np.floating],
    labels: ArrayLike,
    class_counts: ArrayLike | None = None,
    losses: Sequence[str] = ("LA",),
    seeds: Sequence[int] = (0,),
    heads: Sequence[str] = ("cosine",),
    *,
    recipe: Recipe | None = None,
    learning_rates: Sequence[float] = (),
    start: Tensor | NDArray[np.floating] | None = None,
    scale: float = 25.0,
    evaluate: Mapping[str, Labelled] | None = None,
    sampler: str = "uniform",
    model_log_prior: ArrayLike | None = None,
    loss_settings: Mapping[str, Mapping[str, Any]] | None = None,
    keep_heads: bool = False,
    progress: bool | None = None,
) -> Sweep:
    """Train a head on cached features for every combination of the choices.

    Each training goes through :func:`causalft.models.tuning.train.train` on its own, since a seed is an order of the
    samples. Nothing is encoded: a sweep costs matrix products of (batch, d) by (d, K).

    Parameters
    ----------
    features : (n, d) array
        Of the training images, for example from :func:`causalft.models.features.cache.cached_features`.
    labels : (n,) array of int in [0, K)
    class_counts : (K,) array, optional
        Training images per class; counted from the labels by default.
    losses, seeds, heads : sequences
        Losses and heads by name (:mod:`causalft.models.tuning.choices`).
    recipe : Recipe, optional
        Default: 10 epochs of SGD in batches of 128 with a learning rate of 0.01, as in the paper; its seed is replaced.
    learning_rates : sequence of float
        Default: that of the recipe.
    start : (K, d) array or Tensor, optional
        Where the heads start: text features, or class means by default.
    scale : float
        Inverse temperature of the heads.
    evaluate : mapping of str to (features, labels), optional
        Sets to score: features (n, d), or (n_views, n, d), whose logits are averaged.
    sampler : str
        The losses get the class counts that it makes.
    model_log_prior : (K,) array, optional
        log q, for losses that use it.
    loss_settings : mapping of loss to settings, optional
    keep_heads : bool
    progress : bool, optional

    Raises
    ------
    CausalFTError
        For an unknown name, an empty choice, or shapes that do not agree.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat([0, 1], [90, 10])
    >>> features = np.eye(2)[labels] + rng.normal(0, 0.3, (100, 2))
    >>> sweep = sweep_heads(features, labels, losses=["CE", "LA"], seeds=[0, 1],
    ...                     evaluate={"test": (np.eye(2), [0, 1])}, progress=False)
    >>> sweep.table[["loss", "seed", "test_accuracy"]].values.tolist()
    [['CE', 0, 1.0], ['CE', 1, 1.0], ['LA', 0, 1.0], ['LA', 1, 1.0]]
    """
    y = np.asarray(labels)
    if features.ndim != 2 or y.shape != features.shape[:1]:
        raise CausalFTError(
            f"features {features.shape} and labels {y.shape} do not agree; give (n, d) and (n,)"
        )
    counts = np.bincount(y) if class_counts is None else np.asarray(class_counts)
    for what, chosen in (("loss", losses), ("seed", seeds), ("head", heads)):
        if not len(chosen) or len(set(chosen)) != len(chosen):
            raise CausalFTError(f"give at least one {what}, and each once")
    plan = recipe or Recipe(epochs=10, batch_size=128, lr=0.01)
    rates = tuple(learning_rates) or (plan.lr,)
    if start is None:
        start = class_means(features, y, len(counts))
    first = torch.as_tensor(start.detach().cpu() if isinstance(start, Tensor) else np.asarray(start)).float()
    if first.shape != (len(counts), features.shape[1]):
        raise CausalFTError(
            f"the heads start from {tuple(first.shape)}, {(len(counts), features.shape[1])} is needed"
        )
    take = _taker(features)
    target = torch.from_numpy(y.astype(np.int64))
    order = make_sampler(sampler, y)
    seen = expected_counts(sampler, counts)

    def criterion_of(loss: str) -> Criterion:
        """A loss of its own for each head: some learn weights."""
        given = (loss_settings or {}).get(loss, {})
        return make_loss(loss, seen, model_log_prior=model_log_prior, **given)

    for loss in losses:
        criterion_of(loss)  # refuses before anything is trained
    rows: list[dict[str, Any]] = []
    kept: dict[tuple[str, str, float, int], nn.Module] = {}
    combinations = list(product(heads, losses, rates, seeds))
    for kind, loss, lr, seed in steps(
        combinations, "sweeping heads", len(combinations), unit="head", progress=progress
    ):
        head, criterion = make_head(kind, first, scale=scale), criterion_of(loss)

        def batch_loss(
            model: nn.Module,
            indices: Tensor,
            generator: torch.Generator,
            criterion: Criterion = criterion,
        ) -> Tensor:
            return criterion(model(take(indices)), target[indices])

        # Uniform needs no sampler: the loop's own order visits each sample once.
        options: dict[str, Any] = {} if order is None else {"sampler": order}
        history = train(
            head,
            len(y),
            batch_loss,
            replace(plan, lr=lr, seed=seed),
            label=f"{kind} head, {loss}, seed {seed}",
            progress=False,
            **options,
        )
        head.eval()
        row = dict(zip(_CHOICES, (kind, loss, lr, seed)))
        row |= {"train_loss": history.losses[-1], "seconds": history.seconds}
        for name, (x, truth) in (evaluate or {}).items():
            row |= {f"{name}_{key}": value for key, value in _scores(head, x, truth, counts).items()}
        rows.append(row)
        if keep_heads:
            kept[(kind, loss, lr, seed)] = head.requires_grad_(False)
    return Sweep(pd.DataFrame(rows), kept)


def head_logits(head: nn.Module, features: NDArray[np.floating], rows: int = 8192) -> NDArray[np.float64]:
    """Logits of a head on features (n, d), or the mean over the views of (n_views, n, d); shape (n, K).

    Parameters
    ----------
    head : torch.nn.Module
    features : array
        Read in parts; may be memory-mapped.
    rows : int
        Rows at a time.
    """
    views = features[None] if features.ndim == 2 else features
    found = []
    with torch.inference_mode():
        for start in range(0, views.shape[1], rows):
            part = np.array(views[:, start : start + rows], dtype=np.float32)
            logits = head(torch.from_numpy(part).flatten(0, 1)).double()
            found.append(logits.unflatten(0, part.shape[:2]).mean(dim=0))
    return torch.cat(found).numpy()


def _taker(features: NDArray[np.floating]) -> Callable[[Tensor], Tensor]:
    """Rows by index: from one copy in memory, or from the memory map if that would be large."""
    if features.size * 4 <= _KEPT_BYTES:
        copied = torch.from_numpy(np.array(features, dtype=np.float32))
        return lambda indices: copied[indices]
    return lambda indices: torch.from_numpy(features[indices.numpy()].astype(np.float32, copy=False))


def _scores(
    head: nn.Module, features: NDArray[np.floating], labels: ArrayLike, counts: NDArray[Any]
) -> dict[str, float | None]:
    truth = np.asarray(labels)
    if len(truth) != features.shape[-2]:
        raise CausalFTError(f"{features.shape[-2]} features but {len(truth)} labels to evaluate on")
    logits = head_logits(head, features)
    correct = logits.argmax(axis=1) == truth
    of_label = log_softmax(logits, axis=1)[np.arange(len(truth)), truth]
    per_class = class_accuracy(correct, truth, len(counts))
    return {
        "n": len(truth),
        "accuracy": float(correct.mean()),
        "balanced_accuracy": float(np.nanmean(per_class)),
        **group_accuracy(per_class, data_groups(counts)),
        "nll": -float(of_label.mean()),
        "balanced_nll": -float(np.average(of_label, weights=balancing_weights(truth, len(counts)))),
    }
