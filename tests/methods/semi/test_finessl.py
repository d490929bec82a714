"""FineSSL against numbers by hand, and margins that help classes which are rarely predicted."""

import math

import pytest
import torch

from causalft.methods.semi.choices import METHODS
from causalft.methods.semi.finessl import FineSsl
from causalft.methods.semi.method import Answers, Step, Task
from tests.methods.semi.gaussians import gaussians, predict, recall, train_directly


def method(n_classes=2, adjust=False, **settings):
    counts = torch.arange(n_classes, 0, -1).float()
    return FineSsl(Task(counts, torch.eye(n_classes), n_unlabelled=4, epochs=3, adjust=adjust), **settings)


def answers(n=1, n_classes=2):
    return Answers(torch.zeros(n, n_classes), torch.zeros(n, 2, n_classes))


def test_margins_grow_for_classes_that_are_rarely_predicted():
    finessl = method()
    assert finessl.margins.tolist() == [0, 0]
    finessl.latest.copy_(torch.tensor([0, 0, 1, -1]))
    # s = (1, 1/2): 8 * (1 - 1/2) * (1/2) / (3/2).
    assert finessl.margins.tolist() == pytest.approx([0, 4 / 3])
    finessl.latest.copy_(torch.tensor([0, 0, 1, 1]))
    assert finessl.margins.tolist() == [0, 0]


def test_the_margin_of_the_label_is_added_to_the_other_classes():
    finessl = method()
    finessl.latest.copy_(torch.tensor([0, 0, 1, -1]))
    loss = finessl.labelled_loss(answers(), torch.tensor([1])).item()
    assert loss == pytest.approx(math.log(1 + math.exp(4 / 3)) + math.log(2))
    assert finessl.labelled_loss(answers(), torch.tensor([0])).item() == pytest.approx(2 * math.log(2))


def test_logit_adjustment_adds_the_label_law_to_both_heads():
    loss = method(adjust=True).labelled_loss(answers(), torch.tensor([1])).item()  # P_L = (2/3, 1/3)
    assert loss == pytest.approx(2 * math.log(3))


def test_targets_are_the_class_of_the_first_head_weighted_by_the_confidence_of_the_second():
    beliefs = torch.tensor([[[0.8, 0.1, 0.1], [0.2, 0.6, 0.2]], [[0.5, 0.3, 0.2], [0.0, 0.0, 1.0]]])
    targets = method(3).choose(beliefs, torch.arange(2))
    assert targets.probabilities[0].tolist() == [[1, 0, 0], pytest.approx([0.5, 0.25, 0.25])]
    assert targets.weights.tolist() == [pytest.approx([0.6, 1]), [1, 0]]
    finessl = method(3)
    expected = (3 * 0.6 + 1 + 3 * 1) / 2 * math.log(3)
    assert finessl.unlabelled_loss(answers(2, 3), targets).item() == pytest.approx(expected)
    finessl.latest.copy_(torch.tensor([1, 1, 1, 1]))  # margins (8, 0, 8), and both labels are 0
    rare = math.log(1 + 2 * math.exp(8))
    expected = (3 * 0.6 * rare + math.log(3) + 3 * rare) / 2
    assert finessl.unlabelled_loss(answers(2, 3), targets).item() == pytest.approx(expected)


def test_the_second_head_does_not_reach_the_features():
    features = torch.eye(2, requires_grad=True)
    logits = method()(features).logits
    (grad,) = torch.autograd.grad(logits[:, 1, 0].sum(), features, retain_graph=True, allow_unused=True)
    assert grad is None or not grad.any()
    (grad,) = torch.autograd.grad(logits[:, 0, 0].sum(), features)
    assert grad.any()


def test_the_latest_confident_class_of_each_image_is_kept_over_batches_and_processes():
    finessl = method()

    def see(rows, first):
        beliefs = torch.tensor([[[p, 1 - p], [0.5, 0.5]] for p in first])
        rows = torch.tensor(rows)
        targets = finessl.choose(beliefs, rows)
        finessl.observe(Step(answers(), torch.tensor([0]), answers(), beliefs, targets, rows))

    see([2], [0.9])
    see([0, 3], [0.2, 0.6])
    other = torch.tensor([0, 2, 0, 0])  # another process saw class 1 on row 1
    finessl.finish_batch(lambda tensor: tensor + other)
    assert finessl.latest.tolist() == [1, 1, 0, -1]
    see([2], [0.6])  # no longer confident: the former class stays
    finessl.finish_batch(lambda tensor: tensor)
    assert finessl.latest.tolist() == [1, 1, 0, -1]


def test_margins_raise_the_recall_of_rare_classes():
    counts = [120, 30, 8, 4]
    data = gaussians(counts, [4 * n for n in counts], spread=0.4)
    task = data.task(epochs=5, adjust=False, scale=10.0)
    found, plain = (train_directly(FineSsl(task, alpha=alpha), data) for alpha in (8.0, 0.0))
    assert found.margins[0] == 0 and found.margins[2:].min() > 2
    rare = slice(2, 4)
    assert recall(found, data)[rare].mean() > recall(plain, data)[rare].mean() + 0.05
    with torch.no_grad():
        torch.testing.assert_close(predict(found, data.test), found(data.test).logits[:, 0])


def test_the_record_names_its_settings():
    assert METHODS["finessl"].settings == {
        "threshold": 0.7,
        "unlabelled_weight": 3.0,
        "alpha": 8.0,
        "smoothing": 0.5,
    }
