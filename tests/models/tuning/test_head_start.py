"""Where a head starts: class means by hand, exactly k shots, and scikit-learn's probe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from causalft.errors import CausalFTError
from causalft.models.tuning.heads import class_means, k_shot, make_head, probe_weights
from causalft.models.tuning.heads import start as head_start


def clouds(seed=0, counts=(60, 25, 8, 3), d=12, noise=0.6):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(counts)), counts)
    X = rng.normal(size=(len(counts), d))[y] + noise * rng.normal(size=(len(y), d))
    order = rng.permutation(len(y))
    return X[order].astype(np.float32), y[order]


def test_class_means_are_unit_means_of_unit_features():
    X, y = clouds()
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    expected = np.stack([unit[y == k].mean(0) for k in range(4)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = class_means(X, y, 4)
    assert found.dtype == torch.float32 and np.allclose(found, expected, atol=1e-6)
    assert torch.equal(found, class_means(torch.from_numpy(X), torch.from_numpy(y), 4))


def test_reading_in_parts_and_read_only_files_gives_equal_results(tmp_path, monkeypatch):
    X, y = clouds()
    np.save(tmp_path / "features.npy", X)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    whole = class_means(X, y, 4), k_shot(X, y, 4, 2, 0), probe_weights(X, y, 4)
    monkeypatch.setattr(head_start, "_ROWS", 7)
    parts = class_means(mapped, y, 4), k_shot(mapped, y, 4, 2, 0), probe_weights(mapped, y, 4)
    for one, other, tolerance in zip(whole, parts, (1e-6, 1e-6, 1e-2)):
        assert torch.allclose(one, other, atol=tolerance)


@pytest.mark.parametrize("k", [1, 5, 100])
def test_k_shot_takes_k_of_each_class_or_all_it_has(k):
    """Features are one-hot, so that a class's start shows which images went into it: k equal entries."""
    counts = (60, 25, 8, 3)
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(4), counts))
    start = k_shot(np.eye(len(y), dtype=np.float32), y, 4, k, seed=3)
    for label, count in enumerate(counts):
        used = start[label].nonzero().flatten().numpy()
        assert len(used) == min(k, count) and (y[used] == label).all()
        assert torch.allclose(start[label][used], torch.tensor(1 / min(k, count) ** 0.5))


def test_k_shot_is_drawn_by_the_seed_alone():
    X, y = clouds()
    first, again, other = (k_shot(X, y, 4, 1, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.allclose(first, other)
    assert torch.equal(first, k_shot(torch.from_numpy(X), y, 4, 1, 0))
    assert torch.allclose(k_shot(X, y, 4, 60, 5), class_means(X, y, 4))


def test_every_image_of_a_class_is_drawn_equally_often():
    y, drawn = np.zeros(5, dtype=int), torch.zeros(5)
    y[4] = 1
    for seed in range(2000):
        drawn += k_shot(np.eye(5, dtype=np.float32), y, 2, 1, seed)[0]
    assert drawn[4] == 0 and torch.allclose(drawn[:4] / 2000, torch.full((4,), 0.25), atol=0.04)


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("C", [1.0, 30.0])
def test_the_probe_is_the_logistic_regression_of_scikit_learn(balanced, C):
    X, y = clouds(noise=1.5)
    options = {"C": C, "fit_intercept": False, "class_weight": "balanced" if balanced else None}
    known = LogisticRegression(**options, max_iter=5000, tol=1e-10).fit(normalize(X.astype(float)), y)
    found = probe_weights(X, y, 4, C=C, balanced=balanced, scale=25.0)
    assert np.allclose(25 * found.numpy(), known.coef_, atol=5e-3 * np.abs(known.coef_).max())


def test_l2_head_starts_as_the_probe_for_any_scale():
    X, y = clouds(noise=1.5)
    options = {"C": 30.0, "fit_intercept": False, "class_weight": "balanced"}
    known = LogisticRegression(**options, max_iter=5000, tol=1e-10).fit(normalize(X.astype(float)), y)
    for scale in (5.0, 25.0):
        head = make_head("l2", probe_weights(X, y, 4, C=30.0, scale=scale), scale=scale)
        with torch.no_grad():
            probabilities = head(torch.from_numpy(X)).softmax(1).numpy()
        assert np.allclose(probabilities, known.predict_proba(normalize(X.astype(float))), atol=5e-3)


def test_balanced_probe_removes_the_long_tail():
    """One feature for all: nothing to tell the classes apart but their counts."""
    X, y = np.ones((100, 3), dtype=np.float32), np.repeat([0, 1], [90, 10])
    leaning = probe_weights(X, y, 2, balanced=False).sum(1)
    level = probe_weights(X, y, 2, balanced=True).sum(1)
    assert leaning[0] - leaning[1] > 0.1 and abs(level[0] - level[1]) < 1e-3


@pytest.mark.parametrize("start", [class_means, lambda *a, **o: k_shot(*a, 1, 0, **o), probe_weights])
def test_classes_without_an_image_are_named(start):
    X, y = clouds(counts=(5, 5))
    with pytest.raises(CausalFTError, match=r"4 of 6 classes have no image .*\(2, 3, 4, \.\.\.\)"):
        start(X, y, 6)
    names = ["ant", "bee", "cow"]
    with pytest.raises(CausalFTError, match=r"1 of 3 classes .*\('cow'\); add images or start from text"):
        start(X, y, 3, class_names=names)
    with pytest.raises(CausalFTError, match="labels must be integers from 0 to 0"):
        start(X, y, 1)
    with pytest.raises(CausalFTError, match=r"shape \(10, 12\) and labels of shape \(9,\)"):
        start(X, y[:9], 2)


def test_bad_settings_are_refused():
    X, y = clouds(counts=(5, 5))
    with pytest.raises(CausalFTError, match="k = 1 or more"):
        k_shot(X, y, 2, 0, 0)
    with pytest.raises(CausalFTError, match="C of the linear probe is 0"):
        probe_weights(X, y, 2, C=0)


@pytest.mark.parametrize("start", [class_means, lambda *a: k_shot(*a, 5, 0), probe_weights])
def test_a_feature_that_is_not_finite_is_named(start):
    X, y = clouds(counts=(5, 5))
    X[7, 2] = np.nan
    with pytest.raises(CausalFTError, match="feature of image 7 is not finite"):
        start(X, y, 2)
