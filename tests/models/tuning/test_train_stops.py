"""A non-finite loss stops the training and never reaches the checkpoint."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from causalft.errors import CausalFTError
from causalft.models.tuning.checkpoint import LossWatch
from causalft.models.tuning.train import Recipe, train

X = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
RECIPE = Recipe(epochs=3, batch_size=8, lr=0.05)


class Blows:
    """Multiplies the loss of one call."""

    def __init__(self, call: int, factor: float) -> None:
        self.left, self.factor = call, factor

    def __call__(self, model, indices, generator):
        self.left -= 1
        return model(X[indices]).square().mean() * (self.factor if self.left == 0 else 1.0)


def run(loss, recipe=RECIPE, **settings):
    torch.manual_seed(0)
    model = nn.Linear(5, 2)
    train(model, 40, loss, recipe, progress=False, **settings)
    return model


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
@pytest.mark.parametrize("call", [1, 7, 15])
def test_non_finite_loss_stops_at_its_step_with_advice(tmp_path, call, factor):
    checkpoint = tmp_path / "part.safetensors"
    loss = Blows(call, factor)
    with pytest.raises(CausalFTError) as caught:
        run(loss, checkpoint=checkpoint, checkpoint_every_seconds=0)
    message = str(caught.value)
    assert f"step {call} of 15, in epoch {(call - 1) // 5 + 1};" in message and "\n" not in message
    assert "lower the learning rate (now 0.05)" in message and "fp32" not in message
    assert loss.left == 0  # at once
    assert checkpoint.exists() == (call > 1)
    if call > 1:
        assert f"keeps the state after step {call - 1}" in message
        assert all(torch.isfinite(value).all() for value in load_file(checkpoint).values())
        good = run(lambda m, i, g: m(X[i]).square().mean(), checkpoint=checkpoint)
        assert torch.equal(good.weight, run(lambda m, i, g: m(X[i]).square().mean()).weight)


class BadGradient(torch.autograd.Function):
    """A finite loss with a gradient that is not."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


@pytest.mark.parametrize(("call", "step"), [(6, 7), (15, 15)])
def test_non_finite_weights_are_not_checkpointed(tmp_path, call, step):
    checkpoint, left = tmp_path / "part.safetensors", call

    def loss(model, indices, generator):
        nonlocal left
        left -= 1
        found = model(X[indices]).square().mean()
        return BadGradient.apply(found) if left == 0 else found

    with pytest.raises(CausalFTError, match=f"not finite.* at step {step} of 15"):
        run(loss, checkpoint=checkpoint, checkpoint_every_seconds=0)
    assert all(torch.isfinite(value).all() for value in load_file(checkpoint).values())


def test_on_a_gpu_losses_are_read_in_blocks_and_the_step_is_still_known():
    recipe = Recipe(epochs=2, batch_size=1, lr=0.1, grad_clip=1.0, precision="bf16")
    watch = LossWatch(recipe, "training", 100, torch.device("cuda"))
    taken = [watch.take(torch.tensor(float(step)), 1) for step in range(60)]
    assert [step for step, value in enumerate(taken) if value] == [49] and taken[49] == sum(range(50))
    assert watch.read() == sum(range(50, 60)) and watch.seen == 60
    for step in range(60, 70):
        watch.take(torch.tensor(float("nan") if step == 66 else 1.0), 1)
    with pytest.raises(
        CausalFTError, match=r"at step 67 of 200, in epoch 1; .*rate \(now 0.1\) or train in fp32$"
    ):
        watch.read()
