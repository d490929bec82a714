"""A teacher that sees what the student sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from causalft.data.image_set import ImageSet
from causalft.methods.adaptation.distill import Lessons, tune_student
from causalft.methods.adaptation.same_view import same_view
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tune import start_of_head
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.models.features.encoder import Crops
from causalft.models.strata.zoo import open_zoo

KINDS = ("ant", "bee", "cow", "doe")
QUICK = Tuning(
    epochs=2,
    lr=3e-3,
    batch_size=16,
    tuner="full",
    weight_decay=0.05,
    precision="fp32",
    augmentation="crop-flip",
)


@pytest.fixture(scope="module")
def strata(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    return [zoo.load(name) for name in zoo.names()[:2]]


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    return ImageSet.from_arrays(rng.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8), labels, KINDS)


def tuned(stratum, images, tuning=QUICK):
    crops = Crops(images, stratum, progress=False)
    return TunedStratum(stratum, start_of_head(stratum, crops, KINDS, tuning), tuning)


def mean(logits):
    return softmax(logits, axis=2).mean(axis=0)


def lessons_of(train, more, **options):
    """Each answer of the teacher to an image as it is, is that every class is as likely."""
    return Lessons(
        np.full((len(train), 4), 0.25),
        None if more is None else more.align_classes(KINDS),
        None if more is None else np.full((len(more), 4), 0.25),
        **options,
    )


def test_answers_are_the_fused_predictions_of_the_augmented_images(strata, images):
    members = [tuned(stratum, images) for stratum in strata]
    rows = torch.tensor([5, 0, 31])
    answers = same_view(members, mean)(images)
    logits = [
        member.logits(Crops(images, member.stratum, progress=False))[rows.numpy()] for member in members
    ]
    assert answers(rows, lambda pictures: pictures) == pytest.approx(mean(np.stack(logits)), abs=1e-5)
    mirrored = ImageSet.from_arrays(
        np.stack([np.asarray(images.image(i)) for i in range(40)])[:, :, ::-1].copy(), images.labels, KINDS
    )
    expected = [
        member.logits(Crops(mirrored, member.stratum, progress=False))[rows.numpy()] for member in members
    ]
    assert answers(rows, lambda pictures: pictures.flip(-1)) == pytest.approx(
        mean(np.stack(expected)), abs=1e-4
    )


@pytest.mark.parametrize("augmentation", ["none", "crop-flip", "growing-crop"])
def test_the_teacher_is_shown_the_very_pictures_that_enter_the_student(
    strata, images, monkeypatch, augmentation
):
    train, more = images.subset(np.arange(24)), images.subset(np.arange(24, 40))
    entered, asked = [], []

    def teacher(of):
        crops = Crops(of, strata[0], progress=False)

        def answers(rows, augment):
            asked.append(augment(strata[0].normalise(crops[rows])))
            return np.full((len(rows), 4), 0.25)

        return answers

    usual = TunedStratum.forward

    def forward(self, tokens):
        entered.append(tokens.detach().clone())
        return usual(self, tokens)

    monkeypatch.setattr(TunedStratum, "forward", forward)
    crops = Crops(train, strata[0], progress=False)
    tuning = replace(QUICK, augmentation=augmentation)
    lessons = lessons_of(train, more, same_view=teacher)
    tune_student(strata[0], crops, KINDS, tuning, lessons, progress=False)
    seen = torch.cat(entered)
    if augmentation == "none":  # the answers to the images as they are serve
        assert asked == [] and len(seen) == 80
        return
    assert torch.equal(torch.cat(asked), seen)
    whole = strata[0].normalise(Crops(images, strata[0], progress=False)[torch.arange(40)])
    assert all((picture != whole).flatten(1).any(1).all() for picture in seen)


def test_a_student_of_the_labels_alone_asks_no_teacher(strata, images):
    def never(of):
        raise AssertionError("nobody is to be asked")

    lessons = lessons_of(images, None, label_weight=1.0, same_view=never)
    crops = Crops(images, strata[0], progress=False)
    tune_student(strata[0], crops, KINDS, QUICK, lessons, progress=False)


def test_interrupted_training_resumes_to_the_same_student(strata, images, tmp_path):
    train, more = images.subset(np.arange(24)), images.subset(np.arange(24, 40))
    members = [tuned(stratum, images) for stratum in strata]
    left = [4]

    def breaking(logits):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return mean(logits)

    def student(fuse, **options):
        lessons = lessons_of(train, more, same_view=same_view(members, fuse))
        crops = Crops(train, strata[0], progress=False)
        return tune_student(strata[0], crops, KINDS, QUICK, lessons, progress=False, **options)[0]

    whole = student(mean).trained_state()
    checkpoint = tmp_path / "checkpoint.safetensors"
    left[0] = 8  # two sets in each of three steps: in the second epoch
    with pytest.raises(KeyboardInterrupt):
        student(breaking, checkpoint=checkpoint)
    assert checkpoint.exists()
    resumed = student(mean, checkpoint=checkpoint).trained_state()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
