"""Schedules, parameter groups, samplers and precision of a recipe, and its refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from causalft.errors import CausalFTError
from causalft.models.tuning.recipe import lr_factor, make_optimizer
from causalft.models.tuning.train import Recipe, train

X = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
RECIPE = Recipe(epochs=10, batch_size=8, lr=0.1)


def loss(model, indices, generator):
    return (model(X[indices]) - 1).square().mean()


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))


def test_warm_up_is_linear_and_then_cosine():
    recipe = replace(RECIPE, warmup_epochs=2.0)
    rates = [lr_factor(recipe, step, 5) for step in range(50)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    whole = replace(RECIPE, epochs=8)
    assert rates[10:] == pytest.approx([lr_factor(whole, step, 5) for step in range(40)])
    assert rates == [lr_factor(replace(RECIPE, warmup_steps=10), step, 5) for step in range(50)]


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "constant"])
def test_every_schedule_stays_between_zero_and_one(schedule):
    rates = [lr_factor(replace(RECIPE, schedule=schedule), step, 5) for step in range(50)]
    assert 0 < min(rates) and max(rates) <= 1.0 and max(rates) > 0.99


def test_step_schedule_falls_at_its_milestones():
    recipe = replace(RECIPE, schedule="step", milestones=(4, 8), decay=0.5, warmup_steps=1)
    rates = [lr_factor(recipe, step, 5) for step in range(50)]
    assert rates == [0.5] + [1.0] * 19 + [0.5] * 20 + [0.25] * 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs 0 is out of range; give a whole number from 1"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"optimizer": "adam"}, "did you mean 'adamw'"),
        ({"precision": "bf61"}, "did you mean 'bf16'"),
        ({"accumulation": 0}, "accumulation 0 is out of range"),
        ({"patience": 0}, "patience 0 is out of range"),
        ({"warmup_steps": 1, "warmup_epochs": 1.0}, "given twice"),
        ({"warmup_steps": -1}, "cannot be negative"),
        ({"warmup_epochs": 10.0}, "nothing is left after a warm-up of 50 of 50 steps"),
        ({"schedule": "onecycle", "warmup_steps": 1}, "its own warm-up"),
        ({"schedule": "step"}, "belong together"),
        ({"milestones": (3,)}, "belong together"),
    ],
)
def test_invalid_recipes_are_refused_in_one_line(change, message):
    model = make_model()
    before = model[0].weight.clone()
    with pytest.raises(CausalFTError, match=message) as caught:
        train(model, 40, loss, replace(RECIPE, **change), progress=False, validate=lambda m: 0.0)
    assert "\n" not in str(caught.value)
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_group_has_its_own_learning_rate(optimizer):
    recipe = replace(RECIPE, optimizer=optimizer, momentum=0.0, weight_decay=0.0, epochs=1, batch_size=40)
    plain, grouped = make_model(), make_model()
    start = make_model()
    train(plain, 40, loss, recipe, progress=False)
    train(grouped, 40, loss, recipe, progress=False, parameter_groups=[(grouped[2].parameters(), 10.0)])
    for part, factor in ((0, 1.0), (2, 10.0)):
        for one, other, zero in zip(
            plain[part].parameters(), grouped[part].parameters(), start[part].parameters()
        ):
            assert torch.allclose(other - zero, factor * (one - zero), rtol=1e-4, atol=1e-7)


def test_weight_decay_spares_vectors_in_every_group():
    model = make_model()
    optimizer = make_optimizer(
        list(model.parameters()),
        replace(RECIPE, optimizer="adamw", weight_decay=0.3),
        [(model[2].parameters(), 2.0)],
    )
    for group in optimizer.param_groups:
        assert {group["weight_decay"]} == {0.3 if p.ndim > 1 else 0.0 for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (lambda m: [(m[2].parameters(), 1.0), ([m[2].bias], 2.0)], "two groups"),
        (lambda m: [([nn.Parameter(torch.zeros(1))], 2.0)], "not one of the model"),
        (lambda m: [([m[2].bias], 0.0)], "not positive"),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups, message):
    model = make_model()
    with pytest.raises(CausalFTError, match=message):
        train(model, 40, loss, RECIPE, progress=False, parameter_groups=groups(model))


def test_frozen_parameters_of_a_group_are_ignored():
    model = make_model()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    train(model, 40, loss, RECIPE, progress=False, parameter_groups=[(model.parameters(), 2.0)])
    assert torch.equal(model[0].weight, before)


def test_a_sampler_orders_the_epochs_and_is_seeded_by_them():
    seen = []

    def record(model, indices, generator):
        seen.append(indices)
        return loss(model, indices, generator)

    def twice(generator):
        return torch.randint(20, (40,), generator=generator)

    recipe = replace(RECIPE, epochs=2, seed=7)
    train(make_model(), 40, record, recipe, progress=False, sampler=twice)
    epochs = torch.cat(seen).view(2, 40)
    expected = [twice(torch.Generator().manual_seed(7 * 1_000_003 + epoch)) for epoch in (0, 1)]
    assert torch.equal(epochs, torch.stack(expected)) and epochs.max() < 20


@pytest.mark.parametrize(
    "indices", [torch.arange(39), torch.arange(1, 41), torch.arange(40) - 1, torch.arange(40).view(2, 20)]
)
def test_invalid_sampler_output_is_refused(indices):
    with pytest.raises(CausalFTError, match="the sampler must give 40 indices"):
        train(make_model(), 40, loss, RECIPE, progress=False, sampler=lambda generator: indices)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_precision_has_no_effect_on_a_cpu(precision):
    plain, lower = make_model(), make_model()
    train(plain, 40, loss, RECIPE, progress=False)
    train(lower, 40, loss, replace(RECIPE, precision=precision), progress=False)
    assert torch.equal(plain[0].weight, lower[0].weight)
