"""A training that is killed, anywhere and repeatedly, ends with the weights of an uninterrupted one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from causalft.errors import CausalFTError
from causalft.models.tuning import train as module
from causalft.models.tuning.train import Recipe, train

X = torch.randn(38, 5, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
RECIPE = Recipe(
    epochs=4, batch_size=8, lr=0.05, optimizer="adamw", warmup_steps=3, grad_clip=1.0, patience=2, seed=4
)
STEPS = 20


class Killed(BaseException):
    """Not an Exception, so that nothing cleans up: as close to a kill as one process can come."""


class Death:
    """Kills at the given call of the loss, of the validation, or of the writing of a checkpoint."""

    def __init__(self, place: str | None = None, call: int = 0) -> None:
        self.place, self.left = place, call

    def at(self, place: str) -> None:
        if place == self.place:
            self.left -= 1
            if self.left < 0:
                raise Killed


def make_model() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def run(checkpoint: Path | None, death: Death, recipe: Recipe = RECIPE):
    model = make_model()

    def batch_loss(model, indices, generator):
        death.at("loss")
        noise = torch.randn(len(indices), 5, generator=generator)
        return nn.functional.cross_entropy(model(X[indices] + noise), Y[indices])

    def validate(model):
        death.at("validate")
        model.eval()
        # best in the second epoch: so the early stop and the best weights take part
        return nn.functional.cross_entropy(model(X), Y).item() + (
            0.0 if model[1].num_batches_tracked == 10 else 1
        )

    def save(*arguments, **keywords):
        death.at("save")
        save_checkpoint(*arguments, **keywords)

    save_checkpoint = module.save_checkpoint
    module.save_checkpoint = save
    try:
        history = train(
            model,
            38,
            batch_loss,
            recipe,
            progress=False,
            validate=validate,
            checkpoint=checkpoint,
            checkpoint_every_seconds=0,
        )
    finally:
        module.save_checkpoint = save_checkpoint
    return model, history


@pytest.fixture(scope="module")
def unbroken():
    return run(None, Death())


def test_uninterrupted_run_stops_early(unbroken):
    _, history = unbroken
    assert history.best_epoch == 1 and len(history.losses) == len(history.validation) == 4


deaths = st.tuples(st.sampled_from(["loss", "save", "validate"]), st.integers(0, 12))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(deaths, min_size=1, max_size=3))
def test_run_killed_repeatedly_ends_with_the_same_weights(unbroken, deaths):
    expected, history = unbroken
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "part.safetensors"
        for place, call in deaths:
            try:
                run(checkpoint, Death(place, call))
            except Killed:
                continue
            break  # it lived to the end
        else:
            model, found = run(checkpoint, Death())
            for name, value in expected.state_dict().items():
                assert torch.equal(value, model.state_dict()[name]), name
            assert (found.losses, found.validation, found.best_epoch) == (
                history.losses,
                history.validation,
                history.best_epoch,
            )
        assert not checkpoint.exists()


@pytest.mark.parametrize("step", [1, 4, 5, 6, 19])
def test_checkpoint_can_be_written_after_every_step(tmp_path, step):
    checkpoint = tmp_path / "part.safetensors"
    with pytest.raises(Killed):
        run(checkpoint, Death("loss", step))
    calls = 0

    def counting(model, indices, generator):
        nonlocal calls
        calls += 1
        return nn.functional.cross_entropy(model(X[indices]), Y[indices])

    train(
        make_model(),
        38,
        counting,
        RECIPE,
        progress=False,
        validate=lambda m: 1 / (1 + calls),
        checkpoint=checkpoint,
    )
    assert calls == STEPS - step


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_train_resume as t
class Slow(t.Death):
    def at(self, place):
        time.sleep(0.05 if place == "loss" else 0)
print("training", flush=True)
t.run(Path(sys.argv[1]), Slow())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
def test_kill_9(tmp_path, unbroken):
    checkpoint = tmp_path / "part.safetensors"
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    process = subprocess.Popen([sys.executable, "-c", script, str(checkpoint)], stdout=subprocess.DEVNULL)
    try:
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.12)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    with safe_open(checkpoint, framework="pt") as file:
        assert file.metadata()["progress"]
    model, _ = run(checkpoint, Death())
    for name, value in unbroken[0].state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": replace(RECIPE, lr=0.01)},
        {"n_samples": 37},
        {"parameter_groups": True},
        {"model": nn.Sequential(nn.Linear(5, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 2))},
        {"model": nn.Linear(5, 2)},
    ],
    ids=["recipe", "samples", "groups", "shape", "model"],
)
def test_checkpoint_of_another_training_is_refused_and_left_alone(tmp_path, change):
    checkpoint = tmp_path / "part.safetensors"
    with pytest.raises(Killed):
        run(checkpoint, Death("loss", 7))
    before = checkpoint.read_bytes()
    settings = {"model": make_model(), "recipe": RECIPE, "n_samples": 38, "parameter_groups": None, **change}
    if settings["parameter_groups"]:
        settings["parameter_groups"] = [(settings["model"][3].parameters(), 10.0)]
    with pytest.raises(CausalFTError, match="another training"):
        train(
            settings["model"],
            settings["n_samples"],
            lambda m, i, g: m(X[i]).square().mean(),
            settings["recipe"],
            validate=lambda m: 0.0,
            progress=False,
            parameter_groups=settings["parameter_groups"],
            checkpoint=checkpoint,
        )
    assert checkpoint.read_bytes() == before


def test_damaged_checkpoint_is_reported(tmp_path):
    checkpoint = tmp_path / "part.safetensors"
    with pytest.raises(Killed):
        run(checkpoint, Death("loss", 3))
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(CausalFTError, match="is damaged"):
        run(checkpoint, Death())


def test_only_what_is_trained_is_saved(tmp_path):
    model = make_model()
    model[0].requires_grad_(False)
    checkpoint = tmp_path / "part.safetensors"

    def dies_second(model, indices, generator):
        if checkpoint.exists():
            raise Killed
        return model(X[indices]).square().mean()

    recipe = Recipe(epochs=1, batch_size=8, lr=0.1)
    with pytest.raises(Killed):
        train(
            model, 38, dies_second, recipe, progress=False, checkpoint=checkpoint, checkpoint_every_seconds=0
        )
    names = set(load_file(checkpoint))
    assert "model/3.weight" in names and "model/1.running_mean" in names and "generator" in names
    assert not any(name.startswith("model/0.") for name in names)
    assert os.listdir(tmp_path) == [checkpoint.name]
