"""A student: its loss against closed forms, what an epoch shows, and a training that resumes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError
from causalft.methods.adaptation import distill
from causalft.methods.adaptation.distill import Lessons, distillation_loss, shown_counts, tune_student
from causalft.methods.adaptation.settings import Tuning
from causalft.models.features.encoder import Crops
from causalft.models.strata.zoo import open_zoo
from causalft.models.tuning.losses import make_loss

KINDS = ("ant", "bee", "cow", "doe")
QUICK = Tuning(epochs=2, lr=3e-3, batch_size=16, tuner="full", weight_decay=0.05, precision="fp32")


def random_batch(seed, n=6, n_classes=4):
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(size=(n, n_classes)), dtype=torch.float32)
    targets = torch.tensor(rng.dirichlet(np.ones(n_classes), n), dtype=torch.float32)
    return logits, targets, torch.tensor(rng.integers(n_classes, size=n))


@settings(derandomize=True, max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), weight=st.sampled_from([0.0, 0.25, 1.0]))
def test_loss_is_the_weighted_sum_of_cross_entropy_to_the_teacher_and_la(seed, weight):
    logits, targets, labels = random_batch(seed)
    counts = np.array([50.0, 20.0, 5.0, 1.0])
    labels[::2] = -1
    log_p = logits.double().log_softmax(1)
    soft = -(targets.double() * log_p).sum(1)
    shifted = (logits.double() + torch.tensor(np.log(counts / counts.sum()))).log_softmax(1)
    expected = []
    for row, label in enumerate(labels.tolist()):
        hard = 0.0 if label < 0 else -shifted[row, label]
        of_labels = 0.0 if label < 0 else weight
        expected.append((1 - of_labels) * soft[row] + of_labels * hard)
    found = distillation_loss(np.log(counts / counts.sum()), weight)(logits, targets, labels)
    assert float(found) == pytest.approx(float(sum(expected)) / len(expected), rel=1e-5)


def test_loss_of_labels_alone_is_that_of_la():
    logits, targets, labels = random_batch(0)
    counts = [50, 20, 5, 1]
    found = distillation_loss(np.log(np.array(counts) / sum(counts)), 1.0)(logits, targets, labels)
    assert float(found) == pytest.approx(float(make_loss("LA", counts)(logits, labels)), rel=1e-6)


def test_teacher_is_the_optimum_of_unlabelled_images():
    """Gibbs: no other logits have a lower cross-entropy, and the gradient there is 0."""
    _, targets, labels = random_batch(1)
    loss = distillation_loss(None, 0.0)
    logits = targets.log().requires_grad_()
    at_teacher = loss(logits, targets, torch.full_like(labels, -1))
    at_teacher.backward()
    assert float(logits.grad.abs().max()) < 1e-6
    assert at_teacher.item() == pytest.approx(float(-(targets * targets.log()).sum(1).mean()), rel=1e-5)


@pytest.mark.parametrize("law", [None, np.array([0.6, 0.2, 0.1, 0.1])], ids=["balanced", "target law"])
def test_both_terms_have_their_optimum_at_the_law_of_the_teacher(images, law):
    """Of images that follow P_S, with likelihoods l: softmax f = l pi / sum, the answer of the teacher."""
    train = images.subset(np.flatnonzero(np.arange(40) < 22))  # 6, 6, 5, 5
    share = np.array([3.0, 1.0, 1.0, 2.0])
    shown = np.array([6, 6, 5, 5]) * share
    likelihood = np.array([0.1, 0.5, 0.3, 0.8])
    posterior = shown * likelihood / (shown * likelihood).sum()
    answer = likelihood * (np.full(4, 0.25) if law is None else law)
    answer /= answer.sum()
    lessons = Lessons(np.tile(answer, (22, 1)), label_weight=0.5, target_law=law)
    log_prior = distill._log_prior(train, share, lessons, KINDS)
    targets = torch.tensor(answer, dtype=torch.float32)[None]
    for weight in (0.0, 0.5, 1.0):
        loss = distillation_loss(log_prior, weight)
        logits = targets.log().requires_grad_()
        expected = sum(p * loss(logits, targets, torch.tensor([k])) for k, p in enumerate(posterior))
        expected.backward()
        assert float(logits.grad.abs().max()) < 1e-6


def test_shown_counts_raise_few_classes_only_and_never_empty_ones():
    prior = np.array([0.3, 0.2, 0.2, 0.1, 0.05, 0.05, 0.04, 0.03, 0.02, 0.01])
    counts = np.array([60, 1, 9, 9, 9, 9, 2, 0, 1, 20])
    found = shown_counts(counts, prior)
    assert found.tolist() == [60, 1, 9, 9, 9, 9, 12, 0, 12, 20]
    assert shown_counts(counts).tolist() == counts.tolist()


@pytest.fixture(scope="module")
def stratum(tiny_zoo):
    return open_zoo(tiny_zoo).load("clip")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    pixels = (rng.normal(0, 20, (40, 16, 16, 3)) + 60 + 40 * labels[:, None, None, None]).clip(0, 255)
    return ImageSet.from_arrays(pixels.astype(np.uint8), labels, KINDS)


def lessons_of(images, more, **options):
    rng = np.random.default_rng(1)
    unlabelled = more.align_classes(KINDS)
    return Lessons(
        rng.dirichlet(np.ones(4), len(images)).astype(np.float32),
        unlabelled,
        rng.dirichlet(np.ones(4), len(more)).astype(np.float32),
        **options,
    )


PRIOR = np.array([0.6, 0.2, 0.15, 0.05])


@pytest.mark.parametrize("prior", [None, PRIOR], ids=["each image once", "balanced"])
def test_interrupted_training_resumes_to_the_same_student(stratum, images, tmp_path, monkeypatch, prior):
    train, more = images.subset(np.arange(24)), images.subset(np.arange(24, 40))
    lessons = lessons_of(train, more, prior=prior)
    crops = Crops(train, stratum, progress=False)

    def student(**options):
        return tune_student(stratum, crops, KINDS, QUICK, lessons, progress=False, **options)[0]

    whole = student().trained_state()
    steps = iter(range(100))
    usual = distill.distillation_loss

    def breaking(*arguments):
        loss = usual(*arguments)

        def each(*batch):
            if next(steps) == 4:  # in the second epoch
                raise KeyboardInterrupt
            return loss(*batch)

        return each

    monkeypatch.setattr(distill, "distillation_loss", breaking)
    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        student(checkpoint=checkpoint)
    assert checkpoint.exists()
    monkeypatch.setattr(distill, "distillation_loss", usual)
    resumed = student(checkpoint=checkpoint).trained_state()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not checkpoint.exists()


def test_student_approaches_its_teacher_and_leaves_the_stratum_unchanged(stratum, images):
    """The labels of unlabelled images are not read: here they are all wrong."""
    train = images.subset(np.arange(8))
    more = images.subset(np.arange(8, 40))
    soft = np.full((40, 4), 0.05)
    soft[np.arange(40), images.labels] = 0.85
    wrong = more.subset(np.arange(len(more)))
    wrong.labels = (more.labels + 1) % 4
    lessons = Lessons(soft[:8], wrong, soft[8:], label_weight=0.0)
    before = {name: value.clone() for name, value in stratum.model.state_dict().items()}
    student, history = tune_student(
        stratum,
        Crops(train, stratum, progress=False),
        KINDS,
        replace(QUICK, epochs=30),
        lessons,
        progress=False,
    )
    entropy = -(soft[0] * np.log(soft[0])).sum()
    assert history.losses[-1] < entropy + 0.25 < history.losses[0]
    right = student.logits(Crops(more, stratum, progress=False)).argmax(1) == more.labels
    assert right.mean() > 0.9
    after = stratum.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_lessons_of_other_images_and_losses_are_refused(stratum, images):
    crops = Crops(images, stratum, progress=False)
    short = Lessons(np.full((3, 4), 0.25))
    with pytest.raises(CausalFTError, match=r"shape \(3, 4\); 40 training images"):
        tune_student(stratum, crops, KINDS, QUICK, short, progress=False)
    without = Lessons(np.full((40, 4), 0.25), images)
    with pytest.raises(CausalFTError, match="40 unlabelled images have shape"):
        tune_student(stratum, crops, KINDS, QUICK, without, progress=False)
    whole = Lessons(np.full((40, 4), 0.25))
    with pytest.raises(CausalFTError, match="learns the labels by LA"):
        tune_student(stratum, crops, KINDS, replace(QUICK, loss="CE"), whole, progress=False)
    empty = images.subset(images.labels > 0)
    with pytest.raises(CausalFTError, match="class 'ant' has no training image"):
        tune_student(
            stratum,
            Crops(empty, stratum, progress=False),
            KINDS,
            QUICK,
            Lessons(np.full((30, 4), 0.25)),
            progress=False,
        )
