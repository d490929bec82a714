"""Unlabelled images that do not follow the law that a strength is chosen for are noticed, and others are not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from causalft.methods.estimators.mixing import fit_mixing
from causalft.pipelines.workflows.semi import law_note

K = 12
UNIFORM = np.full(K, 1 / K)
TAIL = 30.0 ** (-np.arange(K) / (K - 1))
TAIL = TAIL / TAIL.sum()


def draw(law: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Labels of that law, and logits of two strata that know them only in part."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(K, n, p=law)
    return labels, [2.5 * np.eye(K)[labels] + rng.normal(size=(n, K)) for _ in range(2)]


def note(of_images: np.ndarray, target: np.ndarray | None) -> str:
    labels, validation = draw(UNIFORM, 600, 0)
    _, unlabelled = draw(of_images, 4000, 1)
    splits: Any = SimpleNamespace(
        validation=SimpleNamespace(labels=labels),
        train=SimpleNamespace(class_counts=np.rint(300 * TAIL).astype(int) + 1),
    )
    members: Any = {f"s{i}": [SimpleNamespace(validation_logits=validation[i])] for i in range(2)}
    seen = {f"s{i}": [unlabelled[i]] for i in range(2)}
    return law_note(
        splits, members, seen, fit_mixing(validation, labels, fusion="product", kind="logits"), target
    )


@pytest.mark.parametrize(("law", "target"), [(UNIFORM, None), (TAIL, TAIL)])
def test_images_that_follow_the_law_are_passed_over(law: np.ndarray, target: np.ndarray | None) -> None:
    assert note(law, target) == ""


def test_a_long_tail_is_not_every_class_alike_nor_the_reverse() -> None:
    assert "do not seem to follow every class alike" in note(TAIL, None)
    found = note(UNIFORM, TAIL)
    assert "do not seem to follow the target law" in found and "--target-law" in found
