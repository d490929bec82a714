"""What every semi-supervised method owes the loop, whatever its rule."""

from __future__ import annotations

import copy

import pytest
import torch

from causalft.methods.semi.choices import METHODS
from causalft.methods.semi.method import Step
from tests.methods.semi.gaussians import blank, gaussians, same, step, train_directly

NAMES = [name for name, record in METHODS.items() if record.unlabelled]
DATA = gaussians([20, 8, 3], [60, 40, 20])


def made(name, **options):
    method = METHODS[name].make(DATA.task(epochs=4, **options), threshold=0.6)
    if method.needs_blank:
        method.see_blank(blank(method, DATA))
    return method


def state(method):
    return {name: value.clone() for name, value in method.named_buffers()}


@pytest.mark.parametrize("name", NAMES)
def test_state_does_not_depend_on_how_a_batch_is_cut(name):
    """Once a batch as a whole, once in two micro-batches of unlike sizes."""
    whole = train_directly(made(name), DATA, epochs=2)
    parts = copy.deepcopy(whole)
    parts.generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(DATA.unlabelled), generator=torch.Generator().manual_seed(5))[:40]
    with torch.no_grad():
        weak = whole(DATA.unlabelled[rows])
        beliefs = whole.beliefs(weak)
        targets = whole.choose(beliefs, rows)
        known = whole(DATA.labelled)
    for method, cuts in ((whole, [slice(0, 40)]), (parts, [slice(0, 15), slice(15, 40)])):
        method.start_batch()
        for number, part in enumerate(cuts):
            mine = slice(0, None) if len(cuts) == 1 else (slice(0, 11), slice(11, None))[number]
            kept = copy.copy(targets)
            for field, value in vars(targets).items():
                object.__setattr__(kept, field, value[part])
            method.observe(Step(known[mine], DATA.labels[mine], weak[part], beliefs[part], kept, rows[part]))
        method.finish_batch(same)
        method.end_epoch(2)
    for key, value in state(whole).items():
        assert torch.allclose(value.double(), state(parts)[key].double(), atol=1e-6), key


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_that_begins_anew_is_counted_once(name):
    """As when the first try did not fit into memory."""
    first = train_directly(made(name), DATA, epochs=1)
    second = copy.deepcopy(first)
    rows, drawn, labels = torch.arange(30), DATA.labelled[:10], DATA.labels[:10]
    for method, tries in ((first, 1), (second, 2)):
        for _ in range(tries):
            method.start_batch()
            method.generator = torch.Generator().manual_seed(3)
            step(method, DATA, rows, drawn, labels, torch.zeros(30, 16))
        method.finish_batch(same)
        method.end_epoch(1)
    for key, value in state(first).items():
        assert torch.equal(value, state(second)[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_a_process_without_an_image_of_the_batch_sums_with_the_others(name):
    """As often, and with tensors of the same shapes: else the others would wait for it forever."""
    shapes: list[list[tuple[torch.Size, torch.dtype]]] = []
    for seen in (True, False):
        method, found = made(name), []

        def total(tensor, found=found):
            found.append((tensor.shape, tensor.dtype))
            return tensor

        method.start_batch()
        if seen:
            step(method, DATA, torch.arange(30), DATA.labelled[:10], DATA.labels[:10], torch.zeros(30, 16))
        method.finish_batch(total)
        shapes.append(found)
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", NAMES)
def test_weights_and_buffers_are_all_that_a_method_remembers(name):
    """A new one that takes them over goes on alike: what a checkpoint needs."""
    old = train_directly(made(name), DATA, epochs=2)
    new = made(name)
    values = dict(old.named_parameters()) | dict(old.named_buffers())
    with torch.no_grad():
        for key, value in (dict(new.named_parameters()) | dict(new.named_buffers())).items():
            value.copy_(values[key])
    for method in (old, new):
        if method.needs_blank:
            method.see_blank(blank(method, DATA))
        method.generator = torch.Generator().manual_seed(9)
    assert [torch.equal(a, b) for a, b in zip(old.final(), new.final(), strict=True)] == [True, True]
    losses = [
        step(method, DATA, torch.arange(30), DATA.labelled[:10], DATA.labels[:10], torch.zeros(30, 16))
        for method in (old, new)
    ]
    assert torch.equal(*losses)


@pytest.mark.parametrize("name", NAMES)
def test_targets_are_probabilities_and_weights_are_not_negative(name):
    method = train_directly(made(name), DATA, epochs=2)
    with torch.no_grad():
        answers = method(DATA.unlabelled)
        beliefs = method.beliefs(answers)
        targets = method.choose(beliefs, torch.arange(len(DATA.unlabelled)))
    n, heads, n_classes = targets.probabilities.shape
    assert (n, n_classes) == (len(DATA.unlabelled), len(DATA.weight)) and heads > method.main
    assert targets.weights.shape == (n, heads)
    assert torch.allclose(beliefs.sum(-1), torch.ones(()), atol=1e-5)
    assert torch.allclose(targets.probabilities.sum(-1), torch.ones(()), atol=1e-5)
    assert (targets.weights >= 0).all() and (targets.weights > 0).any()
    assert not targets.probabilities.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_the_loss_and_all_stays_finite(name):
    method = made(name)
    rows, noise = torch.arange(len(DATA.unlabelled)), torch.zeros(len(DATA.unlabelled), 16)

    def error() -> float:
        method.generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            return method.labelled_loss(method(DATA.labelled), DATA.labels).item()

    before = error()
    train_directly(method, DATA)
    if method.needs_blank:
        method.see_blank(blank(method, DATA))
    assert error() < before
    loss = step(method, DATA, rows, DATA.labelled, DATA.labels, noise)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(value.double()).all() for value in state(method).values())
