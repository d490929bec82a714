"""DASO against numbers by hand; prototypes find what the head does not."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from causalft.methods.semi.daso import DistributionAware, SemanticTargets
from causalft.methods.semi.method import Answers, Method, Step, Targets, Task
from tests.methods.semi.gaussians import gaussians, recall, same, train_directly


def method_of(n_classes=2, width=2, **settings) -> DistributionAware:
    weight = torch.eye(n_classes, width)
    return DistributionAware(Task(torch.ones(n_classes), weight, 8, 10), **settings)


def show(method, features, labels, pseudo=()) -> None:
    """One batch of labelled features and of pseudo-labels."""
    n_classes = len(method.law)
    one_hot = F.one_hot(torch.tensor(pseudo, dtype=torch.int64), n_classes).float()[:, None]
    targets = Targets(one_hot, torch.zeros(len(pseudo), 1))
    known = Answers(torch.tensor(features), torch.zeros(len(features), 1, n_classes))
    method.start_batch()
    method.observe(Step(known, torch.tensor(labels), known, one_hot, targets, torch.arange(len(pseudo))))
    method.finish_batch(same)


def test_prototype_is_the_mean_of_unit_features_of_its_class():
    method = method_of(3)
    method.sums.fill_(0.0)
    show(method, [[3.0, 0.0], [0.0, 0.5], [0.0, -2.0]], [0, 0, 1])
    assert method.prototypes[0].tolist() == pytest.approx([1 / math.sqrt(2)] * 2)
    assert method.prototypes[1].tolist() == pytest.approx([0, -1])
    assert torch.equal(method.prototypes[2], method.start[2])  # no feature of it was seen


def test_each_feature_of_a_class_lets_its_older_ones_fade():
    """Window 4: two features of a class leave (3/4)^2 of its past; those of other classes leave it as it is."""
    method = method_of(window=4)
    show(method, [[1.0, 0.0], [0.0, 1.0]], [0, 1])
    show(method, [[0.0, 1.0], [0.0, 1.0]], [0, 0])
    assert method.sums.tolist() == [[pytest.approx(9 / 16), 2.0], [0.0, 1.0]]
    assert method.weights.tolist() == [pytest.approx(9 / 16 + 2), 1.0]


def test_window_bounds_the_weight_of_a_class():
    method = method_of(window=4)
    for _ in range(60):
        show(method, [[1.0, 0.0]], [0])
    assert method.weights[0].item() == pytest.approx(4, rel=1e-4)


def test_semantic_probabilities_are_a_softmax_of_cosines_over_the_temperature():
    method = method_of(prototype_temperature=0.5)  # prototypes are the axes
    features = torch.tensor([[3.0, 4.0]])  # cosines 0.6 and 0.8
    answers = Answers(features, torch.tensor([[[math.log(3), 0.0]]]))
    linear, semantic = method.beliefs(answers)[0]
    assert linear.tolist() == pytest.approx([0.75, 0.25])
    assert semantic[1].item() == pytest.approx(1 / (1 + math.exp(-0.4)), rel=1e-5)


def test_blend_by_hand():
    """Law 0.8, 0.2 and T = 0.5: classes predicted often take all of the prototypes, rare ones (1/4)^2 = 1/16."""
    method = method_of(temperature=0.5, threshold=0.6)
    method.law.copy_(torch.tensor([0.8, 0.2]))
    method.warm.fill_(1)
    beliefs = torch.tensor([[[0.9, 0.1], [0.3, 0.7]], [[0.2, 0.8], [0.9, 0.1]]])
    targets = method.choose(beliefs, torch.arange(2))
    # First: all of (0.3, 0.7). Second: 15/16 (0.2, 0.8) + 1/16 (0.9, 0.1) = (0.24375, 0.75625).
    assert targets.probabilities[:, 0].tolist() == [[0, 1], [0, 1]]
    assert targets.weights.tolist() == [[1], [1]]
    method.threshold = 0.72
    assert method.choose(beliefs, torch.arange(2)).weights.tolist() == [[0], [1]]
    assert isinstance(targets, SemanticTargets) and torch.equal(targets.semantic, beliefs[:, 1])


def test_first_epoch_is_fixmatch():
    method = method_of(threshold=0.6)
    beliefs = torch.tensor([[[0.9, 0.1], [0.3, 0.7]]])
    targets = method.choose(beliefs, torch.arange(1))
    assert targets.probabilities[:, 0].tolist() == [[1, 0]]
    strong = Answers(torch.tensor([[1.0, 1.0]]), torch.zeros(1, 1, 2))
    assert method.unlabelled_loss(strong, targets).item() == pytest.approx(math.log(2))


def test_loss_adds_the_cross_entropy_of_strong_and_weak_semantics():
    method = method_of(alignment_weight=2.0)
    method.warm.fill_(1)
    targets = SemanticTargets(torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1), torch.tensor([[0.3, 0.7]]))
    strong = Answers(torch.tensor([[1.0, 1.0]]), torch.tensor([[[math.log(3), 0.0]]]))
    # Both prototypes are as near: log 2 nats, twice; the head gives its label 3/4.
    assert method.unlabelled_loss(strong, targets).item() == pytest.approx(2 * math.log(2) + math.log(4 / 3))


def test_law_is_that_of_the_pseudo_labels_of_the_last_epoch():
    method = method_of()
    show(method, [[1.0, 0.0]], [0], pseudo=[0, 0, 1])
    show(method, [[1.0, 0.0]], [0], pseudo=[0])
    assert method.law.tolist() == [0.5, 0.5] and method.warm == 0
    method.end_epoch(0)
    assert method.law.tolist() == [0.75, 0.25] and method.warm == 1
    show(method, [[1.0, 0.0]], [0], pseudo=[1])
    method.end_epoch(1)
    assert method.law.tolist() == [0, 1]


@pytest.mark.parametrize("adjust", [True, False])
def test_labelled_loss_is_that_of_the_option(adjust):
    """Counts 3 and 1, no logits: 3/4 for the frequent class with LA, 1/2 with CE."""
    task = Task(torch.tensor([3.0, 1.0]), torch.eye(2), 8, 10, adjust=adjust)
    loss = DistributionAware(task).labelled_loss(
        Answers(torch.zeros(1, 2), torch.zeros(1, 1, 2)), torch.tensor([0])
    )
    assert loss.item() == pytest.approx(-math.log(0.75 if adjust else 0.5))


def test_pseudo_labels_of_rare_classes_are_found_more_often_than_by_fixmatch():
    """Learnt by plain cross-entropy of a long tail, the head misses rare classes in the unlabelled images."""
    data = gaussians([200, 60, 20, 6, 4], [100] * 5, spread=0.5)
    found = {}
    for kind in (DistributionAware, Method):
        method = train_directly(kind(data.task(adjust=False), threshold=0.6), data)
        with torch.no_grad():
            targets = method.choose(method.beliefs(method(data.unlabelled)), torch.arange(500))
        right = (targets.probabilities[:, 0].argmax(-1) == data.hidden) & (targets.weights[:, 0] > 0)
        found[kind] = right[data.hidden >= 3].double().mean(), recall(method, data)[3:].mean()
    (ours, our_recall), (theirs, their_recall) = found[DistributionAware], found[Method]
    assert ours > theirs + 0.05
    assert our_recall > their_recall + 0.02
