"""predictions.parquet: all classes of a few, the most likely of many, the same rows whatever the blocks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalft.data.image_set import ImageSet
from causalft.data.splits import Splits
from causalft.methods.estimators import stored_logits
from causalft.methods.estimators.member import MemberPrediction
from causalft.methods.estimators.mixing import Mixing
from causalft.methods.estimators.stored_logits import as_kept
from causalft.methods.priors import PriorEstimate
from causalft.pipelines.workflows import fit_predictions
from causalft.pipelines.workflows.fit_predictions import write_predictions
from causalft.pipelines.workflows.prediction_files import most_likely
from causalft.runs.folder import Run

MIXING = Mixing("mixture", (0.5, 0.5), 0.8)


def members_of(n: int, n_classes: int) -> dict[str, MemberPrediction]:
    rng = np.random.default_rng(0)
    prior = PriorEstimate(np.full(n_classes, 1 / n_classes), 0.0, True, 1)
    logits = [as_kept(rng.normal(size=(n, n_classes)) * 3) for _ in range(2)]
    nothing = np.empty((0, n_classes))
    return {
        name: MemberPrediction(
            name, nothing, nothing, nothing, each, prior, None, "0" * 64, "made", 0.1, 7, 1.0
        )
        for name, each in zip(("clip", "openclip"), logits)
    }


def written(tmp_path, n_classes: int, **options) -> tuple[pd.DataFrame, np.ndarray, Splits]:
    n = 23
    labels = np.arange(n) % n_classes
    names = [f"kind {k:04d}" for k in range(n_classes)]
    images = ImageSet.from_arrays(np.zeros((n, 2, 2, 3), np.uint8), labels, names)
    run = Run.create(tmp_path / "run", kind="fit", config={})
    members = members_of(n, n_classes)
    splits = Splits(images, images, images)
    write_predictions(run, splits, members, MIXING, **options)
    fused = MIXING([found.test_logits for found in members.values()], kind="logits")
    return pd.read_parquet(run.path / "predictions.parquet"), fused, splits


@pytest.mark.parametrize("block", [131_072, 900])
def test_up_to_200_classes_every_probability_is_kept(tmp_path, monkeypatch, block: int) -> None:
    monkeypatch.setattr(stored_logits, "_BLOCK", block)
    monkeypatch.setattr(fit_predictions, "_NUMBERS", 1000)  # several row groups
    table, fused, splits = written(tmp_path, 200, top=3)
    assert list(table) == [
        "file", "label", "prediction", "probability", "clip_prediction", "clip_probability", "openclip_prediction",
        "openclip_probability", "probabilities",
    ]  # fmt: skip
    names = np.asarray(splits.class_names)
    assert table["file"].tolist() == splits.test.files
    assert table["label"].tolist() == names[splits.test.labels].tolist()
    assert table["prediction"].tolist() == names[fused.argmax(1)].tolist()
    np.testing.assert_allclose(table["probability"], fused.max(1))
    np.testing.assert_allclose(np.stack(table["probabilities"]), fused, atol=1e-7)


def test_of_many_classes_the_most_likely_and_the_label_are_kept(tmp_path) -> None:
    table, fused, splits = written(tmp_path, 201)
    assert "probabilities" not in table
    names, labels = np.asarray(splits.class_names), splits.test.labels
    np.testing.assert_allclose(table["label_probability"], fused[np.arange(len(labels)), labels])
    order = np.argsort(-fused, axis=1)[:, :5]
    assert np.stack(table["top_classes"]).tolist() == names[order].tolist()
    np.testing.assert_allclose(
        np.stack(table["top_probabilities"]), np.take_along_axis(fused, order, axis=1), rtol=1e-6
    )
    assert [row[0] for row in table["top_classes"]] == table["prediction"].tolist()


def test_all_probabilities_of_many_classes_are_kept_if_asked_for(tmp_path) -> None:
    table, fused, _ = written(tmp_path, 201, all_probabilities=True)
    assert "top_classes" not in table
    np.testing.assert_allclose(np.stack(table["probabilities"]), fused, atol=1e-7)


def test_more_than_there_are_is_all(tmp_path) -> None:
    table, fused, _ = written(tmp_path, 201, top=1000)
    assert {len(row) for row in table["top_classes"]} == {201}
    np.testing.assert_allclose([row.sum() for row in table["top_probabilities"]], 1, rtol=1e-5)


def test_most_likely_takes_the_lower_class_of_a_tie() -> None:
    assert most_likely(np.array([[0.2, 0.3, 0.2, 0.3]]), 3)[0, :2].tolist() == [1, 3]
    assert most_likely(np.array([[0.25, 0.25, 0.25, 0.25]]), 4).tolist() == [[0, 1, 2, 3]]
