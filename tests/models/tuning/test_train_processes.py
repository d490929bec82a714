"""Two processes end with the weights of one, and trainings do not affect each other."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from causalft.errors import CausalFTError
from causalft.models.tuning.processes import (
    Processes,
    is_main_process,
    join_processes,
    local_device,
    pick_device,
)
from causalft.models.tuning.recipe import Recipe

SCRIPT = Path(__file__).parent / "two_processes.py"
spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
scenes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scenes)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return scenes.run_all(tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """The folder of two CPU processes under accelerate launch."""
    folder = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines=1", "--mixed_precision=no"]
    # --multi_gpu starts processes of PyTorch's launcher; where the models are on the CPU, they talk through gloo.
    launch += ["--multi_gpu", "--num_processes=2", "--main_process_port=0", "--dynamo_backend=no"]
    done = subprocess.run(
        [*launch, str(SCRIPT), str(folder)],
        capture_output=True,
        text=True,
        timeout=850,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not done.stdout.strip()
    return folder


@pytest.mark.parametrize("scene", ["uneven", "adamw", "one_sample", "mean_feature", "early_stop", "resumed"])
def test_two_processes_end_with_the_weights_of_one(alone, launched, scene):
    first, second = (load_file(launched / f"2-{rank}.safetensors") for rank in (0, 1))
    names = [name for name in alone if name.startswith(f"{scene}/")]
    assert len(names) >= 10
    for name in names:
        assert torch.equal(first[name], second[name]), name
        assert (alone[name].double() - first[name].double()).abs().max() <= 1e-5, name
    start = scenes.Model(seed=0)
    assert (first[f"{scene}/first.weight"] - start.first.weight).abs().max() > 0.05
    assert torch.equal(first[f"{scene}/unused.weight"], start.unused.weight)


def test_process_shares_are_augmented_differently(alone, launched):
    first, second = (load_file(launched / f"2-{rank}.safetensors")["augmented/more/draw"] for rank in (0, 1))
    assert torch.equal(first, alone["augmented/more/draw"])
    assert not torch.isclose(first, second).any()


def test_processes_stop_early_together(alone, launched):
    assert alone["stops/more/calls"] == 4
    for rank in (0, 1):
        assert load_file(launched / f"2-{rank}.safetensors")["stops/more/calls"] == 4


@pytest.mark.parametrize("what", ["pieces", "array", "kept"])
def test_both_processes_have_all_rows_that_they_share(alone, launched, what):
    for rank in (0, 1):
        found = load_file(launched / f"2-{rank}.safetensors")[f"shared/more/{what}"]
        assert torch.equal(found, alone[f"shared/more/{what}"])
    assert len(alone["shared/more/pieces"]) == 37 and alone["shared/more/kept"][20] == 400


def test_only_the_first_process_writes(launched):
    assert sorted(path.name for path in launched.iterdir()) == ["2-0.safetensors", "2-1.safetensors", "log"]
    assert len(list((launched / "log").iterdir())) == 1


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 5, 16])
def test_shares_are_disjoint_complete_and_even(count, n):
    batch = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    shares = [
        Processes(torch.device("cpu"), rank, count, None, None).share(batch)  # type: ignore[arg-type]
        for rank in range(count)
    ]
    assert torch.equal(torch.cat(shares), batch)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_generators_of_other_processes_need_no_state():
    recipe, epoch = Recipe(epochs=1, batch_size=1, lr=1.0, seed=3), torch.Generator()
    cpu = torch.device("cpu")
    first, second, third = (Processes(cpu, rank, 3, None) for rank in range(3))  # type: ignore[arg-type]
    assert first.generator(epoch, recipe, 5) is epoch
    draws = {
        tuple(torch.rand(2, generator=process.generator(epoch, recipe, step)).tolist())
        for process in (second, third)
        for step in range(20)
    }
    assert len(draws) == 40
    again = second.generator(epoch, recipe, 7)
    assert torch.equal(again.get_state(), second.generator(epoch, recipe, 7).get_state())


def test_a_users_own_accelerator_and_other_settings_stay_possible():
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    held = dict(AcceleratorState._shared_state), dict(PartialState._shared_state)
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        join_processes(torch.device("cpu"))
        assert AcceleratorState._shared_state == {} and PartialState._shared_state == {}
        own = Accelerator(cpu=True, mixed_precision="bf16")
        before = dict(AcceleratorState._shared_state)
        assert join_processes(torch.device("cpu"), "fp16").scaler is None
        assert AcceleratorState._shared_state == before and own.mixed_precision == "bf16"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        AcceleratorState._shared_state.update(held[0])
        PartialState._shared_state.update(held[1])


def test_trainings_in_threads_are_independent():
    models = [scenes.Model(seed=0) for _ in range(4)]

    def work(model):
        scenes.train(model, 70, scenes.loss, Recipe(epochs=4, batch_size=16, lr=0.1), progress=False)

    threads = [threading.Thread(target=work, args=(model,)) for model in models[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    work(models[0])
    assert all(torch.equal(model.first.weight, models[0].first.weight) for model in models[1:])


def test_the_environment_does_not_change_the_gradient(monkeypatch):
    expected, found = scenes.Model(0), scenes.Model(0)
    recipe = Recipe(epochs=1, batch_size=16, lr=0.1)
    scenes.train(expected, 70, scenes.loss, recipe, progress=False)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    scenes.train(found, 70, scenes.loss, recipe, progress=False)
    assert torch.equal(expected.first.weight, found.first.weight)


def test_processes_that_cannot_connect_are_a_one_line_error(monkeypatch):
    for name, value in {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
        "MASTER_PORT": "not a port",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert not is_main_process()
    with warnings.catch_warnings(), pytest.raises(CausalFTError, match="could not be set up") as caught:
        warnings.simplefilter("ignore")
        join_processes(torch.device("cpu"))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_device_is_the_cpu():
    assert local_device() == torch.device("cpu")


def test_under_a_launcher_cuda_is_the_gpu_of_the_process(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert pick_device("cuda") == pick_device("auto") == torch.device("cuda:2")
    assert pick_device("cuda:1") == torch.device("cuda:1")


def test_importing_the_loop_does_not_import_accelerate():
    heavy = ("accelerate", "tensorboard")
    code = f"import sys, causalft.models.tuning.train; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
