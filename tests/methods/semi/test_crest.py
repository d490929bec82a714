"""CReST against numbers by hand; more of the rare classes join the labelled images."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.errors import CausalFTError
from causalft.methods.semi.crest import AlignedRebalancing, ClassRebalancing, aligned, sampling_rates
from causalft.methods.semi.method import Answers, Method, Step, Targets, Task
from tests.methods.semi.gaussians import gaussians, recall, same, train_directly


def method_of(counts, n=8, epochs=10, **options) -> ClassRebalancing:
    task = Task(torch.tensor(counts), torch.eye(len(counts)), n, epochs)
    return ClassRebalancing(task, **options)


def show(method, rows, confidences, classes, total=same) -> None:
    """One batch of weak views of two classes."""
    sure = torch.tensor(confidences, dtype=torch.float32)[:, None]
    one_hot = torch.nn.functional.one_hot(torch.tensor(classes), 2).float()
    beliefs = (sure * one_hot + (1 - sure) * (1 - one_hot))[:, None]
    empty = Answers(torch.zeros(0, 2), torch.zeros(0, 1, 2))
    method.start_batch()
    targets = Targets(beliefs, torch.zeros(len(rows), 1))
    labels = torch.zeros(0, dtype=torch.int64)
    method.observe(Step(empty, labels, empty, beliefs, targets, torch.tensor(rows)))
    method.finish_batch(total)


def test_rates_are_those_of_the_paper():
    """CIFAR-10-LT of imbalance 100: all of the rarest class, (1/100)^(1/3) = 21.5 % of the most frequent one."""
    counts = 1500 * 100 ** (-torch.arange(10.0) / 9)
    rates = sampling_rates(counts, 1 / 3)
    assert rates[0].item() == pytest.approx(0.2154, abs=1e-3) and rates[-1] == 1
    assert torch.allclose(rates, (counts.flip(0) / counts[0]) ** (1 / 3))


@settings(max_examples=25)
@given(st.lists(st.integers(1, 500), min_size=2, max_size=6))
def test_rarer_classes_have_higher_rates(counts):
    found = sampling_rates(torch.tensor(counts, dtype=torch.float64), 1 / 3)
    assert found.max() == 1 and (found > 0).all()
    for i in range(len(counts)):
        for j in range(len(counts)):
            if counts[i] > counts[j]:
                assert found[i] <= found[j]


def test_the_most_confident_of_each_class_join():
    """Counts 8 and 1: half of the five images of class 0, so two, and both of class 1, however unsure."""
    method = method_of([8.0, 1.0])
    assert method.rates.tolist() == pytest.approx([0.5, 1.0])
    show(method, [0, 1, 2, 3], [0.7, 0.9, 0.6, 0.8], [0, 0, 0, 0])
    show(method, [4, 5, 6], [0.55, 0.51, 0.99], [0, 1, 1])
    method.next_generation()
    # Image 7 was never shown.
    assert method.joined.tolist() == [-1, 0, -1, 0, -1, 1, 1, -1]
    assert method.log_prior.exp().tolist() == pytest.approx([10 / 13, 3 / 13])


def test_an_image_counts_with_its_last_answer_and_is_chosen_anew():
    method = method_of([8.0, 1.0])
    show(method, [0, 1], [0.9, 0.8], [1, 1])
    method.next_generation()
    assert method.joined[:2].tolist() == [1, 1]
    show(method, [0], [0.6], [0])
    method.next_generation()
    assert method.joined[:2].tolist() == [-1, 1]  # half of one image of class 0 is none


@pytest.mark.parametrize(
    ("epochs", "generations", "after"),
    [(10, 6, [2, 3, 5, 7, 8]), (6, 3, [2, 4]), (3, 6, [1, 2]), (5, 1, [])],
)
def test_generations_are_spans_of_epochs(epochs, generations, after, monkeypatch):
    method, ends = method_of([8.0, 1.0], epochs=epochs, generations=generations), []
    for number in range(epochs):
        monkeypatch.setattr(method, "next_generation", lambda number=number: ends.append(number + 1))
        method.end_epoch(number)
    assert ends == after


def test_state_is_the_sum_over_processes():
    """Two processes, each of which sees half of the batch, end alike."""
    whole, halves = method_of([8.0, 1.0]), [method_of([8.0, 1.0]) for _ in range(2)]
    rows, sure, classes = [5, 2, 7, 0], [0.6, 0.7, 0.8, 0.9], [1, 0, 1, 0]
    show(whole, rows, sure, classes)
    sent: list[torch.Tensor] = []

    def keep(tensor):
        sent.append(tensor)
        return tensor

    for number, each in enumerate(halves):
        part = slice(2 * number, 2 * number + 2)
        show(each, rows[part], sure[part], classes[part], keep)
    for number, each in enumerate(halves):
        part = slice(2 * number, 2 * number + 2)
        show(each, rows[part], sure[part], classes[part], lambda _: sum(sent))
        assert torch.allclose(each.confidence, whole.confidence) and torch.equal(each.guesses, whole.guesses)


def test_more_of_the_rare_classes_join_and_their_recall_rises():
    data = gaussians([120, 40, 15, 5, 3], [240, 80, 30, 30, 30], spread=0.4)
    method = train_directly(ClassRebalancing(data.task(adjust=False), threshold=0.9), data)
    plain = train_directly(Method(data.task(adjust=False), threshold=0.9), data)
    joined = method.joined >= 0
    share = torch.bincount(method.joined[joined], minlength=5) / torch.bincount(data.hidden)
    assert share[0] < 0.4 and share[3:].min() > 0.5
    assert (method.joined == data.hidden)[joined & (method.joined < 2)].double().mean() > 0.95
    assert recall(method, data)[3:].mean() > recall(plain, data)[3:].mean() + 0.05


def plus(counts=(3.0, 1.0), **options) -> AlignedRebalancing:
    task = Task(torch.tensor(counts), torch.eye(len(counts)), 8, 10)
    return AlignedRebalancing(task, **options)


def test_crest_plus_moves_the_mean_belief_towards_the_labelled_law():
    """Labels 3 : 1, beliefs 1 : 1 on average: probabilities of .6 and .4 become .6 * .75 and .4 * .25, normalised."""
    method = plus(threshold=0.8)
    beliefs = torch.tensor([[[0.6, 0.4]], [[0.4, 0.6]]])
    assert method.choose(beliefs, torch.arange(2)).weights[:, 0].tolist() == [0, 0]  # no average yet
    show(method, [0, 1], [0.6, 0.6], [0, 1])
    assert method.belief.tolist() == pytest.approx([0.5, 0.5])
    found = aligned(beliefs, method.belief, method.label_law**method.exponent)
    assert found[:, 0].flatten().tolist() == pytest.approx([9 / 11, 2 / 11, 2 / 3, 1 / 3])
    targets = method.choose(beliefs, torch.arange(2))
    assert targets.weights[:, 0].tolist() == [1, 0] and targets.probabilities[:, 0].argmax(1).tolist() == [
        0,
        0,
    ]


def test_crest_plus_aligns_less_in_each_generation():
    """t falls linearly from 1 to t_min: with one half, the labels 3 : 1 become sqrt(3) : 1 in the last generation."""
    method, found = plus(generations=6), []
    for _ in range(6):
        found.append(method.exponent)
        method.next_generation()
    assert found == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
    method.generation.fill_(5)
    even = aligned(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.5]), method.label_law**method.exponent)
    assert (even[0] / even[1]).item() == pytest.approx(3**0.5)
    assert plus(generations=1).exponent == 1.0


def test_crest_plus_averages_beliefs_over_steps():
    method = plus(decay=0.75)
    show(method, [0, 1], [0.6, 0.8], [0, 1])  # mean (.4, .6): the first step is the average
    show(method, [2], [0.8], [0])
    assert method.belief.tolist() == pytest.approx([0.5, 0.5])
    assert method.guesses[:3].tolist() == [0, 1, 0]  # by beliefs that are not aligned


def test_beliefs_of_crest_plus_are_pulled_towards_the_labelled_law_to_the_power_t():
    """Even where the unlabelled images do not: their shares are equal."""
    data = gaussians([120, 40, 15, 5, 3], [60] * 5, spread=0.4)
    method = train_directly(AlignedRebalancing(data.task(adjust=False, scale=5.0)), data, epochs=4)
    wanted = method.label_law**method.exponent
    with torch.no_grad():
        beliefs = method.beliefs(method(data.unlabelled))[:, 0]
    moved = aligned(beliefs, method.belief, wanted)
    far, near = ((each.mean(0) - wanted / wanted.sum()).abs().sum() for each in (beliefs, moved))
    assert 0 < method.generation < 5 and near < 0.3 and far > 0.6


def test_fewer_than_one_generation_names_the_method():
    with pytest.raises(CausalFTError, match="generations is 0; give 1 or more"):
        plus(generations=0)
