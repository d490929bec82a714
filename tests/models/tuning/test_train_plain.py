"""By default the loop equals a plain PyTorch loop, bit for bit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from causalft.models.tuning.train import Recipe, train

X = torch.randn(70, 5, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()

# Mean loss of the last epoch, sums of the weights; recorded with the loop as it was before it stood on accelerate.
RECORDED = {
    ("sgd", "cosine"): (0.5326469242572784, -4.255223097279668, 3.0325235053896904),
    ("sgd", "onecycle"): (0.5217101395130157, -4.242106469348073, 3.1295297630131245),
    ("sgd", "constant"): (0.46294830441474916, -4.03236726205796, 4.156620750203729),
    ("adamw", "cosine"): (0.33019731640815736, -4.172860578168184, 4.319361634552479),
    ("adamw", "onecycle"): (0.34874303340911866, -4.518327356316149, 4.1904374826699495),
    ("adamw", "constant"): (0.2301446259021759, -4.23312168661505, 6.195780523121357),
}


def make_model() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def batch_loss(model, indices, generator):
    noise = 0.1 * torch.randn(len(indices), 5, generator=generator)
    return nn.functional.cross_entropy(model(X[indices] + noise), Y[indices])


def recipe_of(optimizer: str, schedule: str) -> Recipe:
    return Recipe(
        epochs=3,
        batch_size=16,
        lr=0.05,
        optimizer=optimizer,
        schedule=schedule,
        grad_clip=1.0 if schedule == "cosine" else None,
        nesterov=optimizer == "sgd" and schedule == "constant",
    )


def plain_loop(model: nn.Module, recipe: Recipe) -> list[float]:
    """Three epochs of 70 samples: four full batches and one of six."""
    parameters = list(model.parameters())
    if recipe.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            parameters, lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=recipe.nesterov
        )
    else:
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 5e-4},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=0.05, betas=(0.9, 0.98))
    losses = []
    for epoch in range(3):
        generator = torch.Generator().manual_seed(epoch)
        order = torch.randperm(70, generator=generator)
        total = 0.0
        for number in range(5):
            t = (5 * epoch + number) / 15
            rising = recipe.schedule == "onecycle" and t < 0.25
            if recipe.schedule == "constant":
                factor = 1.0
            elif recipe.schedule == "cosine":
                factor = 0.5 * (1 + math.cos(math.pi * t))
            else:
                factor = (
                    0.04 + 0.96 * t / 0.25 if rising else 0.5 * (1 + math.cos(math.pi * (t - 0.25) / 0.75))
                )
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * factor
            loss = batch_loss(model, order[16 * number : 16 * (number + 1)], generator)
            optimizer.zero_grad()
            loss.backward()
            if recipe.grad_clip is not None:
                nn.utils.clip_grad_norm_(parameters, recipe.grad_clip)
            optimizer.step()
            total += loss.item()
        losses.append(total / 5)
    return losses


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "constant"])
def test_training_loop_equals_a_plain_loop_bit_for_bit(optimizer, schedule):
    recipe = recipe_of(optimizer, schedule)
    expected, trained = make_model(), make_model()
    losses = plain_loop(expected, recipe)
    history = train(trained, 70, batch_loss, recipe, progress=False)
    assert history.losses == losses
    for name, value in expected.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]), name
    found = (
        losses[-1],
        trained[0].weight.double().sum().item(),
        trained[3].weight.double().abs().sum().item(),
    )
    assert found == pytest.approx(RECORDED[optimizer, schedule], rel=1e-4)
