"""CDMAD against numbers by hand, and a bias that it removes."""

import math

import pytest
import torch
from torch.nn import functional as F

from causalft.methods.semi.cdmad import Cdmad
from causalft.methods.semi.choices import METHODS
from causalft.methods.semi.method import Answers, Method, Task
from tests.methods.semi.gaussian_classes import World, assert_same_state, learn, predict, recalls


def method(**settings):
    return Cdmad(Task(torch.tensor([3.0, 1.0]), torch.eye(2), n_unlabelled=16, epochs=10), **settings)


def answers(*rows):
    return Answers(torch.zeros(len(rows), 2), torch.tensor(rows)[:, None])


def test_pseudo_labels_lose_the_bias_after_the_first_fifth_of_the_epochs():
    cdmad = method()
    cdmad.see_blank(answers([math.log(3.0), 0.0]))
    weak = answers([math.log(6.0), 0.0])
    assert cdmad.beliefs(weak)[0, 0].tolist() == pytest.approx([6 / 7, 1 / 7])
    cdmad.end_epoch(0)
    assert cdmad.beliefs(weak)[0, 0].tolist() == pytest.approx([6 / 7, 1 / 7])
    cdmad.end_epoch(1)
    assert cdmad.beliefs(weak)[0, 0].tolist() == pytest.approx([2 / 3, 1 / 3])


def test_targets_are_soft_and_no_image_is_left_out_without_a_threshold():
    beliefs = torch.tensor([[[0.6, 0.4]], [[0.1, 0.9]]])
    targets = method().choose(beliefs, torch.arange(2))
    assert torch.equal(targets.probabilities, beliefs) and targets.weights.tolist() == [[1], [1]]
    assert method(threshold=0.8).choose(beliefs, torch.arange(2)).weights.tolist() == [[0], [1]]


def test_losses_are_plain_cross_entropies():
    cdmad, shown = method(), answers([0.0, math.log(3.0)])
    assert cdmad.labelled_loss(shown, torch.tensor([0])).item() == pytest.approx(math.log(4))
    targets = cdmad.choose(torch.tensor([[[0.5, 0.5]]]), torch.arange(1))
    expected = 0.5 * math.log(4) + 0.5 * math.log(4 / 3)
    assert cdmad.unlabelled_loss(shown, targets).item() == pytest.approx(expected)


def test_predictions_are_those_without_the_bias():
    world = World.draw()
    cdmad = Cdmad(world.task([8, 4, 2, 2], 16))
    blank = torch.ones(12)
    with torch.no_grad():
        cdmad.see_blank(cdmad(blank[None]))
        x, _ = world.images([5] * 4, 3)
        expected = cdmad(x).logits[:, 0] - cdmad(blank[None]).logits[0, 0]
        torch.testing.assert_close(predict(cdmad, x), expected)


def test_rare_classes_are_found_again_when_the_blank_image_shows_the_bias():
    """Features share a direction, along which the head learns the label law; the image without content lies on it."""
    world = World.draw(n_classes=4, noise=0.35)
    blank = F.one_hot(torch.tensor(12), 13).float()
    counts, hidden = [200, 40, 10, 4], [100] * 4

    def with_offset(images):
        return torch.cat([images, torch.ones(len(images), 1)], dim=1)

    (x, y), (u, _), (test, truth) = (
        world.images(n, seed) for n, seed in ((counts, 1), (hidden, 2), ([100] * 4, 3))
    )
    start = torch.cat([world.task(counts, 400).weight, torch.zeros(4, 1)], dim=1)
    task = Task(torch.tensor(counts).float(), start, 400, epochs=10, adjust=False, scale=10.0)
    shown = (with_offset(x), y), with_offset(u)
    cdmad = learn(Cdmad(task), *shown, epochs=10, blank=blank)
    fixmatch = learn(Method(task), *shown, epochs=10)
    assert cdmad.blank[0] > cdmad.blank[3]
    rare = slice(2, 4)
    found, plain = recalls(cdmad, with_offset(test), truth), recalls(fixmatch, with_offset(test), truth)
    assert found[rare].mean() > plain[rare].mean() + 0.1
    assert found.mean() > plain.mean()


def test_the_state_does_not_depend_on_how_a_batch_is_cut():
    world, blank = World.draw(), torch.ones(12)
    labelled, (u, _) = world.images([30, 10, 5, 5], 1), world.images([32] * 4, 2)
    one, two = (
        learn(Cdmad(world.task([30, 10, 5, 5], 128)), labelled, u, epochs=2, parts=parts, blank=blank)
        for parts in (1, 2)
    )
    assert_same_state(one, two)


def test_the_record_names_its_settings():
    record = METHODS["cdmad"]
    assert record.adjusts and record.settings == {"threshold": 0.0, "unlabelled_weight": 1.0, "start": 0.2}
