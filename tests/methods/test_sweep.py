"""A sweep of heads is what the same trainings one by one are, and the losses do in it what they are for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import log_loss

from causalft.errors import CausalFTError
from causalft.methods.estimators.probes import head_logits, sweep_heads
from causalft.models.features.cache import FeatureCache
from causalft.models.tuning.heads import class_means, make_head
from causalft.models.tuning.losses import make_loss
from causalft.models.tuning.samplers import expected_counts
from causalft.models.tuning.train import Recipe, train

RECIPE = Recipe(epochs=4, batch_size=32, lr=0.1)
COUNTS = (200, 60, 12)


def clouds(counts, seed, spread=0.9):
    """Overlapping clouds around three axes, as unit rows."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), counts)
    x = np.eye(3, 8)[labels] + rng.normal(0, spread, (len(labels), 8))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


@pytest.fixture(scope="module")
def train_set():
    return clouds(COUNTS, 0)


@pytest.fixture(scope="module")
def test_set():
    return clouds((300, 300, 300), 1)


@pytest.fixture(scope="module")
def sweep(train_set, test_set):
    return sweep_heads(
        *train_set,
        losses=["CE", "LA"],
        seeds=[0, 1, 2],
        heads=["cosine", "linear"],
        recipe=RECIPE,
        evaluate={"test": test_set},
        keep_heads=True,
        progress=False,
    )


def test_every_combination_equals_a_separate_training(sweep, train_set):
    features, labels = train_set
    assert len(sweep.table) == len(sweep.heads) == 12
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    for (kind, loss, lr, seed), found in sweep.heads.items():
        head, criterion = make_head(kind, class_means(features, labels, 3)), make_loss(loss, COUNTS)
        recipe = Recipe(epochs=4, batch_size=32, lr=lr, seed=seed)
        train(head, len(y), lambda m, i, g, c=criterion: c(m(x[i]), y[i]), recipe, progress=False)
        for name, value in head.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], value, rtol=0, atol=0)


def test_scores_are_those_of_the_logits(sweep, test_set):
    features, labels = test_set
    for _, row in sweep.table.iterrows():
        logits = head_logits(sweep.heads[(row["head"], row["loss"], row["lr"], row["seed"])], features)
        correct = logits.argmax(1) == labels
        assert row["test_accuracy"] == pytest.approx(correct.mean())
        assert row["test_nll"] == pytest.approx(log_loss(labels, softmax(logits, axis=1)))
        # 200 training images are many, 60 medium, 12 few
        for k, group in enumerate(("many", "medium", "few")):
            assert row[f"test_{group}"] == pytest.approx(correct[labels == k].mean())
        assert row["test_n"] == 900


def test_logit_adjustment_helps_the_few_at_the_cost_of_the_many(sweep):
    few = sweep.summary("test_few").set_index(["head", "loss"])["mean"]
    many = sweep.summary("test_many").set_index(["head", "loss"])["mean"]
    for head in ("cosine", "linear"):
        assert few[head, "LA"] > few[head, "CE"] + 0.05 and many[head, "LA"] < many[head, "CE"]


def test_the_summary_is_a_t_interval_over_seeds(sweep):
    best = sweep.summary("test_accuracy").iloc[0]
    chosen = sweep.table[(sweep.table["head"] == best["head"]) & (sweep.table["loss"] == best["loss"])]
    values = chosen["test_accuracy"]
    half = 4.302653 * values.std(ddof=1) / np.sqrt(3)  # t of 2 degrees of freedom at 97.5 %
    assert best["mean"] == pytest.approx(values.mean())
    assert (best["low"], best["high"]) == (
        pytest.approx(values.mean() - half),
        pytest.approx(values.mean() + half),
    )
    with pytest.raises(CausalFTError, match="no column 'acc'"):
        sweep.summary("acc")


def test_a_memory_mapped_array_of_the_cache_gives_the_same(train_set, tmp_path, monkeypatch):
    features, labels = train_set
    mapped = FeatureCache(tmp_path).array({}, len(features), lambda start: [features[start:]])
    options = {"recipe": RECIPE, "keep_heads": True, "progress": False}
    kept = sweep_heads(mapped, labels, **options).heads
    monkeypatch.setattr("causalft.methods.estimators.probes._KEPT_BYTES", 0)
    read = sweep_heads(mapped, labels, **options).heads
    for key, head in sweep_heads(features, labels, **options).heads.items():
        assert torch.equal(head.weight, kept[key].weight) and torch.equal(head.weight, read[key].weight)


def test_views_are_averaged_over_logits(sweep, test_set):
    features, _ = test_set
    head = sweep.heads["linear", "LA", 0.1, 0]
    views = np.stack([features, features[:, ::-1]])
    found = head_logits(head, views, rows=100)
    expected = (head_logits(head, features) + head_logits(head, features[:, ::-1])) / 2
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_start_rates_sampler_and_prior_reach_the_training(train_set):
    features, labels = train_set
    still = sweep_heads(
        features,
        labels,
        losses=["LA", "GLA-Train"],
        learning_rates=[1e-12, 0.5],
        start=np.eye(3, 8),
        sampler="class-balanced",
        model_log_prior=np.log([0.8, 0.1, 0.1]),
        recipe=Recipe(epochs=1, batch_size=64, lr=9.0, weight_decay=0.0),
        keep_heads=True,
        progress=False,
    )
    assert still.table["lr"].tolist() == [1e-12, 0.5] * 2
    np.testing.assert_allclose(still.heads["cosine", "LA", 1e-12, 0].weight, np.eye(3, 8), atol=1e-6)
    assert not np.allclose(still.heads["cosine", "LA", 0.5, 0].weight, np.eye(3, 8), atol=1e-3)
    losses = still.table.set_index(["loss", "lr"])["train_loss"]
    assert losses["LA", 1e-12] != pytest.approx(losses["GLA-Train", 1e-12], abs=1e-3)
    # The sampler shows the classes alike, and LA is told so: of an untrained head its loss is then that of CE.
    np.testing.assert_allclose(expected_counts("class-balanced", COUNTS), np.mean(COUNTS))
    plain = sweep_heads(
        features,
        labels,
        losses=["CE"],
        learning_rates=[1e-12],
        start=np.eye(3, 8),
        sampler="class-balanced",
        recipe=Recipe(epochs=1, batch_size=64, lr=9.0, weight_decay=0.0),
        progress=False,
    )
    assert plain.table["train_loss"][0] == pytest.approx(losses["LA", 1e-12], abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(3, int)}, "do not agree"),
        ({"losses": ["CE", "CE"]}, "at least one loss, and each once"),
        ({"seeds": []}, "at least one seed"),
        ({"losses": ["LL"]}, "no loss is named 'LL'"),
        ({"heads": ["cosin"]}, "did you mean 'cosine'"),
        ({"start": np.eye(3)}, r"start from \(3, 3\), \(3, 8\) is needed"),
        ({"evaluate": {"test": (np.ones((2, 8)), [0])}}, "2 features but 1 labels"),
    ],
)
def test_inputs_that_do_not_agree_are_refused(train_set, change, message):
    options = {"features": train_set[0], "labels": train_set[1], "recipe": RECIPE, "progress": False}
    with pytest.raises(CausalFTError, match=message):
        sweep_heads(**{**options, **change})
