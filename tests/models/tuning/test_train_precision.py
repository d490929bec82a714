"""Scaled gradients and autocast do not change the training."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from torch import nn

from causalft.models.tuning import train as module
from causalft.models.tuning.processes import join_processes
from causalft.models.tuning.train import Recipe, train

X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
RECIPE = Recipe(epochs=6, batch_size=16, lr=0.05, grad_clip=0.5, accumulation=2)


def make_model(device: str = "cpu") -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 2)).to(device)


def loss(model, indices, generator):
    device = model[0].weight.device
    return nn.functional.cross_entropy(model(X[indices].to(device)), Y[indices].to(device))


@pytest.fixture
def scaled(monkeypatch):
    """The gradient scaler of fp16, on the CPU."""

    def join(device, precision):
        found = join_processes(device)
        found.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=5)
        return found

    monkeypatch.setattr(module, "join_processes", join)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_scaling_by_powers_of_two_changes_no_bit(monkeypatch, scaled, optimizer):
    recipe = replace(RECIPE, optimizer=optimizer)
    found, expected = make_model(), make_model()
    train(found, 64, loss, recipe, progress=False)
    monkeypatch.undo()
    train(expected, 64, loss, recipe, progress=False)
    for one, other in zip(found.parameters(), expected.parameters()):
        assert torch.equal(one, other)


def test_gradient_scale_is_restored_from_a_checkpoint(tmp_path, scaled):
    checkpoint, calls = tmp_path / "part.safetensors", 0

    def dies(model, indices, generator):
        nonlocal calls
        calls += 1
        if calls == 30:
            raise KeyboardInterrupt
        # an overflow: the step is left out and the scale halved
        factor = 1e36 if calls == 9 else 1.0
        return loss(model, indices, generator) * factor

    with pytest.raises(KeyboardInterrupt):
        train(
            make_model(),
            64,
            dies,
            RECIPE,
            progress=False,
            checkpoint=checkpoint,
            checkpoint_every_seconds=0,
        )
    with safe_open(checkpoint, framework="pt") as file:
        state = json.loads(file.metadata()["scaler"])
    # fourteen steps in two parts: four good, one overflow, five good (doubled), four good
    assert state["scale"] == 2.0**12 and state["_growth_tracker"] == 4
    model = make_model()
    train(model, 64, loss, RECIPE, progress=False, checkpoint=checkpoint)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_on_a_gpu(tmp_path, precision, optimizer):
    recipe = replace(RECIPE, precision=precision, optimizer=optimizer, epochs=20)
    seen = set()

    def record(model, indices, generator):
        logits = model(X[indices].cuda())
        seen.add(logits.dtype)
        return nn.functional.cross_entropy(logits, Y[indices].cuda())

    model = make_model("cuda")
    history = train(
        model,
        64,
        record,
        recipe,
        progress=False,
        checkpoint=tmp_path / "part.safetensors",
        checkpoint_every_seconds=0,
    )
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    assert seen == {kinds[precision]}
    assert history.losses[-1] < 0.5 * history.losses[0]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_full_gpu_halves_the_batch():
    free, _ = torch.cuda.mem_get_info()
    model = make_model("cuda")

    def large(model, indices, generator):
        torch.empty(len(indices) * free // 12, dtype=torch.uint8, device="cuda")
        return loss(model, indices, generator)

    history = train(model, 64, large, replace(RECIPE, accumulation=1), progress=False, say=lambda line: None)
    assert history.notes and "16 samples at once do not fit" in history.notes[0]
