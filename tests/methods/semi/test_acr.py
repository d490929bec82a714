"""ACR against numbers by hand; its adjustment follows the law of the unlabelled images."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.methods.semi.acr import AdaptiveConsistency, reversed_law, symmetric_divergence
from causalft.methods.semi.method import Answers, Method, Step, Targets, Task
from tests.methods.semi.gaussians import gaussians, recall, same, train_directly


def method_of(counts, **settings) -> AdaptiveConsistency:
    return AdaptiveConsistency(Task(torch.tensor(counts), torch.eye(len(counts)), 8, 10), **settings)


def see(method, beliefs) -> None:
    """One batch of weak views."""
    n, empty = len(beliefs), Answers(torch.zeros(0, 2), torch.zeros(0, 2, 2))
    rows = torch.arange(n)
    method.start_batch()
    targets = method.choose(beliefs, rows)
    method.observe(Step(empty, torch.zeros(0, dtype=torch.int64), empty, beliefs, targets, rows))
    method.finish_batch(same)


def test_labelled_loss_is_cross_entropy_and_twice_adjusted_cross_entropy():
    """Counts 3 and 1, no logits: 1/2 for head 1, 9/10 or 1/10 for head 2."""
    method = method_of([3.0, 1.0])
    answers = Answers(torch.zeros(1, 2), torch.zeros(1, 2, 2))
    for label, share in ((0, 9 / 10), (1, 1 / 10)):
        loss = method.labelled_loss(answers, torch.tensor([label])).item()
        assert loss == pytest.approx(math.log(2) - math.log(share), rel=1e-5)


def test_pseudo_labels_are_those_of_the_first_head_adjusted():
    """Odds 7 : 1 by head 1, prior odds 3 : 1: with tau 1 odds 7 : 3, with tau 2 odds 7 : 9."""
    method = method_of([3.0, 1.0], threshold=0.9)
    method.tau.fill_(1.0)
    beliefs = torch.tensor([[[7 / 8, 1 / 8], [0.5, 0.5]]])
    targets = method.choose(beliefs, torch.tensor([0]))
    assert targets.probabilities.tolist() == [[[1, 0], [0, 1]]]
    assert targets.weights.tolist() == [[0, 0]]
    method.threshold = 0.69  # 7 / 10 with tau 1, 7 / 8 with tau 0; 9 / 16 with tau 2, and head 2 itself 1 / 2
    assert method.choose(beliefs, torch.tensor([0])).weights.tolist() == [[1, 0]]


def test_an_image_counts_where_the_adjusted_label_or_the_head_itself_is_sure():
    """Prior odds 9 : 1. Odds 19 : 1 are sure as they are, not with tau 1 (19 : 9); head 2 is sure by itself."""
    method = method_of([9.0, 1.0], threshold=0.9)
    method.tau.fill_(1.0)
    beliefs = torch.tensor([[[0.95, 0.05], [0.02, 0.98]], [[0.5, 0.5], [0.5, 0.5]]])
    # Second image: odds 1 : 1 become 1 : 9 with tau 1 and 1 : 81 with tau 2, both sure of the rare class.
    targets = method.choose(beliefs, torch.tensor([0, 1]))
    assert targets.weights.tolist() == [[1, 1], [1, 1]]
    assert targets.probabilities.argmax(-1).tolist() == [[0, 1], [1, 1]]


def test_unlabelled_loss_is_the_sum_of_both_heads():
    method = method_of([3.0, 1.0])
    targets = Targets(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[1.0, 0.0]]))
    strong = Answers(torch.zeros(1, 2), torch.tensor([[[math.log(3), 0.0], [0.0, 0.0]]]))
    assert method.unlabelled_loss(strong, targets).item() == pytest.approx(math.log(4 / 3))


def test_tau_by_hand_after_an_epoch_of_one_step():
    """Law 0.9 (1/2, 1/2) + 0.1 (1, 0) = (0.55, 0.45); anchors (3/4, 1/4), (1/2, 1/2), (1/4, 3/4)."""
    method = method_of([3.0, 1.0], threshold=0.9)
    sure = torch.tensor([[0.5, 0.5], [0.95, 0.05]])
    see(method, torch.stack([sure, sure, sure.flip(-1) * 0 + 0.5]))  # two sure images of class 0, one unsure
    assert method.law.tolist() == pytest.approx([0.55, 0.45])
    found = []
    for share in (0.75, 0.5, 0.25):
        forth = 0.55 * math.log(0.55 / share) + 0.45 * math.log(0.45 / (1 - share))
        back = share * math.log(share / 0.55) + (1 - share) * math.log((1 - share) / 0.45)
        found.append((forth + back) / 2)
    assert method.distances.tolist() == pytest.approx(found, rel=1e-4)
    assert method.tau.item() == 2  # until the epoch ends
    method.end_epoch(0)
    share = math.exp(found[0]) / sum(math.exp(each) for each in found)
    assert method.tau.item() == pytest.approx(2 * share, rel=1e-5)
    assert method.steps == 0 and method.distances.tolist() == [0, 0, 0]


def test_tau_stays_where_no_answer_was_sure():
    method = method_of([3.0, 1.0], threshold=0.9)
    see(method, torch.full((4, 2, 2), 0.5))
    method.end_epoch(0)
    assert method.tau.item() == 2 and method.law.tolist() == [0.5, 0.5]


@settings(max_examples=25)
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=8))
def test_reversed_law_is_of_the_same_shares_in_the_opposite_order(counts):
    law = torch.tensor(counts, dtype=torch.float64)
    law = law / law.sum()
    found = reversed_law(law)
    assert torch.equal(found.sort().values, law.sort().values)
    for i in range(len(law)):
        for j in range(len(law)):
            if law[i] > law[j]:
                assert found[i] <= found[j]


@settings(max_examples=25)
@given(
    st.lists(st.floats(0.05, 1), min_size=3, max_size=3), st.lists(st.floats(0.05, 1), min_size=3, max_size=3)
)
def test_symmetric_divergence_is_the_mean_of_both_directions(one, other):
    p, q = (torch.tensor(x, dtype=torch.float64) / sum(x) for x in (one, other))
    forth, back = (p * (p / q).log()).sum(), (q * (q / p).log()).sum()
    assert symmetric_divergence(p, q[None]).item() == pytest.approx(((forth + back) / 2).item(), abs=1e-12)


def test_adjustment_follows_the_law_of_the_unlabelled_images():
    """Consistent: tau near 0; uniform between; reversed near 2, and then the rare classes are found."""
    counts, found, rare = [150, 50, 20, 8, 5], {}, {}
    laws = {"consistent": [300, 100, 40, 15, 10], "uniform": [93] * 5, "reversed": [10, 15, 40, 100, 300]}
    for name, unlabelled in laws.items():
        data = gaussians(counts, unlabelled, spread=0.45)
        method = train_directly(AdaptiveConsistency(data.task(), threshold=0.8), data)
        plain = train_directly(Method(data.task(adjust=False), threshold=0.8), data)
        found[name], rare[name] = method.tau.item(), (recall(method, data)[3:], recall(plain, data)[3:])
    assert found["consistent"] < 0.5 < found["uniform"] < 1.2 < found["reversed"]
    for name in ("uniform", "reversed"):
        ours, theirs = rare[name]
        assert ours.mean() > theirs.mean() + 0.05, name
