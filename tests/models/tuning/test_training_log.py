"""TensorBoard gets the curves of a training once per step, also after an interruption."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from causalft.errors import CausalFTError
from causalft.models.tuning.recipe import lr_factor
from causalft.models.tuning.train import Recipe, train

X = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
RECIPE = Recipe(epochs=4, batch_size=4, lr=0.05)


def loss(model, indices, generator):
    return (model(X[indices]) - 1).square().mean()


def run(folder, loss=loss, **settings):
    torch.manual_seed(0)
    return train(nn.Linear(4, 1), 24, loss, RECIPE, progress=False, log_dir=folder, **settings)


def curves(folder):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = event_accumulator.EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]
    }


def test_tensorboard_curves_match_the_training(tmp_path):
    pytest.importorskip("tensorboard")
    history = run(tmp_path, validate=lambda model: 7.0)
    found = curves(tmp_path)
    assert set(found) == {"loss", "learning rate", "images per second", "validation"}
    assert [step for step, _ in found["loss"]] == list(range(24))
    values = torch.tensor([value for _, value in found["loss"]]).view(4, 6).mean(1)
    assert values.tolist() == pytest.approx(history.losses, rel=1e-5)
    rates = [0.05 * lr_factor(RECIPE, step, 6) for step in range(24)]
    assert [value for _, value in found["learning rate"]] == pytest.approx(rates, rel=1e-5)
    assert found["validation"] == [(5, 7.0), (11, 7.0), (17, 7.0), (23, 7.0)]
    assert all(value > 0 for _, value in found["images per second"])


def test_resumed_training_continues_its_curves(tmp_path):
    pytest.importorskip("tensorboard")
    calls, checkpoint = 0, tmp_path / "part.safetensors"

    def dies(model, indices, generator):
        nonlocal calls
        calls += 1
        if calls == 10:
            raise KeyboardInterrupt
        return loss(model, indices, generator)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "log", dies, checkpoint=checkpoint)
    run(tmp_path / "log", checkpoint=checkpoint)
    run(tmp_path / "whole")
    assert curves(tmp_path / "log")["loss"] == curves(tmp_path / "whole")["loss"]


def test_without_tensorboard_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(CausalFTError, match=r"pip install 'causalft\[tensorboard\]'"):
        run(tmp_path)
