"""Validation after every epoch, and early stopping at the best weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from causalft.errors import CausalFTError
from causalft.models.tuning.train import Recipe, train

X = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
RECIPE = Recipe(epochs=8, batch_size=8, lr=0.05)


def loss(model, indices, generator):
    return (model(X[indices]) - 1).square().mean()


def run(values, recipe):
    """Train with the given validation values; return model, history and the weights after each epoch."""
    torch.manual_seed(0)
    model, seen = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 1)).train(), []

    def validate(model):
        assert not torch.is_grad_enabled()
        seen.append(model[0].weight.detach().clone())
        model.eval()
        return values[len(seen) - 1]

    torch.manual_seed(1)
    history = train(model, 24, loss, recipe, progress=False, validate=validate)
    assert all(module.training for module in model.modules())
    return model, history, seen


@pytest.mark.parametrize(
    ("values", "patience", "epochs", "best"),
    [
        ([3, 2, 2.5, 2, 1, 0, 0, 0], 2, 4, 1),  # an equal value is no improvement
        ([3, 2, 2.5, 2, 1, 0, 0, 0], 3, 8, 5),
        ([8, 7, 6, 5, 4, 3, 2, 1], 1, 8, 7),
        ([1, float("nan"), 2, 0, 0, 0, 0, 0], 2, 3, 0),
        ([float("nan"), 5, 6, 7, 0, 0, 0, 0], 2, 4, 1),
        ([float("nan")] * 8, 3, 3, None),
    ],
)
def test_early_stop_keeps_the_best_weights(values, patience, epochs, best):
    model, history, seen = run(values, replace(RECIPE, patience=patience))
    assert len(history.losses) == len(history.validation) == len(seen) == epochs
    assert history.best_epoch == best
    assert torch.equal(model[0].weight, seen[-1 if best is None else best])


def test_validation_without_patience_is_only_recorded():
    model, history, seen = run([1, 2, 3, 4, 5, 6, 7, 8], RECIPE)
    assert history.validation == [1, 2, 3, 4, 5, 6, 7, 8] and history.best_epoch == 0
    assert torch.equal(model[0].weight, seen[-1])


def test_patience_without_validation_is_refused():
    with pytest.raises(CausalFTError, match="needs validation"):
        train(nn.Linear(4, 1), 24, loss, replace(RECIPE, patience=2), progress=False)
