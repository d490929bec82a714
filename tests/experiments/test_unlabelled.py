"""Images of no split: never one of the training images, and asked about once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.frame import unlabelled
from experiments.frame.members import Member


class Images:
    """File names, and which of them were taken."""

    def __init__(self, files: list[str]) -> None:
        self.files, self.fingerprint = files, " ".join(files)

    def __len__(self) -> int:
        return len(self.files)

    def subset(self, rows: Any) -> Images:
        return Images([self.files[row] for row in rows])


def photo_lab(n: int = 1000, used: int = 100) -> Any:
    pool = Images([f"{i}.png" for i in range(n)])
    splits = SimpleNamespace(train=pool.subset(range(used)), validation=Images(["v.png"]))
    world = SimpleNamespace(
        settings=SimpleNamespace(data="photos"),
        balanced=SimpleNamespace(train=pool),
        splits=lambda seed, draw=None: splits,
    )
    return SimpleNamespace(
        world=world, quick=True, folder=lambda member, seed: Path(f"{member.label}-{seed}")
    )


def test_photographs_without_labels_are_those_that_the_long_tail_left_out() -> None:
    lab = photo_lab()
    found = [unlabelled.unlabelled(lab, seed) for seed in (0, 0, 1)]
    assert all(len(set(images.files)) == 400 for images in found)
    assert found[0].files == found[1].files != found[2].files
    assert not set(found[0].files) & {f"{i}.png" for i in range(100)}
    assert len(unlabelled.unlabelled(lab, 0, times=2.0)) == 800


def test_a_strength_is_never_chosen_on_what_a_long_tail_left_out() -> None:
    """These images follow the reverse tail, and a strength is chosen for every class alike."""
    lab = photo_lab()
    images, which = unlabelled.images_without_labels(lab, 0)
    assert images is lab.world.splits(0).validation and which == "of validation"
    lab.world.settings.data = "creatures-lt"
    images, which = unlabelled.images_without_labels(lab, 0)
    counts = np.bincount(images.labels)
    assert which == "in no split" and len(images) == 400 and counts.max() - counts.min() <= 1


def test_members_answer_once_for_the_images_that_several_rules_ask_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def tuned(member: Member, seed: int) -> Any:
        def logits(crops: Any) -> Any:
            asked.append(f"{member.label} {seed}")
            return np.full((len(crops), 3), len(asked), np.float32)

        return None, SimpleNamespace(logits=logits, stratum=None)

    monkeypatch.setattr("causalft.models.features.encoder.Crops", lambda images, stratum: images)
    lab = photo_lab()
    lab.tuned = tuned
    members = (Member("clip"), Member("openclip"))
    images = unlabelled.unlabelled(lab, 0)
    first, again = (unlabelled.logits_of(lab, members, 0, images) for _ in range(2))
    assert first.shape == (2, 400, 3) and np.array_equal(first, again)
    assert asked == ["clip-LA 0", "openclip-LA 0"]
    other = unlabelled.unlabelled(lab, 0, times=0.5)
    for asked_again in (other, images, other):  # students of one teacher ask about both in turn
        unlabelled.logits_of(lab, members, 0, asked_again)
    assert asked[2:] == ["clip-LA 0", "openclip-LA 0"]
    unlabelled.logits_of(lab, members, 1, other)
    assert {key[1] for key in unlabelled._LOGITS} == {1}
    unlabelled._LOGITS.clear()
