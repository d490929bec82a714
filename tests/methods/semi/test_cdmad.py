"""CDMAD against numbers by hand, and a bias that it removes."""

import math
from dataclasses import replace

import pytest
import torch

from causalft.methods.semi.cdmad import Cdmad
from causalft.methods.semi.choices import METHODS
from causalft.methods.semi.method import Answers, Method, Task
from tests.methods.semi.gaussians import blank, gaussians, predict, recall, train_directly


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
    data = gaussians([8, 4, 2], [4] * 3)
    cdmad = Cdmad(data.task())
    shown = blank(cdmad, data)
    cdmad.see_blank(shown)
    with torch.no_grad():
        expected = cdmad(data.test).logits[:, 0] - shown.logits[0, 0]
        torch.testing.assert_close(predict(cdmad, data.test), expected)


def test_rare_classes_are_found_again_when_the_blank_image_shows_the_bias():
    """All features share a direction, along which a head learns the label law."""
    data = gaussians([200, 40, 10, 4], [100] * 4)

    def offset(x, by=1.0):
        return torch.cat([x, torch.full((len(x), 1), by)], dim=1)

    names = ("labelled", "unlabelled", "test")
    data = replace(
        data, weight=offset(data.weight, 0.0), **{name: offset(getattr(data, name)) for name in names}
    )
    task = data.task(epochs=10, adjust=False, scale=10.0)
    cdmad, fixmatch = train_directly(Cdmad(task), data), train_directly(Method(task), data)
    assert cdmad.blank[0] > cdmad.blank[3]
    found, plain = recall(cdmad, data), recall(fixmatch, data)
    assert found[2:].mean() > plain[2:].mean() + 0.1
    assert found.mean() > plain.mean()


def test_the_record_names_its_settings():
    record = METHODS["cdmad"]
    assert record.adjusts and record.settings == {"threshold": 0.0, "unlabelled_weight": 1.0, "start": 0.2}
