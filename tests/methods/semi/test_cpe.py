"""CPE against numbers by hand; its heads lean to other classes."""

from __future__ import annotations

import math

import pytest
import torch

from causalft.methods.semi.cpe import ComplementaryExperts
from causalft.methods.semi.method import Answers, Targets, Task
from tests.methods.semi.gaussians import gaussians, recall, train_directly


def method_of(counts, **settings) -> ComplementaryExperts:
    return ComplementaryExperts(Task(torch.tensor(counts), torch.eye(len(counts)), 8, 10), **settings)


def test_labelled_loss_adds_none_two_and_four_times_the_log_prior():
    """Counts 3 and 1, no logits: head e says 3^tau / (3^tau + 1)."""
    method = method_of([3.0, 1.0])
    answers = Answers(torch.zeros(1, 2), torch.zeros(1, 3, 2))
    for label, shares in ((0, (1 / 2, 9 / 10, 81 / 82)), (1, (1 / 2, 1 / 10, 1 / 82))):
        loss = method.labelled_loss(answers, torch.tensor([label])).item()
        assert loss == pytest.approx(-sum(math.log(share) for share in shares), rel=1e-5)


def test_each_head_has_its_own_pseudo_labels():
    method = method_of([3.0, 1.0], threshold=0.8)
    beliefs = torch.tensor([[[0.9, 0.1], [0.3, 0.7], [0.05, 0.95]]])
    targets = method.choose(beliefs, torch.tensor([0]))
    assert targets.probabilities[0].argmax(-1).tolist() == [0, 1, 1]
    assert targets.weights.tolist() == [[1, 0, 1]]


def test_unlabelled_loss_is_the_sum_over_heads_and_the_mean_over_images():
    method = method_of([3.0, 1.0], unlabelled_weight=2.0)
    one_hot = torch.tensor([[1.0, 0.0]]).expand(2, 3, 2)
    weights = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    loss = method.unlabelled_loss(Answers(torch.zeros(2, 2), torch.zeros(2, 3, 2)), Targets(one_hot, weights))
    assert loss.item() == pytest.approx(2 * 4 * math.log(2) / 2)


def test_heads_lean_ever_more_to_the_rare_classes_and_the_second_predicts():
    data = gaussians([200, 60, 20, 6, 4], [400, 120, 40, 12, 8], spread=0.5)
    method = train_directly(ComplementaryExperts(data.task(), threshold=0.8), data)
    heads = [recall(method, data, head) for head in range(3)]
    frequent, rare = [r[:2].mean().item() for r in heads], [r[3:].mean().item() for r in heads]
    assert frequent == sorted(frequent, reverse=True) and rare == sorted(rare)
    assert rare[1] > rare[0] + 0.05 and frequent[1] > frequent[2]
    assert torch.equal(recall(method, data), heads[1])
