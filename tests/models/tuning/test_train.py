"""The training loop learns, is reproducible, and resumes to the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from causalft.errors import CausalFTError
from causalft.models.tuning.train import Recipe, train

X = torch.randn(70, 5, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


def make_model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def batch_loss(model, indices, generator):
    noise = 0.1 * torch.randn(len(indices), 5, generator=generator)
    return nn.functional.cross_entropy(model(X[indices] + noise), Y[indices])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "constant"])
def test_learns_a_separable_problem(optimizer, schedule):
    model = make_model()
    recipe = Recipe(epochs=15, batch_size=16, lr=0.05, optimizer=optimizer, schedule=schedule)
    history = train(model, 70, batch_loss, recipe, progress=False)
    assert len(history.losses) == 15
    assert history.losses[-1] < 0.5 * history.losses[0]
    assert (model.eval()(X).argmax(1) == Y).float().mean() > 0.9


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_killed_run_resumes_to_the_same_weights(tmp_path, optimizer):
    recipe = Recipe(epochs=6, batch_size=16, lr=0.05, optimizer=optimizer)
    whole = make_model()
    expected = train(whole, 70, batch_loss, recipe, progress=False)

    checkpoint = tmp_path / "part.safetensors"
    killed = make_model()
    calls = 0

    def dies_in_fourth_epoch(model, indices, generator):
        nonlocal calls
        calls += 1
        if calls > 3 * 5 + 2:
            raise KeyboardInterrupt
        return batch_loss(model, indices, generator)

    with pytest.raises(KeyboardInterrupt):
        train(killed, 70, dies_in_fourth_epoch, recipe, progress=False, checkpoint=checkpoint)
    assert checkpoint.exists()

    resumed = make_model()
    history = train(resumed, 70, batch_loss, recipe, progress=False, checkpoint=checkpoint)
    assert history.losses == expected.losses
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert not checkpoint.exists()


def test_channels_last_weights_are_checkpointed(tmp_path):
    pictures = torch.randn(24, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    recipe = Recipe(epochs=2, batch_size=12, lr=0.1)

    def convolution() -> nn.Module:
        torch.manual_seed(5)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 1)).to(
            memory_format=torch.channels_last
        )

    steps = 0

    def dies_in_second_epoch(model, indices, generator):
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt
        return model(pictures[indices]).square().mean()

    checkpoint = tmp_path / "part.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(convolution(), 24, dies_in_second_epoch, recipe, progress=False, checkpoint=checkpoint)
    whole, resumed = convolution(), convolution()

    def loss(model, indices, generator):
        return model(pictures[indices]).square().mean()

    train(whole, 24, loss, recipe, progress=False)
    train(resumed, 24, loss, recipe, progress=False, checkpoint=checkpoint)
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, resumed.state_dict()[name], atol=1e-6), name


def test_checkpoint_of_another_training_is_refused(tmp_path):
    checkpoint = tmp_path / "part.safetensors"
    calls = 0

    def dies(model, indices, generator):
        nonlocal calls
        calls += 1
        if calls > 7:
            raise KeyboardInterrupt
        return batch_loss(model, indices, generator)

    with pytest.raises(KeyboardInterrupt):
        train(
            make_model(),
            70,
            dies,
            Recipe(epochs=3, batch_size=16, lr=0.1),
            progress=False,
            checkpoint=checkpoint,
        )
    with pytest.raises(CausalFTError, match="another training"):
        train(
            make_model(),
            70,
            batch_loss,
            Recipe(epochs=3, batch_size=16, lr=0.2),
            progress=False,
            checkpoint=checkpoint,
        )


def test_frozen_parameters_do_not_move():
    model = make_model()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    train(model, 70, batch_loss, Recipe(epochs=1, batch_size=16, lr=0.1), progress=False)
    assert torch.equal(before, model[0].weight)


def test_refuses_nothing_to_train_and_a_loss_that_blows_up():
    model = make_model().requires_grad_(False)
    with pytest.raises(CausalFTError, match="nothing to train"):
        train(model, 70, batch_loss, Recipe(epochs=1, batch_size=16, lr=0.1), progress=False)
    with pytest.raises(CausalFTError, match="not finite"):
        train(
            make_model(),
            70,
            lambda m, i, g: batch_loss(m, i, g) * float("nan"),
            Recipe(epochs=1, batch_size=16, lr=0.1),
            progress=False,
        )
