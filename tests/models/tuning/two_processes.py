"""Small trainings for one or several processes, launched by test_train_processes.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from causalft.errors import CausalFTError
from causalft.models.tuning.heads.tde import TDEHead
from causalft.models.tuning.processes import is_main_process, join_processes, local_device
from causalft.models.tuning.team import work_together
from causalft.models.tuning.train import Recipe, train

X = torch.randn(70, 5, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


class Model(nn.Module):
    """Has a layer that is never used, a buffer that counts, and weights in the channels-last order."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.unused, self.last = nn.Linear(5, 8), nn.Linear(5, 3), nn.Linear(8, 2)
        self.mix = nn.Conv2d(2, 2, 2).to(memory_format=torch.channels_last)
        self.register_buffer("scale", torch.rand(()))
        self.register_buffer("mask", torch.rand(5) > 0.5)

    def logits(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        return self.last(hidden) * self.scale + self.mix(hidden.view(-1, 2, 2, 2)).flatten(1)


def loss(model, indices, generator):
    return nn.functional.cross_entropy(model.logits(X[indices]), Y[indices])


def twice(generator):
    return torch.randint(70, (70,), generator=generator)


def uneven(rank: int, folder: Path) -> tuple[Model, dict]:
    """70 samples in batches of 15: fifty steps, in four of five the shares differ (8 and 7 samples)."""
    model = Model(seed=rank)  # the second process starts elsewhere: it must take the first one's weights
    history = train(model, 70, loss, Recipe(epochs=10, batch_size=15, lr=0.1), progress=False)
    return model, {"losses": torch.tensor(history.losses)}


def adamw(rank: int, folder: Path) -> tuple[Model, dict]:
    """Odd batches, micro-batches, clipping, a sampler with repeats and two learning rates."""
    model = Model(seed=0)
    recipe = Recipe(
        epochs=6, batch_size=7, lr=0.01, optimizer="adamw", accumulation=2, grad_clip=0.5, warmup_steps=5
    )
    groups = [(model.last.parameters(), 3.0)]
    history = train(model, 70, loss, recipe, progress=False, sampler=twice, parameter_groups=groups)
    return model, {"losses": torch.tensor(history.losses)}


def one_sample(rank: int, folder: Path) -> tuple[Model, dict]:
    """Batches of one: the second process has nothing to do but must join."""
    model = Model(seed=0)
    train(model, 51, loss, Recipe(epochs=1, batch_size=1, lr=0.05), progress=False)
    return model, {}


def mean_feature(rank: int, folder: Path) -> tuple[Model, dict]:
    """A head that keeps a moving average of features; shares and micro-batches differ, the second process has none."""
    model = Model(seed=0)
    model.head = TDEHead(torch.ones(2, 8)).train()

    def direct(model, indices, generator):
        logits = model.logits(X[indices]) + model.head(torch.tanh(model.first(X[indices])))
        return nn.functional.cross_entropy(logits, Y[indices])

    train(model, 51, direct, Recipe(epochs=4, batch_size=7, lr=0.1, accumulation=2), progress=False)
    train(model, 5, direct, Recipe(epochs=1, batch_size=1, lr=0.1), progress=False)
    return model, {}


def early_stop(rank: int, folder: Path) -> tuple[Model, dict]:
    """Processes disagree on the validation; the first one decides."""
    model = Model(seed=0)
    values = iter([3.0, 1.0, 2.0, 2.0, 0.0] if rank == 0 else [5.0, 4.0, 3.0, 2.0, 1.0])
    recipe = Recipe(epochs=5, batch_size=16, lr=0.1, patience=2)
    history = train(model, 70, loss, recipe, progress=False, validate=lambda model: next(values))
    return model, {"validation": torch.tensor(history.validation), "best": torch.tensor(history.best_epoch)}


def resumed(rank: int, folder: Path) -> tuple[Model, dict]:
    """Killed in the twentieth step."""
    checkpoint, calls = folder / "part.safetensors", 0
    recipe = Recipe(epochs=10, batch_size=16, lr=0.1, optimizer="adamw")

    def dies(model, indices, generator):
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt
        return loss(model, indices, generator)

    keys = {"progress": False, "checkpoint": checkpoint, "checkpoint_every_seconds": 0}
    try:
        train(Model(seed=0), 70, dies, recipe, log_dir=folder / "log", **keys)
    except KeyboardInterrupt:
        pass
    join_processes(torch.device("cpu")).all_equal(0)
    assert checkpoint.exists()
    model = Model(seed=5)
    train(model, 70, loss, recipe, **keys)
    assert not checkpoint.exists()
    return model, {}


def augmented(rank: int, folder: Path) -> tuple[Model, dict]:
    """What the loss draws in the first step of the second epoch."""
    model, draws = Model(seed=0), []

    def draw(model, indices, generator):
        draws.append(torch.rand(3, generator=generator))
        return loss(model, indices, generator)

    train(model, 64, draw, Recipe(epochs=2, batch_size=16, lr=0.1), progress=False)
    return model, {"draw": draws[4]}


def stops(rank: int, folder: Path) -> tuple[Model, dict]:
    """A non-finite loss in one process stops all at the same step."""
    model, calls = Model(seed=0), 0

    def bad(model, indices, generator):
        nonlocal calls
        calls += 1
        factor = float("nan") if calls == 4 and rank == join_processes(torch.device("cpu")).count - 1 else 1.0
        return loss(model, indices, generator) * factor

    try:
        train(model, 70, bad, Recipe(epochs=2, batch_size=16, lr=0.1), progress=False)
    except CausalFTError as error:
        assert "at step 4 of 10" in str(error), error
    return model, {"calls": torch.tensor(calls)}


def shared(rank: int, folder: Path) -> tuple[Model, dict]:
    """Rows that both processes work on, an array that the first one keeps, and an error in the second one."""

    def work(rows):
        for start in range(0, len(rows), 2):
            part = np.array(rows[start : start + 2])
            if 99 in part:
                raise CausalFTError(
                    f"cannot read row 99 in process {join_processes(torch.device('cpu')).rank}"
                )
            yield int(part[-1]), part.astype(np.float32) ** 2

    with work_together() as team:
        pieces = np.concatenate(list(team.in_order(range(37), 2, work, batches=2)))
        array = team.rows(5, lambda rows: np.arange(5.0)[rows])
        kept = team.kept_by_main(
            lambda fill: np.concatenate([[0, 1], *fill(2)]).astype(np.float32),
            lambda start: team.in_order(range(start, 21), 2, work, everywhere=False),
        )
        said = ""
        try:
            list(team.in_order(range(100), 2, work, batches=12, everywhere=False))
        except CausalFTError as error:
            said = str(error)
        assert said == f"cannot read row 99 in process {team.count - 1}", said
    more = {"pieces": pieces, "array": array, "kept": kept}
    return Model(seed=0), {name: torch.from_numpy(np.array(value)) for name, value in more.items()}


SCENES = (uneven, adamw, one_sample, mean_feature, early_stop, resumed, augmented, stops, shared)


def run_all(folder: Path) -> dict[str, Tensor]:
    """Run every training; return and write the weights and what else each gives."""
    torch.set_num_threads(1)
    processes = join_processes(local_device())
    found = {}
    for scene in SCENES:
        model, more = scene(processes.rank, folder)
        state = {**model.state_dict(), **{f"more/{name}": value for name, value in more.items()}}
        found |= {f"{scene.__name__}/{name}": value.contiguous() for name, value in state.items()}
    assert is_main_process() == (processes.rank == 0)
    save_file(found, folder / f"{processes.count}-{processes.rank}.safetensors")
    return found


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run_all(Path(sys.argv[1]))
