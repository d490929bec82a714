"""FeatureKNN: scikit-learn's contract, neighbours found by hand, and memory that does not grow with the test set."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from causalft.data.groups import class_accuracy, data_groups, group_accuracy
from causalft.errors import CausalFTError
from causalft.methods.estimators.probes import FeatureKNN


@parametrize_with_checks([FeatureKNN(), FeatureKNN(5, weights="uniform")])
def test_the_whole_contract_of_scikit_learn(estimator, check):
    check(estimator)


def clouds(n=300, d=6, n_classes=4, seed=0, noise=0.9):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    centres = np.random.default_rng(99).normal(size=(n_classes, d))
    X = centres[y] + noise * rng.normal(size=(n, d))
    return X * rng.uniform(0.1, 10, (n, 1)), y  # lengths must not matter


def by_hand(X, y, Z, k, temperature=None):
    X, Z = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (X, Z))
    cosine = Z @ X.T
    votes = np.zeros((len(Z), y.max() + 1))
    for i, row in enumerate(cosine):
        for j in np.argsort(-row)[:k]:
            votes[i, y[j]] += 1 if temperature is None else np.exp(row[j] / temperature)
    return votes / votes.sum(1, keepdims=True)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_votes_by_hand(k):
    (X, y), (Z, _) = clouds(), clouds(n=40, seed=1)
    soft = FeatureKNN(k, temperature=0.2).fit(X, y)
    hard = FeatureKNN(k, weights="uniform").fit(X, y)
    assert np.allclose(soft.predict_proba(Z), by_hand(X, y, Z, k, 0.2))
    assert np.allclose(hard.predict_proba(Z), by_hand(X, y, Z, k))
    assert np.array_equal(soft.predict(Z), by_hand(X, y, Z, k, 0.2).argmax(1))


def test_uniform_votes_are_the_cosine_neighbours_of_scikit_learn():
    (X, y), (Z, _) = clouds(), clouds(n=40, seed=1)
    known = KNeighborsClassifier(5, metric="cosine").fit(X, y)
    ours = FeatureKNN(5, weights="uniform").fit(X, y)
    assert np.array_equal(ours.predict(Z), known.predict(Z))


@pytest.mark.parametrize("weights", ["uniform", "softmax"])
def test_the_length_of_a_feature_and_the_size_of_a_chunk_change_nothing(weights):
    (X, y), (Z, _) = clouds(), clouds(n=41, seed=1)
    model = FeatureKNN(7, weights=weights).fit(X, y)
    small = clone(model).set_params(chunk_size=8).fit(3 * X, y)
    assert np.allclose(model.predict_proba(Z), small.predict_proba(Z / 5))
    assert np.array_equal(model.predict(Z), small.predict(Z))


def test_a_sharp_temperature_is_the_nearest_neighbour_and_does_not_underflow():
    (X, y), (Z, _) = clouds(), clouds(n=40, seed=1)
    sharp = FeatureKNN(20, temperature=1e-6).fit(X, y)
    nearest = FeatureKNN(1).fit(X, y)
    assert np.array_equal(sharp.predict(Z), nearest.predict(Z))
    assert np.isfinite(sharp.predict_proba(Z)).all()


def test_a_small_training_set_votes_as_a_whole():
    X, y = clouds(n=7)
    model = FeatureKNN(20, weights="uniform").fit(X, y)
    assert model.n_neighbors_ == 7
    assert np.allclose(
        model.predict_proba(X), np.bincount(y, minlength=len(model.classes_))[model.classes_] / 7
    )


def test_memory_does_not_grow_with_the_test_set():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 8)).astype(np.float32), rng.integers(0, 200, 400)
    model = FeatureKNN(5, chunk_size=64).fit(X, y)

    def peak(n):
        Z = rng.normal(size=(n, 8)).astype(np.float32)
        model.predict(Z[:64])
        tracemalloc.start()
        model.predict(Z)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    # the votes of all 6,400 rows at once would be 10 MB
    assert peak(6400) < peak(640) + 500_000


def test_accuracy_by_d_group():
    """Good features of a rare class are found; features of it that lie in a frequent class are not."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [150, 10, 10])
    apart, mixed = np.eye(6)[[0, 1, 2]], np.eye(6)[[0, 0, 2]]
    test_y = np.repeat([0, 1, 2], 20)
    found = {}
    for name, centres in (("apart", apart), ("mixed", mixed)):
        model = FeatureKNN(5).fit(centres[y] + 0.05 * rng.normal(size=(170, 6)), y)
        correct = model.predict(centres[test_y] + 0.05 * rng.normal(size=(60, 6))) == test_y
        found[name] = group_accuracy(class_accuracy(correct, test_y, 3), data_groups(np.bincount(y)))
    assert found["apart"] == {"many": 1.0, "medium": None, "few": 1.0}
    assert found["mixed"]["few"] < 0.7 < 0.9 < found["mixed"]["many"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_neighbors": 0}, "n_neighbors is 0"),
        ({"n_neighbors": 2.5}, "n_neighbors is 2.5"),
        ({"chunk_size": 0}, "chunk_size is 0"),
        ({"weights": "softmx"}, "weights='softmx' is unknown; did you mean 'softmax'"),
        ({"temperature": 0}, "temperature is 0"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(CausalFTError, match=message):
        FeatureKNN(**options).fit(*clouds(n=20))


@pytest.mark.parametrize("weights", ["uniform", "softmax"])
def test_one_search_gives_what_models_of_each_size_give(weights):
    X, y = clouds()
    X_new, _ = clouds(seed=1)
    model = FeatureKNN(20, weights=weights, chunk_size=70).fit(X, y)
    found = model.predict_each(X_new, [1, 5, 20])
    for k, predicted in found.items():
        assert np.array_equal(predicted, FeatureKNN(k, weights=weights).fit(X, y).predict(X_new))
    assert not np.array_equal(found[1], found[20])
    with pytest.raises(CausalFTError, match="21 neighbours were asked for; give 1 to 20"):
        model.predict_each(X_new, [5, 21])


def test_more_neighbours_than_training_rows_are_refused():
    X, y = clouds(n=7)
    model = FeatureKNN(20).fit(X, y)
    assert model.predict_each(X, [7]).keys() == {7}
    with pytest.raises(
        CausalFTError, match="8 neighbours were asked for; give 1 to 7, the number of training rows"
    ):
        model.predict_each(X, [5, 8])
