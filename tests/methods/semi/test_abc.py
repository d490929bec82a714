"""ABC against numbers by hand; its balanced head finds the rare classes."""

from __future__ import annotations

import math

import pytest
import torch

from causalft.methods.semi.abc import AuxiliaryBalancedClassifier
from causalft.methods.semi.method import Answers, Method, Targets, Task
from tests.methods.semi.gaussians import gaussians, recall, train_directly


def method_of(counts, epochs=10, **settings) -> AuxiliaryBalancedClassifier:
    task = Task(torch.tensor(counts), torch.eye(len(counts)), 8, epochs)
    return AuxiliaryBalancedClassifier(task, **settings)


def test_rates_are_the_smallest_count_by_the_count_of_the_class():
    assert method_of([100.0, 20.0, 10.0]).rate.tolist() == pytest.approx([0.1, 0.5, 1.0])
    assert method_of([4.0, 0.0]).rate.tolist() == [0.25, 1.0]


def test_labelled_loss_masks_the_balanced_head_only():
    """Counts 10 and 1: of 20,000 images of the frequent class a tenth is learnt, of the rare class every one."""
    method = method_of([10.0, 1.0])
    n = 20_000
    answers = Answers(torch.zeros(n, 2), torch.zeros(n, 2, 2))
    for label, rate in ((0, 0.1), (1, 1.0)):
        loss = method.labelled_loss(answers, torch.full((n,), label)).item()
        # Each head is undecided between two classes: log 2 nats per image that counts.
        assert loss == pytest.approx(
            (1 + rate) * math.log(2), abs=4 * math.log(2) * math.sqrt(0.09 / n) + 1e-6
        )


def test_first_head_is_learnt_by_plain_cross_entropy():
    """Whatever ``--loss``: the published method adjusts nothing."""
    logits = torch.zeros(1, 2, 2)
    logits[:, 0] = torch.tensor([2.0, 0.0])
    method = method_of([10.0, 1.0])
    method.rate.zero_()  # nothing of the second head
    loss = method.labelled_loss(Answers(torch.zeros(1, 2), logits), torch.tensor([0]))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)))


@pytest.mark.parametrize(("passed", "rate"), [(0, 1.0), (5, 0.55), (10, 0.1)])
def test_mask_of_pseudo_labels_falls_from_one_to_the_rate_of_the_class(passed, rate):
    method = method_of([10.0, 1.0], threshold=0.9)
    method.end_epoch(passed - 1)
    n = 10_000
    beliefs = torch.tensor([[0.3, 0.7], [0.96, 0.04]]).expand(n, 2, 2)
    targets = method.choose(beliefs, torch.arange(n))
    assert targets.weights[:, 0].sum() == 0  # the first head is not sure, the second one is
    assert targets.weights[:, 1].mean().item() == pytest.approx(rate, abs=0.02)
    rare = method.choose(beliefs.flip(-1), torch.arange(n))
    assert rare.weights[:, 1].mean() == 1


def test_pseudo_labels_are_hard_for_the_first_head_and_soft_for_the_balanced_one():
    method = method_of([1.0, 1.0], threshold=0.9)
    targets = method.choose(torch.tensor([[[0.05, 0.95], [0.92, 0.08]]]), torch.tensor([0]))
    assert targets.probabilities[0, 0].tolist() == [0, 1]
    assert targets.probabilities[0, 1].tolist() == pytest.approx([0.92, 0.08])
    assert targets.weights.tolist() == [[1, 1]]


def test_unlabelled_loss_is_the_sum_of_both_heads():
    method = method_of([1.0, 1.0])
    targets = Targets(torch.tensor([[[1.0, 0.0], [0.75, 0.25]]]), torch.ones(1, 2))
    strong = torch.tensor([[[math.log(3), 0.0], [math.log(3), 0.0]]])  # probabilities 3/4, 1/4
    hard, soft = math.log(4 / 3), 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    loss = method.unlabelled_loss(Answers(torch.zeros(1, 2), strong), targets)
    assert loss.item() == pytest.approx(hard + soft)


def test_balanced_head_predicts_and_finds_the_rare_classes():
    data = gaussians([200, 60, 20, 6, 4], [400, 120, 40, 12, 8], spread=0.5)
    method = train_directly(AuxiliaryBalancedClassifier(data.task(), threshold=0.8), data)
    plain = train_directly(Method(data.task(adjust=False), threshold=0.8), data)
    balanced, first = recall(method, data), recall(method, data, head=0)
    assert torch.equal(balanced, recall(method, data, head=1))
    assert balanced[3:].mean() > first[3:].mean() + 0.05
    assert balanced[3:].mean() > recall(plain, data)[3:].mean() + 0.05
