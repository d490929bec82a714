"""SimPro against numbers by hand, and the law that its estimate converges to."""

import math

import pytest
import torch

from causalft.methods.semi.choices import METHODS
from causalft.methods.semi.method import Answers, Step, Targets, Task
from causalft.methods.semi.simpro import SimPro
from tests.methods.semi.gaussians import gaussians, predict, train_directly


def method(**settings):
    return SimPro(
        Task(torch.tensor([3.0, 1.0]), torch.eye(2), n_unlabelled=16, epochs=3, ratio=2), **settings
    )


def answers(*rows):
    logits = torch.tensor(rows)[:, None]
    return Answers(torch.zeros(len(rows), 2), logits)


def test_pseudo_labels_are_distributions_under_the_estimated_law():
    simpro = method(threshold=0.9)
    simpro.law.copy_(torch.tensor([0.75, 0.25]))
    # Odds of exp(0) * 3 to 1, and of exp(3) * 3 to 1.
    beliefs = simpro.beliefs(answers([0.0, 0.0], [3.0, 0.0]))
    sure = 3 * math.exp(3) / (3 * math.exp(3) + 1)
    assert beliefs[:, 0, 0].tolist() == pytest.approx([0.75, sure])
    targets = simpro.choose(beliefs, torch.arange(2))
    assert torch.equal(targets.probabilities, beliefs) and targets.weights.tolist() == [[0], [1]]


def test_losses_are_adjusted_by_the_common_law_and_labelled_images_weigh_as_unlabelled_ones():
    simpro = method()
    assert simpro.labelled_weight == 2 * 4 / 16
    assert simpro.common_law.tolist() == [0.75, 0.25]
    shown = answers([0.0, 0.0])
    # Adjusted, the probabilities are 3/4 and 1/4.
    loss = simpro.labelled_loss(shown, torch.tensor([1])).item()
    assert loss == pytest.approx(0.5 * math.log(4), rel=1e-6)
    targets = Targets(torch.tensor([[[0.2, 0.8]]]), torch.ones(1, 1))
    expected = 0.2 * math.log(4 / 3) + 0.8 * math.log(4)
    assert simpro.unlabelled_loss(shown, targets).item() == pytest.approx(expected, rel=1e-6)


def test_both_laws_move_after_an_epoch_by_the_pseudo_labels_that_counted():
    simpro = method(decay=0.9)
    beliefs = torch.tensor([[[0.02, 0.98]], [[0.5, 0.5]]])
    targets = simpro.choose(beliefs, torch.arange(2))
    shown = answers([0.0, 0.0])
    simpro.observe(Step(shown, torch.tensor([0, 0, 1]), shown, beliefs, targets, torch.arange(2)))
    simpro.finish_batch(lambda tensor: 2 * tensor)  # two processes that saw the same
    assert simpro.unlabelled_counts.tolist() == pytest.approx([0.04, 1.96])
    simpro.end_epoch(0)
    assert simpro.law.tolist() == pytest.approx([0.9 * 0.5 + 0.1 * 0.02, 0.9 * 0.5 + 0.1 * 0.98])
    # Labels (4, 2) and pseudo-labels (0.04, 1.96) of 8.
    assert simpro.common_law.tolist() == pytest.approx(
        [0.9 * 0.75 + 0.1 * 4.04 / 8, 0.9 * 0.25 + 0.1 * 3.96 / 8]
    )
    before = simpro.law.clone()
    simpro.end_epoch(1)  # no pseudo-label in it
    assert torch.equal(simpro.law, before)


def test_a_class_without_an_image_keeps_losses_finite():
    simpro = SimPro(Task(torch.tensor([3.0, 0.0]), torch.eye(2), n_unlabelled=16, epochs=3))
    assert simpro.labelled_loss(answers([0.0, 0.0]), torch.tensor([0])).isfinite()


def test_the_estimate_converges_to_a_reversed_law_which_the_labels_do_not_have():
    hidden = [20, 60, 120, 400]
    data = gaussians([90, 30, 15, 5], hidden, spread=0.2)
    task = data.task(epochs=15, scale=10.0)
    simpro = train_directly(SimPro(task, decay=0.7), data)
    truth = torch.tensor(hidden) / sum(hidden)
    assert (simpro.law - truth).abs().sum() < 0.1
    assert (task.prior - truth).abs().sum() > 1
    with torch.no_grad():
        torch.testing.assert_close(predict(simpro, data.test), simpro(data.test).logits[:, 0])


def test_the_record_names_its_settings():
    record = METHODS["simpro"]
    assert record.adjusts and record.settings == {
        "threshold": 0.95,
        "unlabelled_weight": 1.0,
        "tau": 1.0,
        "decay": 0.9,
    }
